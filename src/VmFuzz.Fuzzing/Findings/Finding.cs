using System.Collections.Immutable;

namespace VmFuzz.Fuzzing;

/// <summary>How sure a finding is.</summary>
public enum FindingState : byte
{
    /// <summary>Two fresh executors broke the same thing and left the same digest.</summary>
    Confirmed,
    /// <summary>Fresh executors did not agree with the campaign or with each other.</summary>
    Unstable,
    /// <summary>It was not run again: it ends the process that runs it, or triage could not go on.</summary>
    Unconfirmed,
}

/// <summary>What an engine is: inputs behave alike on equal ones.</summary>
/// <param name="Version">Version of the product.</param>
/// <param name="Semantics">Version of guest-visible behaviour.</param>
/// <param name="Rows">Hash over the ids of all rows.</param>
/// <param name="Plugins">Name and version of each plug-in.</param>
public sealed record EngineIdentity(string Version, uint Semantics, ulong Rows, ImmutableArray<string> Plugins)
{
    /// <summary>This engine.</summary>
    public static EngineIdentity Here(ImmutableArray<string> plugins) =>
        new(Machines.Engine.Version, Machines.Engine.SemanticsVersion, Machines.Engine.RowsHash, plugins.IsDefault ? [] : plugins);

    /// <inheritdoc/>
    public bool Equals(EngineIdentity? other) =>
        other is not null && Version == other.Version && Semantics == other.Semantics && Rows == other.Rows
        && Plugins.AsSpan().SequenceEqual(other.Plugins.AsSpan());

    /// <inheritdoc/>
    public override int GetHashCode() => (int)Rows ^ (int)Semantics;
}

/// <summary>What a campaign knows about all of its findings.</summary>
/// <param name="Target">Name of the target's row.</param>
/// <param name="Campaign">Name of the campaign, for people.</param>
/// <param name="Worker">Name of the worker; empty when there is only one.</param>
/// <param name="Seed">Seed of the worker.</param>
/// <param name="Engine">The engine.</param>
/// <param name="PluginFiles">Files given with <c>--plugin</c>, for the command that reproduces.</param>
public sealed record CampaignFacts(string Target, string Campaign, string Worker, ulong Seed, EngineIdentity Engine, ImmutableArray<string> PluginFiles)
{
    /// <inheritdoc/>
    public bool Equals(CampaignFacts? other) =>
        other is not null && Target == other.Target && Campaign == other.Campaign && Worker == other.Worker && Seed == other.Seed
        && Engine == other.Engine && PluginFiles.AsSpan().SequenceEqual(other.PluginFiles.AsSpan());

    /// <inheritdoc/>
    public override int GetHashCode() => (int)Seed ^ Worker.Length;
}

/// <summary>What stands in <c>finding.json</c>; src/docs/findings.md describes it.</summary>
public sealed record Finding
{
    /// <summary>What broke.</summary>
    public required Violation Violation { get; init; }

    /// <summary>How sure it is.</summary>
    public required FindingState State { get; init; }

    /// <summary>Why it is not confirmed, not minimised or without a trace; empty otherwise. One line.</summary>
    public string Note { get; init; } = "";

    /// <summary>Where it was found.</summary>
    public required CampaignFacts Campaign { get; init; }

    /// <summary>Index of the execution of the worker that found it, from 0.</summary>
    public ulong Execution { get; init; }

    /// <summary>Whether an oracle of several runs found it.</summary>
    public bool Deep { get; init; }

    /// <summary>Digest that the input leaves; null when it was not run again.</summary>
    public ulong? Digest { get; init; }

    /// <summary>Digest that the original input leaves; null when it was not run again.</summary>
    public ulong? OriginalDigest { get; init; }

    /// <summary>VM exits of the input's run.</summary>
    public ulong Exits { get; init; }

    /// <summary>Guest instructions of the input's run.</summary>
    public ulong Instructions { get; init; }

    /// <summary>Size of the input. Unit: bytes.</summary>
    public int Bytes { get; init; }

    /// <summary>Size of the original. Unit: bytes.</summary>
    public int OriginalBytes { get; init; }

    /// <summary>Executions that minimising took.</summary>
    public int MinimizerExecutions { get; init; }

    /// <summary>Whether nothing more could be taken away.</summary>
    public bool Minimal { get; init; }

    /// <summary>Whether <c>trace.vmtrace</c> stands beside it.</summary>
    public bool Trace { get; init; }

    /// <summary>Its file in <c>crashes</c> or <c>hangs</c>, relative to the worker's directory; empty when it could not be written.</summary>
    public string CorpusFile { get; init; } = "";
}
