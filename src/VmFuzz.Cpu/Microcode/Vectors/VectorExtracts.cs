using System.Collections.Immutable;
using System.Runtime.Intrinsics;
using Iced.Intel;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>Instructions that give a general register, or memory, a part of a vector register.</summary>
internal static class VectorExtracts
{
    // The sign bits, or an element by the immediate; MMX registers have fewer places.
    private static readonly ImmutableArray<(ImmutableArray<Code> Forms, Func<Vector128<byte>, byte, ulong> Part)> Table =
    [
        ([Code.Pmovmskb_r32_mm, Code.Pmovmskb_r64_mm, Code.Pmovmskb_r32_xmm, Code.Pmovmskb_r64_xmm], static (source, _) => Vector128.ExtractMostSignificantBits(source)),
        ([Code.Movmskps_r32_xmm, Code.Movmskps_r64_xmm], static (source, _) => Vector128.ExtractMostSignificantBits(source.AsUInt32())),
        ([Code.Movmskpd_r32_xmm, Code.Movmskpd_r64_xmm], static (source, _) => Vector128.ExtractMostSignificantBits(source.AsUInt64())),
        ([Code.Pextrw_r32_mm_imm8, Code.Pextrw_r64_mm_imm8], static (source, place) => source.AsUInt16()[place & 3]),
        ([Code.Pextrw_r32_xmm_imm8, Code.Pextrw_r64_xmm_imm8, Code.Pextrw_r32m16_xmm_imm8, Code.Pextrw_r64m16_xmm_imm8], static (source, place) => source.AsUInt16()[place & 7]),
        ([Code.Pextrb_r32m8_xmm_imm8, Code.Pextrb_r64m8_xmm_imm8], static (source, place) => source[place & 15]),
        ([Code.Pextrd_rm32_xmm_imm8, Code.Extractps_rm32_xmm_imm8, Code.Extractps_r64m32_xmm_imm8], static (source, place) => source.AsUInt32()[place & 3]),
        ([Code.Pextrq_rm64_xmm_imm8], static (source, place) => source.AsUInt64()[place & 1]),
    ];

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        .. Table.SelectMany(static row => row.Forms, static (row, form) => new InstructionRow(
            form.Mnemonic(), (Processor cpu, in Instruction ins) => Extract(cpu, ins, row.Part), Feature: FormFeatures.Of(form), Form: form)),
    ];

    private static ExecResult Extract(Processor cpu, in Instruction ins, Func<Vector128<byte>, byte, ulong> part)
    {
        if (!VectorOperands.Available(cpu, ins))
        {
            return ExecResult.Abort;
        }

        byte immediate = ins.OpCount > 2 ? ins.Immediate8 : (byte)0;
        return cpu.WriteOperand(ins, 0, part(VectorOperands.Get(cpu, ins.Op1Register), immediate)) ? VectorOperands.Complete(cpu, ins) : ExecResult.Abort;
    }
}
