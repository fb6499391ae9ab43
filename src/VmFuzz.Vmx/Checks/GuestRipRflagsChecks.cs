using System.Collections.Immutable;
using VmFuzz.Arch;
using static VmFuzz.Vmx.Rule;

namespace VmFuzz.Vmx;

// SDM "Checks on Guest RIP, RFLAGS, and SSP".
internal static class GuestRipRflagsChecks
{
    private static EntryCheck Row(string id, ImmutableArray<VmcsField> reads, EntryPredicate holds, params ImmutableArray<FieldChange> violate) =>
        new(id, Sdm.GuestRipAndRflags, EntryCheckStage.Guest, reads, holds, violate);

    private static bool Code64(in EntryContext c) => c.LongGuest() && (c.V(VmcsField.GuestCsAccessRights) & SegmentAttributes.L) != 0;

    public static readonly ImmutableArray<EntryCheck> Rows =
    [
        Row("guest.rip.32bit", [VmcsField.EntryControls, VmcsField.GuestCsAccessRights, VmcsField.GuestRip],
            static (in EntryContext c) => Code64(c) || c.V(VmcsField.GuestRip) >> 32 == 0,
            Set(VmcsField.GuestCsAccessRights, 0xC09B), Set(VmcsField.GuestRip, 1UL << 32)),
        Row("guest.rip.canonical", [VmcsField.EntryControls, VmcsField.GuestCsAccessRights, VmcsField.GuestRip],
            static (in EntryContext c) => !Code64(c) || ((long)c.V(VmcsField.GuestRip) >> c.Capabilities.LinearBits) is 0 or -1,
            Set(VmcsField.GuestRip, 1UL << 62)),
        Row("guest.rflags.reserved", [VmcsField.GuestRflags],
            static (in EntryContext c) => (c.V(VmcsField.GuestRflags) & ~(RFlags.Defined | RFlags.Reserved1)) == 0,
            Or(VmcsField.GuestRflags, 1 << 3)),
        Row("guest.rflags.bit1", [VmcsField.GuestRflags],
            static (in EntryContext c) => (c.V(VmcsField.GuestRflags) & RFlags.Reserved1) != 0,
            And(VmcsField.GuestRflags, ~RFlags.Reserved1)),
        Row("guest.rflags.vm-in-ia32e", [VmcsField.GuestRflags, VmcsField.EntryControls],
            static (in EntryContext c) => !c.Virtual8086() || !c.LongGuest(),
            [Or(VmcsField.GuestRflags, RFlags.Vm), .. V8086Segments()]),
        Row("guest.rflags.vm-without-pe", [VmcsField.GuestRflags, VmcsField.GuestCr0],
            static (in EntryContext c) => !c.Virtual8086() || (c.V(VmcsField.GuestCr0) & Cr0.Pe) != 0,
            [Or(VmcsField.GuestRflags, RFlags.Vm), .. V8086Segments(), NoEntry(EntryControls.Ia32eModeGuest), Set(VmcsField.GuestEfer, 0),
                And(VmcsField.GuestCr0, ~(Cr0.Pe | Cr0.Pg))]),
        Row("guest.rflags.if-for-external-interrupt", [VmcsField.GuestRflags, VmcsField.EntryInterruptionInfo],
            static (in EntryContext c) => !c.Injecting() || c.Injected().Type != InterruptionType.ExternalInterrupt
                || (c.V(VmcsField.GuestRflags) & RFlags.If) != 0,
            Set(VmcsField.EntryInterruptionInfo, InterruptionInfo.ValidBit | 0x20)),
        Row("guest.ssp.alignment", [VmcsField.EntryControls, VmcsField.GuestSsp],
            static (in EntryContext c) => !c.Entry(EntryControls.LoadCetState) || (c.V(VmcsField.GuestSsp) & 3) == 0,
            Entry(EntryControls.LoadCetState), Set(VmcsField.GuestSsp, 1)),
        Row("guest.ssp.canonical", [VmcsField.EntryControls, VmcsField.GuestSsp],
            static (in EntryContext c) => !c.Entry(EntryControls.LoadCetState) || !c.LongGuest() || c.Canonical(VmcsField.GuestSsp),
            Entry(EntryControls.LoadCetState), Set(VmcsField.GuestSsp, 1UL << 62)),
    ];

    private static IEnumerable<FieldChange> V8086Segments() => Enumerable.Range(0, 6).SelectMany(static i => new[]
    {
        Set(VmcsField.GuestEsSelector + (uint)(2 * i), 0x100), Set(VmcsField.GuestEsBase + (uint)(2 * i), 0x1000),
        Set(VmcsField.GuestEsLimit + (uint)(2 * i), 0xFFFF), Set(VmcsField.GuestEsAccessRights + (uint)(2 * i), 0xF3),
    });
}
