using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>Addition and subtraction.</summary>
internal static unsafe class Arithmetic
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Add, Add),
        new(Mnemonic.Adc, Adc),
        new(Mnemonic.Sub, Sub),
        new(Mnemonic.Sbb, Sbb),
        new(Mnemonic.Cmp, Cmp),
        new(Mnemonic.Neg, Neg),
        new(Mnemonic.Inc, Inc),
        new(Mnemonic.Dec, Dec),
        new(Mnemonic.Xadd, Xadd),
        new(Mnemonic.Adcx, Adcx, Feature: CpuFeatures.Adx),
        new(Mnemonic.Adox, Adox, Feature: CpuFeatures.Adx),
    ];

    public static ExecResult Add(Processor cpu, in Instruction ins) => AddWith(cpu, ins, 0);

    public static ExecResult Adc(Processor cpu, in Instruction ins) => AddWith(cpu, ins, Ops.Carry(cpu));

    public static ExecResult Sub(Processor cpu, in Instruction ins) => SubWith(cpu, ins, 0);

    public static ExecResult Sbb(Processor cpu, in Instruction ins) => SubWith(cpu, ins, Ops.Carry(cpu));

    private static ExecResult AddWith(Processor cpu, in Instruction ins, ulong carry)
    {
        if (!cpu.ReadForWrite(ins, 0, out ulong left) || !cpu.ReadOperand(ins, 1, out ulong right))
        {
            return ExecResult.Abort;
        }

        ulong result = left + right + carry;
        if (!cpu.WriteOperand(ins, 0, result))
        {
            return ExecResult.Abort;
        }

        cpu.FlagsAdd(Processor.OperandSize(ins, 0), result, left, right);
        return ExecResult.Next;
    }

    private static ExecResult SubWith(Processor cpu, in Instruction ins, ulong borrow)
    {
        if (!cpu.ReadForWrite(ins, 0, out ulong left) || !cpu.ReadOperand(ins, 1, out ulong right))
        {
            return ExecResult.Abort;
        }

        ulong result = left - right - borrow;
        if (!cpu.WriteOperand(ins, 0, result))
        {
            return ExecResult.Abort;
        }

        cpu.FlagsSub(Processor.OperandSize(ins, 0), result, left, right);
        return ExecResult.Next;
    }

    private static ExecResult Cmp(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadOperand(ins, 0, out ulong left) || !cpu.ReadOperand(ins, 1, out ulong right))
        {
            return ExecResult.Abort;
        }

        cpu.FlagsSub(Processor.OperandSize(ins, 0), left - right, left, right);
        return ExecResult.Next;
    }

    private static ExecResult Neg(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadForWrite(ins, 0, out ulong value) || !cpu.WriteOperand(ins, 0, 0 - value))
        {
            return ExecResult.Abort;
        }

        cpu.FlagsSub(Processor.OperandSize(ins, 0), 0 - value, 0, value);
        return ExecResult.Next;
    }

    private static ExecResult Inc(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadForWrite(ins, 0, out ulong value) || !cpu.WriteOperand(ins, 0, value + 1))
        {
            return ExecResult.Abort;
        }

        Ops.FlagsStep(cpu, LazyKind.Inc, Processor.OperandSize(ins, 0), value + 1, value);
        return ExecResult.Next;
    }

    private static ExecResult Dec(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadForWrite(ins, 0, out ulong value) || !cpu.WriteOperand(ins, 0, value - 1))
        {
            return ExecResult.Abort;
        }

        Ops.FlagsStep(cpu, LazyKind.Dec, Processor.OperandSize(ins, 0), value - 1, value);
        return ExecResult.Next;
    }

    private static ExecResult Xadd(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadForWrite(ins, 0, out ulong left))
        {
            return ExecResult.Abort;
        }

        // Memory first: its address may depend on the source register. Registers last: the sum wins when they are one.
        ulong right = cpu.ReadGpr(ins.Op1Register);
        ulong result = left + right;
        if (ins.Op0Kind == OpKind.Memory && !cpu.WriteOperand(ins, 0, result))
        {
            return ExecResult.Abort;
        }

        cpu.WriteGpr(ins.Op1Register, left);
        if (ins.Op0Kind == OpKind.Register)
        {
            cpu.WriteGpr(ins.Op0Register, result);
        }

        cpu.FlagsAdd(Processor.OperandSize(ins, 0), result, left, right);
        return ExecResult.Next;
    }

    private static ExecResult Adcx(Processor cpu, in Instruction ins) => AddThrough(cpu, ins, RFlags.Cf, LazyFlags.Carry(cpu.State));

    private static ExecResult Adox(Processor cpu, in Instruction ins) => AddThrough(cpu, ins, RFlags.Of, LazyFlags.Overflow(cpu.State));

    private static ExecResult AddThrough(Processor cpu, in Instruction ins, ulong flag, bool carry)
    {
        if (!cpu.ReadOperand(ins, 1, out ulong right))
        {
            return ExecResult.Abort;
        }

        int size = Processor.OperandSize(ins, 0);
        UInt128 sum = (UInt128)cpu.ReadGpr(ins.Op0Register) + right + (carry ? 1UL : 0);
        cpu.WriteGpr(ins.Op0Register, (ulong)sum);
        cpu.FlagsSet(flag, (sum >> (size * 8)) != UInt128.Zero ? flag : 0);
        return ExecResult.Next;
    }
}
