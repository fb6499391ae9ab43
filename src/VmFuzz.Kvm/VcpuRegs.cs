using System.Runtime.CompilerServices;
using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Kvm;

/// <summary>Sixteen general registers, by value.</summary>
[InlineArray(16)]
public struct GprFile
{
    private ulong _first;
}

/// <summary>Eight segment registers in <see cref="SegmentRegister"/> order, by value.</summary>
[InlineArray(8)]
public struct SegmentFile
{
    private SegmentState _first;
}

/// <summary>General registers, RIP and RFLAGS (KVM_GET_REGS).</summary>
/// <param name="Gprs">General registers in encoding order.</param>
/// <param name="Rip">RIP.</param>
/// <param name="RFlags">RFLAGS.</param>
public readonly record struct VcpuRegs(GprFile Gprs, ulong Rip, ulong RFlags);

/// <summary>System registers (KVM_GET_SREGS).</summary>
public readonly record struct VcpuSregs
{
    /// <summary>ES, CS, SS, DS, FS, GS, LDTR, TR.</summary>
    public SegmentFile Segments { get; init; }

    /// <summary>GDTR.</summary>
    public TableState Gdtr { get; init; }

    /// <summary>IDTR.</summary>
    public TableState Idtr { get; init; }

    /// <summary>CR0 as the guest sees it.</summary>
    public ulong Cr0 { get; init; }

    /// <summary>CR2.</summary>
    public ulong Cr2 { get; init; }

    /// <summary>CR3.</summary>
    public ulong Cr3 { get; init; }

    /// <summary>CR4 as the guest sees it.</summary>
    public ulong Cr4 { get; init; }

    /// <summary>CR8.</summary>
    public ulong Cr8 { get; init; }

    /// <summary>IA32_EFER.</summary>
    public ulong Efer { get; init; }

    /// <summary>IA32_APIC_BASE.</summary>
    public ulong ApicBase { get; init; }
}
