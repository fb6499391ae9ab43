using System.Collections.Immutable;

namespace VmFuzz.Fuzzing;

/// <summary>The guest sees the same without a hypervisor, and under one with other options.</summary>
internal static class EquivalenceOracles
{
    public static readonly ImmutableArray<DeepOracleRow> Rows =
    [
        new("equivalence.bare", static (m, input) => Compare(m, input.Everywhere, GuestMachineKind.Bare, "bare")),
        new("equivalence.options", static (m, input) => Compare(m, input.WithoutNmis, GuestMachineKind.Options, "options")),
    ];

    private static Violation? Compare(GuestMachines machines, FuzzInput input, GuestMachineKind kind, string how)
    {
        GuestRunner left = machines.Base(GuestMachineKind.Kvm, input);
        GuestRunner right = machines.Base(kind, input);
        if ((left.Judge() ?? right.Judge()) is { } wrong)
        {
            return wrong;
        }

        var pair = new GuestPair(left.Machine, left.Monitor, right.Machine, right.Monitor);
        return machines.Comparison.FirstDifference(pair) is { } difference
            ? new FirstDivergence(machines, input, pair, left, right, r => r.Load(input)).Find("equivalence." + how, difference)
            : null;
    }
}
