using System.Collections.Immutable;

namespace VmFuzz.Cli;

/// <summary>Something that runs a campaign: the one built in, or a fuzzer from outside.</summary>
/// <param name="Name">Name after <c>--driver</c>.</param>
/// <param name="Text">One line for people.</param>
/// <param name="Missing">What it needs and does not find here, in one line that says what to do; null when it can run.</param>
/// <param name="Run">Runs a campaign and gives the status of the command.</param>
internal sealed record FuzzDriver(string Name, string Text, Func<string?> Missing, Func<Host, FuzzArguments, int> Run)
{
    /// <summary>The driver that needs nothing.</summary>
    public static FuzzDriver BuiltIn { get; } =
        new("built-in", "in process, deterministic, one worker process a core", static () => null, Supervisor.Execute);

    /// <summary>All drivers; adding one is a row here.</summary>
    public static ImmutableArray<FuzzDriver> All { get; } = [BuiltIn, AflFuzzer.Driver, LibFuzzer.Driver];
}
