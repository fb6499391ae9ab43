using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>Shifts, rotates and double shifts.</summary>
/// <remarks>
/// Undefined flags: AF is 0 after shifts. OF for counts above 1 follows the formula for a count of 1 applied to the
/// last step. CF of SHL and SHR for counts above the operand width is 0. Double shifts of 16 bits by more than 16
/// shift in the destination again after the source.
/// </remarks>
internal static unsafe class ShiftRotate
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Shl, Shl, UndefinedFlags: RFlags.Af | RFlags.Of | RFlags.Cf),
        new(Mnemonic.Sal, Shl, UndefinedFlags: RFlags.Af | RFlags.Of | RFlags.Cf),
        new(Mnemonic.Shr, Shr, UndefinedFlags: RFlags.Af | RFlags.Of | RFlags.Cf),
        new(Mnemonic.Sar, Sar, UndefinedFlags: RFlags.Af | RFlags.Of),
        new(Mnemonic.Rol, Rol, UndefinedFlags: RFlags.Of),
        new(Mnemonic.Ror, Ror, UndefinedFlags: RFlags.Of),
        new(Mnemonic.Rcl, Rcl, UndefinedFlags: RFlags.Of),
        new(Mnemonic.Rcr, Rcr, UndefinedFlags: RFlags.Of),
        new(Mnemonic.Shld, Shld, UndefinedFlags: Ops.AllFlags),
        new(Mnemonic.Shrd, Shrd, UndefinedFlags: Ops.AllFlags),
    ];

    private static bool Begin(Processor cpu, in Instruction ins, out int size, out ulong value, out int count)
    {
        size = Processor.OperandSize(ins, 0);
        count = 0;
        if (!cpu.ReadForWrite(ins, 0, out value))
        {
            return false;
        }

        int last = ins.OpCount - 1;
        ulong raw = ins.GetOpKind(last) == OpKind.Register ? cpu.ReadGpr(ins.GetOpRegister(last)) : ins.GetImmediate(last);
        count = (int)raw & (size == 8 ? 63 : 31);
        return true;
    }

    private static ExecResult FinishShift(Processor cpu, in Instruction ins, int size, ulong result, bool carry, bool overflow)
    {
        if (!cpu.WriteOperand(ins, 0, result))
        {
            return ExecResult.Abort;
        }

        cpu.FlagsSet(
            RFlags.Arithmetic,
            Processor.ZeroSignParity(size, result) | Ops.Bit(carry, RFlags.Cf) | Ops.Bit(overflow, RFlags.Of));
        return ExecResult.Next;
    }

    private static ExecResult FinishRotate(Processor cpu, in Instruction ins, ulong result, bool carry, bool overflow)
    {
        if (!cpu.WriteOperand(ins, 0, result))
        {
            return ExecResult.Abort;
        }

        cpu.FlagsSet(RFlags.Cf | RFlags.Of, Ops.Bit(carry, RFlags.Cf) | Ops.Bit(overflow, RFlags.Of));
        return ExecResult.Next;
    }

    // A count of 0 changes no flag; the destination is written all the same (a 32-bit register is zero-extended).
    private static ExecResult Unchanged(Processor cpu, in Instruction ins, ulong value) =>
        cpu.WriteOperand(ins, 0, value) ? ExecResult.Next : ExecResult.Abort;

    private static ExecResult Shl(Processor cpu, in Instruction ins)
    {
        if (!Begin(cpu, ins, out int size, out ulong value, out int count))
        {
            return ExecResult.Abort;
        }

        if (count == 0)
        {
            return Unchanged(cpu, ins, value);
        }

        ulong step = Ops.Cut(value << (count - 1), size);
        ulong result = Ops.Cut(step << 1, size);
        bool carry = Ops.Msb(step, size);
        return FinishShift(cpu, ins, size, result, carry, Ops.Msb(result, size) != carry);
    }

    private static ExecResult Shr(Processor cpu, in Instruction ins)
    {
        if (!Begin(cpu, ins, out int size, out ulong value, out int count))
        {
            return ExecResult.Abort;
        }

        if (count == 0)
        {
            return Unchanged(cpu, ins, value);
        }

        ulong step = value >> (count - 1);
        return FinishShift(cpu, ins, size, step >> 1, (step & 1) != 0, Ops.Msb(step, size));
    }

    private static ExecResult Sar(Processor cpu, in Instruction ins)
    {
        if (!Begin(cpu, ins, out int size, out ulong value, out int count))
        {
            return ExecResult.Abort;
        }

        if (count == 0)
        {
            return Unchanged(cpu, ins, value);
        }

        long step = Processor.SignExtend(value, size) >> (count - 1);
        return FinishShift(cpu, ins, size, Ops.Cut((ulong)(step >> 1), size), (step & 1) != 0, false);
    }

    private static ExecResult Rol(Processor cpu, in Instruction ins)
    {
        if (!Begin(cpu, ins, out int size, out ulong value, out int count))
        {
            return ExecResult.Abort;
        }

        if (count == 0)
        {
            return Unchanged(cpu, ins, value);
        }

        int bits = size * 8;
        int by = count % bits;
        ulong result = by == 0 ? value : Ops.Cut((value << by) | (value >> (bits - by)), size);
        bool carry = (result & 1) != 0;
        return FinishRotate(cpu, ins, result, carry, Ops.Msb(result, size) != carry);
    }

    private static ExecResult Ror(Processor cpu, in Instruction ins)
    {
        if (!Begin(cpu, ins, out int size, out ulong value, out int count))
        {
            return ExecResult.Abort;
        }

        if (count == 0)
        {
            return Unchanged(cpu, ins, value);
        }

        int bits = size * 8;
        int by = count % bits;
        ulong result = by == 0 ? value : Ops.Cut((value >> by) | (value << (bits - by)), size);
        bool carry = Ops.Msb(result, size);
        return FinishRotate(cpu, ins, result, carry, carry != Ops.Msb(result << 1, size));
    }

    private static ExecResult Rcl(Processor cpu, in Instruction ins)
    {
        if (!Begin(cpu, ins, out int size, out ulong value, out int count))
        {
            return ExecResult.Abort;
        }

        int bits = size * 8;
        count %= bits + 1;
        if (count == 0)
        {
            return Unchanged(cpu, ins, value);
        }

        UInt128 mask = (UInt128.One << (bits + 1)) - UInt128.One;
        UInt128 wide = ((UInt128)Ops.Carry(cpu) << bits) | value;
        wide = ((wide << count) | (wide >> (bits + 1 - count))) & mask;
        ulong result = Ops.Cut((ulong)wide, size);
        bool carry = (wide >> bits) != UInt128.Zero;
        return FinishRotate(cpu, ins, result, carry, Ops.Msb(result, size) != carry);
    }

    private static ExecResult Rcr(Processor cpu, in Instruction ins)
    {
        if (!Begin(cpu, ins, out int size, out ulong value, out int count))
        {
            return ExecResult.Abort;
        }

        int bits = size * 8;
        count %= bits + 1;
        if (count == 0)
        {
            return Unchanged(cpu, ins, value);
        }

        UInt128 mask = (UInt128.One << (bits + 1)) - UInt128.One;
        UInt128 wide = ((UInt128)Ops.Carry(cpu) << bits) | value;
        wide = ((wide >> count) | (wide << (bits + 1 - count))) & mask;
        ulong result = Ops.Cut((ulong)wide, size);
        bool carry = (wide >> bits) != UInt128.Zero;
        return FinishRotate(cpu, ins, result, carry, Ops.Msb(result, size) != Ops.Msb(result << 1, size));
    }

    private static ExecResult Shld(Processor cpu, in Instruction ins)
    {
        if (!Begin(cpu, ins, out int size, out ulong value, out int count))
        {
            return ExecResult.Abort;
        }

        if (count == 0)
        {
            return Unchanged(cpu, ins, value);
        }

        // Destination, source, destination again: the third part is reached only by 16-bit counts above 16.
        ulong source = cpu.ReadGpr(ins.Op1Register);
        int bits = size * 8;
        UInt128 wide = size == 2
            ? (UInt128)((value << 32) | (source << 16) | value)
            : ((UInt128)value << bits) | source;
        int parts = size == 2 ? 48 : bits * 2;
        UInt128 step = wide << (count - 1);
        bool carry = ((step >> (parts - 1)) & UInt128.One) != UInt128.Zero;
        ulong result = Ops.Cut((ulong)((wide << count) >> (parts - bits)), size);
        return FinishShift(cpu, ins, size, result, carry, Ops.Msb(result, size) != carry);
    }

    private static ExecResult Shrd(Processor cpu, in Instruction ins)
    {
        if (!Begin(cpu, ins, out int size, out ulong value, out int count))
        {
            return ExecResult.Abort;
        }

        if (count == 0)
        {
            return Unchanged(cpu, ins, value);
        }

        ulong source = cpu.ReadGpr(ins.Op1Register);
        int bits = size * 8;
        UInt128 wide = size == 2
            ? (UInt128)((value << 32) | (source << 16) | value)
            : ((UInt128)source << bits) | value;
        bool carry = ((wide >> (count - 1)) & UInt128.One) != UInt128.Zero;
        ulong result = Ops.Cut((ulong)(wide >> count), size);
        return FinishShift(cpu, ins, size, result, carry, Ops.Msb(result, size) != Ops.Msb(result << 1, size));
    }
}
