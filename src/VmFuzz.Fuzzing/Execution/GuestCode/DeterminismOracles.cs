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
        var held = new StateDigests(first.Machine);
        GuestRunner second = machines.Get(kind, input.Mode);
        second.Machine.Processor.DropBlocks();
        second.Run(input);
        ulong seen = second.Digest();
        if (seen == expected)
        {
            return null;
        }

        string name = held.FirstDifference(new StateDigests(second.Machine)) ?? "console";
        // Which translations are still held then is up to the look-aside buffers; told apart, for it is one finding.
        string place = PageTables.Changed(first.Machine) ? "stale-translation" : name;
        return new Violation("determinism." + how, place, $"digest 0x{expected:x16}, then 0x{seen:x16}: {name} differs");
    }
}
