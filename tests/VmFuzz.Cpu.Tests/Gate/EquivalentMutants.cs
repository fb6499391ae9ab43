using System.Collections.Immutable;
using Iced.Intel;

namespace VmFuzz.Cpu.Tests.Gate;

/// <summary>Mutants that no test can tell from the original, each with its reason.</summary>
internal static class EquivalentMutants
{
    public static readonly ImmutableArray<(string Reason, Func<Mutant, bool> Is)> Rows =
    [
    ];

    public static string? ReasonOf(Mutant mutant) => Rows.FirstOrDefault(row => row.Is(mutant)).Reason;
}
