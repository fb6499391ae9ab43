using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>CPUID, RDTSC, RDTSCP, RDPMC, RDPID, RDRAND, RDSEED.</summary>
internal static unsafe class Timestamps
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Cpuid, Cpuid, InstructionTraits.EndsBlock),
        new(Mnemonic.Rdtsc, Rdtsc, InstructionTraits.EndsBlock, CpuFeatures.Tsc),
        new(Mnemonic.Rdtscp, Rdtscp, InstructionTraits.EndsBlock, CpuFeatures.Rdtscp),
        new(Mnemonic.Rdpmc, Rdpmc, InstructionTraits.EndsBlock),
        new(Mnemonic.Rdrand, static (Processor cpu, in Instruction ins) => Random(cpu, ins, SensitiveInstruction.Rdrand), InstructionTraits.EndsBlock, CpuFeatures.Rdrand),
        new(Mnemonic.Rdseed, static (Processor cpu, in Instruction ins) => Random(cpu, ins, SensitiveInstruction.Rdseed), InstructionTraits.EndsBlock, CpuFeatures.Rdseed),
    ];

    private static ExecResult Cpuid(Processor cpu, in Instruction ins)
    {
        if (Halt.Exits(cpu, ins, SensitiveInstruction.Cpuid))
        {
            return cpu.Exit();
        }

        uint number = (uint)cpu[Gpr.Rax];
        CpuidLeaf leaf = WithDerivedBits(cpu, number, cpu.Model.Lookup(number, (uint)cpu[Gpr.Rcx]));
        cpu[Gpr.Rax] = leaf.Eax;
        cpu[Gpr.Rbx] = leaf.Ebx;
        cpu[Gpr.Rcx] = leaf.Ecx;
        cpu[Gpr.Rdx] = leaf.Edx;
        return ExecResult.Next;
    }

    // What follows the state: OSXSAVE, OSPKE, the APIC's number and its enable bit, the size of the area of XSAVE.
    private static CpuidLeaf WithDerivedBits(Processor cpu, uint number, CpuidLeaf leaf)
    {
        CpuState* s = cpu.State;
        switch (number)
        {
            case 1:
                leaf = leaf with
                {
                    Ebx = (leaf.Ebx & 0x00FF_FFFF) | ((uint)cpu.Index << 24),
                    Ecx = Bit(leaf.Ecx, 27, (s->Cr4 & Cr4.Osxsave) != 0),
                };
                return (s->ApicBase & (1 << 11)) != 0 ? leaf : leaf with { Edx = Bit(leaf.Edx, 9, false) };
            case 7 when leaf.Subleaf == 0:
                return leaf with { Ecx = Bit(leaf.Ecx, 4, (s->Cr4 & Cr4.Pke) != 0) };
            case 0xD when leaf.Subleaf == 0:
                return leaf with { Ebx = (uint)ExtendedState.AreaBytes(s->Xcr0) };
            case 0xB or 0x1F:
                return leaf with { Edx = (uint)cpu.Index };
            default:
                return leaf;
        }
    }

    private static uint Bit(uint value, int bit, bool set) => set ? value | (1U << bit) : value & ~(1U << bit);

    private static void SetTsc(Processor cpu)
    {
        ulong tsc = cpu.NonRoot is { } policy ? policy.GuestTsc(cpu.Tsc) : cpu.Tsc;
        cpu[Gpr.Rax] = (uint)tsc;
        cpu[Gpr.Rdx] = tsc >> 32;
    }

    private static bool Disabled(Processor cpu) => cpu.Cpl > 0 && (cpu.State->Cr4 & Cr4.Tsd) != 0;

    private static ExecResult Rdtsc(Processor cpu, in Instruction ins)
    {
        if (Disabled(cpu))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        if (Halt.Exits(cpu, ins, SensitiveInstruction.Rdtsc))
        {
            return cpu.Exit();
        }

        SetTsc(cpu);
        return ExecResult.Next;
    }

    private static ExecResult Rdtscp(Processor cpu, in Instruction ins)
    {
        if (Disabled(cpu))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        if (Halt.Exits(cpu, ins, SensitiveInstruction.Rdtscp))
        {
            return cpu.Exit();
        }

        SetTsc(cpu);
        cpu[Gpr.Rcx] = (uint)cpu.State->TscAux;
        return ExecResult.Next;
    }

    private static ExecResult Rdpmc(Processor cpu, in Instruction ins)
    {
        if (cpu.Cpl > 0 && (cpu.State->Cr4 & Cr4.Pce) == 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        // There are no counters: every number is out of range.
        return Halt.Exits(cpu, ins, SensitiveInstruction.Rdpmc) ? cpu.Exit() : cpu.Fault(GuestFault.Gp());
    }

    private static ExecResult Random(Processor cpu, in Instruction ins, SensitiveInstruction instruction)
    {
        if (Halt.Exits(cpu, ins, instruction, 0, InstructionInformation.Random(ins.Op0Register)))
        {
            return cpu.Exit();
        }

        bool valid = cpu.Door.TryTake(InputPoint.Random, out Input input) && input.Auxiliary != 0;
        cpu.WriteGpr(ins.Op0Register, valid ? input.Value : 0);
        cpu.FlagsSet(RFlags.Arithmetic, valid ? RFlags.Cf : 0);
        return ExecResult.Next;
    }
}
