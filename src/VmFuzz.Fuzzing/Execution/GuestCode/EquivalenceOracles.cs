using System.Collections.Immutable;
using VmFuzz.Arch;

namespace VmFuzz.Fuzzing;

/// <summary>The guest sees the same without a hypervisor, and under one with other options.</summary>
internal static class EquivalenceOracles
{
    public static readonly ImmutableArray<DeepOracleRow> Rows =
    [
        new("equivalence.bare", static (m, input) => Compare(m, Common(input, nmis: true), GuestMachineKind.Bare, "bare")),
        new("equivalence.options", static (m, input) => Compare(m, Common(input, nmis: false), GuestMachineKind.Options, "options")),
    ];

    /// <summary>The input with those events only that mean the same to both.</summary>
    public static FuzzInput Common(FuzzInput input, bool nmis)
    {
        foreach (ScheduledEvent e in input.Events)
        {
            if (!IsCommon(e, nmis))
            {
                FuzzInput common = input.Clone();
                common.Events.RemoveAll(e => !IsCommon(e, nmis));
                return common;
            }
        }

        return input;
    }

    // Software that tracks NMI blocking by itself guesses its end, so NMIs are left out there.
    private static bool IsCommon(in ScheduledEvent e, bool nmis) =>
        e.Point == InputPoint.Boundary && (e.Kind is InputKind.Interrupt or InputKind.ConsoleByte || (nmis && e.Kind == InputKind.Nmi));

    private static Violation? Compare(GuestMachines machines, FuzzInput input, GuestMachineKind kind, string how)
    {
        GuestRunner left = machines.Get(GuestMachineKind.Kvm, input.Mode);
        GuestRunner right = machines.Get(kind, input.Mode);
        left.Run(input);
        right.Run(input);
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
