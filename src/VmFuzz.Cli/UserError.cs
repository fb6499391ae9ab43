namespace VmFuzz.Cli;

/// <summary>Something the user gave is wrong: one line, status 2. Never an engine bug.</summary>
internal sealed class UserError(string message) : Exception(message)
{
    /// <summary>What is wrong, where, and what to do.</summary>
    public static UserError At(string what, string where, string toDo) => new($"{what}: {where}: {toDo}");
}
