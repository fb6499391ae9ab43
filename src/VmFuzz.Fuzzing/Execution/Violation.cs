namespace VmFuzz.Fuzzing;

/// <summary>What an execution broke.</summary>
/// <param name="Oracle">Id of the oracle's row.</param>
/// <param name="Where">
/// The place, stable from input to input: a row of the exit table, an entry check, a method of a stack trace. Findings with
/// the same oracle and place are one finding.
/// </param>
/// <param name="Text">One line for people: what was expected and what was seen.</param>
public sealed record Violation(string Oracle, string Where, string Text)
{
    /// <summary>What findings are told apart by.</summary>
    public string Key => Where.Length == 0 ? Oracle : $"{Oracle}@{Where}";

    /// <inheritdoc/>
    public override string ToString() => $"{Key}: {Text}";
}
