using System.Buffers.Binary;
using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>MOV and its relatives, LEA, conversions, CMOVcc, SETcc.</summary>
internal static unsafe class DataMovement
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Mov, Mov),
        new(Mnemonic.Movzx, MovZeroExtended),
        new(Mnemonic.Movsx, MovSignExtended),
        new(Mnemonic.Movsxd, MovSignExtended),
        new(Mnemonic.Movbe, MovByteSwapped, Feature: CpuFeatures.Movbe),
        new(Mnemonic.Movnti, Mov, Feature: CpuFeatures.Sse2),
        new(Mnemonic.Lea, Lea),
        new(Mnemonic.Xlatb, Xlat),
        new(Mnemonic.Bswap, Bswap),
        new(Mnemonic.Cbw, static (Processor cpu, in Instruction _) => Extend(cpu, 2)),
        new(Mnemonic.Cwde, static (Processor cpu, in Instruction _) => Extend(cpu, 4)),
        new(Mnemonic.Cdqe, static (Processor cpu, in Instruction _) => Extend(cpu, 8)),
        new(Mnemonic.Cwd, static (Processor cpu, in Instruction _) => FillWithSign(cpu, 2)),
        new(Mnemonic.Cdq, static (Processor cpu, in Instruction _) => FillWithSign(cpu, 4)),
        new(Mnemonic.Cqo, static (Processor cpu, in Instruction _) => FillWithSign(cpu, 8)),
        new(Mnemonic.Cmova, MovConditional, Feature: CpuFeatures.Cmov),
        new(Mnemonic.Cmovae, MovConditional, Feature: CpuFeatures.Cmov),
        new(Mnemonic.Cmovb, MovConditional, Feature: CpuFeatures.Cmov),
        new(Mnemonic.Cmovbe, MovConditional, Feature: CpuFeatures.Cmov),
        new(Mnemonic.Cmove, MovConditional, Feature: CpuFeatures.Cmov),
        new(Mnemonic.Cmovg, MovConditional, Feature: CpuFeatures.Cmov),
        new(Mnemonic.Cmovge, MovConditional, Feature: CpuFeatures.Cmov),
        new(Mnemonic.Cmovl, MovConditional, Feature: CpuFeatures.Cmov),
        new(Mnemonic.Cmovle, MovConditional, Feature: CpuFeatures.Cmov),
        new(Mnemonic.Cmovne, MovConditional, Feature: CpuFeatures.Cmov),
        new(Mnemonic.Cmovno, MovConditional, Feature: CpuFeatures.Cmov),
        new(Mnemonic.Cmovnp, MovConditional, Feature: CpuFeatures.Cmov),
        new(Mnemonic.Cmovns, MovConditional, Feature: CpuFeatures.Cmov),
        new(Mnemonic.Cmovo, MovConditional, Feature: CpuFeatures.Cmov),
        new(Mnemonic.Cmovp, MovConditional, Feature: CpuFeatures.Cmov),
        new(Mnemonic.Cmovs, MovConditional, Feature: CpuFeatures.Cmov),
        new(Mnemonic.Seta, SetConditional),
        new(Mnemonic.Setae, SetConditional),
        new(Mnemonic.Setb, SetConditional),
        new(Mnemonic.Setbe, SetConditional),
        new(Mnemonic.Sete, SetConditional),
        new(Mnemonic.Setg, SetConditional),
        new(Mnemonic.Setge, SetConditional),
        new(Mnemonic.Setl, SetConditional),
        new(Mnemonic.Setle, SetConditional),
        new(Mnemonic.Setne, SetConditional),
        new(Mnemonic.Setno, SetConditional),
        new(Mnemonic.Setnp, SetConditional),
        new(Mnemonic.Setns, SetConditional),
        new(Mnemonic.Seto, SetConditional),
        new(Mnemonic.Setp, SetConditional),
        new(Mnemonic.Sets, SetConditional),
    ];

    /// <summary>
    /// MOV between general registers, memory and immediates. The forms with segment, control and debug registers have
    /// system rows of their own.
    /// </summary>
    public static ExecResult Mov(Processor cpu, in Instruction ins) =>
        cpu.ReadOperand(ins, 1, out ulong value) && cpu.WriteOperand(ins, 0, value)
            ? ExecResult.Next
            : ExecResult.Abort;

    private static ExecResult MovZeroExtended(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadOperand(ins, 1, out ulong value))
        {
            return ExecResult.Abort;
        }

        cpu.WriteGpr(ins.Op0Register, value);
        return ExecResult.Next;
    }

    private static ExecResult MovSignExtended(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadOperand(ins, 1, out ulong value))
        {
            return ExecResult.Abort;
        }

        cpu.WriteGpr(ins.Op0Register, (ulong)Processor.SignExtend(value, Processor.OperandSize(ins, 1)));
        return ExecResult.Next;
    }

    private static ExecResult MovByteSwapped(Processor cpu, in Instruction ins)
    {
        int size = Processor.OperandSize(ins, 0);
        return cpu.ReadOperand(ins, 1, out ulong value) && cpu.WriteOperand(ins, 0, Swap(value, size))
            ? ExecResult.Next
            : ExecResult.Abort;
    }

    private static ExecResult Lea(Processor cpu, in Instruction ins)
    {
        cpu.WriteGpr(ins.Op0Register, cpu.EffectiveAddress(ins, out _));
        return ExecResult.Next;
    }

    private static ExecResult Xlat(Processor cpu, in Instruction ins)
    {
        ulong offset = cpu.EffectiveAddress(ins, out SegmentRegister segment);
        if (!cpu.ReadMemory(segment, offset, 1, out ulong value))
        {
            return ExecResult.Abort;
        }

        Ops.Write(cpu, Gpr.Rax, 1, value);
        return ExecResult.Next;
    }

    // The 16-bit form is undefined; it clears the register as silicon does.
    private static ExecResult Bswap(Processor cpu, in Instruction ins)
    {
        Register register = ins.Op0Register;
        int size = Processor.GprSize(register);
        cpu.WriteGpr(register, size == 2 ? 0 : Swap(cpu.ReadGpr(register), size));
        return ExecResult.Next;
    }

    private static ExecResult Extend(Processor cpu, int size)
    {
        Ops.Write(cpu, Gpr.Rax, size, (ulong)Processor.SignExtend(cpu[Gpr.Rax], size / 2));
        return ExecResult.Next;
    }

    private static ExecResult FillWithSign(Processor cpu, int size)
    {
        Ops.Write(cpu, Gpr.Rdx, size, Ops.Msb(cpu[Gpr.Rax], size) ? ulong.MaxValue : 0);
        return ExecResult.Next;
    }

    // The source is read, and a 32-bit destination cleared above, whether or not the condition holds.
    private static ExecResult MovConditional(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadOperand(ins, 1, out ulong value))
        {
            return ExecResult.Abort;
        }

        Register destination = ins.Op0Register;
        cpu.WriteGpr(destination, LazyFlags.Condition(cpu.State, Ops.ConditionOf(ins)) ? value : cpu.ReadGpr(destination));
        return ExecResult.Next;
    }

    private static ExecResult SetConditional(Processor cpu, in Instruction ins) =>
        cpu.WriteOperand(ins, 0, LazyFlags.Condition(cpu.State, Ops.ConditionOf(ins)) ? 1UL : 0)
            ? ExecResult.Next
            : ExecResult.Abort;

    private static ulong Swap(ulong value, int size) => BinaryPrimitives.ReverseEndianness(value) >> (64 - (size * 8));
}
