using System.Collections.Immutable;
using System.Runtime.Intrinsics;
using Iced.Intel;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>The rows of <see cref="PackedOperation"/>s: one for each form of their mnemonics.</summary>
internal static class PackedRows
{
    public static readonly ImmutableArray<InstructionRow> All = Build(
    [
        .. PackedArithmetic.Operations,
        .. PackedLogic.Operations,
        .. PackedShifts.Operations,
        .. PackedShuffles.Operations,
        .. PackedCryptography.Operations,
    ]);

    private static ImmutableArray<InstructionRow> Build(ImmutableArray<PackedOperation> operations)
    {
        Dictionary<Mnemonic, PackedOperation> byMnemonic = operations.ToDictionary(static operation => operation.Mnemonic);
        var rows = ImmutableArray.CreateBuilder<InstructionRow>();
        foreach (Code form in Enum.GetValues<Code>())
        {
            if (byMnemonic.TryGetValue(form.Mnemonic(), out PackedOperation? operation) && form.Encoding() == EncodingKind.Legacy)
            {
                rows.Add(new(operation.Mnemonic, (Processor cpu, in Instruction ins) => Execute(cpu, ins, operation), Feature: FormFeatures.Of(form), Form: form));
            }
        }

        return rows.ToImmutable();
    }

    private static ExecResult Execute(Processor cpu, in Instruction ins, PackedOperation operation)
    {
        if (!VectorOperands.Available(cpu, ins) || !VectorOperands.TryRead(cpu, ins, 1, aligned: true, out Vector128<byte> right))
        {
            return ExecResult.Abort;
        }

        var sources = new PackedSources(
            VectorOperands.Get(cpu, ins.Op0Register),
            right,
            VectorOperands.Get(cpu, Register.XMM0),
            Immediate(ins));
        VectorOperands.Set(cpu, ins.Op0Register, ins.Op0Register.IsMM() ? operation.Mmx(sources) : operation.Xmm(sources));
        return VectorOperands.Complete(cpu, ins);
    }

    // SDM "INSERTPS": memory is one element, wherever the immediate takes one from.
    private static byte Immediate(in Instruction ins)
    {
        if (ins.OpCount < 3 || ins.Op2Kind != OpKind.Immediate8)
        {
            return 0;
        }

        return ins.Mnemonic == Mnemonic.Insertps && ins.Op1Kind == OpKind.Memory ? (byte)(ins.Immediate8 & 0x3F) : ins.Immediate8;
    }
}
