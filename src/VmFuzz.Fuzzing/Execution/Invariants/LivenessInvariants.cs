using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Kvm;

namespace VmFuzz.Fuzzing;

/// <summary>No event is lost, doubled, or left without something that will bring the VCPU back to it.</summary>
internal static class LivenessInvariants
{
    public static readonly ImmutableArray<Invariant> Rows =
    [
        new("liveness.exception", OracleKind.Liveness, InvariantMoment.Entry, "a queued exception is injected by the next entry that is not cut short", "inject_pending_event", static v =>
        {
            QueuedException e = v.Vcpu.Events.Exception;
            InterruptionInfo injected = v.Entry.Injected;
            return !e.Pending || KickPending(v) || (injected.Valid && injected.Vector == e.Vector) ? null : $"exception {e.Vector} waits and the entry injects {Name(injected)}";
        }),
        new("liveness.error-code", OracleKind.Liveness, InvariantMoment.Entry, "an injected exception has the error code that was queued", "inject_pending_event", static v =>
        {
            QueuedException e = v.Vcpu.Events.Exception;
            return !e.Pending || !v.Entry.Injected.Valid || (v.Entry.Injected.ErrorCodeValid == e.HasErrorCode && (!e.HasErrorCode || v.Entry.ErrorCode == e.ErrorCode))
                ? null : $"exception {e.Vector} is injected with another error code than 0x{e.ErrorCode:x}";
        }),
        new("liveness.nmi-injected", OracleKind.Liveness, InvariantMoment.Entry, "an NMI whose injection was begun is injected", "inject_pending_event", static v =>
            !v.Vcpu.Events.NmiInjected || v.Vcpu.Events.Exception.Pending || (v.Entry.Injected.Valid && v.Entry.Injected.Type == InterruptionType.Nmi)
                ? null : $"an NMI is being injected and the entry injects {Name(v.Entry.Injected)}"),
        new("liveness.nmi-window", OracleKind.Liveness, InvariantMoment.Entry, "a waiting NMI has a window", "enable_nmi_window", static v =>
            v.Vcpu.Events.NmiPending == 0 || Windows(v) ? null : "an NMI waits without a window that would bring the VCPU back to it"),
        new("liveness.interrupt", OracleKind.Liveness, InvariantMoment.Entry, "a queued interrupt is injected, or has a window", "inject_pending_event", static v =>
            !v.Vcpu.Events.Interrupt.Pending || Windows(v) || v.Vcpu.Events.Exception.Pending || v.Vcpu.Events.NmiInjected
            || (v.Entry.Injected.Valid && v.Entry.Injected.Vector == v.Vcpu.Events.Interrupt.Vector)
                ? null : $"interrupt {v.Vcpu.Events.Interrupt.Vector} waits without a window"),
        new("liveness.window-request", OracleKind.Liveness, InvariantMoment.Entry, "userspace that waits for an interrupt window gets one", "dm_request_for_irq_injection", static v =>
            !v.Vcpu.KvmRun.RequestInterruptWindow || Windows(v) || KickPending(v) || v.Vcpu.Events.NmiPending != 0
                ? null : "userspace waits for an interrupt window and none is armed"),
        new("liveness.requests", OracleKind.Liveness, InvariantMoment.Entry, "no request is left behind by an entry", "vcpu_enter_guest: the last look at requests", static v =>
            v.Vcpu.Requests == 0 || KickPending(v) ? null : $"requests 0x{v.Vcpu.Requests:x} wait and nothing brings the VCPU back to them"),
        new("liveness.vectoring", OracleKind.Liveness, InvariantMoment.Handling, "an event whose delivery an exit interrupted is queued again, as it was", "vmx_complete_interrupts", Vectoring),
        new("liveness.failed-entry", OracleKind.Liveness, InvariantMoment.Userspace, "the event of an entry that failed is queued again", "vmx_cancel_injection", static v =>
            !v.EntryFailed || v.Vcpu.KvmRun.ExitReason != KvmExitReason.FailEntry || !v.Entry.Injected.Valid || IsQueued(v, v.Entry.Injected, v.Entry.ErrorCode)
                ? null : $"{Name(v.Entry.Injected)} was to be injected by an entry that failed and is lost"),
        new("liveness.nmi-unblocked", OracleKind.Liveness, InvariantMoment.Handled, "NMIs that an IRET unblocked before it faulted are blocked until it is repeated", "SDM: NMI unblocking due to IRET", static v =>
        {
            bool unblocked = v.Exit.Basic switch
            {
                ExitReason.EptViolation => (v.Exit.Qualification & EptViolationQualification.NmiUnblockingBit) != 0,
                ExitReason.ExceptionOrNmi => v.Exit.InterruptionInfo.NmiUnblocking && v.Exit.InterruptionInfo.Vector != Vector.Df,
                _ => false,
            };
            bool repeated = v.Vcpu.Rip == v.Rip && v.Outcome.Verdict == ExitVerdict.Resume;
            return !unblocked || !repeated || v.Exit.IdtVectoringInfo.Valid || (v.Vmcs[VmcsField.GuestInterruptibility] & InterruptibilityState.BlockingByNmi) != 0
                ? null : "NMIs are open while the IRET that ends their handler is still to come";
        }),
        new("liveness.doubled", OracleKind.Liveness, InvariantMoment.Handling, "an event that was delivered is not queued any more", "vmx_complete_interrupts", static v =>
        {
            PendingEvents events = v.Vcpu.Events;
            InterruptionInfo injected = v.Entry.Injected;
            if (!v.Entered || !injected.Valid || v.Exit.IdtVectoringInfo.Valid || v.Exit.IsEntryFailure)
            {
                return null;
            }

            bool doubled = injected.Type switch
            {
                InterruptionType.Nmi => events.NmiInjected,
                InterruptionType.ExternalInterrupt or InterruptionType.SoftwareInterrupt => events.Interrupt.Pending && events.Interrupt.Vector == injected.Vector,
                _ => events.Exception.Pending,
            };
            return doubled ? $"{Name(injected)} was delivered and is queued still" : null;
        }),
    ];

    private static string? Vectoring(RunView v)
    {
        InterruptionInfo info = v.Exit.IdtVectoringInfo;
        return !info.Valid || IsQueued(v, info, v.Exit.IdtVectoringError) ? null : $"the delivery of {Name(info)} was interrupted and it is not queued again as it was";
    }

    private static bool IsQueued(RunView v, InterruptionInfo info, uint errorCode)
    {
        PendingEvents events = v.Vcpu.Events;
        return info.Type switch
        {
            InterruptionType.Nmi => events.NmiInjected,
            InterruptionType.ExternalInterrupt or InterruptionType.SoftwareInterrupt => events.Interrupt.Pending && events.Interrupt.Vector == info.Vector,
            _ => events.Exception.Pending && events.Exception.Vector == info.Vector
                && events.Exception.HasErrorCode == info.ErrorCodeValid && (!info.ErrorCodeValid || events.Exception.ErrorCode == errorCode),
        };
    }

    private static bool Windows(RunView v) =>
        (v.Vmcs[VmcsField.PrimaryControls] & (PrimaryControls.NmiWindowExiting | PrimaryControls.InterruptWindowExiting)) != 0;

    private static bool KickPending(RunView v) => v.Vcpu.Host.InterruptPending;

    private static string Name(InterruptionInfo info) => info.Valid ? $"{info.Type} {info.Vector}" : "nothing";
}
