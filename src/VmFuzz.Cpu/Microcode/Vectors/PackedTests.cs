using System.Collections.Immutable;
using System.Numerics;
using System.Runtime.Intrinsics;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>Instructions on vector registers that set flags: tests of bits and comparisons of strings.</summary>
internal static class PackedTests
{
    private static readonly ImmutableArray<(Mnemonic Mnemonic, CpuFeatures Feature, bool Explicit, bool Index)> Strings =
    [
        (Mnemonic.Pcmpestrm, CpuFeatures.Sse42, true, false),
        (Mnemonic.Pcmpestrm64, CpuFeatures.Sse42, true, false),
        (Mnemonic.Pcmpestri, CpuFeatures.Sse42, true, true),
        (Mnemonic.Pcmpestri64, CpuFeatures.Sse42, true, true),
        (Mnemonic.Pcmpistrm, CpuFeatures.Sse42, false, false),
        (Mnemonic.Pcmpistri, CpuFeatures.Sse42, false, true),
        (Mnemonic.Vpcmpestrm, CpuFeatures.Avx, true, false),
        (Mnemonic.Vpcmpestrm64, CpuFeatures.Avx, true, false),
        (Mnemonic.Vpcmpestri, CpuFeatures.Avx, true, true),
        (Mnemonic.Vpcmpestri64, CpuFeatures.Avx, true, true),
        (Mnemonic.Vpcmpistrm, CpuFeatures.Avx, false, false),
        (Mnemonic.Vpcmpistri, CpuFeatures.Avx, false, true),
    ];

    // The bits that a test looks at: all, or the signs of elements.
    private static readonly ImmutableArray<(Code Form, ulong Bits)> Tests =
    [
        (Code.Ptest_xmm_xmmm128, ulong.MaxValue), (Code.VEX_Vptest_xmm_xmmm128, ulong.MaxValue), (Code.VEX_Vptest_ymm_ymmm256, ulong.MaxValue),
        (Code.VEX_Vtestps_xmm_xmmm128, 0x8000_0000_8000_0000), (Code.VEX_Vtestps_ymm_ymmm256, 0x8000_0000_8000_0000),
        (Code.VEX_Vtestpd_xmm_xmmm128, 0x8000_0000_0000_0000), (Code.VEX_Vtestpd_ymm_ymmm256, 0x8000_0000_0000_0000),
    ];

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        .. Tests.Select(static row => new InstructionRow(
            row.Form.Mnemonic(), (Processor cpu, in Instruction ins) => Test(cpu, ins, row.Bits), Feature: FormFeatures.Of(row.Form), Form: row.Form)),
        .. Strings.Select(static row => new InstructionRow(
            row.Mnemonic,
            (Processor cpu, in Instruction ins) => CompareStrings(cpu, ins, row.Explicit, row.Index),
            Feature: row.Feature)),
    ];

    private static ExecResult Test(Processor cpu, in Instruction ins, ulong bits)
    {
        if (!TryReadBoth(cpu, ins, aligned: true, out Vector256<byte> left, out Vector256<byte> right))
        {
            return ExecResult.Abort;
        }

        Vector256<byte> looked = right & Vector256.Create(bits).AsByte();
        cpu.FlagsSet(RFlags.Arithmetic, Ops.Bit((left & looked) == default, RFlags.Zf) | Ops.Bit((~left & looked) == default, RFlags.Cf));
        return ExecResult.Next;
    }

    private static bool IsVex(in Instruction ins) => ins.Encoding == EncodingKind.VEX;

    // Only instructions without a VEX prefix ask for alignment.
    private static bool TryReadBoth(Processor cpu, in Instruction ins, bool aligned, out Vector256<byte> left, out Vector256<byte> right)
    {
        left = right = default;
        if (!(IsVex(ins) ? VexOperands.Available(cpu) : VectorOperands.Available(cpu, ins))
            || !VexOperands.TryRead(cpu, ins, 1, aligned && !IsVex(ins), out right))
        {
            return false;
        }

        left = VexOperands.Get(cpu, ins.Op0Register);
        return true;
    }

    // SDM "Imm8 Control Byte Operation for PCMPESTRI / PCMPESTRM / PCMPISTRI / PCMPISTRM". Memory need not be aligned.
    private static ExecResult CompareStrings(Processor cpu, in Instruction ins, bool lengths, bool index)
    {
        if (!TryReadBoth(cpu, ins, aligned: false, out Vector256<byte> first, out Vector256<byte> second))
        {
            return ExecResult.Abort;
        }

        var control = new StringControl(ins.Immediate8);
        bool wide = ins.Mnemonic is Mnemonic.Pcmpestrm64 or Mnemonic.Pcmpestri64 or Mnemonic.Vpcmpestrm64 or Mnemonic.Vpcmpestri64;
        (Vector128<byte> left, Vector128<byte> right) = (first.GetLower(), second.GetLower());
        int leftLength = lengths ? control.Length(cpu[Gpr.Rax], wide) : control.Length(left);
        int rightLength = lengths ? control.Length(cpu[Gpr.Rdx], wide) : control.Length(right);
        uint result = control.Compare(left, leftLength, right, rightLength);
        if (index)
        {
            cpu.WriteGpr(Register.ECX, (uint)control.Index(result));
        }
        else if (IsVex(ins))
        {
            VexOperands.Set(cpu, Register.XMM0, control.Mask(result).ToVector256());
        }
        else
        {
            VectorOperands.Set(cpu, Register.XMM0, control.Mask(result));
        }

        cpu.FlagsSet(RFlags.Arithmetic, Ops.Bit(result != 0, RFlags.Cf) | Ops.Bit(rightLength < control.Count, RFlags.Zf)
            | Ops.Bit(leftLength < control.Count, RFlags.Sf) | Ops.Bit((result & 1) != 0, RFlags.Of));
        return ExecResult.Next;
    }

    /// <summary>The immediate of a string comparison.</summary>
    private readonly struct StringControl(byte immediate)
    {
        private bool Words => (immediate & 1) != 0;

        private bool Signed => (immediate & 2) != 0;

        private bool Last => (immediate & 0x40) != 0;

        /// <summary>Elements of a register.</summary>
        public int Count => Words ? 8 : 16;

        private uint Ones => (1U << Count) - 1;

        /// <summary>A length in a general register: its magnitude, at most that of a register.</summary>
        public int Length(ulong register, bool wide)
        {
            long length = wide ? (long)register : (int)register;
            ulong magnitude = length < 0 ? 0 - (ulong)length : (ulong)length;
            return (int)Math.Min(magnitude, (ulong)Count);
        }

        /// <summary>A length that the first zero gives.</summary>
        public int Length(Vector128<byte> elements)
        {
            uint zeros = Words
                ? Vector128.ExtractMostSignificantBits(Vector128.Equals(elements.AsUInt16(), default))
                : Vector128.ExtractMostSignificantBits(Vector128.Equals(elements, default));
            return Math.Min(BitOperations.TrailingZeroCount(zeros), Count);
        }

        /// <summary>A bit for each element of the second source.</summary>
        public uint Compare(Vector128<byte> left, int first, Vector128<byte> right, int second)
        {
            uint result = 0;
            for (int i = 0; i < Count; i++)
            {
                bool set = ((immediate >> 2) & 3) switch
                {
                    0 => i < second && IsAny(left, first, At(right, i)),
                    1 => i < second && IsInRange(left, first, At(right, i)),
                    2 => i < first && i < second ? At(left, i) == At(right, i) : i >= first && i >= second,
                    _ => Starts(left, first, right, second, i),
                };
                result |= set ? 1U << i : 0;
            }

            // Polarity: as it is, or negated, of all elements or of those of the second string.
            return ((immediate >> 4) & 3) switch
            {
                1 => result ^ Ones,
                3 => result ^ ((1U << second) - 1),
                _ => result,
            };
        }

        /// <summary>The number of the first or last set bit; that of elements when there is none.</summary>
        public int Index(uint result) => result == 0 ? Count : Last ? BitOperations.Log2(result) : BitOperations.TrailingZeroCount(result);

        /// <summary>The bits, or elements of ones.</summary>
        public Vector128<byte> Mask(uint result)
        {
            if (!Last)
            {
                return Vector128.CreateScalar(result).AsByte();
            }

            Vector128<byte> mask = default;
            for (int i = 0; i < Vector128<byte>.Count; i++)
            {
                mask = mask.WithElement(i, (byte)(((result >> (Words ? i / 2 : i)) & 1) != 0 ? 0xFF : 0));
            }

            return mask;
        }

        private bool IsAny(Vector128<byte> set, int length, int value)
        {
            bool found = false;
            for (int i = 0; i < length; i++)
            {
                found |= At(set, i) == value;
            }

            return found;
        }

        private bool IsInRange(Vector128<byte> bounds, int length, int value)
        {
            bool found = false;
            for (int i = 0; i + 1 < length; i += 2)
            {
                found |= At(bounds, i) <= value && value <= At(bounds, i + 1);
            }

            return found;
        }

        // Whether the first string stands in the second from a place on, as far as the register shows.
        private bool Starts(Vector128<byte> left, int first, Vector128<byte> right, int second, int from)
        {
            bool equal = true;
            for (int i = 0; i < first && from + i < Count; i++)
            {
                equal &= from + i < second && At(left, i) == At(right, from + i);
            }

            return equal;
        }

        private int At(Vector128<byte> elements, int index) => (Words, Signed) switch
        {
            (false, false) => elements[index],
            (false, true) => elements.AsSByte()[index],
            (true, false) => elements.AsUInt16()[index],
            _ => elements.AsInt16()[index],
        };
    }
}
