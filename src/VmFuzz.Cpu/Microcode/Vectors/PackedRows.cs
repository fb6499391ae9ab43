using System.Collections.Immutable;
using System.Runtime.Intrinsics;
using Iced.Intel;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>The rows of <see cref="PackedOperation"/>s: one for each form of their mnemonics.</summary>
internal static class PackedRows
{
    public static readonly ImmutableArray<PackedOperation> Operations =
    [
        .. PackedArithmetic.Operations,
        .. PackedLogic.Operations,
        .. PackedShifts.Operations,
        .. PackedShuffles.Operations,
        .. PackedCryptography.Operations,
    ];

    public static readonly ImmutableArray<InstructionRow> All = Build();

    private static ImmutableArray<InstructionRow> Build()
    {
        Dictionary<Mnemonic, PackedOperation> byMnemonic = Operations.ToDictionary(static operation => operation.Mnemonic);
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
            PackedOperation.Control(ins));
        VectorOperands.Set(cpu, ins.Op0Register, ins.Op0Register.IsMM() ? operation.Mmx(sources) : operation.Xmm(sources));
        return VectorOperands.Complete(cpu, ins);
    }
}
