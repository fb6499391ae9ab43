using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.FloatingPoint;

namespace VmFuzz.Cpu.Microcode;

/// <summary>Moves within the x87 stack: exchanges, conditional moves, and changes of tags and top.</summary>
internal static unsafe class X87Moves
{
    // The flags of which one must be set, or none.
    private static readonly ImmutableArray<(Mnemonic Mnemonic, ulong Flags, bool Set)> ConditionalRows =
    [
        (Mnemonic.Fcmovb, RFlags.Cf, true),
        (Mnemonic.Fcmove, RFlags.Zf, true),
        (Mnemonic.Fcmovbe, RFlags.Cf | RFlags.Zf, true),
        (Mnemonic.Fcmovu, RFlags.Pf, true),
        (Mnemonic.Fcmovnb, RFlags.Cf, false),
        (Mnemonic.Fcmovne, RFlags.Zf, false),
        (Mnemonic.Fcmovnbe, RFlags.Cf | RFlags.Zf, false),
        (Mnemonic.Fcmovnu, RFlags.Pf, false),
    ];

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        .. ConditionalRows.Select(static row => new InstructionRow(
            row.Mnemonic, (Processor cpu, in Instruction ins) => MoveIf(cpu, ins, row.Flags, row.Set), Feature: CpuFeatures.Fpu | CpuFeatures.Cmov)),
        new(Mnemonic.Fxch, Exchange, Feature: CpuFeatures.Fpu),
        new(Mnemonic.Fincstp, static (Processor cpu, in Instruction ins) => Arrange(cpu, ins, static (stack, _) => stack.Turn(1)), Feature: CpuFeatures.Fpu),
        new(Mnemonic.Fdecstp, static (Processor cpu, in Instruction ins) => Arrange(cpu, ins, static (stack, _) => stack.Turn(-1)), Feature: CpuFeatures.Fpu),
        new(Mnemonic.Ffree, static (Processor cpu, in Instruction ins) => Arrange(cpu, ins, static (stack, register) => stack.Free(register)), Feature: CpuFeatures.Fpu),
        new(Mnemonic.Ffreep, static (Processor cpu, in Instruction ins) => Arrange(cpu, ins, FreeAndPop), Feature: CpuFeatures.Fpu),
        new(Mnemonic.Fnop, static (Processor cpu, in Instruction ins) => X87Ops.Start(cpu) ? X87Ops.Complete(cpu, ins) : ExecResult.Abort, Feature: CpuFeatures.Fpu),
    ];

    private static ExecResult MoveIf(Processor cpu, in Instruction ins, ulong flags, bool set)
    {
        if (!X87Ops.Start(cpu))
        {
            return ExecResult.Abort;
        }

        var stack = new X87Stack(cpu.State);
        int source = X87Ops.RegisterOf(ins, 1);
        bool empty = stack.IsEmpty(0) || stack.IsEmpty(source);
        bool moves = (cpu.RFlagsValue & flags) != 0 == set;
        if (empty)
        {
            if (stack.Fault())
            {
                stack.Write(0, FloatNumber.Indefinite);
            }
        }
        else if (moves)
        {
            stack.Write(0, stack[source]);
        }

        return X87Ops.Complete(cpu, ins);
    }

    // Empty registers count as indefinite values.
    private static ExecResult Exchange(Processor cpu, in Instruction ins)
    {
        if (!X87Ops.Start(cpu))
        {
            return ExecResult.Abort;
        }

        var stack = new X87Stack(cpu.State);
        int other = X87Ops.RegisterOf(ins, 1);
        Extended indefinite = Extended.Encode(FloatNumber.Indefinite);
        bool empty = stack.IsEmpty(0) || stack.IsEmpty(other);
        Extended left = stack.IsEmpty(0) ? indefinite : stack[0], right = stack.IsEmpty(other) ? indefinite : stack[other];
        if (empty ? stack.Fault() : stack.Settle(default))
        {
            stack.Write(0, right);
            stack.Write(other, left);
        }

        return X87Ops.Complete(cpu, ins);
    }

    private static ExecResult Arrange(Processor cpu, in Instruction ins, Action<X87Stack, int> change)
    {
        if (!X87Ops.Start(cpu))
        {
            return ExecResult.Abort;
        }

        var stack = new X87Stack(cpu.State);
        stack.Settle(default);
        change(stack, X87Ops.RegisterOf(ins, 0));
        return X87Ops.Complete(cpu, ins);
    }

    private static void FreeAndPop(X87Stack stack, int register)
    {
        stack.Free(register);
        stack.Pop();
    }
}
