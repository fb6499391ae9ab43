using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>Decimal adjustment; #UD in 64-bit mode.</summary>
/// <remarks>
/// Undefined flags: AAA and AAS give SF, ZF, PF of AL and OF = 0; DAA and DAS OF = 0; AAM and AAD OF = AF = CF = 0.
/// </remarks>
internal static class Bcd
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Aaa, static (Processor cpu, in Instruction _) => AsciiAdjust(cpu, 0x106), UndefinedFlags: AsciiUndefined),
        new(Mnemonic.Aas, static (Processor cpu, in Instruction _) => AsciiAdjust(cpu, -0x106), UndefinedFlags: AsciiUndefined),
        new(Mnemonic.Aam, Aam, UndefinedFlags: RFlags.Of | RFlags.Af | RFlags.Cf),
        new(Mnemonic.Aad, Aad, UndefinedFlags: RFlags.Of | RFlags.Af | RFlags.Cf),
        new(Mnemonic.Daa, static (Processor cpu, in Instruction _) => DecimalAdjust(cpu, subtract: false), UndefinedFlags: RFlags.Of),
        new(Mnemonic.Das, static (Processor cpu, in Instruction _) => DecimalAdjust(cpu, subtract: true), UndefinedFlags: RFlags.Of),
    ];

    private const ulong AsciiUndefined = RFlags.Of | RFlags.Sf | RFlags.Zf | RFlags.Pf;

    // SDM "AAA" and "AAS": AX moves by 0x106 as a whole.
    private static ExecResult AsciiAdjust(Processor cpu, int step)
    {
        if (cpu.Code64)
        {
            return Ops.Undefined(cpu);
        }

        ulong ax = Ops.Read(cpu, Gpr.Rax, 2);
        bool adjust = (ax & 0xF) > 9 || (cpu.RFlagsValue & RFlags.Af) != 0;
        if (adjust)
        {
            ax = (ushort)(ax + (ulong)step);
        }

        ax &= 0xFF0F;
        Ops.Write(cpu, Gpr.Rax, 2, ax);
        cpu.FlagsSet(
            RFlags.Arithmetic,
            Processor.ZeroSignParity(1, ax & 0xFF) | Ops.Bit(adjust, RFlags.Af | RFlags.Cf));
        return ExecResult.Next;
    }

    private static ExecResult Aam(Processor cpu, in Instruction ins)
    {
        if (cpu.Code64)
        {
            return Ops.Undefined(cpu);
        }

        ulong radix = (byte)ins.GetImmediate(0);
        if (radix == 0)
        {
            return cpu.Fault(GuestFault.De);
        }

        ulong al = Ops.Read(cpu, Gpr.Rax, 1);
        Ops.Write(cpu, Gpr.Rax, 2, ((al / radix) << 8) | (al % radix));
        cpu.FlagsSet(RFlags.Arithmetic, Processor.ZeroSignParity(1, al % radix));
        return ExecResult.Next;
    }

    private static ExecResult Aad(Processor cpu, in Instruction ins)
    {
        if (cpu.Code64)
        {
            return Ops.Undefined(cpu);
        }

        ulong ax = Ops.Read(cpu, Gpr.Rax, 2);
        ulong al = (byte)((ax & 0xFF) + ((ax >> 8) * (byte)ins.GetImmediate(0)));
        Ops.Write(cpu, Gpr.Rax, 2, al);
        cpu.FlagsSet(RFlags.Arithmetic, Processor.ZeroSignParity(1, al));
        return ExecResult.Next;
    }

    private static ExecResult DecimalAdjust(Processor cpu, bool subtract)
    {
        if (cpu.Code64)
        {
            return Ops.Undefined(cpu);
        }

        ulong flags = cpu.RFlagsValue;
        ulong old = Ops.Read(cpu, Gpr.Rax, 1);
        ulong al = old;
        bool oldCarry = (flags & RFlags.Cf) != 0;
        bool carry = false;
        bool half = (old & 0xF) > 9 || (flags & RFlags.Af) != 0;
        if (half)
        {
            al = subtract ? al - 6 : al + 6;
            carry = oldCarry || al > 0xFF;
        }

        if (old > 0x99 || oldCarry)
        {
            al = subtract ? al - 0x60 : al + 0x60;
            carry = true;
        }
        else if (!subtract)
        {
            carry = false;
        }

        al &= 0xFF;
        Ops.Write(cpu, Gpr.Rax, 1, al);
        cpu.FlagsSet(
            RFlags.Arithmetic,
            Processor.ZeroSignParity(1, al) | Ops.Bit(carry, RFlags.Cf) | Ops.Bit(half, RFlags.Af));
        return ExecResult.Next;
    }
}
