using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>An oracle that runs an input more than once.</summary>
/// <param name="Id">Unique id; stands in violations.</param>
/// <param name="Check">Runs and compares; null when all is well.</param>
internal sealed record DeepOracleRow(string Id, Func<GuestMachines, ComparableInput, Violation?> Check);

/// <summary>The oracles of <see cref="GuestCodeExecutor.RunDeep"/>, in the order in which they run: those that compare with one run stand together.</summary>
internal static class DeepOracleRows
{
    public static readonly ImmutableArray<DeepOracleRow> All =
    [
        .. DeterminismOracles.Rows,
        .. EquivalenceOracles.Rows,
        .. PerturbationOracles.Rows,
        .. MigrationOracles.Rows,
    ];
}
