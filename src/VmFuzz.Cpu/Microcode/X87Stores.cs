using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.FloatingPoint;

namespace VmFuzz.Cpu.Microcode;

/// <summary>What writes the top of the x87 stack elsewhere. A store that faults, or that an unmasked exception forbids, takes nothing off the stack.</summary>
internal static unsafe class X87Stores
{
    // Unmasked, they keep a store from memory.
    private const FloatExceptions Forbidding = FloatExceptions.Invalid | FloatExceptions.Overflow | FloatExceptions.Underflow;

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Fst, static (Processor cpu, in Instruction ins) => StoreNumber(cpu, ins, pops: false), Feature: CpuFeatures.Fpu),
        new(Mnemonic.Fstp, static (Processor cpu, in Instruction ins) => StoreNumber(cpu, ins, pops: true), Feature: CpuFeatures.Fpu),
        new(Mnemonic.Fst, static (Processor cpu, in Instruction ins) => StoreRegister(cpu, ins, pops: false), Feature: CpuFeatures.Fpu, Form: Code.Fst_sti),
        .. new[] { Code.Fstp_sti, Code.Fstp_sti_DFD0, Code.Fstp_sti_DFD8 }.Select(static form => new InstructionRow(
            Mnemonic.Fstp, static (Processor cpu, in Instruction ins) => StoreRegister(cpu, ins, pops: true), Feature: CpuFeatures.Fpu, Form: form)),
        new(Mnemonic.Fstp, StoreExtended, Feature: CpuFeatures.Fpu, Form: Code.Fstp_m80fp),
        new(Mnemonic.Fstpnce, StoreWithoutFault, Feature: CpuFeatures.Fpu),
        new(Mnemonic.Fist, static (Processor cpu, in Instruction ins) => StoreInteger(cpu, ins, pops: false, truncates: false), Feature: CpuFeatures.Fpu),
        new(Mnemonic.Fistp, static (Processor cpu, in Instruction ins) => StoreInteger(cpu, ins, pops: true, truncates: false), Feature: CpuFeatures.Fpu),
        new(Mnemonic.Fisttp, static (Processor cpu, in Instruction ins) => StoreInteger(cpu, ins, pops: true, truncates: true), Feature: CpuFeatures.Fpu | CpuFeatures.Sse3),
        new(Mnemonic.Fbstp, StoreDecimal, Feature: CpuFeatures.Fpu),
    ];

    private static ExecResult StoreNumber(Processor cpu, in Instruction ins, bool pops)
    {
        if (!X87Ops.Start(cpu))
        {
            return ExecResult.Abort;
        }

        var stack = new X87Stack(cpu.State);
        FloatFormat format = ins.MemorySize == MemorySize.Float32 ? FloatFormat.Single : FloatFormat.Double;
        FloatContext context = stack.Context();
        bool empty = stack.IsEmpty(0);

        // A denormal of the extended format is no exception here: it underflows.
        FloatNumber value = empty ? FloatNumber.Indefinite
            : X87Arithmetic.Convert(stack[0].Decode() with { IsDenormal = false }, format, ref context);
        context.KeepBack(Forbidding);
        bool stores = Stores(stack, context, empty);
        return stores && !cpu.WriteOperand(ins, 0, format.Encode(value)) ? ExecResult.Abort : End(cpu, ins, context, empty, stores && pops);
    }

    private static ExecResult StoreInteger(Processor cpu, in Instruction ins, bool pops, bool truncates)
    {
        if (!X87Ops.Start(cpu))
        {
            return ExecResult.Abort;
        }

        var stack = new X87Stack(cpu.State);
        FloatContext context = stack.Context();
        bool empty = stack.IsEmpty(0);
        int bits = ins.MemorySize.GetSize() * 8;
        ulong limit = 1UL << (bits - 1);
        ulong value = limit;
        if (!empty && TryRound(stack[0].Decode(), truncates, limit - 1, limit, ref context, out FloatNumber integer))
        {
            ulong magnitude = SoftFloat.Magnitude(integer);
            value = integer.Negative ? (ulong)-(long)magnitude : magnitude;
        }

        bool stores = Stores(stack, context, empty);
        return stores && !cpu.WriteOperand(ins, 0, value) ? ExecResult.Abort : End(cpu, ins, context, empty, stores && pops);
    }

    private static ExecResult StoreDecimal(Processor cpu, in Instruction ins)
    {
        if (!X87Ops.Start(cpu))
        {
            return ExecResult.Abort;
        }

        var stack = new X87Stack(cpu.State);
        FloatContext context = stack.Context();
        bool empty = stack.IsEmpty(0);
        Extended value = PackedDecimal.Indefinite;
        if (!empty && TryRound(stack[0].Decode(), truncates: false, PackedDecimal.Max, PackedDecimal.Max, ref context, out FloatNumber integer))
        {
            value = PackedDecimal.Encode(integer.Negative, SoftFloat.Magnitude(integer));
        }

        bool stores = Stores(stack, context, empty);
        return stores && !X87Ops.WriteExtended(cpu, ins, value) ? ExecResult.Abort : End(cpu, ins, context, empty, stores);
    }

    // Any encoding, as it is.
    private static ExecResult StoreExtended(Processor cpu, in Instruction ins)
    {
        if (!X87Ops.Start(cpu))
        {
            return ExecResult.Abort;
        }

        var stack = new X87Stack(cpu.State);
        bool empty = stack.IsEmpty(0);
        bool stores = Stores(stack, default, empty);
        return stores && !X87Ops.WriteExtended(cpu, ins, empty ? Extended.Encode(FloatNumber.Indefinite) : stack[0])
            ? ExecResult.Abort
            : End(cpu, ins, default, empty, stores);
    }

    private static ExecResult StoreRegister(Processor cpu, in Instruction ins, bool pops)
    {
        if (!X87Ops.Start(cpu))
        {
            return ExecResult.Abort;
        }

        var stack = new X87Stack(cpu.State);
        bool empty = stack.IsEmpty(0);
        if (empty ? stack.Fault() : stack.Settle(default))
        {
            stack.Write(X87Ops.RegisterOf(ins, 0), empty ? Extended.Encode(FloatNumber.Indefinite) : stack[0]);
            if (pops)
            {
                stack.Pop();
            }
        }

        return X87Ops.Complete(cpu, ins);
    }

    // The undocumented form: no stack fault, and an empty top goes nowhere.
    private static ExecResult StoreWithoutFault(Processor cpu, in Instruction ins)
    {
        if (!X87Ops.Start(cpu))
        {
            return ExecResult.Abort;
        }

        var stack = new X87Stack(cpu.State);
        stack.Settle(default);
        if (!stack.IsEmpty(0))
        {
            stack.Write(X87Ops.RegisterOf(ins, 0), stack[0]);
        }

        stack.Pop();
        return X87Ops.Complete(cpu, ins);
    }

    // An integer that is not above a limit of its sign; a number that is none is invalid, and nothing else.
    private static bool TryRound(in FloatNumber number, bool truncates, ulong most, ulong mostNegative, ref FloatContext context, out FloatNumber integer)
    {
        integer = default;
        if (number.Class is FloatClass.Finite or FloatClass.Zero && number.Exponent <= 63)
        {
            FloatContext rounding = context;
            integer = SoftFloat.RoundToIntegral(number, truncates ? FloatRounding.Truncate : context.Rounding, ref rounding);
            if (integer.Exponent <= 63 && SoftFloat.Magnitude(integer) <= (number.Negative ? mostNegative : most))
            {
                context = rounding;
                return true;
            }
        }

        context.Raise(FloatExceptions.Invalid);
        return false;
    }

    private static bool Stores(X87Stack stack, in FloatContext context, bool empty) => empty
        ? stack.IsMasked(FloatExceptions.Invalid)
        : !context.IsStopped(Forbidding);

    private static ExecResult End(Processor cpu, in Instruction ins, in FloatContext context, bool empty, bool pops)
    {
        var stack = new X87Stack(cpu.State);
        _ = empty ? stack.Fault() : stack.Settle(context);
        if (pops)
        {
            stack.Pop();
        }

        return X87Ops.Complete(cpu, ins);
    }
}
