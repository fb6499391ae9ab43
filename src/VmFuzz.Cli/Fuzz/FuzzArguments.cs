using System.Collections.Immutable;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary>What <c>vmfuzz fuzz</c> was told, checked.</summary>
internal sealed record FuzzArguments
{
    /// <summary>Hang limit when none is given.</summary>
    public const int DefaultHangSeconds = 10;

    /// <summary>Memory of a worker, in MiB, when none is given.</summary>
    public const int DefaultMemory = 500;

    /// <summary>The target.</summary>
    public required FuzzTargetRow Target { get; init; }

    /// <summary>The driver.</summary>
    public required FuzzDriver Driver { get; init; }

    /// <summary>Wall seconds until the campaign ends; 0 for no limit.</summary>
    public double Seconds { get; init; }

    /// <summary>Executions until it ends, all workers together; 0 for no limit.</summary>
    public ulong Executions { get; init; }

    /// <summary>Worker processes.</summary>
    public int Jobs { get; init; } = 1;

    /// <summary>The seed; null when none was given.</summary>
    public ulong? Seed { get; init; }

    /// <summary>Full path of the directory of the campaign.</summary>
    public required string Output { get; init; }

    /// <summary>The directory as the user wrote it, for commands to copy.</summary>
    public required string ShownOutput { get; init; }

    /// <summary>Full paths of directories with inputs to start from.</summary>
    public ImmutableArray<string> Inputs { get; init; } = [];

    /// <summary>Whether the directory's campaign goes on.</summary>
    public bool Resume { get; init; }

    /// <summary>Full paths of assemblies with handlers and targets of the user's own.</summary>
    public ImmutableArray<string> Plugins { get; init; } = [];

    /// <summary>What the plug-ins say they are, in the same order.</summary>
    public ImmutableArray<string> PluginIdentities { get; init; } = [];

    /// <summary>Whether code coverage steers the campaign.</summary>
    public bool Coverage { get; init; } = true;

    /// <summary>Wall seconds without a new execution after which a worker counts as hung.</summary>
    public double HangSeconds { get; init; } = DefaultHangSeconds;

    /// <summary>MiB of memory after which a worker is started anew at the end of an epoch.</summary>
    public int Memory { get; init; } = DefaultMemory;

    /// <summary>Whether the summary is JSON.</summary>
    public bool Json { get; init; }
}
