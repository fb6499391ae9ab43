namespace VmFuzz.Arch;

/// <summary>General registers in encoding order (SDM "Instruction Format").</summary>
public enum Gpr : byte
{
    /// <summary>RAX.</summary>
    Rax,
    /// <summary>RCX.</summary>
    Rcx,
    /// <summary>RDX.</summary>
    Rdx,
    /// <summary>RBX.</summary>
    Rbx,
    /// <summary>RSP.</summary>
    Rsp,
    /// <summary>RBP.</summary>
    Rbp,
    /// <summary>RSI.</summary>
    Rsi,
    /// <summary>RDI.</summary>
    Rdi,
    /// <summary>R8.</summary>
    R8,
    /// <summary>R9.</summary>
    R9,
    /// <summary>R10.</summary>
    R10,
    /// <summary>R11.</summary>
    R11,
    /// <summary>R12.</summary>
    R12,
    /// <summary>R13.</summary>
    R13,
    /// <summary>R14.</summary>
    R14,
    /// <summary>R15.</summary>
    R15,
}

/// <summary>Segment registers in encoding order, then the two system segments.</summary>
public enum SegmentRegister : byte
{
    /// <summary>ES.</summary>
    Es,
    /// <summary>CS.</summary>
    Cs,
    /// <summary>SS.</summary>
    Ss,
    /// <summary>DS.</summary>
    Ds,
    /// <summary>FS.</summary>
    Fs,
    /// <summary>GS.</summary>
    Gs,
    /// <summary>LDTR.</summary>
    Ldtr,
    /// <summary>TR.</summary>
    Tr,
}

/// <summary>Bits of RFLAGS (SDM "EFLAGS Register").</summary>
public static class RFlags
{
    /// <summary>Carry.</summary>
    public const ulong Cf = 1UL << 0;
    /// <summary>Bit 1 reads as one.</summary>
    public const ulong Reserved1 = 1UL << 1;
    /// <summary>Parity.</summary>
    public const ulong Pf = 1UL << 2;
    /// <summary>Auxiliary carry.</summary>
    public const ulong Af = 1UL << 4;
    /// <summary>Zero.</summary>
    public const ulong Zf = 1UL << 6;
    /// <summary>Sign.</summary>
    public const ulong Sf = 1UL << 7;
    /// <summary>Trap.</summary>
    public const ulong Tf = 1UL << 8;
    /// <summary>Interrupt enable.</summary>
    public const ulong If = 1UL << 9;
    /// <summary>Direction.</summary>
    public const ulong Df = 1UL << 10;
    /// <summary>Overflow.</summary>
    public const ulong Of = 1UL << 11;
    /// <summary>I/O privilege level, two bits.</summary>
    public const ulong Iopl = 3UL << 12;
    /// <summary>Nested task.</summary>
    public const ulong Nt = 1UL << 14;
    /// <summary>Resume.</summary>
    public const ulong Rf = 1UL << 16;
    /// <summary>Virtual-8086 mode.</summary>
    public const ulong Vm = 1UL << 17;
    /// <summary>Alignment check.</summary>
    public const ulong Ac = 1UL << 18;
    /// <summary>Virtual interrupt flag.</summary>
    public const ulong Vif = 1UL << 19;
    /// <summary>Virtual interrupt pending.</summary>
    public const ulong Vip = 1UL << 20;
    /// <summary>CPUID can be used.</summary>
    public const ulong Id = 1UL << 21;
    /// <summary>The six arithmetic flags: CF, PF, AF, ZF, SF, OF.</summary>
    public const ulong Arithmetic = Cf | Pf | Af | Zf | Sf | Of;
    /// <summary>Every bit that exists, without the fixed bit 1.</summary>
    public const ulong Defined = Arithmetic | Tf | If | Df | Iopl | Nt | Rf | Vm | Ac | Vif | Vip | Id;
}

/// <summary>Bits of CR0 (SDM "Control Registers").</summary>
public static class Cr0
{
    /// <summary>Protection enable.</summary>
    public const ulong Pe = 1UL << 0;
    /// <summary>Monitor coprocessor.</summary>
    public const ulong Mp = 1UL << 1;
    /// <summary>Emulation.</summary>
    public const ulong Em = 1UL << 2;
    /// <summary>Task switched.</summary>
    public const ulong Ts = 1UL << 3;
    /// <summary>Extension type, reads as one.</summary>
    public const ulong Et = 1UL << 4;
    /// <summary>Numeric error.</summary>
    public const ulong Ne = 1UL << 5;
    /// <summary>Write protect.</summary>
    public const ulong Wp = 1UL << 16;
    /// <summary>Alignment mask.</summary>
    public const ulong Am = 1UL << 18;
    /// <summary>Not write-through.</summary>
    public const ulong Nw = 1UL << 29;
    /// <summary>Cache disable.</summary>
    public const ulong Cd = 1UL << 30;
    /// <summary>Paging.</summary>
    public const ulong Pg = 1UL << 31;
    /// <summary>Every bit that exists.</summary>
    public const ulong Defined = Pe | Mp | Em | Ts | Et | Ne | Wp | Am | Nw | Cd | Pg;
}

/// <summary>Bits of CR4 (SDM "Control Registers").</summary>
public static class Cr4
{
    /// <summary>Virtual-8086 mode extensions.</summary>
    public const ulong Vme = 1UL << 0;
    /// <summary>Protected-mode virtual interrupts.</summary>
    public const ulong Pvi = 1UL << 1;
    /// <summary>Time-stamp disable.</summary>
    public const ulong Tsd = 1UL << 2;
    /// <summary>Debugging extensions.</summary>
    public const ulong De = 1UL << 3;
    /// <summary>Page-size extensions.</summary>
    public const ulong Pse = 1UL << 4;
    /// <summary>Physical-address extension.</summary>
    public const ulong Pae = 1UL << 5;
    /// <summary>Machine-check enable.</summary>
    public const ulong Mce = 1UL << 6;
    /// <summary>Global pages.</summary>
    public const ulong Pge = 1UL << 7;
    /// <summary>RDPMC outside ring 0.</summary>
    public const ulong Pce = 1UL << 8;
    /// <summary>FXSAVE and FXRSTOR, and SSE.</summary>
    public const ulong Osfxsr = 1UL << 9;
    /// <summary>Unmasked SIMD exceptions.</summary>
    public const ulong Osxmmexcpt = 1UL << 10;
    /// <summary>User-mode instruction prevention.</summary>
    public const ulong Umip = 1UL << 11;
    /// <summary>Five-level paging.</summary>
    public const ulong La57 = 1UL << 12;
    /// <summary>VMX enable.</summary>
    public const ulong Vmxe = 1UL << 13;
    /// <summary>SMX enable.</summary>
    public const ulong Smxe = 1UL << 14;
    /// <summary>FS and GS base instructions.</summary>
    public const ulong Fsgsbase = 1UL << 16;
    /// <summary>Process-context identifiers.</summary>
    public const ulong Pcide = 1UL << 17;
    /// <summary>XSAVE enable.</summary>
    public const ulong Osxsave = 1UL << 18;
    /// <summary>Supervisor-mode execution prevention.</summary>
    public const ulong Smep = 1UL << 20;
    /// <summary>Supervisor-mode access prevention.</summary>
    public const ulong Smap = 1UL << 21;
    /// <summary>Protection keys for user pages.</summary>
    public const ulong Pke = 1UL << 22;
    /// <summary>Control-flow enforcement.</summary>
    public const ulong Cet = 1UL << 23;
    /// <summary>Protection keys for supervisor pages.</summary>
    public const ulong Pks = 1UL << 24;
}

/// <summary>Bits of IA32_EFER (SDM "Extended Feature Enable Register").</summary>
public static class Efer
{
    /// <summary>SYSCALL enable.</summary>
    public const ulong Sce = 1UL << 0;
    /// <summary>Long-mode enable.</summary>
    public const ulong Lme = 1UL << 8;
    /// <summary>Long mode active.</summary>
    public const ulong Lma = 1UL << 10;
    /// <summary>Execute-disable enable.</summary>
    public const ulong Nxe = 1UL << 11;
    /// <summary>Every bit that exists.</summary>
    public const ulong Defined = Sce | Lme | Lma | Nxe;
}

/// <summary>Bits of DR6 (SDM "Debug Status Register (DR6)").</summary>
public static class Dr6
{
    /// <summary>Conditions of the four breakpoints.</summary>
    public const ulong Breakpoints = 0xF;
    /// <summary>Access to a debug register.</summary>
    public const ulong Bd = 1UL << 13;
    /// <summary>Single step.</summary>
    public const ulong Bs = 1UL << 14;
    /// <summary>Task switch.</summary>
    public const ulong Bt = 1UL << 15;
    /// <summary>Everything that a debug exception reports.</summary>
    public const ulong Causes = Breakpoints | Bd | Bs | Bt;
    /// <summary>Bits that are always set.</summary>
    public const ulong Fixed = 0xFFFF_0FF0;
}

/// <summary>Bits of DR7 (SDM "Debug Control Register (DR7)").</summary>
public static class Dr7
{
    /// <summary>General detect: the next access to a debug register is a fault.</summary>
    public const ulong Gd = 1UL << 13;
}

/// <summary>Bits of IA32_DEBUGCTL (SDM "IA32_DEBUGCTL MSR").</summary>
public static class DebugCtl
{
    /// <summary>Last-branch recording.</summary>
    public const ulong Lbr = 1UL << 0;
    /// <summary>RFLAGS.TF traps on branches only.</summary>
    public const ulong Btf = 1UL << 1;
    /// <summary>What a debug exception clears.</summary>
    public const ulong EndsWithDebug = Lbr | Btf;
}

/// <summary>Bits of a segment's access rights in the layout of the VMCS (SDM "Guest Register State").</summary>
public static class SegmentAttributes
{
    /// <summary>Type, four bits.</summary>
    public const uint TypeMask = 0xF;
    /// <summary>Code or data (1) or system (0).</summary>
    public const uint S = 1 << 4;
    /// <summary>Position of the descriptor privilege level.</summary>
    public const int DplShift = 5;
    /// <summary>Descriptor privilege level, two bits.</summary>
    public const uint DplMask = 3 << DplShift;
    /// <summary>Present.</summary>
    public const uint P = 1 << 7;
    /// <summary>Available to software.</summary>
    public const uint Avl = 1 << 12;
    /// <summary>64-bit code segment.</summary>
    public const uint L = 1 << 13;
    /// <summary>Default operand size, or big.</summary>
    public const uint Db = 1 << 14;
    /// <summary>Limit counts 4 KiB units.</summary>
    public const uint G = 1 << 15;
    /// <summary>The register cannot be used (a null selector was loaded).</summary>
    public const uint Unusable = 1 << 16;
    /// <summary>Bits that are reserved and must be zero.</summary>
    public const uint Reserved = 0xFFFE_0F00;
}

/// <summary>Exception and interrupt vectors with a fixed meaning (SDM "Exception and Interrupt Vectors").</summary>
public static class Vector
{
    /// <summary>#DE, divide error.</summary>
    public const byte De = 0;
    /// <summary>#DB, debug.</summary>
    public const byte Db = 1;
    /// <summary>Non-maskable interrupt.</summary>
    public const byte Nmi = 2;
    /// <summary>#BP, breakpoint.</summary>
    public const byte Bp = 3;
    /// <summary>#OF, overflow.</summary>
    public const byte Of = 4;
    /// <summary>#BR, bound range exceeded.</summary>
    public const byte Br = 5;
    /// <summary>#UD, invalid opcode.</summary>
    public const byte Ud = 6;
    /// <summary>#NM, device not available.</summary>
    public const byte Nm = 7;
    /// <summary>#DF, double fault.</summary>
    public const byte Df = 8;
    /// <summary>#TS, invalid TSS.</summary>
    public const byte Ts = 10;
    /// <summary>#NP, segment not present.</summary>
    public const byte Np = 11;
    /// <summary>#SS, stack fault.</summary>
    public const byte Ss = 12;
    /// <summary>#GP, general protection.</summary>
    public const byte Gp = 13;
    /// <summary>#PF, page fault.</summary>
    public const byte Pf = 14;
    /// <summary>#MF, x87 error.</summary>
    public const byte Mf = 16;
    /// <summary>#AC, alignment check.</summary>
    public const byte Ac = 17;
    /// <summary>#MC, machine check.</summary>
    public const byte Mc = 18;
    /// <summary>#XM, SIMD error.</summary>
    public const byte Xm = 19;
    /// <summary>#VE, virtualisation exception.</summary>
    public const byte Ve = 20;
    /// <summary>#CP, control protection.</summary>
    public const byte Cp = 21;

    /// <summary>Whether the exception pushes an error code in protected mode.</summary>
    public static bool HasErrorCode(byte vector) =>
        vector is Df or Ts or Np or Ss or Gp or Pf or Ac or Cp;
}

/// <summary>Bits of a page-fault error code (SDM "Page-Fault Exceptions").</summary>
public static class PageFaultError
{
    /// <summary>The page was present.</summary>
    public const uint Present = 1 << 0;
    /// <summary>The access was a write.</summary>
    public const uint Write = 1 << 1;
    /// <summary>The access came from user mode.</summary>
    public const uint User = 1 << 2;
    /// <summary>A reserved bit was set in a paging structure.</summary>
    public const uint Reserved = 1 << 3;
    /// <summary>The access was an instruction fetch.</summary>
    public const uint Fetch = 1 << 4;
    /// <summary>A protection key denied the access.</summary>
    public const uint ProtectionKey = 1 << 5;
}
