using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.FloatingPoint;

namespace VmFuzz.Cpu.Microcode;

/// <summary>What puts numbers on the x87 stack: loads of every format, and constants.</summary>
internal static unsafe class X87Loads
{
    // 128 bits of each, cut off, and the power of two of the first.
    private static readonly ImmutableArray<(Mnemonic Mnemonic, int Exponent, UInt128 Significand)> Constants =
    [
        (Mnemonic.Fld1, 0, new(1UL << 63, 0)),
        (Mnemonic.Fldl2t, 1, new(0xD49A_784B_CD1B_8AFE, 0x492B_F6FF_4DAF_DB4C)),
        (Mnemonic.Fldl2e, 0, new(0xB8AA_3B29_5C17_F0BB, 0xBE87_FED0_691D_3E88)),
        (Mnemonic.Fldpi, 1, new(0xC90F_DAA2_2168_C234, 0xC4C6_628B_80DC_1CD1)),
        (Mnemonic.Fldlg2, -2, new(0x9A20_9A84_FBCF_F798, 0x8F89_59AC_0B7C_9178)),
        (Mnemonic.Fldln2, -1, new(0xB172_17F7_D1CF_79AB, 0xC9E3_B398_03F2_F6AF)),
    ];

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        .. Constants.Select(static row => new InstructionRow(
            row.Mnemonic, (Processor cpu, in Instruction ins) => Constant(cpu, ins, row.Exponent, row.Significand), Feature: CpuFeatures.Fpu)),
        new(Mnemonic.Fldz, static (Processor cpu, in Instruction ins) => X87Ops.Start(cpu) ? Push(cpu, ins, default) : ExecResult.Abort, Feature: CpuFeatures.Fpu),
        new(Mnemonic.Fld, LoadNumber, Feature: CpuFeatures.Fpu),
        new(Mnemonic.Fld, LoadRegister, Feature: CpuFeatures.Fpu, Form: Code.Fld_sti),
        new(Mnemonic.Fld, LoadExtended, Feature: CpuFeatures.Fpu, Form: Code.Fld_m80fp),
        new(Mnemonic.Fild, LoadNumber, Feature: CpuFeatures.Fpu),
        new(Mnemonic.Fbld, LoadDecimal, Feature: CpuFeatures.Fpu),
    ];

    // Rounded as the control word says, without an exception.
    private static ExecResult Constant(Processor cpu, in Instruction ins, int exponent, UInt128 significand)
    {
        if (!X87Ops.Start(cpu))
        {
            return ExecResult.Abort;
        }

        FloatContext context = new X87Stack(cpu.State).Context();
        return Push(cpu, ins, Extended.Encode(SoftFloat.Round(false, exponent, significand, FloatFormat.DoubleExtended, ref context)));
    }

    private static ExecResult LoadRegister(Processor cpu, in Instruction ins)
    {
        if (!X87Ops.Start(cpu))
        {
            return ExecResult.Abort;
        }

        var stack = new X87Stack(cpu.State);
        int source = X87Ops.RegisterOf(ins, 0);
        return Push(cpu, ins, stack[source], stack.IsEmpty(source));
    }

    private static ExecResult LoadExtended(Processor cpu, in Instruction ins) =>
        X87Ops.Start(cpu) && X87Ops.ReadExtended(cpu, ins, out Extended value) ? Push(cpu, ins, value) : ExecResult.Abort;

    private static ExecResult LoadNumber(Processor cpu, in Instruction ins)
    {
        if (!X87Ops.Start(cpu) || !X87Ops.Read(cpu, ins, out FloatNumber number))
        {
            return ExecResult.Abort;
        }

        var stack = new X87Stack(cpu.State);
        if (!stack.IsEmpty(-1))
        {
            return Push(cpu, ins, default);
        }

        FloatContext context = stack.Context();
        FloatNumber value = X87Arithmetic.Convert(number, FloatFormat.DoubleExtended, ref context);
        stack.Settle(context);

        // A denormal is loaded even when it is an unmasked exception.
        if (!context.IsStopped(FloatExceptions.Invalid))
        {
            stack.Push(Extended.Encode(value));
        }

        return X87Ops.Complete(cpu, ins);
    }

    private static ExecResult LoadDecimal(Processor cpu, in Instruction ins) =>
        X87Ops.Start(cpu) && X87Ops.ReadExtended(cpu, ins, out Extended image)
            ? Push(cpu, ins, Extended.Encode(PackedDecimal.Decode(image)))
            : ExecResult.Abort;

    private static ExecResult Push(Processor cpu, in Instruction ins, Extended value, bool empty = false)
    {
        var stack = new X87Stack(cpu.State);
        bool full = !stack.IsEmpty(-1);
        if (full || empty ? stack.Fault(overflow: !empty) : stack.Settle(default))
        {
            stack.Push(full || empty ? Extended.Encode(FloatNumber.Indefinite) : value);
        }

        return X87Ops.Complete(cpu, ins);
    }
}
