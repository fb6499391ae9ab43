using System.Collections.Immutable;
using System.Runtime.Intrinsics;
using Iced.Intel;
using static VmFuzz.Cpu.Microcode.Vectors.PackedOperation;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>
/// Instructions of AVX and AVX2 that do in each lane of 16 bytes what a <see cref="PackedOperation"/> does: those of SSE with a
/// V before their names, and some that only AVX has.
/// </summary>
internal static class VexPacked
{
    private static readonly ImmutableArray<(ImmutableArray<Code> Forms, PackedOperation Operation)> Others =
    [
        ([Code.VEX_Vmovss_xmm_xmm_xmm, Code.VEX_Vmovss_xmm_xmm_xmm_0F11], Of<uint>(Mnemonic.Vmovss, static (left, right) => left.WithElement(0, right[0]))),
        ([Code.VEX_Vmovsd_xmm_xmm_xmm, Code.VEX_Vmovsd_xmm_xmm_xmm_0F11, Code.VEX_Vmovlps_xmm_xmm_m64, Code.VEX_Vmovlpd_xmm_xmm_m64],
            Of<ulong>(Mnemonic.Vmovlps, static (left, right) => left.WithElement(0, right[0]))),
        ([Code.VEX_Vmovhps_xmm_xmm_m64, Code.VEX_Vmovhpd_xmm_xmm_m64, Code.VEX_Vmovlhps_xmm_xmm_xmm],
            Of<ulong>(Mnemonic.Vmovhps, static (left, right) => left.WithElement(1, right[0]))),
        ([Code.VEX_Vmovhlps_xmm_xmm_xmm], Of<ulong>(Mnemonic.Vmovhlps, static (left, right) => left.WithElement(0, right[1]))),

        ([Code.VEX_Vbroadcastss_xmm_m32, Code.VEX_Vbroadcastss_ymm_m32, Code.VEX_Vbroadcastss_xmm_xmm, Code.VEX_Vbroadcastss_ymm_xmm,
            Code.VEX_Vpbroadcastd_xmm_xmmm32, Code.VEX_Vpbroadcastd_ymm_xmmm32], Broadcast(static source => Vector128.Create(source.AsUInt32()[0]).AsByte())),
        ([Code.VEX_Vbroadcastsd_ymm_m64, Code.VEX_Vbroadcastsd_ymm_xmm, Code.VEX_Vpbroadcastq_xmm_xmmm64, Code.VEX_Vpbroadcastq_ymm_xmmm64],
            Broadcast(static source => Vector128.Create(source.AsUInt64()[0]).AsByte())),
        ([Code.VEX_Vpbroadcastb_xmm_xmmm8, Code.VEX_Vpbroadcastb_ymm_xmmm8], Broadcast(static source => Vector128.Create(source[0]))),
        ([Code.VEX_Vpbroadcastw_xmm_xmmm16, Code.VEX_Vpbroadcastw_ymm_xmmm16], Broadcast(static source => Vector128.Create(source.AsUInt16()[0]).AsByte())),
        ([Code.VEX_Vbroadcastf128_ymm_m128, Code.VEX_Vbroadcasti128_ymm_m128], Broadcast(static source => source)),

        ([Code.VEX_Vpermilps_xmm_xmm_xmmm128, Code.VEX_Vpermilps_ymm_ymm_ymmm256],
            Of<uint>(Mnemonic.Vpermilps, static (left, right) => Vector128.Shuffle(left, right & Vector128.Create(3U)))),
        ([Code.VEX_Vpermilpd_xmm_xmm_xmmm128, Code.VEX_Vpermilpd_ymm_ymm_ymmm256],
            Of<ulong>(Mnemonic.Vpermilpd, static (left, right) => Vector128.Shuffle(left, (right >>> 1) & Vector128.Create(1UL)))),
        ([Code.VEX_Vpermilps_xmm_xmmm128_imm8, Code.VEX_Vpermilps_ymm_ymmm256_imm8], Named(Mnemonic.Pshufd)),
        ([Code.VEX_Vpermilpd_xmm_xmmm128_imm8, Code.VEX_Vpermilpd_ymm_ymmm256_imm8],
            OfImmediate<ulong>(Mnemonic.Vpermilpd, static (_, right, order) => Vector128.Create(right[order & 1], right[(order >> 1) & 1])) with { LaneBits = 2 }),
        ([Code.VEX_Vpblendd_xmm_xmm_xmmm128_imm8, Code.VEX_Vpblendd_ymm_ymm_ymmm256_imm8], Named(Mnemonic.Blendps)),

        ([Code.VEX_Vpsllvd_xmm_xmm_xmmm128, Code.VEX_Vpsllvd_ymm_ymm_ymmm256], Shift<uint>(static (value, count) => count < 32 ? value << (int)count : 0)),
        ([Code.VEX_Vpsrlvd_xmm_xmm_xmmm128, Code.VEX_Vpsrlvd_ymm_ymm_ymmm256], Shift<uint>(static (value, count) => count < 32 ? value >> (int)count : 0)),
        ([Code.VEX_Vpsravd_xmm_xmm_xmmm128, Code.VEX_Vpsravd_ymm_ymm_ymmm256], Shift<uint>(static (value, count) => (uint)((int)value >> (int)Math.Min(count, 31)))),
        ([Code.VEX_Vpsllvq_xmm_xmm_xmmm128, Code.VEX_Vpsllvq_ymm_ymm_ymmm256], Shift<ulong>(static (value, count) => count < 64 ? value << (int)count : 0)),
        ([Code.VEX_Vpsrlvq_xmm_xmm_xmmm128, Code.VEX_Vpsrlvq_ymm_ymm_ymmm256], Shift<ulong>(static (value, count) => count < 64 ? value >> (int)count : 0)),
    ];

    public static readonly ImmutableArray<InstructionRow> Rows = [.. OfSse(), .. Others.SelectMany(static row => row.Forms, static (row, form) => Row(form, row.Operation))];

    private static IEnumerable<InstructionRow> OfSse()
    {
        Dictionary<Mnemonic, PackedOperation> byMnemonic = [];
        foreach (PackedOperation operation in PackedRows.Operations)
        {
            string name = operation.Mnemonic.ToString();
            if (Enum.TryParse("V" + char.ToLowerInvariant(name[0]) + name[1..], out Mnemonic mnemonic))
            {
                byMnemonic.Add(mnemonic, operation);
            }
        }

        foreach (Code form in Enum.GetValues<Code>())
        {
            if (byMnemonic.TryGetValue(form.Mnemonic(), out PackedOperation? operation) && form.Encoding() == EncodingKind.VEX && FormFeatures.AreHere(form))
            {
                yield return Row(form, operation);
            }
        }
    }

    private static InstructionRow Row(Code form, PackedOperation operation) => new(
        form.Mnemonic(), (Processor cpu, in Instruction ins) => Execute(cpu, ins, operation), Feature: FormFeatures.Of(form), Form: form);

    private static PackedOperation Named(Mnemonic mnemonic) => PackedRows.Operations.First(operation => operation.Mnemonic == mnemonic);

    private static PackedOperation Broadcast(Func<Vector128<byte>, Vector128<byte>> function) => OfSource(Mnemonic.Vbroadcastss, function) with { LaneStride = 0 };

    private static PackedOperation Shift<T>(Func<T, T, T> shift) => Of<T>(Mnemonic.Vpsllvd, (value, count) =>
    {
        Vector128<T> result = default;
        for (int i = 0; i < Vector128<T>.Count; i++)
        {
            result = result.WithElement(i, shift(value[i], count[i]));
        }

        return result;
    });

    private static ExecResult Execute(Processor cpu, in Instruction ins, PackedOperation operation)
    {
        // Destination, sources and, at the end, an immediate that is not a count.
        int sources = ins.GetOpKind(ins.OpCount - 1) == OpKind.Immediate8 && operation.LaneStride != 0 ? ins.OpCount - 2 : ins.OpCount - 1;
        int second = Math.Min(sources, 2);
        if (!VexOperands.Available(cpu) || !VexOperands.TryRead(cpu, ins, second, aligned: false, out Vector256<byte> right))
        {
            return ExecResult.Abort;
        }

        Vector256<byte> left = second > 1 ? VexOperands.Get(cpu, ins.Op1Register) : default;
        Vector256<byte> third = sources > 2 ? VexOperands.Get(cpu, ins.Op3Register) : default;
        byte control = Control(ins);
        Vector128<byte> low = operation.Xmm(new PackedSources(left.GetLower(), right.GetLower(), third.GetLower(), control));
        Vector128<byte> high = operation.Xmm(new PackedSources(left.GetUpper(), High(right, operation.LaneStride), third.GetUpper(), (byte)(control >> operation.LaneBits)));
        VexOperands.Set(cpu, ins.Op0Register, Vector256.Create(low, high));
        return ExecResult.Next;
    }

    private static Vector128<byte> High(Vector256<byte> source, int stride) => stride == 16 ? source.GetUpper() : Elements.MoveDown(source.GetLower(), stride);
}
