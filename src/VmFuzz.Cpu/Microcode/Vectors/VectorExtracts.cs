using System.Collections.Immutable;
using System.Runtime.Intrinsics;
using Iced.Intel;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>Instructions that give a general register, or memory, a part of a vector register.</summary>
internal static class VectorExtracts
{
    // Sign bits, as many as a lane has elements, or an element by the immediate; MMX registers have fewer places.
    private static readonly ImmutableArray<(ImmutableArray<Code> Forms, int LaneBits, Func<Vector128<byte>, byte, ulong> Part)> Table =
    [
        ([Code.Pmovmskb_r32_mm, Code.Pmovmskb_r64_mm, Code.Pmovmskb_r32_xmm, Code.Pmovmskb_r64_xmm,
            Code.VEX_Vpmovmskb_r32_xmm, Code.VEX_Vpmovmskb_r64_xmm, Code.VEX_Vpmovmskb_r32_ymm, Code.VEX_Vpmovmskb_r64_ymm],
            16, static (source, _) => Vector128.ExtractMostSignificantBits(source)),
        ([Code.Movmskps_r32_xmm, Code.Movmskps_r64_xmm,
            Code.VEX_Vmovmskps_r32_xmm, Code.VEX_Vmovmskps_r64_xmm, Code.VEX_Vmovmskps_r32_ymm, Code.VEX_Vmovmskps_r64_ymm],
            4, static (source, _) => Vector128.ExtractMostSignificantBits(source.AsUInt32())),
        ([Code.Movmskpd_r32_xmm, Code.Movmskpd_r64_xmm,
            Code.VEX_Vmovmskpd_r32_xmm, Code.VEX_Vmovmskpd_r64_xmm, Code.VEX_Vmovmskpd_r32_ymm, Code.VEX_Vmovmskpd_r64_ymm],
            2, static (source, _) => Vector128.ExtractMostSignificantBits(source.AsUInt64())),
        ([Code.Pextrw_r32_mm_imm8, Code.Pextrw_r64_mm_imm8], 0, static (source, place) => source.AsUInt16()[place & 3]),
        ([Code.Pextrw_r32_xmm_imm8, Code.Pextrw_r64_xmm_imm8, Code.Pextrw_r32m16_xmm_imm8, Code.Pextrw_r64m16_xmm_imm8,
            Code.VEX_Vpextrw_r32_xmm_imm8, Code.VEX_Vpextrw_r64_xmm_imm8, Code.VEX_Vpextrw_r32m16_xmm_imm8, Code.VEX_Vpextrw_r64m16_xmm_imm8],
            0, static (source, place) => source.AsUInt16()[place & 7]),
        ([Code.Pextrb_r32m8_xmm_imm8, Code.Pextrb_r64m8_xmm_imm8, Code.VEX_Vpextrb_r32m8_xmm_imm8, Code.VEX_Vpextrb_r64m8_xmm_imm8],
            0, static (source, place) => source[place & 15]),
        ([Code.Pextrd_rm32_xmm_imm8, Code.Extractps_rm32_xmm_imm8, Code.Extractps_r64m32_xmm_imm8,
            Code.VEX_Vpextrd_rm32_xmm_imm8, Code.VEX_Vextractps_rm32_xmm_imm8, Code.VEX_Vextractps_r64m32_xmm_imm8],
            0, static (source, place) => source.AsUInt32()[place & 3]),
        ([Code.Pextrq_rm64_xmm_imm8, Code.VEX_Vpextrq_rm64_xmm_imm8], 0, static (source, place) => source.AsUInt64()[place & 1]),
    ];

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        .. Table.SelectMany(static row => row.Forms, static (row, form) => new InstructionRow(
            form.Mnemonic(),
            form.Encoding() == EncodingKind.VEX
                ? (Processor cpu, in Instruction ins) => ExtractVex(cpu, ins, row.LaneBits, row.Part)
                : (Processor cpu, in Instruction ins) => Extract(cpu, ins, row.Part),
            Feature: FormFeatures.Of(form),
            Form: form)),
    ];

    private static ExecResult Extract(Processor cpu, in Instruction ins, Func<Vector128<byte>, byte, ulong> part) =>
        VectorOperands.Available(cpu, ins) && cpu.WriteOperand(ins, 0, part(VectorOperands.Get(cpu, ins.Op1Register), PackedOperation.Control(ins)))
            ? VectorOperands.Complete(cpu, ins)
            : ExecResult.Abort;

    private static ExecResult ExtractVex(Processor cpu, in Instruction ins, int laneBits, Func<Vector128<byte>, byte, ulong> part)
    {
        if (!VexOperands.Available(cpu))
        {
            return ExecResult.Abort;
        }

        Vector256<byte> source = VexOperands.Get(cpu, ins.Op1Register);
        byte control = PackedOperation.Control(ins);
        ulong high = laneBits == 0 ? 0 : part(source.GetUpper(), control) << laneBits;
        return cpu.WriteOperand(ins, 0, part(source.GetLower(), control) | high) ? ExecResult.Next : ExecResult.Abort;
    }
}
