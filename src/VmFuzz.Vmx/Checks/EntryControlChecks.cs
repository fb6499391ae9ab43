using System.Collections.Immutable;
using VmFuzz.Arch;
using static VmFuzz.Vmx.Rule;

namespace VmFuzz.Vmx;

// SDM "VM-Entry Control Fields" of "Checks on VMX Controls".
internal static class EntryControlChecks
{
    private const uint Valid = InterruptionInfo.ValidBit;
    private const uint Error = InterruptionInfo.ErrorCodeBit;

    private static EntryCheck Row(string id, ImmutableArray<VmcsField> reads, EntryPredicate holds, params ImmutableArray<FieldChange> violate) =>
        new(id, Sdm.VmEntryControlFields, EntryCheckStage.Controls, reads, holds, violate);

    private static FieldChange Info(uint bits) => Set(VmcsField.EntryInterruptionInfo, Valid | bits);

    private static bool IsSoftware(InterruptionType type) => type is InterruptionType.SoftwareInterrupt
        or InterruptionType.PrivilegedSoftwareException or InterruptionType.SoftwareException;

    // Whether the guest will have CR0.PE = 1: always without unrestricted guest.
    private static bool Protected(in EntryContext c) => !c.Unrestricted() || (c.V(VmcsField.GuestCr0) & Cr0.Pe) != 0;

    private static readonly ImmutableArray<VmcsField> InfoReads = [VmcsField.EntryInterruptionInfo];
    private static readonly ImmutableArray<VmcsField> ErrorReads = [VmcsField.EntryInterruptionInfo, VmcsField.GuestCr0, .. SecondaryReads];

    public static readonly ImmutableArray<EntryCheck> Rows =
    [
        Row("entry.controls.required", [VmcsField.EntryControls],
            static (in EntryContext c) => (c.Capabilities.Entry.Required & ~(uint)c.V(VmcsField.EntryControls)) == 0,
            NoEntry(1)),
        Row("entry.controls.allowed", [VmcsField.EntryControls],
            static (in EntryContext c) => ((uint)c.V(VmcsField.EntryControls) & ~c.Capabilities.Entry.Allowed) == 0,
            Entry(1U << 31)),
        Row("entry.injection.type-reserved", InfoReads,
            static (in EntryContext c) => !c.Injecting() || c.Injected().Type != InterruptionType.Reserved,
            Info(1 << 8)),
        Row("entry.injection.other-needs-mtf", InfoReads,
            static (in EntryContext c) => !c.Injecting() || c.Injected().Type != InterruptionType.OtherEvent
                || c.Capabilities.Primary.Allows(PrimaryControls.MonitorTrapFlag)),
        Row("entry.injection.nmi-vector", InfoReads,
            static (in EntryContext c) => !c.Injecting() || c.Injected().Type != InterruptionType.Nmi || c.Injected().Vector == 2,
            Info((2 << 8) | 3)),
        Row("entry.injection.exception-vector", InfoReads,
            static (in EntryContext c) => !c.Injecting() || c.Injected().Type != InterruptionType.HardwareException || c.Injected().Vector <= 31,
            Info((3 << 8) | 32)),
        Row("entry.injection.other-vector", InfoReads,
            static (in EntryContext c) => !c.Injecting() || c.Injected().Type != InterruptionType.OtherEvent || c.Injected().Vector == 0,
            Info((7 << 8) | 1)),
        Row("entry.injection.error-code-without-protected-mode", ErrorReads,
            static (in EntryContext c) => !c.Injecting() || !c.Injected().ErrorCodeValid || Protected(c),
            Info((3 << 8) | Error | 13), And(VmcsField.GuestCr0, ~(Cr0.Pe | Cr0.Pg)), NoEntry(EntryControls.Ia32eModeGuest),
            Set(VmcsField.GuestEfer, Efer.Nxe), Set(VmcsField.GuestCsAccessRights, 0xC09B)),
        Row("entry.injection.error-code-type", ErrorReads,
            static (in EntryContext c) => !c.Injecting() || !c.Injected().ErrorCodeValid || c.Injected().Type == InterruptionType.HardwareException,
            Info((0 << 8) | Error | 32), Or(VmcsField.GuestRflags, RFlags.If)),
        Row("entry.injection.error-code-vector", ErrorReads,
            static (in EntryContext c) => !c.Injecting() || c.Capabilities.AnyErrorCodeDelivery || !c.Injected().ErrorCodeValid
                || c.Injected().Type != InterruptionType.HardwareException || Vector.HasErrorCode(c.Injected().Vector),
            Info((3 << 8) | Error | 6)),
        Row("entry.injection.error-code-missing", ErrorReads,
            static (in EntryContext c) => !c.Injecting() || c.Capabilities.AnyErrorCodeDelivery || c.Injected().ErrorCodeValid
                || c.Injected().Type != InterruptionType.HardwareException || !Vector.HasErrorCode(c.Injected().Vector)
                || c.Injected().Vector == Vector.Cp || !Protected(c),
            Info((3 << 8) | 13)),
        Row("entry.injection.reserved", InfoReads,
            static (in EntryContext c) => !c.Injecting() || (c.V(VmcsField.EntryInterruptionInfo) & 0x7FFF_F000) == 0,
            Info((3 << 8) | 6 | (1 << 12))),
        Row("entry.injection.error-code-reserved", [VmcsField.EntryInterruptionInfo, VmcsField.EntryExceptionErrorCode],
            static (in EntryContext c) => !c.Injecting() || !c.Injected().ErrorCodeValid
                || (c.V(VmcsField.EntryExceptionErrorCode) & 0xFFFF_0000) == 0,
            Info((3 << 8) | Error | 13), Set(VmcsField.EntryExceptionErrorCode, 0x1_0000)),
        Row("entry.injection.length", [VmcsField.EntryInterruptionInfo, VmcsField.EntryInstructionLength],
            static (in EntryContext c) => !c.Injecting() || !IsSoftware(c.Injected().Type) || c.V(VmcsField.EntryInstructionLength) <= 15,
            Info((4 << 8) | 0x80), Set(VmcsField.EntryInstructionLength, 16)),
        Row("entry.injection.length-zero", [VmcsField.EntryInterruptionInfo, VmcsField.EntryInstructionLength],
            static (in EntryContext c) => !c.Injecting() || !IsSoftware(c.Injected().Type) || c.V(VmcsField.EntryInstructionLength) != 0
                || (c.Capabilities.Misc & (1UL << 30)) != 0),
        Row("entry.msr-load.alignment", [VmcsField.EntryMsrLoadCount, VmcsField.EntryMsrLoadAddress],
            static (in EntryContext c) => ExitControlChecks.Area(c, VmcsField.EntryMsrLoadCount, VmcsField.EntryMsrLoadAddress, true),
            Set(VmcsField.EntryMsrLoadCount, 1), Set(VmcsField.EntryMsrLoadAddress, 8)),
        Row("entry.msr-load.width", [VmcsField.EntryMsrLoadCount, VmcsField.EntryMsrLoadAddress],
            static (in EntryContext c) => ExitControlChecks.Area(c, VmcsField.EntryMsrLoadCount, VmcsField.EntryMsrLoadAddress, false),
            Set(VmcsField.EntryMsrLoadCount, 1), Set(VmcsField.EntryMsrLoadAddress, 1UL << 60)),
        Row("entry.smm.not-in-smm", [VmcsField.EntryControls],
            static (in EntryContext c) => !c.Entry(EntryControls.EntryToSmm | EntryControls.DeactivateDualMonitor),
            Entry(EntryControls.DeactivateDualMonitor)),
    ];
}
