using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>A difference between two ways to run a guest that is no finding.</summary>
internal sealed record GuestDifferenceRow(string Id, string Reason)
{
    /// <summary>Name of the register that may differ; empty for rows about whole runs.</summary>
    public string Field { get; init; } = "";

    /// <summary>Whether the values are a declared difference (low eight bytes of wide registers).</summary>
    public Func<GuestPair, ulong, ulong, bool>? Allows { get; init; }

    /// <summary>Whether two runs cannot be compared at all.</summary>
    public Func<GuestPair, bool>? Voids { get; init; }
}

/// <summary>The declared differences. Every row has its reason.</summary>
internal static class GuestDifferenceRows
{
    private const ulong TrapBits = PendingDebugExceptions.Bs | PendingDebugExceptions.EnabledBreakpoint;

    /// <summary>Runs that cannot be compared.</summary>
    public static readonly ImmutableArray<GuestDifferenceRow> WholeRuns =
    [
        new("unimplemented", "one of the runs ended at a gap of the model, which says so")
        {
            Voids = static p => Ends(p, MachineStopKind.Unimplemented),
        },
        new("given-up", "the hypervisor gave the guest up, which is judged by itself")
        {
            Voids = static p => Ends(p, MachineStopKind.HypervisorError),
        },
        new("endless-events", "one of the runs was cut off because it did nothing but take events")
        {
            Voids = static p => p.LeftMonitor.TooManyPasses || p.RightMonitor.TooManyPasses,
        },
        new("vmcall", "a hypercall is answered by a hypervisor and undefined without one")
        {
            Voids = static p => p.AcrossAccelerators && Saw(p, ExitReason.Vmcall),
        },
        new("two-nmis", "a second NMI that comes while the first waits is kept by the hypervisor's queue; the processor latches one")
        {
            Voids = static p => p.AcrossAccelerators && (p.LeftMonitor.TwoNmis || p.RightMonitor.TwoNmis),
        },
        new("nmi-behind-sti", "an NMI that comes in the shadow of STI waits for the interrupt window, the nearest that KVM asks for, or for any other pass")
        {
            Voids = static p => p.LeftMonitor.NmiBehindSti || p.RightMonitor.NmiBehindSti,
        },
        new("nmi-behind-interrupt", "of an NMI and an interrupt at once the processor takes the NMI; userspace may have handed the interrupt over before the NMI is looked at")
        {
            Voids = static p => p.LeftMonitor.NmiBehindInterrupt || p.RightMonitor.NmiBehindInterrupt,
        },
        new("int1-fault", "KVM completes INT1 and injects its trap; a fault on the trap's way then names the instruction behind it")
        {
            Voids = static p => p.AcrossAccelerators && (p.LeftMonitor.TrapOfInt1Faulted || p.RightMonitor.TrapOfInt1Faulted),
        },
        new("int1-traps", "the trap of INT1 that KVM injects takes along those that MOV SS held back; on a processor they come behind it")
        {
            Voids = static p => p.AcrossAccelerators && (p.LeftMonitor.TrapsBehindInt1 || p.RightMonitor.TrapsBehindInt1),
        },
        new("shutdown-at-input", "an input came at the boundary at which a trap shut the guest down; a pass injects before it looks at the inputs")
        {
            Voids = static p => p.AcrossAccelerators && Ends(p, MachineStopKind.Shutdown)
                && (EndsAtInput(p.Left, p.LeftMonitor) || EndsAtInput(p.Right, p.RightMonitor)),
        },
        new("emulator", "KVM's emulator knows some instructions only; CPL 3 gets #UD for the others when they reach MMIO")
        {
            Voids = static p => p.AcrossAccelerators && (p.LeftMonitor.EmulationFailed || p.RightMonitor.EmulationFailed),
        },
        new("emulated-breakpoints", "data and I/O breakpoints are the processor's: what KVM's emulator accesses in its place does not meet them")
        {
            Voids = static p => p.AcrossAccelerators && (p.LeftMonitor.EmulatedUnderBreakpoints || p.RightMonitor.EmulatedUnderBreakpoints),
        },
        new("emulated-tables", "KVM's emulator fetches the instruction again, after the processor has set accessed and dirty bits: one in a paging structure may be another by then")
        {
            Voids = static p => p.AcrossAccelerators && (p.LeftMonitor.EmulatedFromTables || p.RightMonitor.EmulatedFromTables),
        },
        new("x87-error-without-ne", "VT-x holds CR0.NE at 1: an x87 error is #MF in a VM, where a processor without CR0.NE tells the interrupt controller")
        {
            Voids = static p => p.AcrossAccelerators && (p.LeftMonitor.X87ErrorWithoutNe || p.RightMonitor.X87ErrorWithoutNe),
        },
        new("limit-in-event", "the limit fell between an event and its delivery; a pass injects before it looks at the limit")
        {
            Voids = static p => Ends(p, MachineStopKind.MaxInstructions) && (InEvent(p.Left, p.LeftMonitor) || InEvent(p.Right, p.RightMonitor)),
        },
        new("limit-at-halt", "the limit fell on a HLT: the processor stops behind it, a hypervisor has left the guest and finds nothing to wait for")
        {
            Voids = static p => p.AcrossAccelerators && Ends(p, MachineStopKind.MaxInstructions) && Ends(p, MachineStopKind.Halted),
        },
    ];

    /// <summary>Registers that may differ.</summary>
    public static readonly ImmutableArray<GuestDifferenceRow> Fields =
    [
        new("resume-flag", "an exit in the middle of an instruction leaves RF set until that completes")
        {
            Field = "rflags", Allows = static (_, left, right) => (left ^ right) == RFlags.Rf,
        },
        new("activity", "under a hypervisor with the irqchip in userspace HLT completes and userspace waits") { Field = "activity", Allows = AcrossOnly },
        new("nmi-pending", "under a hypervisor the run path holds NMIs that wait") { Field = "nmi-pending", Allows = AcrossOnly },
        .. Enumerable.Range(0, 4).Select(static i => new GuestDifferenceRow("pdpte", "PDPTEs mean something under PAE paging only")
        {
            Field = $"pdpte{i}", Allows = static (p, _, _) => !PaePaging(p.Left),
        }),
        .. ImmutableArray.Create("rip", "retired", "clock", "interruptibility", "pending-debug", "rsi", "rcx").Select(static name =>
            new GuestDifferenceRow("last-out", "the OUT or OUTS that ends a run is completed when userspace enters again, which it does not")
            {
                Field = name, Allows = LastOut,
            }),
    ];

    private static bool AcrossOnly(GuestPair pair, ulong left, ulong right) => pair.AcrossAccelerators;

    private static bool LastOut(GuestPair pair, ulong left, ulong right) =>
        pair.AcrossAccelerators && pair.Left.Stop.Kind == MachineStopKind.DebugExit;

    private static bool Ends(GuestPair pair, MachineStopKind kind) => pair.Left.Stop.Kind == kind || pair.Right.Stop.Kind == kind;

    private static bool Saw(GuestPair pair, ExitReason reason) =>
        ((pair.LeftMonitor.Reasons | pair.RightMonitor.Reasons) & (1UL << (int)reason)) != 0;

    private static bool EndsAtInput(Machine machine, RunMonitor monitor) => monitor.InputAt == machine.Processor.Retired;

    private static bool PaePaging(Machine machine) =>
        (GuestFields.Word(machine, GuestFields.Cr4) & Cr4.Pae) != 0 && (GuestFields.Word(machine, GuestFields.Efer) & Efer.Lma) == 0;

    private static bool InEvent(Machine machine, RunMonitor monitor) =>
        machine.Processor.NmiPending || (GuestFields.Word(machine, GuestFields.PendingDebug) & TrapBits) != 0
        || machine.InterruptController.InterruptPending || monitor.InjectedAt == machine.Processor.Retired
        || machine.Kvm is { } kvm && (kvm.Vcpu.Events.NeedsReinjection || kvm.Vcpu.Events.NmiPending + kvm.Vcpu.Events.NmiQueued != 0);
}
