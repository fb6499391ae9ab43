using System.Runtime.InteropServices;
using VmFuzz.Arch;

namespace VmFuzz.Cpu;

/// <summary>A segment register with its hidden part. Attributes have the layout of the VMCS access rights.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct SegmentState
{
    /// <summary>Base, a linear address.</summary>
    public ulong Base;

    /// <summary>Limit in bytes (already scaled).</summary>
    public uint Limit;

    /// <summary>Access rights, see <see cref="SegmentAttributes"/>.</summary>
    public uint Attributes;

    /// <summary>The visible selector, 16 bits.</summary>
    public ulong Selector;

    /// <summary>Descriptor privilege level, 0 to 3.</summary>
    public readonly int Dpl => (int)(Attributes >> SegmentAttributes.DplShift) & 3;

    /// <summary>Whether the register can be used for an access.</summary>
    public readonly bool Usable => (Attributes & SegmentAttributes.Unusable) == 0;

    /// <summary>Whether it is a usable, writable data segment that does not expand down: only its limit is left to check.</summary>
    public readonly bool IsPlainData =>
        (Attributes & (SegmentAttributes.Unusable | SegmentAttributes.S | 0xE)) == (SegmentAttributes.S | 2);
}

/// <summary>Base and limit of GDTR or IDTR.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct TableState
{
    /// <summary>Base, a linear address.</summary>
    public ulong Base;

    /// <summary>Limit, 16 bits.</summary>
    public ulong Limit;
}

/// <summary>One entry of a translation look-aside buffer: a tag to compare and what to add to the linear address.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct TlbEntry
{
    /// <summary>Linear page address | context; all ones when empty.</summary>
    public ulong Tag;

    /// <summary>Host address of the page minus its linear address.</summary>
    public ulong Addend;
}

/// <summary>How the arithmetic flags are kept until somebody reads them.</summary>
public enum LazyKind : ulong
{
    /// <summary>They stand in <see cref="CpuState.Flags"/>.</summary>
    Explicit = 0,

    /// <summary>Of result = left + right (+ carry). Logic operations are left = result, right = 0.</summary>
    Add = 1,

    /// <summary>Of result = left - right (- borrow).</summary>
    Sub = 2,

    /// <summary>As <see cref="Add"/>, but CF stands in <see cref="CpuState.LazyCarry"/>.</summary>
    Inc = 3,

    /// <summary>As <see cref="Sub"/>, but CF stands in <see cref="CpuState.LazyCarry"/>.</summary>
    Dec = 4,

    /// <summary>ZF, SF and PF of the result, AF 0 (left = result, right = 0); CF and OF stand in <see cref="CpuState.LazyCarry"/>.</summary>
    Given = 5,
}

/// <summary>Why a run of ops returned to the dispatcher.</summary>
public enum StopKind : ulong
{
    /// <summary>Nothing special: look the next block up.</summary>
    None = 0,

    /// <summary>The pending fault must be delivered; RIP is at the faulting instruction, nothing has changed.</summary>
    Fault = 1,

    /// <summary>A VM exit was recorded by the non-root policy; RIP is at the exiting instruction unless the exit is trap-like.</summary>
    Exit = 2,

    /// <summary>HLT completed.</summary>
    Halt = 3,

    /// <summary>Triple fault.</summary>
    Shutdown = 4,

    /// <summary>The instruction is not modelled yet; RIP is at it.</summary>
    Unimplemented = 5,

    /// <summary>An event was reported instead of delivered (see <see cref="Processor.ReportsEvents"/>).</summary>
    Event = 6,
}

/// <summary>
/// The hot state of a processor: flat, unmanaged, at fixed offsets. Handlers reach everything through a pointer to it.
/// </summary>
/// <remarks>
/// RIP stands at the start of the running block while ops run and is exact whenever the dispatcher or a slow handler
/// runs. The retired count is <see cref="RetireLimit"/> - <see cref="Budget"/> at those times.
/// </remarks>
// SAFETY: one block of native memory, owned by its Processor from construction to Dispose and never moved. Handlers index
// the register file only with byte offsets that the builder took from a decoded register (0 to 143).
[StructLayout(LayoutKind.Sequential)]
public unsafe struct CpuState
{
    /// <summary>Entries of each look-aside buffer, a power of two.</summary>
    public const int TlbSize = 256;

    /// <summary>Index of the register slot that always holds 0 (an absent base or index).</summary>
    public const int ZeroSlot = 16;

    /// <summary>Index of the register slot that is RIP (RIP-relative addressing).</summary>
    public const int RipSlot = 17;

    /// <summary>General registers in encoding order, then a zero, then RIP.</summary>
    public fixed ulong Gpr[18];

    /// <summary>RFLAGS; the arithmetic flags in it are valid only when <see cref="Lazy"/> is Explicit.</summary>
    public ulong Flags;

    /// <summary>How the arithmetic flags are kept.</summary>
    public LazyKind Lazy;

    /// <summary>Result of the last flag-setting operation, sign-extended from its size.</summary>
    public long LazyResult;

    /// <summary>Its left operand, sign-extended.</summary>
    public long LazyLeft;

    /// <summary>Its right operand, sign-extended.</summary>
    public long LazyRight;

    /// <summary>Bit 0 is CF for kinds Inc, Dec and Given, bit 1 is OF for Given.</summary>
    public ulong LazyCarry;

    /// <summary>Instructions that may still retire before <see cref="RetireLimit"/>.</summary>
    public long Budget;

    /// <summary>The retired count at which the budget ends.</summary>
    public ulong RetireLimit;

    /// <summary>Low bits that the tag of a matching TLB entry carries (user mode, SMAP and so on).</summary>
    public ulong TlbContext;

    /// <summary>Generation of translations and decoded code; block links of another generation are looked up again.</summary>
    public ulong Generation;

    /// <summary>Generation of decoded code alone; links inside one page depend on nothing else.</summary>
    public ulong CodeGeneration;

    /// <summary>The cache that finds blocks by RIP.</summary>
    public void* JumpCache;

    /// <summary>Not 0: the dispatcher must look at events before the next instruction (see <see cref="AttentionBits"/>).</summary>
    public ulong Attention;

    /// <summary>Why the last run of ops stopped.</summary>
    public StopKind Stop;

    /// <summary>The link op that wants to be patched with the next block.</summary>
    public void* PendingLink;

    /// <summary>Handle of the managed <see cref="Processor"/>, for slow paths.</summary>
    public nint Handle;

    /// <summary>Mode bits that are part of a block's key.</summary>
    public ulong Mode;

    /// <summary>ES, CS, SS, DS, FS, GS, LDTR, TR in <see cref="SegmentRegister"/> order.</summary>
    public SegmentState Es, Cs, Ss, Ds, Fs, Gs, Ldtr, Tr;

    /// <summary>Global descriptor table register.</summary>
    public TableState Gdtr;

    /// <summary>Interrupt descriptor table register.</summary>
    public TableState Idtr;

    /// <summary>Control registers. CR8 lives in the interrupt controller.</summary>
    public ulong Cr0, Cr2, Cr3, Cr4;

    /// <summary>IA32_EFER.</summary>
    public ulong Efer;

    /// <summary>XCR0.</summary>
    public ulong Xcr0;

    /// <summary>Debug address registers, then DR6 and DR7.</summary>
    public ulong Dr0, Dr1, Dr2, Dr3, Dr6, Dr7;

    /// <summary>Interruptibility in the VMCS layout: bit 0 STI, bit 1 MOV SS, bit 2 SMI, bit 3 NMI blocking.</summary>
    public ulong Interruptibility;

    /// <summary>Activity: 0 active, 1 HLT, 2 shutdown, 3 wait for SIPI.</summary>
    public ulong Activity;

    /// <summary>Debug exceptions that wait for the next boundary, in the VMCS layout.</summary>
    public ulong PendingDebug;

    /// <summary>PAE page-directory-pointer entries, loaded with CR3 in PAE paging.</summary>
    public fixed ulong Pdpte[4];

    /// <summary>SYSENTER registers.</summary>
    public ulong SysenterCs, SysenterEsp, SysenterEip;

    /// <summary>SYSCALL registers.</summary>
    public ulong Star, Lstar, Cstar, Fmask;

    /// <summary>GS base that SWAPGS exchanges, and TSC_AUX.</summary>
    public ulong KernelGsBase, TscAux;

    /// <summary>What is added to virtual time to give the TSC; TSC_ADJUST.</summary>
    public ulong TscOffset, TscAdjust;

    /// <summary>IA32_PAT, IA32_APIC_BASE, IA32_MISC_ENABLE, IA32_DEBUGCTL, IA32_FEATURE_CONTROL, IA32_XSS, IA32_MTRR_DEF_TYPE.</summary>
    public ulong Pat, ApicBase, MiscEnable, DebugCtl, FeatureControl, Xss, MtrrDefType;

    /// <summary>IA32_SPEC_CTRL, IA32_MCG_STATUS.</summary>
    public ulong SpecCtrl, McgStatus;

    /// <summary>Protection-key rights of user pages (PKRU) and of supervisor pages (IA32_PKRS).</summary>
    public ulong Pkru, Pkrs;

    /// <summary>Variable MTRRs: eight pairs of base and mask.</summary>
    public fixed ulong MtrrVariable[16];

    /// <summary>Fixed MTRRs: one of 64K, two of 16K, eight of 4K.</summary>
    public fixed ulong MtrrFixed[11];

    /// <summary>The fault that waits for delivery when <see cref="Stop"/> is Fault.</summary>
    public ulong FaultVector, FaultErrorCode, FaultHasErrorCode, FaultAddress;

    /// <summary>x87 control, status and tag words, last opcode and pointers; MXCSR.</summary>
    public ulong Fcw, Fsw, Ftw, Fop, Fip, Fdp, Mxcsr;

    /// <summary>x87 registers R0 to R7 (not stack order), 16 bytes each of which 10 are used.</summary>
    public fixed ulong X87[16];

    /// <summary>YMM0 to YMM15, 32 bytes each.</summary>
    public fixed ulong Ymm[64];

    /// <summary>Translations for reading.</summary>
    public fixed ulong ReadTlb[TlbSize * 2];

    /// <summary>Translations for writing; pages that hold decoded code or paging structures or are clean are never here.</summary>
    public fixed ulong WriteTlb[TlbSize * 2];

    /// <summary>Translations for fetching.</summary>
    public fixed ulong FetchTlb[TlbSize * 2];

    /// <summary>Where edges of guest code are counted (see <see cref="Processor.Edges"/>); null when they are not.</summary>
    public void* Edges;
}

/// <summary>What the dispatcher must look at before the next instruction.</summary>
public static class AttentionBits
{
    /// <summary>Interrupt lines, IF, shadows or priorities changed: see whether an event can be taken.</summary>
    public const ulong Events = 1;

    /// <summary>Decoded code or its translation changed: leave the running block.</summary>
    public const ulong Code = 2;

    /// <summary>A stop was asked for.</summary>
    public const ulong Stop = 4;

    /// <summary>The budget must be worked out anew: an earlier event was scheduled.</summary>
    public const ulong Limit = 8;
}
