using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Machines.Vectors;

/// <summary>What a start state must hold to: the processor is in no state that instructions could not have brought it to.</summary>
internal static unsafe class VectorChecks
{
    private const uint CodeType = SegmentAttributes.S | 8;

    private delegate bool Rule(Processor cpu, CpuState* s);

    // SDM "Checks on Guest Control Registers, Debug Registers, and MSRs" and "Checks on Guest Segment Registers" ask the same.
    private static readonly ImmutableArray<(string Text, Rule Holds)> Rows =
    [
        ("cr0 has bits that do not exist", static (cpu, s) => (s->Cr0 & ~Cr0.Defined) == 0),
        ("cr0 has PG without PE", static (cpu, s) => (s->Cr0 & Cr0.Pg) == 0 || (s->Cr0 & Cr0.Pe) != 0),
        ("cr0 has NW without CD", static (cpu, s) => (s->Cr0 & Cr0.Nw) == 0 || (s->Cr0 & Cr0.Cd) != 0),
        ("cr3 has bits above the physical-address width", static (cpu, s) => s->Cr3 >> cpu.Model.PhysicalBits == 0),
        ("cr4 has bits that the processor model lacks", static (cpu, s) => (s->Cr4 & ~cpu.Cr4Mask) == 0),
        ("xcr0 has a value that XSETBV does not take", static (cpu, s) => cpu.IsXcr0Allowed(s->Xcr0)),
        ("efer has bits that do not exist or that the processor model lacks", static (cpu, s) => (s->Efer & ~EferMask(cpu)) == 0),
        ("efer has LMA not equal to LME and cr0 PG", static (cpu, s) => cpu.LongMode == ((s->Efer & Efer.Lme) != 0 && (s->Cr0 & Cr0.Pg) != 0)),
        ("efer has LMA without cr4 PAE", static (cpu, s) => !cpu.LongMode || (s->Cr4 & Cr4.Pae) != 0),
        ("cr4 has PCIDE outside of long mode", static (cpu, s) => cpu.LongMode || (s->Cr4 & Cr4.Pcide) == 0),
        ("rflags has VM outside of protected mode", static (cpu, s) => !cpu.Virtual8086 || (cpu.Protected && !cpu.LongMode)),
        ("cs is not a present code segment", static (cpu, s) => !cpu.Protected || cpu.Virtual8086
            || (s->Cs.Attributes & (CodeType | SegmentAttributes.P | SegmentAttributes.Unusable)) == (CodeType | SegmentAttributes.P)),
        ("cs has L together with D, or outside of long mode", static (cpu, s) => (s->Cs.Attributes & SegmentAttributes.L) == 0
            || (cpu.LongMode && (s->Cs.Attributes & SegmentAttributes.Db) == 0)),
        ("a segment has reserved attributes", static (cpu, s) => Attributes(s) == 0),
        ("cs.base has more than 32 bits", static (cpu, s) => s->Cs.Base >> 32 == 0),
        ("rip has more than 32 bits outside of 64-bit code", static (cpu, s) => cpu.Code64 || cpu.Rip >> 32 == 0),
        ("rip is not canonical", static (cpu, s) => !cpu.Code64 || cpu.IsCanonical(cpu.Rip)),
    ];

    /// <summary>The first rule that the processor breaks, or null.</summary>
    public static string? Broken(Processor cpu)
    {
        foreach ((string text, Rule holds) in Rows)
        {
            if (!holds(cpu, cpu.State))
            {
                return text;
            }
        }

        return null;
    }

    /// <summary>What is wrong with the control registers for a mode, or null.</summary>
    public static string? Broken(Processor cpu, VectorMode mode)
    {
        bool agrees = mode switch
        {
            VectorMode.Real => !cpu.Protected,
            VectorMode.Long => cpu.LongMode,
            _ => cpu.Protected && !cpu.LongMode,
        };
        return agrees ? null : "cr0 and efer do not agree with the mode";
    }

    private static ulong EferMask(Processor cpu) =>
        (cpu.Model.Has(CpuFeatures.LongMode) ? Efer.Lme | Efer.Lma : 0)
        | (cpu.Model.Has(CpuFeatures.Syscall) ? Efer.Sce : 0)
        | (cpu.Model.Has(CpuFeatures.Nx) ? Efer.Nxe : 0);

    private static uint Attributes(CpuState* s)
    {
        uint reserved = 0;
        for (int i = 0; i < 8; i++)
        {
            reserved |= (&s->Es)[i].Attributes & SegmentAttributes.Reserved;
        }

        return reserved;
    }
}
