using System.Collections.Immutable;
using VmFuzz.Arch;

namespace VmFuzz.Kvm;

/// <summary>Requests to a VCPU (<c>vcpu->requests</c>); the values are bit numbers.</summary>
public enum Request : byte
{
    /// <summary>KVM_REQ_TLB_FLUSH.</summary>
    TlbFlush = 0,
    /// <summary>KVM_REQ_MIGRATE_TIMER.</summary>
    MigrateTimer = 1,
    /// <summary>KVM_REQ_REPORT_TPR_ACCESS.</summary>
    ReportTprAccess = 2,
    /// <summary>KVM_REQ_MMU_RELOAD.</summary>
    MmuReload = 3,
    /// <summary>KVM_REQ_TRIPLE_FAULT.</summary>
    TripleFault = 4,
    /// <summary>KVM_REQ_PENDING_TIMER.</summary>
    PendingTimer = 5,
    /// <summary>KVM_REQ_UNHALT.</summary>
    Unhalt = 6,
    /// <summary>KVM_REQ_MMU_SYNC.</summary>
    MmuSync = 7,
    /// <summary>KVM_REQ_CLOCK_UPDATE.</summary>
    ClockUpdate = 8,
    /// <summary>KVM_REQ_DEACTIVATE_FPU.</summary>
    DeactivateFpu = 10,
    /// <summary>KVM_REQ_EVENT.</summary>
    Event = 11,
    /// <summary>KVM_REQ_APF_HALT.</summary>
    ApfHalt = 12,
    /// <summary>KVM_REQ_STEAL_UPDATE.</summary>
    StealUpdate = 13,
    /// <summary>KVM_REQ_NMI.</summary>
    Nmi = 14,
    /// <summary>KVM_REQ_PMU.</summary>
    Pmu = 15,
    /// <summary>KVM_REQ_PMI.</summary>
    Pmi = 16,
    /// <summary>KVM_REQ_MASTERCLOCK_UPDATE.</summary>
    MasterclockUpdate = 18,
    /// <summary>KVM_REQ_MCLOCK_INPROGRESS.</summary>
    MclockInProgress = 19,
    /// <summary>KVM_REQ_SCAN_IOAPIC.</summary>
    ScanIoapic = 21,
    /// <summary>KVM_REQ_GLOBAL_CLOCK_UPDATE.</summary>
    GlobalClockUpdate = 22,
}

/// <summary>What serving a request decides about the pass.</summary>
public enum RequestOutcome
{
    /// <summary>Leave to userspace (result 0).</summary>
    ToUserspace = 0,

    /// <summary>Leave this pass and stay in the loop (result 1).</summary>
    Stay = 1,

    /// <summary>Go on with the next request.</summary>
    Continue = 2,
}

/// <summary>Serves one request; the bit is cleared already.</summary>
public delegate RequestOutcome RequestHandler(Vcpu vcpu);

/// <summary>One row of the table of requests.</summary>
/// <param name="Row">Number of the row in run-path.tsv.</param>
/// <param name="Request">The request.</param>
/// <param name="Handler">What serves it.</param>
public readonly record struct RequestRow(int Row, Request Request, RequestHandler Handler);

/// <summary>The requests in the order in which a pass serves them.</summary>
internal static class RequestTable
{
    public static readonly ImmutableArray<RequestRow> Rows =
    [
        new(Kvm.Row.S21, Request.MmuReload, static v => Done(v.UnloadMmu)),
        new(Kvm.Row.S22, Request.MigrateTimer, static v => Done(v.Stats.CountMigratedTimers)),
        new(Kvm.Row.S23, Request.MasterclockUpdate, static v => Done(v.Vm.UpdateMasterclock)),
        new(Kvm.Row.S24, Request.GlobalClockUpdate, static v => Done(v.Vm.UpdateClocks)),
        new(Kvm.Row.S25, Request.ClockUpdate, static v => v.UpdateGuestClock()),
        // Shadow paging: with EPT there is nothing unsynchronised.
        new(Kvm.Row.S26, Request.MmuSync, static _ => RequestOutcome.Continue),
        new(Kvm.Row.S27, Request.TlbFlush, static v => Done(v.Vmx.FlushTlb)),
        new(Kvm.Row.S28, Request.ReportTprAccess, static v => v.LeaveWith(KvmExitReason.TprAccess)),
        new(Kvm.Row.S29, Request.TripleFault, static v => v.LeaveWith(KvmExitReason.Shutdown)),
        new(Kvm.Row.S30, Request.DeactivateFpu, static v => Done(v.DeactivateFpu)),
        new(Kvm.Row.S31, Request.ApfHalt, static v => v.HaltForAsyncPage()),
        new(Kvm.Row.S32, Request.StealUpdate, static v => Done(v.RecordSteal)),
        new(Kvm.Row.S33, Request.Nmi, static v => Done(v.Events.AcceptQueuedNmis)),
        // The counters of a performance-monitoring unit are not modelled yet: the two rows only count.
        new(Kvm.Row.S34, Request.Pmu, static v => Done(v.Stats.CountPmuEvent)),
        new(Kvm.Row.S35, Request.Pmi, static v => Done(v.Stats.CountPmi)),
        // In-kernel irqchip: with the irqchip in userspace there is no bitmap to rebuild.
        new(Kvm.Row.S36, Request.ScanIoapic, static _ => RequestOutcome.Continue),
    ];

    private static RequestOutcome Done(Action action)
    {
        action();
        return RequestOutcome.Continue;
    }
}
