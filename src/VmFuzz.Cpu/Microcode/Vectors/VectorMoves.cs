using System.Collections.Immutable;
using System.Runtime.Intrinsics;
using Iced.Intel;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>Moves of XMM and MMX registers. The upper halves of YMM registers stay.</summary>
internal static class VectorMoves
{
    private static readonly ImmutableArray<Code> Aligned =
    [
        Code.Movaps_xmm_xmmm128, Code.Movaps_xmmm128_xmm, Code.Movapd_xmm_xmmm128, Code.Movapd_xmmm128_xmm,
        Code.Movdqa_xmm_xmmm128, Code.Movdqa_xmmm128_xmm, Code.Movntps_m128_xmm, Code.Movntpd_m128_xmm, Code.Movntdq_m128_xmm,
        Code.Movntdqa_xmm_m128,
    ];

    private static readonly ImmutableArray<Code> Unaligned =
    [
        Code.Movups_xmm_xmmm128, Code.Movups_xmmm128_xmm, Code.Movupd_xmm_xmmm128, Code.Movupd_xmmm128_xmm,
        Code.Movdqu_xmm_xmmm128, Code.Movdqu_xmmm128_xmm, Code.Lddqu_xmm_m128,
    ];

    // Bytes that a scalar move has, and whether a move between registers leaves the rest of an XMM register as it is.
    private static readonly ImmutableArray<(Code Form, int Bytes, bool Merges)> Scalars =
    [
        (Code.Movd_xmm_rm32, 4, false), (Code.Movq_xmm_rm64, 8, false), (Code.Movd_rm32_xmm, 4, false), (Code.Movq_rm64_xmm, 8, false),
        (Code.Movq_xmm_xmmm64, 8, false), (Code.Movq_xmmm64_xmm, 8, false),
        (Code.Movss_xmm_xmmm32, 4, true), (Code.Movss_xmmm32_xmm, 4, true), (Code.Movsd_xmm_xmmm64, 8, true), (Code.Movsd_xmmm64_xmm, 8, true),
        (Code.Movd_mm_rm32, 4, false), (Code.Movq_mm_rm64, 8, false), (Code.Movd_rm32_mm, 4, false), (Code.Movq_rm64_mm, 8, false),
        (Code.Movq_mm_mmm64, 8, false), (Code.Movq_mmm64_mm, 8, false), (Code.Movntq_m64_mm, 8, false),
        (Code.Movq2dq_xmm_mm, 8, false), (Code.Movdq2q_mm_xmm, 8, false),
    ];

    // Halves: quadword of the source and of the destination.
    private static readonly ImmutableArray<(Code Form, int From, int To)> Halves =
    [
        (Code.Movlps_xmm_m64, 0, 0), (Code.Movlpd_xmm_m64, 0, 0), (Code.Movhps_xmm_m64, 0, 1), (Code.Movhpd_xmm_m64, 0, 1),
        (Code.Movlps_m64_xmm, 0, 0), (Code.Movlpd_m64_xmm, 0, 0), (Code.Movhps_m64_xmm, 1, 0), (Code.Movhpd_m64_xmm, 1, 0),
        (Code.Movhlps_xmm_xmm, 1, 0), (Code.Movlhps_xmm_xmm, 0, 1),
    ];

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        .. Aligned.Select(static form => Row(form, static (Processor cpu, in Instruction ins) => Move(cpu, ins, aligned: true))),
        .. Unaligned.Select(static form => Row(form, static (Processor cpu, in Instruction ins) => Move(cpu, ins, aligned: false))),
        .. Scalars.Select(static row =>
        {
            Vector128<byte> mask = row.Bytes == 8 ? Vector128.CreateScalar(ulong.MaxValue).AsByte() : Vector128.CreateScalar(uint.MaxValue).AsByte();
            return Row(row.Form, (Processor cpu, in Instruction ins) => Scalar(cpu, ins, mask, row.Merges));
        }),
        .. Halves.Select(static row => Row(row.Form, (Processor cpu, in Instruction ins) => Half(cpu, ins, row.From, row.To))),
    ];

    private static InstructionRow Row(Code form, ExecHandler handler) => new(
        form.Mnemonic(), handler, Feature: FormFeatures.Of(form), Form: form);

    private static ExecResult Move(Processor cpu, in Instruction ins, bool aligned) =>
        VectorOperands.Available(cpu, ins) && VectorOperands.TryRead(cpu, ins, 1, aligned, out Vector128<byte> value) && VectorOperands.TryWrite(cpu, ins, aligned, value)
            ? VectorOperands.Complete(cpu, ins)
            : ExecResult.Abort;

    // A scalar is moved with the rest zero; between registers, MOVSS and MOVSD change their part only.
    private static ExecResult Scalar(Processor cpu, in Instruction ins, Vector128<byte> mask, bool merges)
    {
        if (!VectorOperands.Available(cpu, ins) || !VectorOperands.TryRead(cpu, ins, 1, aligned: false, out Vector128<byte> value))
        {
            return ExecResult.Abort;
        }

        value &= mask;
        if (merges && ins.Op0Kind == OpKind.Register && ins.Op1Kind == OpKind.Register)
        {
            value |= VectorOperands.Get(cpu, ins.Op0Register) & ~mask;
        }

        return VectorOperands.TryWrite(cpu, ins, aligned: false, value) ? VectorOperands.Complete(cpu, ins) : ExecResult.Abort;
    }

    private static ExecResult Half(Processor cpu, in Instruction ins, int from, int to)
    {
        if (!VectorOperands.Available(cpu, ins) || !VectorOperands.TryRead(cpu, ins, 1, aligned: false, out Vector128<byte> value))
        {
            return ExecResult.Abort;
        }

        ulong half = value.AsUInt64()[from];
        value = ins.Op0Kind == OpKind.Register
            ? VectorOperands.Get(cpu, ins.Op0Register).AsUInt64().WithElement(to, half).AsByte()
            : Vector128.CreateScalar(half).AsByte();
        return VectorOperands.TryWrite(cpu, ins, aligned: false, value) ? ExecResult.Next : ExecResult.Abort;
    }
}
