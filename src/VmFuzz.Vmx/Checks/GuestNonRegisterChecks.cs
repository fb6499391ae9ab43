using System.Collections.Immutable;
using VmFuzz.Arch;
using static VmFuzz.Vmx.Rule;

namespace VmFuzz.Vmx;

// SDM "Checks on Guest Non-Register State".
internal static class GuestNonRegisterChecks
{
    private const uint Sti = InterruptibilityState.BlockingBySti;
    private const uint MovSs = InterruptibilityState.BlockingByMovSs;

    private static EntryCheck Row(string id, ImmutableArray<VmcsField> reads, EntryPredicate holds, params ImmutableArray<FieldChange> violate) =>
        new(id, Sdm.GuestNonRegisterState, EntryCheckStage.Guest, reads, holds, violate);

    private static FieldChange Inject(uint type, uint vector) => Set(VmcsField.EntryInterruptionInfo, InterruptionInfo.ValidBit | (type << 8) | vector);

    private static bool Blocks(in EntryContext c, uint bits) => (c.V(VmcsField.GuestInterruptibility) & bits) != 0;

    private static bool Injects(in EntryContext c, InterruptionType type) => c.Injecting() && c.Injected().Type == type;

    // What may be injected into a guest that enters in an inactive state.
    private static bool Wakes(in EntryContext c)
    {
        if (!c.Injecting())
        {
            return true;
        }

        InterruptionInfo info = c.Injected();
        bool nmiOrMachineCheck = info.Type == InterruptionType.Nmi || (info.Type == InterruptionType.HardwareException && info.Vector == Vector.Mc);
        return (ActivityState)c.V(VmcsField.GuestActivity) switch
        {
            ActivityState.Hlt => nmiOrMachineCheck || info.Type == InterruptionType.ExternalInterrupt
                || (info.Type == InterruptionType.HardwareException && info.Vector == Vector.Db)
                || (info.Type == InterruptionType.OtherEvent && info.Vector == 0),
            ActivityState.Shutdown => nmiOrMachineCheck,
            ActivityState.WaitForSipi => false,
            _ => true,
        };
    }

    private static readonly ImmutableArray<VmcsField> PendingReads =
        [VmcsField.GuestInterruptibility, VmcsField.GuestActivity, VmcsField.GuestPendingDebug, VmcsField.GuestRflags, VmcsField.GuestDebugCtl];

    private static bool StepKnown(in EntryContext c) =>
        Blocks(c, Sti | MovSs) || c.V(VmcsField.GuestActivity) == (ulong)ActivityState.Hlt;

    private static bool Steps(in EntryContext c) =>
        (c.V(VmcsField.GuestRflags) & RFlags.Tf) != 0 && (c.V(VmcsField.GuestDebugCtl) & 2) == 0;

    public static readonly ImmutableArray<EntryCheck> Rows =
    [
        Row("guest.activity.known", [VmcsField.GuestActivity],
            static (in EntryContext c) => c.V(VmcsField.GuestActivity) <= 3, Set(VmcsField.GuestActivity, 4)),
        Row("guest.activity.supported", [VmcsField.GuestActivity],
            static (in EntryContext c) => c.V(VmcsField.GuestActivity) is 0 or > 3
                || (c.Capabilities.Misc & (1UL << (5 + (int)c.V(VmcsField.GuestActivity)))) != 0),
        Row("guest.activity.hlt-dpl", [VmcsField.GuestActivity, VmcsField.GuestSsAccessRights],
            static (in EntryContext c) => c.V(VmcsField.GuestActivity) != (ulong)ActivityState.Hlt
                || (c.V(VmcsField.GuestSsAccessRights) & SegmentAttributes.DplMask) == 0,
            Set(VmcsField.GuestActivity, 1), Or(VmcsField.GuestSsAccessRights, 0x60), Or(VmcsField.GuestCsAccessRights, 0x60)),
        Row("guest.activity.blocking", [VmcsField.GuestActivity, VmcsField.GuestInterruptibility],
            static (in EntryContext c) => c.V(VmcsField.GuestActivity) == 0 || !Blocks(c, Sti | MovSs),
            Set(VmcsField.GuestActivity, 2), Set(VmcsField.GuestInterruptibility, MovSs)),
        Row("guest.activity.injection", [VmcsField.GuestActivity, VmcsField.EntryInterruptionInfo],
            static (in EntryContext c) => Wakes(c),
            Set(VmcsField.GuestActivity, 1), Inject(3, 6)),
        Row("guest.activity.wait-for-sipi-smm", [VmcsField.GuestActivity, VmcsField.EntryControls],
            static (in EntryContext c) => c.V(VmcsField.GuestActivity) != 3 || !c.Entry(EntryControls.EntryToSmm),
            Set(VmcsField.GuestActivity, 3), Entry(EntryControls.EntryToSmm)) with { AlsoBreaks = ["entry.smm.not-in-smm", "guest.interruptibility.smm-entry"] },
        Row("guest.interruptibility.reserved", [VmcsField.GuestInterruptibility],
            static (in EntryContext c) => (c.V(VmcsField.GuestInterruptibility) & ~(ulong)InterruptibilityState.Defined) == 0,
            Set(VmcsField.GuestInterruptibility, 0x20)),
        Row("guest.interruptibility.sti-and-mov-ss", [VmcsField.GuestInterruptibility],
            static (in EntryContext c) => (c.V(VmcsField.GuestInterruptibility) & (Sti | MovSs)) != (Sti | MovSs),
            Set(VmcsField.GuestInterruptibility, Sti | MovSs), Or(VmcsField.GuestRflags, RFlags.If)),
        Row("guest.interruptibility.sti-needs-if", [VmcsField.GuestInterruptibility, VmcsField.GuestRflags],
            static (in EntryContext c) => !Blocks(c, Sti) || (c.V(VmcsField.GuestRflags) & RFlags.If) != 0,
            Set(VmcsField.GuestInterruptibility, Sti)),
        Row("guest.interruptibility.external-interrupt-sti", [VmcsField.GuestInterruptibility, VmcsField.EntryInterruptionInfo],
            static (in EntryContext c) => !Injects(c, InterruptionType.ExternalInterrupt) || !Blocks(c, Sti),
            Inject(0, 0x20), Or(VmcsField.GuestRflags, RFlags.If), Set(VmcsField.GuestInterruptibility, Sti)),
        Row("guest.interruptibility.external-interrupt-mov-ss", [VmcsField.GuestInterruptibility, VmcsField.EntryInterruptionInfo],
            static (in EntryContext c) => !Injects(c, InterruptionType.ExternalInterrupt) || !Blocks(c, MovSs),
            Inject(0, 0x20), Or(VmcsField.GuestRflags, RFlags.If), Set(VmcsField.GuestInterruptibility, MovSs)),
        Row("guest.interruptibility.nmi-mov-ss", [VmcsField.GuestInterruptibility, VmcsField.EntryInterruptionInfo],
            static (in EntryContext c) => !Injects(c, InterruptionType.Nmi) || !Blocks(c, MovSs),
            Inject(2, 2), Set(VmcsField.GuestInterruptibility, MovSs)),
        Row("guest.interruptibility.nmi-sti", [VmcsField.GuestInterruptibility, VmcsField.EntryInterruptionInfo],
            static (in EntryContext c) => !Injects(c, InterruptionType.Nmi) || !Blocks(c, Sti),
            Inject(2, 2), Or(VmcsField.GuestRflags, RFlags.If), Set(VmcsField.GuestInterruptibility, Sti))
            with { Qualification = ExitQualification.EntryFailureNmiInjection },
        Row("guest.interruptibility.smi-outside-smm", [VmcsField.GuestInterruptibility],
            static (in EntryContext c) => !Blocks(c, InterruptibilityState.BlockingBySmi),
            Set(VmcsField.GuestInterruptibility, InterruptibilityState.BlockingBySmi)),
        Row("guest.interruptibility.smm-entry", [VmcsField.GuestInterruptibility, VmcsField.EntryControls],
            static (in EntryContext c) => !c.Entry(EntryControls.EntryToSmm) || Blocks(c, InterruptibilityState.BlockingBySmi),
            Entry(EntryControls.EntryToSmm)) with { AlsoBreaks = ["entry.smm.not-in-smm"] },
        Row("guest.interruptibility.virtual-nmi", [VmcsField.GuestInterruptibility, VmcsField.EntryInterruptionInfo, VmcsField.PinBasedControls],
            static (in EntryContext c) => !Injects(c, InterruptionType.Nmi) || !c.Pin(PinBasedControls.VirtualNmis)
                || !Blocks(c, InterruptibilityState.BlockingByNmi),
            Inject(2, 2), Set(VmcsField.GuestInterruptibility, InterruptibilityState.BlockingByNmi)),
        Row("guest.interruptibility.enclave-mov-ss", [VmcsField.GuestInterruptibility],
            static (in EntryContext c) => !Blocks(c, InterruptibilityState.EnclaveInterruption) || !Blocks(c, MovSs),
            Set(VmcsField.GuestInterruptibility, InterruptibilityState.EnclaveInterruption | MovSs))
            with { AlsoBreaks = ["guest.interruptibility.enclave-sgx"] },
        Row("guest.interruptibility.enclave-sgx", [VmcsField.GuestInterruptibility],
            static (in EntryContext c) => !Blocks(c, InterruptibilityState.EnclaveInterruption),
            Set(VmcsField.GuestInterruptibility, InterruptibilityState.EnclaveInterruption)),
        Row("guest.pending-debug.reserved", [VmcsField.GuestPendingDebug],
            static (in EntryContext c) => (c.V(VmcsField.GuestPendingDebug) & ~PendingDebugExceptions.Defined) == 0,
            Set(VmcsField.GuestPendingDebug, 1 << 5)),
        Row("guest.pending-debug.bs-missing", PendingReads,
            static (in EntryContext c) => !StepKnown(c) || !Steps(c) || (c.V(VmcsField.GuestPendingDebug) & PendingDebugExceptions.Bs) != 0,
            Set(VmcsField.GuestInterruptibility, MovSs), Or(VmcsField.GuestRflags, RFlags.Tf)),
        Row("guest.pending-debug.bs-unexpected", PendingReads,
            static (in EntryContext c) => !StepKnown(c) || Steps(c) || (c.V(VmcsField.GuestPendingDebug) & PendingDebugExceptions.Bs) == 0,
            Set(VmcsField.GuestInterruptibility, MovSs), Set(VmcsField.GuestPendingDebug, PendingDebugExceptions.Bs)),
        Row("guest.pending-debug.rtm-bits", [VmcsField.GuestPendingDebug],
            static (in EntryContext c) => (c.V(VmcsField.GuestPendingDebug) & PendingDebugExceptions.Rtm) == 0
                || (c.V(VmcsField.GuestPendingDebug) & (0xFFFUL | PendingDebugExceptions.Bs | PendingDebugExceptions.EnabledBreakpoint)) == PendingDebugExceptions.EnabledBreakpoint,
            Set(VmcsField.GuestPendingDebug, PendingDebugExceptions.Rtm)) with { AlsoBreaks = ["guest.pending-debug.rtm-supported"] },
        Row("guest.pending-debug.rtm-supported", [VmcsField.GuestPendingDebug],
            static (in EntryContext c) => (c.V(VmcsField.GuestPendingDebug) & PendingDebugExceptions.Rtm) == 0,
            Set(VmcsField.GuestPendingDebug, PendingDebugExceptions.Rtm | PendingDebugExceptions.EnabledBreakpoint)),
        Link("alignment", static (in EntryContext c) => (c.V(VmcsField.VmcsLinkPointer) & 0xFFF) == 0, false, 0x8,
            ["guest.link-pointer.revision"]),
        Link("width", static (in EntryContext c) => c.Within(VmcsField.VmcsLinkPointer), false, 1UL << 60, ["guest.link-pointer.revision"]),
        Link("revision", static (in EntryContext c) => c.Word(c.V(VmcsField.VmcsLinkPointer))
            == (c.Capabilities.RevisionId | (c.Secondary(SecondaryControls.VmcsShadowing) ? 0x8000_0000U : 0)), true, 0x40_0000, []),
        Link("current", static (in EntryContext c) => c.V(VmcsField.VmcsLinkPointer) != c.CurrentPointer, true, GoldenLink, ["guest.link-pointer.revision"]),
    ];

    /// <summary>The current-VMCS pointer under which the rows' violations are meant.</summary>
    internal const ulong GoldenLink = 0x1000;

    private static EntryCheck Link(string name, EntryPredicate holds, bool memory, ulong violation, ImmutableArray<string> also) =>
        new($"guest.link-pointer.{name}", Sdm.GuestNonRegisterState, EntryCheckStage.Guest, [VmcsField.VmcsLinkPointer, .. SecondaryReads],
            (in EntryContext c) => c.V(VmcsField.VmcsLinkPointer) == ulong.MaxValue || holds(c),
            [Set(VmcsField.VmcsLinkPointer, violation)], ExitQualification.EntryFailureLinkPointer, memory, also);
}
