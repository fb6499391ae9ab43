using System.Collections.Immutable;

namespace VmFuzz.Fuzzing;

/// <summary>One input, one digest: again, on another machine, from undecoded code, by reference microcode.</summary>
internal static class DeterminismOracles
{
    public static readonly ImmutableArray<DeepOracleRow> Rows =
    [
        new("determinism.again", static (m, input) => Compare(m, input, "again", GuestMachineKind.Kvm, GuestMachineKind.Kvm)),
        new("determinism.other-machine", static (m, input) => Compare(m, input, "other-machine", GuestMachineKind.Kvm, GuestMachineKind.Twin)),
        new("determinism.reference", static (m, input) => Compare(m, input, "reference", GuestMachineKind.Kvm, GuestMachineKind.Reference)),
        new("determinism.bare", static (m, input) => Compare(m, ComparableEvents.Everywhere(input), "bare", GuestMachineKind.Bare, GuestMachineKind.BareReference)),
    ];

    private static Violation? Compare(GuestMachines machines, FuzzInput input, string how, GuestMachineKind based, GuestMachineKind kind)
    {
        GuestRunner first = machines.Get(based, input.Mode);
        first.Run(input);
        if (first.Judge() is { } wrong)
        {
            return wrong;
        }

        ulong expected = first.Digest();
        GuestRunner second = machines.Get(kind, input.Mode);
        second.Machine.Processor.DropBlocks();
        second.Run(input);
        ulong seen = second.Digest();
        if (seen == expected)
        {
            return null;
        }

        (string name, string text) = kind == based
            ? ("digest", "the guest's state was not compared")
            : machines.Comparison.FirstDifference(new GuestPair(first.Machine, first.Monitor, second.Machine, second.Monitor))
                ?? ("hypervisor", "nothing that the guest sees");
        return new Violation("determinism." + how, name, $"digest 0x{expected:x16}, then 0x{seen:x16}: {text}");
    }
}
