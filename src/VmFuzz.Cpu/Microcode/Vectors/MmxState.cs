using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>What MMX instructions ask of the x87 state and leave in it (SDM "Effects of MMX Instructions on x87 Floating-Point State").</summary>
internal static unsafe class MmxState
{
    private const ulong TopMask = 7UL << 11;

    public static readonly ImmutableArray<InstructionRow> Rows = [new(Mnemonic.Emms, Emms, Feature: CpuFeatures.Mmx)];

    /// <summary>Whether MMX instructions can execute: #UD without MMX or with CR0.EM, then #NM with CR0.TS, then #MF.</summary>
    public static bool Available(Processor cpu)
    {
        if (!cpu.Model.Has(CpuFeatures.Mmx) || (cpu.State->Cr0 & Cr0.Em) != 0)
        {
            return cpu.RaiseFault(GuestFault.Ud);
        }

        return (cpu.State->Cr0 & Cr0.Ts) != 0 ? cpu.RaiseFault(GuestFault.Nm) : FpuControl.NoPendingError(cpu);
    }

    /// <summary>After any of them the stack's top is R0, and no register is empty; all are after EMMS.</summary>
    public static void Enter(Processor cpu)
    {
        cpu.State->Fsw &= ~TopMask;
        cpu.State->Ftw = 0;
    }

    /// <summary>The value of a register.</summary>
    /// <param name="cpu">The processor.</param>
    /// <param name="number">0 to 7: the x87 register R0 to R7 behind it.</param>
    public static ulong Get(Processor cpu, int number) => cpu.State->X87[number * 2];

    /// <summary>Sets a register. Bits 64 to 79 of the x87 register become ones.</summary>
    public static void Set(Processor cpu, int number, ulong value)
    {
        cpu.State->X87[number * 2] = value;
        cpu.State->X87[(number * 2) + 1] = 0xFFFF;
    }

    private static ExecResult Emms(Processor cpu, in Instruction ins)
    {
        if (!Available(cpu))
        {
            return ExecResult.Abort;
        }

        Enter(cpu);
        cpu.State->Ftw = 0xFFFF;
        return ExecResult.Next;
    }
}
