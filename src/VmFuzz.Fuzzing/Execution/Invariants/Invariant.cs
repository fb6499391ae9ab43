namespace VmFuzz.Fuzzing;

/// <summary>When an invariant is looked at.</summary>
public enum InvariantMoment : byte
{
    /// <summary>An exit is recorded and about to go to its handler.</summary>
    Handling,
    /// <summary>A handler has decided, and the dispatcher has done what it decided.</summary>
    Handled,
    /// <summary>The guest is about to be entered.</summary>
    Entry,
    /// <summary>The run call returned to userspace.</summary>
    Userspace,
}

/// <summary>Looks at a run.</summary>
/// <param name="view">The run at this moment.</param>
/// <returns>What is wrong, in one line; null when the invariant holds.</returns>
public delegate string? InvariantCheck(RunView view);

/// <summary>
/// Something that holds at every exit or entry, whatever the guest does. Written once; used by the fuzzer, by properties
/// and by <c>vmfuzz replay --check</c>.
/// </summary>
/// <param name="Id">Unique id, such as <c>retire.rip</c>.</param>
/// <param name="Kind">What kind of promise it is.</param>
/// <param name="Moment">When it is looked at.</param>
/// <param name="Text">One line: what must hold.</param>
/// <param name="Source">SDM section title, kernel function or row of the run path.</param>
/// <param name="Check">The check.</param>
public sealed record Invariant(string Id, OracleKind Kind, InvariantMoment Moment, string Text, string Source, InvariantCheck Check)
{
    /// <inheritdoc/>
    public override string ToString() => Id;
}
