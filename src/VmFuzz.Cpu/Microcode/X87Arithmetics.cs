using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.FloatingPoint;

namespace VmFuzz.Cpu.Microcode;

/// <summary>x87 arithmetic: the four operations in all their forms, roots, remainders, scaling, signs.</summary>
internal static unsafe class X87Arithmetics
{
    private delegate FloatNumber Binary(in FloatNumber left, in FloatNumber right, ref FloatContext context);

    private delegate FloatNumber Unary(in FloatNumber number, ref FloatContext context);

    // Reversed: the destination is the right operand.
    private static readonly ImmutableArray<(Mnemonic Mnemonic, Binary Operation, bool Reversed, bool Pops)> BinaryRows =
    [
        (Mnemonic.Fadd, X87Arithmetic.Add, false, false),
        (Mnemonic.Fiadd, X87Arithmetic.Add, false, false),
        (Mnemonic.Faddp, X87Arithmetic.Add, false, true),
        (Mnemonic.Fsub, X87Arithmetic.Subtract, false, false),
        (Mnemonic.Fisub, X87Arithmetic.Subtract, false, false),
        (Mnemonic.Fsubp, X87Arithmetic.Subtract, false, true),
        (Mnemonic.Fsubr, X87Arithmetic.Subtract, true, false),
        (Mnemonic.Fisubr, X87Arithmetic.Subtract, true, false),
        (Mnemonic.Fsubrp, X87Arithmetic.Subtract, true, true),
        (Mnemonic.Fmul, X87Arithmetic.Multiply, false, false),
        (Mnemonic.Fimul, X87Arithmetic.Multiply, false, false),
        (Mnemonic.Fmulp, X87Arithmetic.Multiply, false, true),
        (Mnemonic.Fdiv, X87Arithmetic.Divide, false, false),
        (Mnemonic.Fidiv, X87Arithmetic.Divide, false, false),
        (Mnemonic.Fdivp, X87Arithmetic.Divide, false, true),
        (Mnemonic.Fdivr, X87Arithmetic.Divide, true, false),
        (Mnemonic.Fidivr, X87Arithmetic.Divide, true, false),
        (Mnemonic.Fdivrp, X87Arithmetic.Divide, true, true),
    ];

    private static readonly ImmutableArray<(Mnemonic Mnemonic, Unary Operation)> UnaryRows =
    [
        (Mnemonic.Fsqrt, X87Arithmetic.SquareRoot),
        (Mnemonic.Frndint, X87Arithmetic.RoundToIntegral),
    ];

    private static readonly ImmutableArray<(Mnemonic Mnemonic, Func<Extended, Extended> Operation)> SignRows =
    [
        (Mnemonic.Fchs, static value => value with { SignExponent = (ushort)(value.SignExponent ^ Extended.SignBit) }),
        (Mnemonic.Fabs, static value => value with { SignExponent = (ushort)(value.SignExponent & ~Extended.SignBit) }),
    ];

    private static readonly ImmutableArray<(Mnemonic Mnemonic, bool Nearest)> RemainderRows = [(Mnemonic.Fprem, false), (Mnemonic.Fprem1, true)];

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        .. BinaryRows.Select(static row => new InstructionRow(
            row.Mnemonic, (Processor cpu, in Instruction ins) => Compute(cpu, ins, row.Operation, row.Reversed, row.Pops), Feature: CpuFeatures.Fpu)),
        .. UnaryRows.Select(static row => new InstructionRow(
            row.Mnemonic, (Processor cpu, in Instruction ins) => Compute(cpu, ins, row.Operation), Feature: CpuFeatures.Fpu)),
        .. SignRows.Select(static row => new InstructionRow(
            row.Mnemonic, (Processor cpu, in Instruction ins) => ChangeSign(cpu, ins, row.Operation), Feature: CpuFeatures.Fpu)),
        .. RemainderRows.Select(static row => new InstructionRow(
            row.Mnemonic, (Processor cpu, in Instruction ins) => Remainder(cpu, ins, row.Nearest), Feature: CpuFeatures.Fpu)),
        new(Mnemonic.Fscale, Scale, Feature: CpuFeatures.Fpu),
        new(Mnemonic.Fxtract, Extract, Feature: CpuFeatures.Fpu),
    ];

    private static ExecResult Compute(Processor cpu, in Instruction ins, Binary operation, bool reversed, bool pops)
    {
        FloatNumber other = default;
        bool memory = X87Ops.HasMemory(ins);
        if (!X87Ops.Start(cpu) || (memory && !X87Ops.Read(cpu, ins, out other)))
        {
            return ExecResult.Abort;
        }

        var stack = new X87Stack(cpu.State);
        int destination = memory ? 0 : X87Ops.RegisterOf(ins, 0), source = memory ? 0 : X87Ops.RegisterOf(ins, 1);
        FloatNumber result = FloatNumber.Indefinite;
        bool completes;
        if (stack.IsEmpty(destination) || stack.IsEmpty(source))
        {
            completes = stack.Fault();
        }
        else
        {
            FloatNumber own = stack[destination].Decode();
            other = memory ? other : stack[source].Decode();
            FloatContext context = stack.Context(controlled: true);
            result = reversed ? operation(other, own, ref context) : operation(own, other, ref context);
            completes = stack.Settle(context);
        }

        if (completes)
        {
            stack.Write(destination, result);
        }

        if (completes && pops)
        {
            stack.Pop();
        }

        return X87Ops.Complete(cpu, ins);
    }

    private static ExecResult Compute(Processor cpu, in Instruction ins, Unary operation)
    {
        if (!X87Ops.Start(cpu))
        {
            return ExecResult.Abort;
        }

        var stack = new X87Stack(cpu.State);
        FloatContext context = stack.Context(controlled: true);
        bool empty = stack.IsEmpty(0);
        FloatNumber result = empty ? FloatNumber.Indefinite : operation(stack[0].Decode(), ref context);
        return Replace(cpu, ins, empty, context, result);
    }

    // The result, or the indefinite value of an empty register, goes to the top.
    private static ExecResult Replace(Processor cpu, in Instruction ins, bool empty, in FloatContext context, in FloatNumber result)
    {
        var stack = new X87Stack(cpu.State);
        if (empty ? stack.Fault() : stack.Settle(context))
        {
            stack.Write(0, result);
        }

        return X87Ops.Complete(cpu, ins);
    }

    private static ExecResult ChangeSign(Processor cpu, in Instruction ins, Func<Extended, Extended> operation)
    {
        if (!X87Ops.Start(cpu))
        {
            return ExecResult.Abort;
        }

        // Of any encoding, without exceptions.
        var stack = new X87Stack(cpu.State);
        Extended result = stack.IsEmpty(0) ? Extended.Encode(FloatNumber.Indefinite) : operation(stack[0]);
        if (stack.IsEmpty(0) ? stack.Fault() : stack.Settle(default))
        {
            stack.Write(0, result);
        }

        return X87Ops.Complete(cpu, ins);
    }

    private static ExecResult Scale(Processor cpu, in Instruction ins)
    {
        if (!X87Ops.Start(cpu))
        {
            return ExecResult.Abort;
        }

        var stack = new X87Stack(cpu.State);
        bool empty = stack.IsEmpty(0) || stack.IsEmpty(1);
        FloatContext context = stack.Context();
        FloatNumber result = empty ? FloatNumber.Indefinite : X87Arithmetic.Scale(stack[0].Decode(), stack[1].Decode(), ref context);
        return Replace(cpu, ins, empty, context, result);
    }

    private static ExecResult Extract(Processor cpu, in Instruction ins)
    {
        if (!X87Ops.Start(cpu))
        {
            return ExecResult.Abort;
        }

        var stack = new X87Stack(cpu.State);
        FloatContext context = stack.Context();
        bool empty = stack.IsEmpty(0), full = !stack.IsEmpty(-1);
        (FloatNumber exponent, FloatNumber significand) = empty || full
            ? (FloatNumber.Indefinite, FloatNumber.Indefinite)
            : X87Arithmetic.Extract(stack[0].Decode(), ref context);
        if (empty || full ? stack.Fault(overflow: !empty) : stack.Settle(context))
        {
            stack.Write(0, exponent);
            stack.Push(Extended.Encode(significand));
        }

        return X87Ops.Complete(cpu, ins);
    }

    // C2 says that the reduction goes on; else C0, C3 and C1 are the low bits of the quotient, from the highest, if there is one.
    private static ExecResult Remainder(Processor cpu, in Instruction ins, bool nearest)
    {
        if (!X87Ops.Start(cpu))
        {
            return ExecResult.Abort;
        }

        var stack = new X87Stack(cpu.State);
        bool empty = stack.IsEmpty(0) || stack.IsEmpty(1);
        FloatContext context = stack.Context();
        RemainderQuotient? quotient = null;
        FloatNumber result = empty ? FloatNumber.Indefinite
            : X87Arithmetic.Remainder(stack[0].Decode(), stack[1].Decode(), nearest, ref context, out quotient);
        stack.SetConditions(X87Stack.C2, 0);
        if (empty ? stack.Fault() : stack.Settle(context))
        {
            stack.Write(0, result);
            if (quotient is { } known)
            {
                stack.SetConditions(X87Stack.C0 | X87Stack.C1 | X87Stack.C2 | X87Stack.C3, CodesOf(known));
            }
        }

        return X87Ops.Complete(cpu, ins);
    }

    private static ulong CodesOf(RemainderQuotient quotient) => quotient.IsPartial ? X87Stack.C2
        : ((quotient.Quotient & 4) != 0 ? X87Stack.C0 : 0) | ((quotient.Quotient & 2) != 0 ? X87Stack.C3 : 0) | ((quotient.Quotient & 1) != 0 ? X87Stack.C1 : 0);
}
