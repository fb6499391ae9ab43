using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>MUL, IMUL, DIV, IDIV.</summary>
/// <remarks>
/// Undefined flags: after multiplication SF, ZF and PF are those of the low half and AF is 0; division leaves all
/// flags as they were.
/// </remarks>
internal static unsafe class MultiplyDivide
{
    private const ulong ProductUndefined = RFlags.Sf | RFlags.Zf | RFlags.Af | RFlags.Pf;

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Mul, Mul, UndefinedFlags: ProductUndefined),
        new(Mnemonic.Imul, Imul, UndefinedFlags: ProductUndefined),
        new(Mnemonic.Div, Div, UndefinedFlags: Ops.AllFlags),
        new(Mnemonic.Idiv, Idiv, UndefinedFlags: Ops.AllFlags),
    ];

    private static ExecResult Mul(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadOperand(ins, 0, out ulong right))
        {
            return ExecResult.Abort;
        }

        int size = Processor.OperandSize(ins, 0);
        UInt128 product = (UInt128)Ops.Read(cpu, Gpr.Rax, size) * right;
        SetProduct(cpu, size, product);
        SetFlags(cpu, size, (ulong)product, (product >> (size * 8)) != UInt128.Zero);
        return ExecResult.Next;
    }

    private static ExecResult Imul(Processor cpu, in Instruction ins)
    {
        int size = Processor.OperandSize(ins, 0);
        int first = ins.OpCount == 3 ? 1 : 0;
        if (!cpu.ReadOperand(ins, first, out ulong left))
        {
            return ExecResult.Abort;
        }

        ulong right;
        if (ins.OpCount == 1)
        {
            right = cpu[Gpr.Rax];
        }
        else if (!cpu.ReadOperand(ins, first + 1, out right))
        {
            return ExecResult.Abort;
        }

        Int128 product = (Int128)Processor.SignExtend(left, size) * Processor.SignExtend(right, size);
        if (ins.OpCount == 1)
        {
            SetProduct(cpu, size, (UInt128)product);
        }
        else
        {
            cpu.WriteGpr(ins.Op0Register, (ulong)product);
        }

        SetFlags(cpu, size, (ulong)product, product != Processor.SignExtend((ulong)product, size));
        return ExecResult.Next;
    }

    private static ExecResult Div(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadOperand(ins, 0, out ulong divisor))
        {
            return ExecResult.Abort;
        }

        int size = Processor.OperandSize(ins, 0);
        if (divisor == 0)
        {
            return cpu.Fault(GuestFault.De);
        }

        UInt128 dividend = Dividend(cpu, size);
        UInt128 quotient = dividend / divisor;
        if (quotient > Processor.MaskOfSize(size))
        {
            return cpu.Fault(GuestFault.De);
        }

        SetQuotient(cpu, size, (ulong)quotient, (ulong)(dividend - (quotient * divisor)));
        return ExecResult.Next;
    }

    private static ExecResult Idiv(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadOperand(ins, 0, out ulong operand))
        {
            return ExecResult.Abort;
        }

        int size = Processor.OperandSize(ins, 0);
        int bits = size * 8;
        long divisor = Processor.SignExtend(operand, size);
        if (divisor == 0)
        {
            return cpu.Fault(GuestFault.De);
        }

        // Divided by magnitude: the most negative dividend has no Int128 quotient by -1.
        UInt128 dividend = Dividend(cpu, size);
        bool negative = ((dividend >> ((bits * 2) - 1)) & UInt128.One) != UInt128.Zero;
        UInt128 pairMask = size == 8 ? UInt128.MaxValue : (UInt128.One << (bits * 2)) - UInt128.One;
        UInt128 magnitude = (negative ? UInt128.Zero - dividend : dividend) & pairMask;
        ulong by = divisor < 0 ? 0 - (ulong)divisor : (ulong)divisor;
        UInt128 quotient = magnitude / by;
        ulong remainder = (ulong)(magnitude - (quotient * by));
        bool negativeQuotient = negative != (divisor < 0);
        UInt128 most = (UInt128.One << (bits - 1)) - (negativeQuotient ? UInt128.Zero : UInt128.One);
        if (quotient > most)
        {
            return cpu.Fault(GuestFault.De);
        }

        ulong low = (ulong)quotient;
        SetQuotient(cpu, size, negativeQuotient ? 0 - low : low, negative ? 0 - remainder : remainder);
        return ExecResult.Next;
    }

    private static UInt128 Dividend(Processor cpu, int size) => size == 1
        ? Ops.Read(cpu, Gpr.Rax, 2)
        : ((UInt128)Ops.Read(cpu, Gpr.Rdx, size) << (size * 8)) | Ops.Read(cpu, Gpr.Rax, size);

    private static void SetProduct(Processor cpu, int size, UInt128 product)
    {
        if (size == 1)
        {
            Ops.Write(cpu, Gpr.Rax, 2, (ulong)product);
            return;
        }

        Ops.Write(cpu, Gpr.Rax, size, (ulong)product);
        Ops.Write(cpu, Gpr.Rdx, size, (ulong)(product >> (size * 8)));
    }

    private static void SetQuotient(Processor cpu, int size, ulong quotient, ulong remainder)
    {
        if (size == 1)
        {
            Ops.Write(cpu, Gpr.Rax, 2, (byte)quotient | ((ulong)(byte)remainder << 8));
            return;
        }

        Ops.Write(cpu, Gpr.Rax, size, quotient);
        Ops.Write(cpu, Gpr.Rdx, size, remainder);
    }

    private static void SetFlags(Processor cpu, int size, ulong low, bool wide) =>
        cpu.FlagsSet(RFlags.Arithmetic, Processor.ZeroSignParity(size, low) | Ops.Bit(wide, RFlags.Cf | RFlags.Of));
}
