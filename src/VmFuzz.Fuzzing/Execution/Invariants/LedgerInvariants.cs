using System.Collections.Immutable;
using VmFuzz.Kvm;

namespace VmFuzz.Fuzzing;

/// <summary>The host is as it was when its VCPU returns to userspace, and never runs on the guest's state.</summary>
internal static class LedgerInvariants
{
    public static readonly ImmutableArray<Invariant> Rows =
    [
        Row("ledger.preemption", "preemption is enabled", static h => h.PreemptCount == 0 ? null : $"preemption is disabled {h.PreemptCount} deep"),
        Row("ledger.interrupts", "interrupts are enabled", static h => h.InterruptsEnabled ? null : "interrupts are off"),
        Row("ledger.slots", "the memory slots are unlocked", static h => h.SrcuDepth == 0 ? null : $"the memory slots are locked {h.SrcuDepth} deep"),
        Row("ledger.vectors", "no interrupt of the host waits", static h => h.InterruptPending ? "a vector of the host waits with interrupts on" : null),
        new("ledger.host-vectors", OracleKind.Ledger, InvariantMoment.Userspace, "each vector that comes for the host runs once", "vmx_handle_external_intr, vmx_complete_atomic_exit", static v =>
            v.VectorsOwed == 0 ? null : v.VectorsOwed > 0 ? $"{v.VectorsOwed} vectors of the host did not run" : $"{-v.VectorsOwed} vectors ran that did not come"),
        new("ledger.exits", OracleKind.Ledger, InvariantMoment.Userspace, "each exit is seen once, and nothing else is taken for one", "vmx_vcpu_run", static v =>
            v.Exits == v.ExitsMade ? null : $"{v.Exits} exits were seen, the processor made {v.ExitsMade}"),
        new("ledger.debug", OracleKind.Ledger, InvariantMoment.Handling, "the host's breakpoints are its own outside the guest", "hw_breakpoint_restore", static v =>
            (v.Vcpu.Host.Dr7 & 0xFF) == 0 || !v.Vcpu.Host.GuestDebugLoaded ? null : "the guest's breakpoints are loaded while the host runs"),
    ];

    private static Invariant Row(string id, string text, Func<HostCpu, string?> check) =>
        new(id, OracleKind.Ledger, InvariantMoment.Userspace, text, "kvm_vcpu_ioctl", v => check(v.Vcpu.Host));
}
