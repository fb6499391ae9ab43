using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>AND, OR, XOR, NOT, TEST. Undefined flag: AF is 0.</summary>
internal static class Logic
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.And, And, UndefinedFlags: RFlags.Af),
        new(Mnemonic.Or, Or, UndefinedFlags: RFlags.Af),
        new(Mnemonic.Xor, Xor, UndefinedFlags: RFlags.Af),
        new(Mnemonic.Test, Test, UndefinedFlags: RFlags.Af),
        new(Mnemonic.Not, Not),
    ];

    private static ExecResult And(Processor cpu, in Instruction ins) =>
        cpu.ReadForWrite(ins, 0, out ulong left) && cpu.ReadOperand(ins, 1, out ulong right)
            ? Finish(cpu, ins, left & right)
            : ExecResult.Abort;

    private static ExecResult Or(Processor cpu, in Instruction ins) =>
        cpu.ReadForWrite(ins, 0, out ulong left) && cpu.ReadOperand(ins, 1, out ulong right)
            ? Finish(cpu, ins, left | right)
            : ExecResult.Abort;

    private static ExecResult Xor(Processor cpu, in Instruction ins) =>
        cpu.ReadForWrite(ins, 0, out ulong left) && cpu.ReadOperand(ins, 1, out ulong right)
            ? Finish(cpu, ins, left ^ right)
            : ExecResult.Abort;

    private static ExecResult Test(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadOperand(ins, 0, out ulong left) || !cpu.ReadOperand(ins, 1, out ulong right))
        {
            return ExecResult.Abort;
        }

        cpu.FlagsLogic(Processor.OperandSize(ins, 0), left & right);
        return ExecResult.Next;
    }

    private static ExecResult Not(Processor cpu, in Instruction ins) =>
        cpu.ReadForWrite(ins, 0, out ulong value) && cpu.WriteOperand(ins, 0, ~value)
            ? ExecResult.Next
            : ExecResult.Abort;

    private static ExecResult Finish(Processor cpu, in Instruction ins, ulong result)
    {
        if (!cpu.WriteOperand(ins, 0, result))
        {
            return ExecResult.Abort;
        }

        cpu.FlagsLogic(Processor.OperandSize(ins, 0), result);
        return ExecResult.Next;
    }
}
