using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>HLT, PAUSE, MONITOR, MWAIT, WBINVD, INVD.</summary>
internal static class Halt
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Hlt, Hlt, InstructionTraits.EndsBlock),
        new(Mnemonic.Pause, Pause),
        new(Mnemonic.Monitor, Monitor, InstructionTraits.EndsBlock, CpuFeatures.Monitor),
        new(Mnemonic.Mwait, Mwait, InstructionTraits.EndsBlock, CpuFeatures.Monitor),
        new(Mnemonic.Wbinvd, static (Processor cpu, in Instruction ins) => Cache(cpu, ins, SensitiveInstruction.Wbinvd), InstructionTraits.EndsBlock),
        new(Mnemonic.Wbnoinvd, static (Processor cpu, in Instruction ins) => Cache(cpu, ins, SensitiveInstruction.Wbinvd), InstructionTraits.EndsBlock),
        new(Mnemonic.Invd, static (Processor cpu, in Instruction ins) => Cache(cpu, ins, SensitiveInstruction.Invd), InstructionTraits.EndsBlock),
    ];

    /// <summary>Whether an instruction exits; asks only in non-root operation.</summary>
    internal static bool Exits(Processor cpu, in Instruction ins, SensitiveInstruction instruction, ulong qualification = 0, uint info = 0) =>
        cpu.NonRoot is { } policy && policy.Instruction(instruction, ins.Length, qualification, info);

    private static ExecResult Hlt(Processor cpu, in Instruction ins)
    {
        if (cpu.Cpl > 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        return Exits(cpu, ins, SensitiveInstruction.Hlt) ? cpu.Exit() : ExecResult.Halt;
    }

    private static ExecResult Pause(Processor cpu, in Instruction ins) =>
        Exits(cpu, ins, SensitiveInstruction.Pause) ? cpu.Exit() : ExecResult.Next;

    private static ExecResult Monitor(Processor cpu, in Instruction ins)
    {
        if (cpu.Cpl > 0)
        {
            return cpu.Fault(GuestFault.Ud);
        }

        if (Exits(cpu, ins, SensitiveInstruction.Monitor))
        {
            return cpu.Exit();
        }

        if ((uint)cpu[Gpr.Rcx] != 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        // The range is read like a byte; nothing is armed: MWAIT returns at once.
        ulong mask = ins.Code switch
        {
            Code.Monitorw => 0xFFFF,
            Code.Monitord => uint.MaxValue,
            _ => ulong.MaxValue,
        };
        SegmentRegister segment = ins.SegmentPrefix == Register.None ? SegmentRegister.Ds : Processor.ToSegment(ins.SegmentPrefix);
        return cpu.ReadMemory(segment, cpu[Gpr.Rax] & mask, 1, out _) ? ExecResult.Next : ExecResult.Abort;
    }

    private static ExecResult Mwait(Processor cpu, in Instruction ins)
    {
        if (cpu.Cpl > 0)
        {
            return cpu.Fault(GuestFault.Ud);
        }

        if (Exits(cpu, ins, SensitiveInstruction.Mwait))
        {
            return cpu.Exit();
        }

        // The model shows no extensions in CPUID leaf 5, so every bit of ECX is reserved.
        return (uint)cpu[Gpr.Rcx] != 0 ? cpu.Fault(GuestFault.Gp()) : ExecResult.NextAndLook;
    }

    private static ExecResult Cache(Processor cpu, in Instruction ins, SensitiveInstruction instruction)
    {
        if (cpu.Cpl > 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        return Exits(cpu, ins, instruction) ? cpu.Exit() : ExecResult.Next;
    }
}
