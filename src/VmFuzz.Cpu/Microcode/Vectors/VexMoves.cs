using System.Collections.Immutable;
using System.Runtime.Intrinsics;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>Moves of AVX: whole registers, scalars, lanes, permutations across lanes, and what clears registers.</summary>
internal static unsafe class VexMoves
{
    private static readonly ImmutableArray<Mnemonic> Aligned =
        [Mnemonic.Vmovaps, Mnemonic.Vmovapd, Mnemonic.Vmovdqa, Mnemonic.Vmovntps, Mnemonic.Vmovntpd, Mnemonic.Vmovntdq, Mnemonic.Vmovntdqa];

    private static readonly ImmutableArray<Mnemonic> Unaligned = [Mnemonic.Vmovups, Mnemonic.Vmovupd, Mnemonic.Vmovdqu, Mnemonic.Vlddqu];

    // The size of the scalar is that of memory; between registers it is eight bytes.
    private static readonly ImmutableArray<Code> Scalars =
    [
        Code.VEX_Vmovd_xmm_rm32, Code.VEX_Vmovq_xmm_rm64, Code.VEX_Vmovd_rm32_xmm, Code.VEX_Vmovq_rm64_xmm, Code.VEX_Vmovq_xmm_xmmm64, Code.VEX_Vmovq_xmmm64_xmm,
        Code.VEX_Vmovss_xmm_m32, Code.VEX_Vmovss_m32_xmm, Code.VEX_Vmovsd_xmm_m64, Code.VEX_Vmovsd_m64_xmm, Code.VEX_Vmovlps_m64_xmm, Code.VEX_Vmovlpd_m64_xmm,
    ];

    private static readonly ImmutableArray<(ImmutableArray<Code> Forms, Func<Vector256<byte>, Vector256<byte>, byte, Vector256<byte>> Function)> Permutations =
    [
        ([Code.VEX_Vinsertf128_ymm_ymm_xmmm128_imm8, Code.VEX_Vinserti128_ymm_ymm_xmmm128_imm8],
            static (left, right, control) => (control & 1) == 0 ? left.WithLower(right.GetLower()) : left.WithUpper(right.GetLower())),
        ([Code.VEX_Vextractf128_xmmm128_ymm_imm8, Code.VEX_Vextracti128_xmmm128_ymm_imm8],
            static (_, right, control) => Vector256.Create((control & 1) == 0 ? right.GetLower() : right.GetUpper(), default)),
        ([Code.VEX_Vperm2f128_ymm_ymm_ymmm256_imm8, Code.VEX_Vperm2i128_ymm_ymm_ymmm256_imm8],
            static (left, right, control) => Vector256.Create(Lane(left, right, control), Lane(left, right, control >> 4))),
        ([Code.VEX_Vpermd_ymm_ymm_ymmm256, Code.VEX_Vpermps_ymm_ymm_ymmm256],
            static (left, right, _) => Vector256.Shuffle(right.AsUInt32(), left.AsUInt32() & Vector256.Create(7U)).AsByte()),
        ([Code.VEX_Vpermq_ymm_ymmm256_imm8, Code.VEX_Vpermpd_ymm_ymmm256_imm8],
            static (_, right, control) => Vector256.Shuffle(right.AsUInt64(), Vector256.Create((ulong)control, (ulong)control >> 2, (ulong)control >> 4, (ulong)control >> 6) & Vector256.Create(3UL)).AsByte()),
    ];

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        .. Enum.GetValues<Code>().Where(static form => form.Encoding() == EncodingKind.VEX && Aligned.Contains(form.Mnemonic()))
            .Select(static form => Row(form, static (Processor cpu, in Instruction ins) => Move(cpu, ins, aligned: true))),
        .. Enum.GetValues<Code>().Where(static form => form.Encoding() == EncodingKind.VEX && Unaligned.Contains(form.Mnemonic()))
            .Select(static form => Row(form, static (Processor cpu, in Instruction ins) => Move(cpu, ins, aligned: false))),
        .. Scalars.Select(static form => Row(form, Scalar)),
        Row(Code.VEX_Vmovhps_m64_xmm, StoreHigh),
        Row(Code.VEX_Vmovhpd_m64_xmm, StoreHigh),
        .. Permutations.SelectMany(static row => row.Forms, static (row, form) => Row(form, (Processor cpu, in Instruction ins) => Permute(cpu, ins, row.Function))),
        Row(Code.VEX_Vzeroupper, static (Processor cpu, in Instruction ins) => Clear(cpu, Vector256.Create(ulong.MaxValue, ulong.MaxValue, 0, 0))),
        Row(Code.VEX_Vzeroall, static (Processor cpu, in Instruction ins) => Clear(cpu, Vector256<ulong>.Zero)),
    ];

    private static InstructionRow Row(Code form, ExecHandler handler) => new(form.Mnemonic(), handler, Feature: FormFeatures.Of(form), Form: form);

    private static ExecResult Move(Processor cpu, in Instruction ins, bool aligned) =>
        VexOperands.Available(cpu) && VexOperands.TryRead(cpu, ins, 1, aligned, out Vector256<byte> value) && VexOperands.TryWrite(cpu, ins, aligned, value)
            ? ExecResult.Next
            : ExecResult.Abort;

    private static ExecResult Scalar(Processor cpu, in Instruction ins) =>
        VexOperands.Available(cpu) && VexOperands.TryRead(cpu, ins, 1, aligned: false, out Vector256<byte> value)
            && VexOperands.TryWrite(cpu, ins, aligned: false, Vector256.CreateScalar(value.AsUInt64()[0]).AsByte())
            ? ExecResult.Next
            : ExecResult.Abort;

    private static ExecResult StoreHigh(Processor cpu, in Instruction ins) =>
        VexOperands.Available(cpu) && VexOperands.TryWrite(cpu, ins, aligned: false, Vector256.CreateScalar(VexOperands.Get(cpu, ins.Op1Register).AsUInt64()[1]).AsByte())
            ? ExecResult.Next
            : ExecResult.Abort;

    private static ExecResult Permute(Processor cpu, in Instruction ins, Func<Vector256<byte>, Vector256<byte>, byte, Vector256<byte>> function)
    {
        int second = ins.GetOpKind(ins.OpCount - 1) == OpKind.Immediate8 ? ins.OpCount - 2 : ins.OpCount - 1;
        if (!VexOperands.Available(cpu) || !VexOperands.TryRead(cpu, ins, second, aligned: false, out Vector256<byte> right))
        {
            return ExecResult.Abort;
        }

        Vector256<byte> left = second > 1 ? VexOperands.Get(cpu, ins.Op1Register) : default;
        return VexOperands.TryWrite(cpu, ins, aligned: false, function(left, right, PackedOperation.Control(ins))) ? ExecResult.Next : ExecResult.Abort;
    }

    // SDM "VPERM2F128": one of four lanes, or zeros.
    private static Vector128<byte> Lane(Vector256<byte> left, Vector256<byte> right, int control)
    {
        Vector256<byte> source = (control & 2) == 0 ? left : right;
        return (control & 8) != 0 ? default : (control & 1) == 0 ? source.GetLower() : source.GetUpper();
    }

    // Registers that the mode has keep the bits of a mask.
    private static ExecResult Clear(Processor cpu, Vector256<ulong> kept)
    {
        if (!VexOperands.Available(cpu))
        {
            return ExecResult.Abort;
        }

        for (int i = 0; i < (cpu.Code64 ? 16 : 8); i++)
        {
            Register register = Register.YMM0 + i;
            VexOperands.Set(cpu, register, VexOperands.Get(cpu, register) & kept.AsByte());
        }

        return ExecResult.Next;
    }
}
