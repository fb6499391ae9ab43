using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>BMI1 and BMI2 instructions with a VEX prefix; #UD in real and virtual-8086 mode.</summary>
/// <remarks>Undefined flags: AF is 0; SF and PF are those of the result, also where they are undefined (PF always, SF of BEXTR).</remarks>
internal static unsafe class Bmi
{
    private const ulong Undefined = RFlags.Af | RFlags.Pf;

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Andn, Andn, Feature: CpuFeatures.Bmi1, UndefinedFlags: Undefined),
        new(Mnemonic.Bextr, Bextr, Feature: CpuFeatures.Bmi1, UndefinedFlags: Undefined | RFlags.Sf),
        new(Mnemonic.Blsi, Blsi, Feature: CpuFeatures.Bmi1, UndefinedFlags: Undefined),
        new(Mnemonic.Blsmsk, Blsmsk, Feature: CpuFeatures.Bmi1, UndefinedFlags: Undefined),
        new(Mnemonic.Blsr, Blsr, Feature: CpuFeatures.Bmi1, UndefinedFlags: Undefined),
        new(Mnemonic.Bzhi, Bzhi, Feature: CpuFeatures.Bmi2, UndefinedFlags: Undefined),
        new(Mnemonic.Mulx, Mulx, Feature: CpuFeatures.Bmi2),
        new(Mnemonic.Pdep, Pdep, Feature: CpuFeatures.Bmi2),
        new(Mnemonic.Pext, Pext, Feature: CpuFeatures.Bmi2),
        new(Mnemonic.Rorx, Rorx, Feature: CpuFeatures.Bmi2),
        new(Mnemonic.Sarx, Sarx, Feature: CpuFeatures.Bmi2),
        new(Mnemonic.Shlx, Shlx, Feature: CpuFeatures.Bmi2),
        new(Mnemonic.Shrx, Shrx, Feature: CpuFeatures.Bmi2),
    ];

    private static bool Sources(Processor cpu, in Instruction ins, int first, int second, out ulong left, out ulong right)
    {
        left = 0;
        right = 0;
        return Ops.VexAllowed(cpu) && ins.Encoding == EncodingKind.VEX // BEXTR has an XOP form too.
            ? cpu.ReadOperand(ins, first, out left) && cpu.ReadOperand(ins, second, out right)
            : cpu.RaiseFault(GuestFault.Ud);
    }

    private static ExecResult Finish(Processor cpu, in Instruction ins, ulong result)
    {
        cpu.WriteGpr(ins.Op0Register, result);
        return ExecResult.Next;
    }

    private static ExecResult Finish(Processor cpu, in Instruction ins, ulong result, bool carry)
    {
        cpu.WriteGpr(ins.Op0Register, result);
        Ops.FlagsLogicCarry(cpu, Processor.OperandSize(ins, 0), result, carry);
        return ExecResult.Next;
    }

    private static ExecResult Andn(Processor cpu, in Instruction ins) =>
        Sources(cpu, ins, 1, 2, out ulong left, out ulong right) ? Finish(cpu, ins, ~left & right, false) : ExecResult.Abort;

    private static ExecResult Bextr(Processor cpu, in Instruction ins)
    {
        if (!Sources(cpu, ins, 1, 2, out ulong value, out ulong control))
        {
            return ExecResult.Abort;
        }

        int start = (byte)control;
        int length = (byte)(control >> 8);
        ulong result = start >= 64 ? 0 : value >> start;
        return Finish(cpu, ins, length >= 64 ? result : result & ((1UL << length) - 1), false);
    }

    private static ExecResult Blsi(Processor cpu, in Instruction ins) =>
        Sources(cpu, ins, 1, 1, out ulong value, out _) ? Finish(cpu, ins, value & (0 - value), value != 0) : ExecResult.Abort;

    private static ExecResult Blsmsk(Processor cpu, in Instruction ins) =>
        Sources(cpu, ins, 1, 1, out ulong value, out _) ? Finish(cpu, ins, value ^ (value - 1), value == 0) : ExecResult.Abort;

    private static ExecResult Blsr(Processor cpu, in Instruction ins) =>
        Sources(cpu, ins, 1, 1, out ulong value, out _) ? Finish(cpu, ins, value & (value - 1), value == 0) : ExecResult.Abort;

    private static ExecResult Bzhi(Processor cpu, in Instruction ins)
    {
        if (!Sources(cpu, ins, 1, 2, out ulong value, out ulong control))
        {
            return ExecResult.Abort;
        }

        int index = (byte)control;
        int bits = Processor.OperandSize(ins, 0) * 8;
        return Finish(cpu, ins, index >= bits ? value : value & ((1UL << index) - 1), index >= bits);
    }

    // The high half wins when both destinations are one register.
    private static ExecResult Mulx(Processor cpu, in Instruction ins)
    {
        if (!Sources(cpu, ins, 2, 2, out ulong right, out _))
        {
            return ExecResult.Abort;
        }

        int size = Processor.OperandSize(ins, 0);
        UInt128 product = (UInt128)Ops.Read(cpu, Gpr.Rdx, size) * right;
        cpu.WriteGpr(ins.Op1Register, (ulong)product);
        cpu.WriteGpr(ins.Op0Register, (ulong)(product >> (size * 8)));
        return ExecResult.Next;
    }

    private static ExecResult Pdep(Processor cpu, in Instruction ins)
    {
        if (!Sources(cpu, ins, 1, 2, out ulong value, out ulong mask))
        {
            return ExecResult.Abort;
        }

        ulong result = 0;
        for (; mask != 0; mask &= mask - 1, value >>= 1)
        {
            result |= (value & 1) != 0 ? mask & (0 - mask) : 0;
        }

        return Finish(cpu, ins, result);
    }

    private static ExecResult Pext(Processor cpu, in Instruction ins)
    {
        if (!Sources(cpu, ins, 1, 2, out ulong value, out ulong mask))
        {
            return ExecResult.Abort;
        }

        ulong result = 0;
        for (int at = 0; mask != 0; mask &= mask - 1, at++)
        {
            result |= (value & mask & (0 - mask)) != 0 ? 1UL << at : 0;
        }

        return Finish(cpu, ins, result);
    }

    private static ExecResult Rorx(Processor cpu, in Instruction ins)
    {
        if (!Sources(cpu, ins, 1, 2, out ulong value, out ulong count))
        {
            return ExecResult.Abort;
        }

        return Finish(cpu, ins, Processor.OperandSize(ins, 0) == 8
            ? ulong.RotateRight(value, (int)count & 63)
            : uint.RotateRight((uint)value, (int)count & 31));
    }

    private static ExecResult Sarx(Processor cpu, in Instruction ins)
    {
        if (!Sources(cpu, ins, 1, 2, out ulong value, out ulong count))
        {
            return ExecResult.Abort;
        }

        int size = Processor.OperandSize(ins, 0);
        return Finish(cpu, ins, (ulong)(Processor.SignExtend(value, size) >> ((int)count & ((size * 8) - 1))));
    }

    private static ExecResult Shlx(Processor cpu, in Instruction ins) =>
        Sources(cpu, ins, 1, 2, out ulong value, out ulong count)
            ? Finish(cpu, ins, value << ((int)count & ((Processor.OperandSize(ins, 0) * 8) - 1)))
            : ExecResult.Abort;

    private static ExecResult Shrx(Processor cpu, in Instruction ins) =>
        Sources(cpu, ins, 1, 2, out ulong value, out ulong count)
            ? Finish(cpu, ins, value >> ((int)count & ((Processor.OperandSize(ins, 0) * 8) - 1)))
            : ExecResult.Abort;
}
