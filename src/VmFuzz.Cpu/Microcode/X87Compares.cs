using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.FloatingPoint;

namespace VmFuzz.Cpu.Microcode;

/// <summary>
/// x87 comparisons, into condition codes or RFLAGS, FTST and FXAM. As processors do, and other than the SDM says, an unmasked
/// exception keeps the codes from nothing, only the stack from its pops.
/// </summary>
internal static unsafe class X87Compares
{
    private const ulong Conditions = X87Stack.C0 | X87Stack.C2 | X87Stack.C3;

    // By the relation. C0, C2 and C3 stand where CF, PF and ZF do in the byte that SAHF loads.
    private static readonly ImmutableArray<(FloatRelation Relation, ulong Codes, ulong Flags)> Results =
    [
        (FloatRelation.Less, X87Stack.C0, RFlags.Cf),
        (FloatRelation.Equal, X87Stack.C3, RFlags.Zf),
        (FloatRelation.Greater, 0, 0),
        (FloatRelation.Unordered, Conditions, RFlags.Cf | RFlags.Pf | RFlags.Zf),
    ];

    private static readonly ImmutableArray<(Mnemonic Mnemonic, bool Quiet, bool ToFlags, int Pops)> CompareRows =
    [
        (Mnemonic.Fcom, false, false, 0),
        (Mnemonic.Fcomp, false, false, 1),
        (Mnemonic.Fcompp, false, false, 2),
        (Mnemonic.Ficom, false, false, 0),
        (Mnemonic.Ficomp, false, false, 1),
        (Mnemonic.Fucom, true, false, 0),
        (Mnemonic.Fucomp, true, false, 1),
        (Mnemonic.Fucompp, true, false, 2),
        (Mnemonic.Fcomi, false, true, 0),
        (Mnemonic.Fcomip, false, true, 1),
        (Mnemonic.Fucomi, true, true, 0),
        (Mnemonic.Fucomip, true, true, 1),
    ];

    // SDM "FXAM", by the class: zero, finite, infinity, the NaNs, unsupported. An empty register and a denormal have their own.
    private static readonly ImmutableArray<ulong> Classes =
        [X87Stack.C3, X87Stack.C2, X87Stack.C2 | X87Stack.C0, X87Stack.C0, X87Stack.C0, 0];

    private const ulong EmptyCodes = X87Stack.C3 | X87Stack.C0;
    private const ulong DenormalCodes = X87Stack.C3 | X87Stack.C2;

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        .. CompareRows.Select(static row => new InstructionRow(
            row.Mnemonic, (Processor cpu, in Instruction ins) => Compare(cpu, ins, row.Quiet, row.ToFlags, row.Pops), Feature: row.ToFlags ? CpuFeatures.Fpu | CpuFeatures.Cmov : CpuFeatures.Fpu)),
        new(Mnemonic.Ftst, Test, Feature: CpuFeatures.Fpu),
        new(Mnemonic.Fxam, Examine, Feature: CpuFeatures.Fpu),
    ];

    private static ExecResult Compare(Processor cpu, in Instruction ins, bool quiet, bool toFlags, int pops)
    {
        FloatNumber other = default;
        bool memory = ins.OpCount > 0 && X87Ops.HasMemory(ins);
        if (!X87Ops.Start(cpu) || (memory && !X87Ops.Read(cpu, ins, out other)))
        {
            return ExecResult.Abort;
        }

        // FCOMPP and FUCOMPP have no operands and compare with the register behind the top.
        var stack = new X87Stack(cpu.State);
        int source = memory ? 0 : ins.OpCount == 0 ? 1 : X87Ops.RegisterOf(ins, 1);
        bool completes = Relate(stack, memory ? null : source, other, quiet, out FloatRelation relation);
        (_, ulong codes, ulong flags) = Results[(int)relation];
        if (toFlags)
        {
            cpu.FlagsSet(RFlags.Arithmetic, flags);
        }
        else
        {
            stack.SetConditions(Conditions, codes);
        }

        for (int i = 0; i < pops && completes; i++)
        {
            stack.Pop();
        }

        return X87Ops.Complete(cpu, ins);
    }

    private static bool Relate(X87Stack stack, int? source, in FloatNumber other, bool quiet, out FloatRelation relation)
    {
        relation = FloatRelation.Unordered;
        if (stack.IsEmpty(0) || stack.IsEmpty(source ?? 0))
        {
            return stack.Fault();
        }

        FloatContext context = stack.Context();
        relation = X87Arithmetic.Compare(stack[0].Decode(), source is { } register ? stack[register].Decode() : other, quiet, ref context);
        return stack.Settle(context);
    }

    private static ExecResult Test(Processor cpu, in Instruction ins)
    {
        if (!X87Ops.Start(cpu))
        {
            return ExecResult.Abort;
        }

        var stack = new X87Stack(cpu.State);
        Relate(stack, null, FloatNumber.Zero(false), quiet: false, out FloatRelation relation);
        stack.SetConditions(Conditions, Results[(int)relation].Codes);
        return X87Ops.Complete(cpu, ins);
    }

    private static ExecResult Examine(Processor cpu, in Instruction ins)
    {
        if (!X87Ops.Start(cpu))
        {
            return ExecResult.Abort;
        }

        var stack = new X87Stack(cpu.State);
        FloatNumber number = stack[0].Decode();
        ulong codes = stack.IsEmpty(0) ? EmptyCodes : number.IsDenormal ? DenormalCodes : Classes[(int)number.Class];
        stack.SetConditions(Conditions | X87Stack.C1, codes | ((stack[0].SignExponent & Extended.SignBit) != 0 ? X87Stack.C1 : 0));
        return X87Ops.Complete(cpu, ins);
    }
}
