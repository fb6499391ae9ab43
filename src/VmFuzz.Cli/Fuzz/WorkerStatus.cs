using System.Collections.Immutable;

namespace VmFuzz.Cli;

/// <summary>How a mutator did.</summary>
/// <param name="Id">Its row.</param>
/// <param name="Tries">Executions that it had a part in.</param>
/// <param name="Finds">Those of them that were kept.</param>
internal sealed record MutatorFigures(string Id, ulong Tries, ulong Finds);

/// <summary>The figures of one worker, since its campaign began.</summary>
internal sealed record WorkerStatus
{
    /// <summary>Executions.</summary>
    public ulong Executions { get; init; }

    /// <summary>Inputs in its queue.</summary>
    public ulong Corpus { get; init; }

    /// <summary>Inputs taken from other workers.</summary>
    public ulong Imported { get; init; }

    /// <summary>Probes reached.</summary>
    public ulong ProbesSeen { get; init; }

    /// <summary>Probes there are; 0 without coverage.</summary>
    public ulong ProbesTotal { get; init; }

    /// <summary>Semantic features seen.</summary>
    public ulong Features { get; init; }

    /// <summary>Part of the probes and features seen that are the same each time, in percent.</summary>
    public double Stability { get; init; } = 100;

    /// <summary>VM exits since the process was started.</summary>
    public ulong Exits { get; init; }

    /// <summary>When an input was kept last. Milliseconds since the campaign began; 0 for never.</summary>
    public ulong LastFind { get; init; }

    /// <summary>Milliseconds since the campaign began.</summary>
    public ulong Time { get; init; }

    /// <summary>Distinct findings.</summary>
    public int Findings { get; init; }

    /// <summary>Things that could not be written yet.</summary>
    public int Unwritten { get; init; }

    /// <summary>Memory of the process, in MiB.</summary>
    public int MemoryMib { get; init; }

    /// <summary>The mutators with the most finds.</summary>
    public ImmutableArray<MutatorFigures> Mutators { get; init; } = [];
}

/// <summary>A distinct finding of the campaign.</summary>
/// <param name="Key">What it is told apart by: oracle and place.</param>
/// <param name="Text">One line for people.</param>
/// <param name="Worker">Who found it.</param>
/// <param name="Execution">In which of its executions.</param>
/// <param name="File">Full path of its input; null while it could not be written.</param>
internal sealed record FoundFinding(string Key, string Text, int Worker, ulong Execution, string? File);

/// <summary>One worker as the screen shows it.</summary>
/// <param name="Worker">Its number.</param>
/// <param name="State">What it does, in a word or two.</param>
/// <param name="Restarts">How often it was started again.</param>
/// <param name="PerSecond">Executions a second, lately.</param>
/// <param name="Status">Its figures.</param>
internal sealed record WorkerLine(int Worker, string State, int Restarts, double PerSecond, WorkerStatus Status);

/// <summary>A campaign at a moment.</summary>
internal sealed record CampaignView
{
    /// <summary>Name of the target.</summary>
    public required string Target { get; init; }

    /// <summary>The seed.</summary>
    public required ulong Seed { get; init; }

    /// <summary>The directory, as the user wrote it.</summary>
    public required string Directory { get; init; }

    /// <summary>Wall seconds since this run began.</summary>
    public required double Elapsed { get; init; }

    /// <summary>Seconds until it shall end; 0 for no limit.</summary>
    public double Limit { get; init; }

    /// <summary>Executions of this run, without those of runs before.</summary>
    public required ulong Fresh { get; init; }

    /// <summary>Executions a second, lately.</summary>
    public required double PerSecond { get; init; }

    /// <summary>Seconds since an input was kept; negative when none was.</summary>
    public double SinceNew { get; init; } = -1;

    /// <summary>The workers.</summary>
    public required ImmutableArray<WorkerLine> Workers { get; init; }

    /// <summary>Distinct findings, oldest first.</summary>
    public required ImmutableArray<FoundFinding> Findings { get; init; }

    /// <summary>Executions of all workers, of this run and those before.</summary>
    public ulong Executions => Sum(static s => s.Executions);

    /// <summary>Exits of this run that workers report; what a worker did before it was started again is not in it.</summary>
    public ulong Exits => Sum(static s => s.Exits);

    /// <summary>Files that could not be written.</summary>
    public int Unwritten => Workers.Sum(static w => w.Status.Unwritten);

    /// <summary>Inputs in all queues.</summary>
    public ulong Corpus => Sum(static s => s.Corpus);

    /// <summary>Probes of the worker that has reached the most.</summary>
    public ulong ProbesSeen => Most(static s => s.ProbesSeen);

    /// <summary>Probes there are.</summary>
    public ulong ProbesTotal => Most(static s => s.ProbesTotal);

    /// <summary>Features of the worker that has seen the most.</summary>
    public ulong Features => Most(static s => s.Features);

    /// <summary>Stability of the worker with the least, in percent.</summary>
    public double Stability => Workers.IsEmpty ? 100 : Workers.Min(static w => w.Status.Stability);

    /// <summary>Probes reached, in percent.</summary>
    public double Coverage => ProbesTotal == 0 ? 0 : 100.0 * ProbesSeen / ProbesTotal;

    /// <summary>The mutators with the most finds, over all workers.</summary>
    public IEnumerable<MutatorFigures> Mutators => Workers
        .SelectMany(static w => w.Status.Mutators)
        .GroupBy(static m => m.Id, StringComparer.Ordinal)
        .Select(static g => new MutatorFigures(g.Key, (ulong)g.Sum(static m => (long)m.Tries), (ulong)g.Sum(static m => (long)m.Finds)))
        .OrderByDescending(static m => m.Finds)
        .ThenBy(static m => m.Id, StringComparer.Ordinal);

    private ulong Sum(Func<WorkerStatus, ulong> figure) => (ulong)Workers.Sum(w => (long)figure(w.Status));

    private ulong Most(Func<WorkerStatus, ulong> figure) => Workers.IsEmpty ? 0 : Workers.Max(w => figure(w.Status));
}
