using VmFuzz.Arch;

namespace VmFuzz.Cpu;

/// <summary>What the machine does when the instruction budget is used up: due events, asynchronous inputs, a new budget.</summary>
public interface IBoundary
{
    /// <summary>
    /// Called at an instruction boundary with the retired count equal to the limit, and when the processor starts to run.
    /// May raise lines on the processor.
    /// </summary>
    /// <param name="retired">Retired instructions.</param>
    /// <param name="nextLimit">The next limit; more than <paramref name="retired"/> when the result is true.</param>
    /// <returns>False to stop the run.</returns>
    bool OnBoundary(ulong retired, out ulong nextLimit);
}

/// <summary>
/// Stands in for the guest's instructions: is asked where the next one would be fetched. Events, windows and exits that
/// need no instruction are the processor's as ever.
/// </summary>
public interface IStandIn
{
    /// <summary>
    /// What the next instruction does. Changes the state, and calls either something that stops the processor (an exit of
    /// VT-x) or <see cref="Processor.RequestStop"/>; doing neither means that it is asked again.
    /// </summary>
    void Step(Processor processor);
}

/// <summary>
/// Looks at the processor between instructions and at its accesses, without being part of the run: a debugger. Costs
/// nothing when absent.
/// </summary>
public interface IInstructionWatch
{
    /// <summary>
    /// Whether the instructions in the page of a linear address are to be shown one by one. Asked wherever the dispatcher
    /// is: at each limit of <see cref="IBoundary"/> at the latest.
    /// </summary>
    bool ShowsCode(ulong linear);

    /// <summary>
    /// An instruction of such a page is about to be executed, after the events that come before it. May take its time and
    /// read everything. Called again for the same instruction when something else came between.
    /// </summary>
    void BeforeInstruction(Processor processor);

    /// <summary>Whether data accesses to the page of a linear address are to be shown.</summary>
    bool ShowsData(ulong linear);

    /// <summary>A data access is made; it may be in a page that is not to be shown.</summary>
    void OnAccess(ulong linear, int size, bool write);
}

/// <summary>Observes what the processor does at events; costs nothing when absent.</summary>
public interface IProcessorObserver
{
    /// <summary>An event was delivered through the IDT (not those of INT n, INT3, INTO).</summary>
    void OnDelivered(in GuestEvent delivered, ulong returnRip);
}

/// <summary>Instructions that can cause a VM exit and need no further question than this kind.</summary>
public enum SensitiveInstruction : byte
{
    /// <summary>CPUID.</summary>
    Cpuid,
    /// <summary>HLT.</summary>
    Hlt,
    /// <summary>INVD.</summary>
    Invd,
    /// <summary>INVLPG; qualification is the linear address.</summary>
    Invlpg,
    /// <summary>INVPCID.</summary>
    Invpcid,
    /// <summary>RDPMC.</summary>
    Rdpmc,
    /// <summary>RDTSC.</summary>
    Rdtsc,
    /// <summary>RDTSCP.</summary>
    Rdtscp,
    /// <summary>GETSEC.</summary>
    Getsec,
    /// <summary>VMCALL.</summary>
    Vmcall,
    /// <summary>VMCLEAR.</summary>
    Vmclear,
    /// <summary>VMLAUNCH.</summary>
    Vmlaunch,
    /// <summary>VMPTRLD.</summary>
    Vmptrld,
    /// <summary>VMPTRST.</summary>
    Vmptrst,
    /// <summary>VMREAD.</summary>
    Vmread,
    /// <summary>VMRESUME.</summary>
    Vmresume,
    /// <summary>VMWRITE.</summary>
    Vmwrite,
    /// <summary>VMXOFF.</summary>
    Vmxoff,
    /// <summary>VMXON.</summary>
    Vmxon,
    /// <summary>VMFUNC.</summary>
    Vmfunc,
    /// <summary>INVEPT.</summary>
    Invept,
    /// <summary>INVVPID.</summary>
    Invvpid,
    /// <summary>MWAIT.</summary>
    Mwait,
    /// <summary>MONITOR.</summary>
    Monitor,
    /// <summary>PAUSE.</summary>
    Pause,
    /// <summary>SGDT, SIDT, LGDT, LIDT.</summary>
    GdtrIdtrAccess,
    /// <summary>SLDT, STR, LLDT, LTR.</summary>
    LdtrTrAccess,
    /// <summary>RDRAND; instruction information holds the destination.</summary>
    Rdrand,
    /// <summary>RDSEED.</summary>
    Rdseed,
    /// <summary>WBINVD and WBNOINVD.</summary>
    Wbinvd,
    /// <summary>XSETBV.</summary>
    Xsetbv,
    /// <summary>XSAVES.</summary>
    Xsaves,
    /// <summary>XRSTORS.</summary>
    Xrstors,
}

/// <summary>An I/O instruction as the policy sees it (SDM "Exit Qualification for I/O Instructions").</summary>
/// <param name="Port">The port.</param>
/// <param name="Size">1, 2 or 4.</param>
/// <param name="IsIn">IN or INS.</param>
/// <param name="IsString">INS or OUTS.</param>
/// <param name="IsRep">REP prefixed.</param>
/// <param name="IsImmediate">Port from the immediate byte.</param>
/// <param name="LinearAddress">For string forms the linear address of the memory operand.</param>
/// <param name="AddressSize">For string forms 2, 4 or 8.</param>
/// <param name="Segment">For OUTS the segment.</param>
public readonly record struct IoAccess(
    ushort Port,
    int Size,
    bool IsIn,
    bool IsString,
    bool IsRep,
    bool IsImmediate,
    ulong LinearAddress = 0,
    int AddressSize = 0,
    SegmentRegister Segment = SegmentRegister.Ds);

/// <summary>
/// What VMX non-root operation changes about instructions and events. Implemented above (VT-x); null on a processor
/// in root operation. A method that returns true has recorded a VM exit: the instruction must not complete, and the
/// processor stops with <see cref="CpuStop.Exit"/>. RIP is at the instruction and instruction-length
/// arguments give its length in bytes.
/// </summary>
public interface INonRootPolicy
{
    /// <summary>An instruction of <see cref="SensitiveInstruction"/>, after its privilege and #UD checks.</summary>
    bool Instruction(SensitiveInstruction instruction, int instructionLength, ulong qualification = 0, uint instructionInfo = 0);

    /// <summary>An I/O instruction, after its privilege checks.</summary>
    bool Io(in IoAccess access, int instructionLength);

    /// <summary>RDMSR or WRMSR, after the privilege check.</summary>
    bool MsrAccess(uint msr, bool write, int instructionLength);

    /// <summary>
    /// MOV to CR0, CR3, CR4 or CR8. When it does not exit, <paramref name="value"/> becomes what is really loaded
    /// (guest/host masks applied).
    /// </summary>
    bool MovToCr(int register, Gpr source, int instructionLength, ref ulong value);

    /// <summary>MOV from CR0, CR3, CR4 or CR8. When it does not exit, <paramref name="value"/> becomes what the guest sees.</summary>
    bool MovFromCr(int register, Gpr destination, int instructionLength, ref ulong value);

    /// <summary>CLTS. When it does not exit, <paramref name="clear"/> says whether TS is really cleared.</summary>
    bool Clts(int instructionLength, out bool clear);

    /// <summary>LMSW. When it does not exit, <paramref name="cr0"/> (the new CR0) has the masks applied.</summary>
    bool Lmsw(ushort source, bool fromMemory, ulong linearAddress, int instructionLength, ref ulong cr0);

    /// <summary>MOV to or from a debug register.</summary>
    bool MovDr(int register, bool write, Gpr gpr, int instructionLength);

    /// <summary>
    /// An event is about to be delivered through the IDT. For hardware exceptions, software exceptions and NMIs the
    /// exception bitmap (and the page-fault mask and match) decide. <paramref name="original"/> is the event whose
    /// delivery caused this one, if any (IDT-vectoring information).
    /// </summary>
    bool Exception(in GuestEvent raised, in GuestEvent? original);

    /// <summary>A triple fault: always exits in non-root operation.</summary>
    bool TripleFault();

    /// <summary>A task switch is about to happen: always exits in non-root operation.</summary>
    bool TaskSwitch(ushort selector, TaskSwitchSource source, in GuestEvent? original, int instructionLength);

    /// <summary>Whether blocking by NMI is the virtual one, which does not hold back NMIs that exit.</summary>
    bool VirtualNmis { get; }

    /// <summary>An NMI arrives (not blocked). True when it exits.</summary>
    bool Nmi();

    /// <summary>
    /// The INTR line is asserted. True when it exits; when false it is delivered if the flags allow.
    /// In non-root operation with external-interrupt exiting the exit does not depend on IF.
    /// </summary>
    bool ExternalInterrupt(IInterruptController controller);

    /// <summary>
    /// Looks, at a boundary, for the exit of the monitor trap flag, which comes before debug traps (SDM "Monitor Trap
    /// Flag"); they stay pending. Called when <see cref="AttentionBits.Events"/> is set.
    /// </summary>
    bool MonitorTrap();

    /// <summary>Looks for exits that come between debug traps and NMIs: preemption timer, NMI window.</summary>
    bool Window();

    /// <summary>Looks for an interrupt-window exit, which comes after NMIs and before interrupts.</summary>
    bool InterruptWindow();

    /// <summary>TSC as the guest sees it, from the processor's TSC.</summary>
    ulong GuestTsc(ulong tsc);
}

/// <summary>Kinds of access, for translation and faults.</summary>
public enum AccessKind : byte
{
    /// <summary>Data read.</summary>
    Read = 0,
    /// <summary>Data write, or read-modify-write.</summary>
    Write = 1,
    /// <summary>Instruction fetch.</summary>
    Fetch = 2,
}

/// <summary>Whose access it is (SDM "Determination of Access Mode").</summary>
public enum AccessMode : byte
{
    /// <summary>An access at CPL.</summary>
    Own = 0,
    /// <summary>An explicit supervisor-mode access, whatever CPL is: a stack of an inner level.</summary>
    Supervisor = 1,
    /// <summary>An implicit supervisor-mode access, whatever CPL is: descriptor tables and TSS.</summary>
    System = 2,
}

/// <summary>A second translation stage (EPT). Implemented above; null when guest-physical is host-physical.</summary>
public interface ISecondStage
{
    /// <summary>
    /// Translates a guest-physical address for an access.
    /// </summary>
    /// <param name="gpa">Guest-physical address.</param>
    /// <param name="access">The access to the final page, or Read/Write to a paging structure.</param>
    /// <param name="pagingStructure">The address is that of a paging-structure entry.</param>
    /// <param name="gla">The linear address being translated, when <paramref name="glaValid"/>.</param>
    /// <param name="glaValid">Whether there is one.</param>
    /// <param name="hpa">The physical address.</param>
    /// <param name="writable">Whether a later write through the same mapping needs no further question.</param>
    /// <returns>False when an EPT violation or misconfiguration exit was recorded.</returns>
    bool Translate(ulong gpa, AccessKind access, bool pagingStructure, ulong gla, bool glaValid, out ulong hpa, out bool writable);

    /// <summary>Translates a guest-physical address as a read would, without exits and without changing any flag.</summary>
    /// <returns>False when it is not mapped for a read.</returns>
    bool TryPeek(ulong gpa, out ulong hpa);
}

/// <summary>The VMX instructions in root operation. Implemented above; null where CPUID shows no VMX.</summary>
public interface IVmxInstructions
{
    /// <summary>Executes one VMX instruction, after its #UD checks that need no VMX state.</summary>
    /// <param name="instruction">Which.</param>
    /// <param name="memory">Linear address of the memory operand, when <paramref name="hasMemory"/>.</param>
    /// <param name="hasMemory">Whether the operand is in memory.</param>
    /// <param name="register">Register operand (VMREAD/VMWRITE field encoding, INVEPT type).</param>
    /// <param name="other">The other register operand.</param>
    ExecResult Execute(SensitiveInstruction instruction, ulong memory, bool hasMemory, Gpr register, Gpr other);
}
