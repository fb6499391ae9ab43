namespace VmFuzz.Fuzzing;

/// <summary>What one execution was.</summary>
/// <param name="Violation">The first thing it broke, or null.</param>
/// <param name="Exits">VM exits (for VMCS inputs: entries tried).</param>
/// <param name="Instructions">Guest instructions retired.</param>
public readonly record struct Execution(Violation? Violation, ulong Exits, ulong Instructions);

/// <summary>
/// Runs inputs of one target, one after the other, on a machine that is reset in between. What a run does is a function
/// of the input and of nothing else.
/// </summary>
/// <remarks>
/// A C# exception inside a run is caught and comes back as a violation of the crash oracle; the next run starts on a
/// fresh machine.
/// </remarks>
public interface IFuzzExecutor : IDisposable
{
    /// <summary>What it runs.</summary>
    FuzzTarget Target { get; }

    /// <summary>Semantic features of the last run.</summary>
    FeatureMap Features { get; }

    /// <summary>
    /// Where the run that goes on stands: the id of the exit's row while its handler runs, otherwise empty. May be asked from
    /// another thread, about a run that does not end.
    /// </summary>
    string Place => "";

    /// <summary>Resets the machine, runs an input and applies the oracles that watch a single run.</summary>
    /// <param name="input">A canonical input; not changed.</param>
    Execution Run(FuzzInput input);

    /// <summary>Digest of everything that the last run left.</summary>
    ulong Digest();

    /// <summary>
    /// Runs an input again under other conditions and compares: the oracles that cost several runs. Leaves features,
    /// digest and coverage of the last <see cref="Run"/> undefined.
    /// </summary>
    /// <returns>The first violation, or null.</returns>
    Violation? RunDeep(FuzzInput input);

    /// <summary>Runs an input once more and writes its trace; none when traces cannot hold runs of the target.</summary>
    /// <param name="input">A canonical input.</param>
    /// <param name="path">The trace's file; must not exist.</param>
    /// <param name="origin">What the trace says about where it came from.</param>
    /// <returns>What the run broke under the oracles of a single run, or null.</returns>
    Violation? Record(FuzzInput input, string path, FuzzOrigin origin);
}
