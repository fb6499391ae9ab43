namespace VmFuzz.Fuzzing;

/// <summary>The first input that showed a finding.</summary>
/// <param name="Input">The input; the sink must not keep or change it.</param>
/// <param name="Violation">What it broke.</param>
/// <param name="Execution">Index of the execution.</param>
/// <param name="Time">Milliseconds since the campaign began.</param>
/// <param name="Source">Number of the queue entry that the input was made from, or null.</param>
/// <param name="Operation">Mutators that made it.</param>
/// <param name="Fatal">Whether running it ended the process or did not end: never to be run in this process.</param>
public sealed record FoundInput(
    FuzzInput Input,
    Violation Violation,
    ulong Execution,
    ulong Time,
    uint? Source,
    string Operation,
    bool Fatal);

/// <summary>A finding that a directory already has.</summary>
/// <param name="Key">What findings are told apart by.</param>
/// <param name="File">Where it is, relative to the campaign's directory.</param>
/// <param name="Execution">Index of the execution that showed it first.</param>
/// <param name="Text">One line for people; empty when the directory has none.</param>
public sealed record KnownFinding(string Key, string File, ulong Execution, string Text = "");

/// <summary>Takes the findings of a campaign.</summary>
public interface IFindingSink
{
    /// <summary>What the directory has, oldest first. Asked once, before anything is added.</summary>
    IReadOnlyList<KnownFinding> Known();

    /// <summary>
    /// Saves a finding whose key is new. Between executions: it may run inputs on the campaign's executor, and leaves
    /// its features and the coverage counts as it likes.
    /// </summary>
    /// <returns>
    /// Where it is, relative to the campaign's directory; empty when it is dealt with and nowhere; null when it could not
    /// be written and shall be tried again.
    /// </returns>
    string? Add(FoundInput found);
}

/// <summary>Where findings go by their oracle.</summary>
public static class OracleFolders
{
    /// <summary>Oracle of an execution that a supervisor had to end.</summary>
    public const string Hang = "hang";

    /// <summary>Oracle of an execution that broke off with a C# exception.</summary>
    public const string Crash = "crash";

    /// <summary>Oracle of an execution that ended the process.</summary>
    public const string Death = "process-death";

    /// <summary>The folder: <c>hangs</c> for oracles whose id begins with <c>hang</c> or <c>livelock</c>.</summary>
    public static CorpusFolder Of(Violation violation)
    {
        ArgumentNullException.ThrowIfNull(violation);
        return violation.Oracle.StartsWith(Hang, StringComparison.Ordinal) || violation.Oracle.StartsWith("livelock", StringComparison.Ordinal)
            ? CorpusFolder.Hangs
            : CorpusFolder.Crashes;
    }
}
