using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Kvm.Exits;

namespace VmFuzz.Kvm;

/// <summary>The rows of the exit table. A reason without a row leaves with UNKNOWN (S80).</summary>
internal static class ExitRows
{
    public static readonly ImmutableArray<ExitRow> All =
    [
        new("exception-nmi", ExitReason.ExceptionOrNmi, ExceptionExit.Handle, ExitWrites.Events | ExitWrites.System | ExitWrites.Flow, "S81", "handle_exception"),
        new("external-interrupt", ExitReason.ExternalInterrupt, ExternalInterruptExit.Handle, ExitWrites.Nothing, "S82", "handle_external_interrupt"),
        new("triple-fault", ExitReason.TripleFault, ExternalInterruptExit.HandleTripleFault, ExitWrites.Nothing, "S82", "handle_triple_fault"),
        new("interrupt-window", ExitReason.InterruptWindow, WindowExit.HandleInterrupt, ExitWrites.Events, "S83", "handle_interrupt_window"),
        new("nmi-window", ExitReason.NmiWindow, WindowExit.HandleNmi, ExitWrites.Events, "S83", "handle_nmi_window"),
        new("task-switch", ExitReason.TaskSwitch, TaskSwitchExit.Handle, ExitWrites.Nothing, "S95", "handle_task_switch"),
        new("cpuid", ExitReason.Cpuid, CpuidExit.Handle, ExitWrites.Gprs, "S87", "handle_cpuid"),
        new("hlt", ExitReason.Hlt, HaltExit.Handle, ExitWrites.Nothing, "S89", "handle_halt"),
        new("invd", ExitReason.Invd, CacheExit.HandleNothing, ExitWrites.Nothing, "S90", "handle_invd"),
        new("invlpg", ExitReason.Invlpg, CacheExit.HandleInvlpg, ExitWrites.Nothing, "S90", "handle_invlpg"),
        new("rdpmc", ExitReason.Rdpmc, CacheExit.HandleRdpmc, ExitWrites.Gprs | ExitWrites.Events, "S90", "handle_rdpmc"),
        new("rdtsc", ExitReason.Rdtsc, CacheExit.HandleRdtsc, ExitWrites.Gprs, "S88", "SDM: RDTSC exiting"),
        new("vmcall", ExitReason.Vmcall, HypercallExit.Handle, ExitWrites.Gprs, "S91", "handle_vmcall"),
        new("vmclear", ExitReason.Vmclear, VmxInstructionExit.Handle, ExitWrites.Events, "S92", "handle_vmclear"),
        new("vmlaunch", ExitReason.Vmlaunch, VmxInstructionExit.Handle, ExitWrites.Events, "S92", "handle_vmlaunch"),
        new("vmptrld", ExitReason.Vmptrld, VmxInstructionExit.Handle, ExitWrites.Events, "S92", "handle_vmptrld"),
        new("vmptrst", ExitReason.Vmptrst, VmxInstructionExit.Handle, ExitWrites.Events, "S92", "handle_vmptrst"),
        new("vmread", ExitReason.Vmread, VmxInstructionExit.Handle, ExitWrites.Events, "S92", "handle_vmread"),
        new("vmresume", ExitReason.Vmresume, VmxInstructionExit.Handle, ExitWrites.Events, "S92", "handle_vmresume"),
        new("vmwrite", ExitReason.Vmwrite, VmxInstructionExit.Handle, ExitWrites.Events, "S92", "handle_vmwrite"),
        new("vmxoff", ExitReason.Vmxoff, VmxInstructionExit.Handle, ExitWrites.Events, "S92", "handle_vmoff"),
        new("vmxon", ExitReason.Vmxon, VmxInstructionExit.Handle, ExitWrites.Events, "S92", "handle_vmon"),
        new("control-register", ExitReason.ControlRegisterAccess, ControlRegisterExit.Handle, ExitWrites.System | ExitWrites.Gprs | ExitWrites.Events, "S85", "handle_cr"),
        new("debug-register", ExitReason.MovDr, DebugRegisterExit.Handle, ExitWrites.System | ExitWrites.Gprs | ExitWrites.Events | ExitWrites.Flow, "S86", "handle_dr"),
        new("io", ExitReason.IoInstruction, IoExit.Handle, ExitWrites.Gprs | ExitWrites.Flow | ExitWrites.Events | ExitWrites.Memory, "S84", "handle_io"),
        new("rdmsr", ExitReason.Rdmsr, MsrExit.HandleRead, ExitWrites.Gprs | ExitWrites.Events, "S88", "handle_rdmsr"),
        new("wrmsr", ExitReason.Wrmsr, MsrExit.HandleWrite, ExitWrites.System | ExitWrites.Events, "S88", "handle_wrmsr"),
        new("mwait", ExitReason.Mwait, HaltExit.HandleMonitor, ExitWrites.Events, "S89", "handle_mwait"),
        new("monitor", ExitReason.Monitor, HaltExit.HandleMonitor, ExitWrites.Events, "S89", "handle_monitor"),
        new("pause", ExitReason.Pause, HaltExit.HandlePause, ExitWrites.Nothing, "S89", "handle_pause"),
        new("ept-violation", ExitReason.EptViolation, EptExit.HandleViolation, ExitWrites.SecondStage | ExitWrites.Gprs | ExitWrites.Flow | ExitWrites.Memory | ExitWrites.Events, "S97", "handle_ept_violation"),
        new("ept-misconfiguration", ExitReason.EptMisconfiguration, EptExit.HandleMisconfiguration, ExitWrites.Gprs | ExitWrites.Flow | ExitWrites.Memory | ExitWrites.Events, "S97", "handle_ept_misconfig"),
        new("invept", ExitReason.Invept, VmxInstructionExit.Handle, ExitWrites.Events, "S92", "handle_invept"),
        new("invvpid", ExitReason.Invvpid, VmxInstructionExit.Handle, ExitWrites.Events, "S92", "handle_invvpid"),
        new("wbinvd", ExitReason.Wbinvd, CacheExit.HandleNothing, ExitWrites.Nothing, "S90", "handle_wbinvd"),
        new("xsetbv", ExitReason.Xsetbv, XsetbvExit.Handle, ExitWrites.System | ExitWrites.Events, "S94", "handle_xsetbv"),
    ];
}
