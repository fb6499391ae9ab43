using System.Collections.Immutable;

namespace VmFuzz.Fuzzing;

/// <summary>One input, one digest: again, on another machine, from undecoded code, by reference microcode.</summary>
internal static class DeterminismOracles
{
    public static readonly ImmutableArray<DeepOracleRow> Rows =
    [
        new("determinism.again", static (m, input) => Compare(m, input.Whole, "again", GuestMachineKind.Kvm, GuestMachineKind.Kvm)),
        new("determinism.other-machine", static (m, input) => Compare(m, input.Whole, "other-machine", GuestMachineKind.Kvm, GuestMachineKind.Twin)),
        new("determinism.reference", static (m, input) => Compare(m, input.Whole, "reference", GuestMachineKind.Kvm, GuestMachineKind.Reference)),
        new("determinism.bare", static (m, input) => Compare(m, input.Everywhere, "bare", GuestMachineKind.Bare, GuestMachineKind.BareReference)),
    ];

    private static Violation? Compare(GuestMachines machines, FuzzInput input, string how, GuestMachineKind based, GuestMachineKind kind)
    {
        GuestRunner first = machines.Base(based, input);
        if (first.Judge() is { } wrong)
        {
            return wrong;
        }

        ulong expected = first.Digest();
        GuestRunner second = machines.Get(kind, input.Mode);
        StateDigests? held = second == first ? new StateDigests(first.Machine) : null;
        second.Machine.Processor.DropBlocks();
        second.Run(input);
        ulong seen = second.Digest();
        if (seen == expected)
        {
            return null;
        }

        string name = (held ?? new StateDigests(first.Machine)).FirstDifference(new StateDigests(second.Machine)) ?? "console";
        return new Violation("determinism." + how, name, $"digest 0x{expected:x16}, then 0x{seen:x16}: {name} differs");
    }
}
