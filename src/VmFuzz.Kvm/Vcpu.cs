using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Vmx;

namespace VmFuzz.Kvm;

/// <summary>
/// A virtual processor. Start reading at <see cref="Run"/>: the arch run, then the run loop, then entering the guest,
/// each in its own file.
/// </summary>
public sealed partial class Vcpu : IStateful, ICopiedState
{
    internal Vcpu(Vm vm, int index, Processor processor, VmxUnit vmx, IMsrAccess msrs)
    {
        Vm = vm;
        Index = index;
        Processor = processor;
        Msrs = msrs;
        Path = vm.Options.Path;
        Exits = vm.Options.Exits;
        Rules = vm.Options.Rules;
        Host = new HostCpu();
        Events = new PendingEvents(this);
        Stats = new VcpuStats();
        KvmRun = new KvmRun();
        Paging = new GuestPaging(this);
        Emulator = new Emulator(this);
        MpState = index == 0 ? MpState.Runnable : MpState.Uninitialized;
        Vmx = new VmxVcpu(this, vmx);
    }

    /// <summary>The VM.</summary>
    public Vm Vm { get; }

    /// <summary>Number in the VM, from 0.</summary>
    public int Index { get; }

    /// <summary>The processor it runs on.</summary>
    public Processor Processor { get; }

    /// <summary>The modelled host processor around it.</summary>
    public HostCpu Host { get; }

    /// <summary>What it shares with its userspace.</summary>
    public KvmRun KvmRun { get; }

    /// <summary>Its events.</summary>
    public PendingEvents Events { get; }

    /// <summary>Its counters.</summary>
    public VcpuStats Stats { get; }

    /// <summary>Who watches; null when nobody does.</summary>
    public IKvmObserver? Observer { get; set; }

    /// <summary>The VT-x part.</summary>
    public VmxVcpu Vmx { get; }

    /// <summary>Whether it runs, is halted or waits for INIT or SIPI.</summary>
    public MpState MpState { get; internal set; }

    /// <summary>Where it is, as other threads see it.</summary>
    public VcpuMode Mode { get; internal set; }

    /// <summary>Pending requests, one bit each (see <see cref="Request"/>).</summary>
    public uint Requests { get; private set; }

    /// <summary>IA32_APIC_BASE.</summary>
    public unsafe ulong ApicBase
    {
        get => Processor.State->ApicBase;
        internal set => Processor.State->ApicBase = value;
    }

    /// <summary>Guest CR8 while the irqchip is in userspace, 0 to 15.</summary>
    public ulong Cr8 { get; internal set; }

    /// <summary>The local APIC of userspace, which answers the x2APIC registers and IA32_TSC_DEADLINE; null for none.</summary>
    public IInterruptController? LocalApic { get; set; }

    /// <summary>Which debug events go to userspace instead of the guest.</summary>
    public GuestDebug GuestDebug { get; internal set; }

    /// <summary>The guest's TSC at the last exit (S51).</summary>
    public ulong LastGuestTsc { get; internal set; }

    /// <summary>A signal mask for the run call; null leaves the thread's (KVM_SET_SIGNAL_MASK).</summary>
    public ulong? SignalMask { get; set; }

    /// <summary>The synthetic halt of an async page fault (S31).</summary>
    public bool AsyncPageHalted { get; internal set; }

    /// <summary>Another VCPU woke this one by a hypercall (pv_unhalted); ends the next halt.</summary>
    public bool PvUnhalted { get; internal set; }

    /// <summary>Guest-physical address of the steal-time record; 0 when off.</summary>
    public ulong StealTimeAddress { get; set; }

    /// <summary>Guest-physical address of the pvclock page; 0 when off.</summary>
    public ulong PvClockAddress { get; set; }

    /// <summary>Forces an exit right after the entry (S46).</summary>
    public bool ForceImmediateExit { get; set; }

    /// <summary>Whether the user asked the whole run to stop (input).</summary>
    public bool StopRequested { get; set; }

    internal RunPath Path { get; }

    internal ExitTable Exits { get; }

    internal GuestRules Rules { get; }

    internal IMsrAccess Msrs { get; }

    internal GuestPaging Paging { get; }

    internal Emulator Emulator { get; }

    /// <summary>Whether the guest is in protected mode.</summary>
    public bool Protected => (Vmx.Cr0 & Cr0.Pe) != 0;

    /// <summary>A general register; RSP is read from the VMCS when it is not cached.</summary>
    public ulong this[Gpr register]
    {
        get => Vmx.GetGpr(register);
        set => Vmx.SetGpr(register, value);
    }

    /// <summary>RAX.</summary>
    public ulong Rax { get => this[Gpr.Rax]; set => this[Gpr.Rax] = value; }

    /// <summary>RBX.</summary>
    public ulong Rbx { get => this[Gpr.Rbx]; set => this[Gpr.Rbx] = value; }

    /// <summary>RCX.</summary>
    public ulong Rcx { get => this[Gpr.Rcx]; set => this[Gpr.Rcx] = value; }

    /// <summary>RDX.</summary>
    public ulong Rdx { get => this[Gpr.Rdx]; set => this[Gpr.Rdx] = value; }

    /// <summary>RIP.</summary>
    public ulong Rip { get => Vmx.Rip; set => Vmx.Rip = value; }

    /// <summary>RFLAGS. Setting it asks for EVENT, because a window may have opened (S103).</summary>
    public ulong RFlags
    {
        get => Vmx.RFlags;
        set
        {
            Vmx.RFlags = value;
            Raise(Request.Event);
        }
    }

    /// <summary>Makes a request (kvm_make_request).</summary>
    public void Raise(Request request)
    {
        uint bit = 1U << (int)request;
        if ((Requests & bit) == 0)
        {
            Requests |= bit;
            Observer?.OnRequest(this, request, served: false);
        }
    }

    /// <summary>Whether a request is pending.</summary>
    public bool IsRaised(Request request) => (Requests & (1U << (int)request)) != 0;

    /// <summary>Takes a request (kvm_check_request): true, and it is gone, when it was pending.</summary>
    internal bool Check(Request request)
    {
        uint bit = 1U << (int)request;
        if ((Requests & bit) == 0)
        {
            return false;
        }

        Requests &= ~bit;
        Observer?.OnRequest(this, request, served: true);
        return true;
    }

    internal void Clear(Request request) => Requests &= ~(1U << (int)request);

    /// <summary>Sets the reason of an exit to userspace.</summary>
    internal RequestOutcome LeaveWith(KvmExitReason reason)
    {
        KvmRun.ExitReason = reason;
        return RequestOutcome.ToUserspace;
    }
}

/// <summary>Guest-debug options (KVM_SET_GUEST_DEBUG).</summary>
[Flags]
public enum GuestDebug : byte
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>Debug events go to userspace.</summary>
    Enable = 1,

    /// <summary>Every instruction traps.</summary>
    SingleStep = 2,

    /// <summary>INT3 goes to userspace.</summary>
    UseSoftwareBreakpoints = 4,

    /// <summary>The debug registers are userspace's.</summary>
    UseHardwareBreakpoints = 8,
}
