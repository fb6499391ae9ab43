using System.Collections.Immutable;

namespace VmFuzz.Fuzzing;

/// <summary>What a campaign is made with.</summary>
public sealed record CampaignOptions
{
    /// <summary>Its directory.</summary>
    public required string Directory { get; init; }

    /// <summary>What it is.</summary>
    public required CampaignIdentity Identity { get; init; }

    /// <summary>Runs the inputs. The campaign does not dispose of it.</summary>
    public required IFuzzExecutor Executor { get; init; }

    /// <summary>Where the counts of code probes are.</summary>
    public ProbeSource Probes { get; init; } = ProbeSource.None();

    /// <summary>Whether a directory with a campaign in it may be gone on with.</summary>
    public bool Resume { get; init; }

    /// <summary>Folders of inputs to start with, in order.</summary>
    public ImmutableArray<string> Inputs { get; init; } = [];

    /// <summary>Start with one empty input in place of the built-in seeds.</summary>
    public bool Empty { get; init; }

    /// <summary>Folder in which other workers have their directories, or null.</summary>
    public string? SyncFrom { get; init; }

    /// <summary>One execution in this many is run again under other conditions; 0 for none.</summary>
    public int DeepEvery { get; init; } = 64;

    /// <summary>Numbers of queue entries that are neither run nor mutated any more.</summary>
    public ImmutableArray<uint> Skip { get; init; } = [];

    /// <summary>Makes what takes the findings, once the directory is open; null saves them as AFL++ does.</summary>
    public Func<Corpus, IFindingSink>? Sink { get; init; }

    /// <summary>Takes lines for people.</summary>
    public Action<string> Log { get; init; } = static _ => { };
}
