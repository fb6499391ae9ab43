using System.Collections.Immutable;
using System.Runtime.Intrinsics;
using Iced.Intel;
using static VmFuzz.Cpu.Microcode.Vectors.Elements;
using static VmFuzz.Cpu.Microcode.Vectors.PackedOperation;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>Sums, differences, products, comparisons and the like of packed integers.</summary>
internal static class PackedArithmetic
{
    public static readonly ImmutableArray<PackedOperation> Operations =
    [
        Of<byte>(Mnemonic.Paddb, static (left, right) => left + right),
        Of<ushort>(Mnemonic.Paddw, static (left, right) => left + right),
        Of<uint>(Mnemonic.Paddd, static (left, right) => left + right),
        Of<ulong>(Mnemonic.Paddq, static (left, right) => left + right),
        Of<sbyte>(Mnemonic.Paddsb, Vector128.AddSaturate),
        Of<short>(Mnemonic.Paddsw, Vector128.AddSaturate),
        Of<byte>(Mnemonic.Paddusb, Vector128.AddSaturate),
        Of<ushort>(Mnemonic.Paddusw, Vector128.AddSaturate),
        Of<byte>(Mnemonic.Psubb, static (left, right) => left - right),
        Of<ushort>(Mnemonic.Psubw, static (left, right) => left - right),
        Of<uint>(Mnemonic.Psubd, static (left, right) => left - right),
        Of<ulong>(Mnemonic.Psubq, static (left, right) => left - right),
        Of<sbyte>(Mnemonic.Psubsb, Vector128.SubtractSaturate),
        Of<short>(Mnemonic.Psubsw, Vector128.SubtractSaturate),
        Of<byte>(Mnemonic.Psubusb, Vector128.SubtractSaturate),
        Of<ushort>(Mnemonic.Psubusw, Vector128.SubtractSaturate),

        Of<byte>(Mnemonic.Pcmpeqb, Vector128.Equals),
        Of<ushort>(Mnemonic.Pcmpeqw, Vector128.Equals),
        Of<uint>(Mnemonic.Pcmpeqd, Vector128.Equals),
        Of<ulong>(Mnemonic.Pcmpeqq, Vector128.Equals),
        Of<sbyte>(Mnemonic.Pcmpgtb, Vector128.GreaterThan),
        Of<short>(Mnemonic.Pcmpgtw, Vector128.GreaterThan),
        Of<int>(Mnemonic.Pcmpgtd, Vector128.GreaterThan),
        Of<long>(Mnemonic.Pcmpgtq, Vector128.GreaterThan),

        Of<byte>(Mnemonic.Pminub, Vector128.Min),
        Of<ushort>(Mnemonic.Pminuw, Vector128.Min),
        Of<uint>(Mnemonic.Pminud, Vector128.Min),
        Of<sbyte>(Mnemonic.Pminsb, Vector128.Min),
        Of<short>(Mnemonic.Pminsw, Vector128.Min),
        Of<int>(Mnemonic.Pminsd, Vector128.Min),
        Of<byte>(Mnemonic.Pmaxub, Vector128.Max),
        Of<ushort>(Mnemonic.Pmaxuw, Vector128.Max),
        Of<uint>(Mnemonic.Pmaxud, Vector128.Max),
        Of<sbyte>(Mnemonic.Pmaxsb, Vector128.Max),
        Of<short>(Mnemonic.Pmaxsw, Vector128.Max),
        Of<int>(Mnemonic.Pmaxsd, Vector128.Max),

        // Half the sum, rounded up, without the sum's carry.
        Of<byte>(Mnemonic.Pavgb, static (left, right) => (left | right) - ((left ^ right) >>> 1)),
        Of<ushort>(Mnemonic.Pavgw, static (left, right) => (left | right) - ((left ^ right) >>> 1)),
        Of<byte>(Mnemonic.Psadbw, static (left, right) => SumOfBytes(Vector128.Max(left, right) - Vector128.Min(left, right)).AsByte()),

        OfSource<sbyte>(Mnemonic.Pabsb, Magnitude),
        OfSource<short>(Mnemonic.Pabsw, Magnitude),
        OfSource<int>(Mnemonic.Pabsd, Magnitude),
        Of<sbyte>(Mnemonic.Psignb, Sign),
        Of<short>(Mnemonic.Psignw, Sign),
        Of<int>(Mnemonic.Psignd, Sign),

        Of<ushort>(Mnemonic.Pmullw, static (left, right) => left * right),
        Of<uint>(Mnemonic.Pmulld, static (left, right) => left * right),
        Of<short>(Mnemonic.Pmulhw, static (left, right) => Products(left, right, static product => product >> 16)),
        Of<ushort>(Mnemonic.Pmulhuw, static (left, right) => Vector128.Narrow(
            (Vector128.WidenLower(left) * Vector128.WidenLower(right)) >>> 16, (Vector128.WidenUpper(left) * Vector128.WidenUpper(right)) >>> 16)),
        Of<short>(Mnemonic.Pmulhrsw, static (left, right) => Products(left, right, static product => ((product >> 14) + Vector128<int>.One) >> 1)),
        Of<ulong>(Mnemonic.Pmuludq, static (left, right) => ((left << 32) >>> 32) * ((right << 32) >>> 32)),
        Of<long>(Mnemonic.Pmuldq, static (left, right) => ((left << 32) >> 32) * ((right << 32) >> 32)),
        Of<short>(Mnemonic.Pmaddwd, static (left, right) => SumsOfProducts(left, right).AsInt16()),
        Of<short>(Mnemonic.Pmaddubsw, static (left, right) => Vector128.AddSaturate(
            (left.AsUInt16() << 8 >>> 8).AsInt16() * (right << 8 >> 8), (left.AsUInt16() >>> 8).AsInt16() * (right >> 8))),

        OfHalves<ushort>(Mnemonic.Phaddw, static (left, right) => Even(left, right) + Odd(left, right)),
        OfHalves<uint>(Mnemonic.Phaddd, static (left, right) => Even(left, right) + Odd(left, right)),
        OfHalves<ushort>(Mnemonic.Phaddsw, static (left, right) => Vector128.AddSaturate(Even(left, right).AsInt16(), Odd(left, right).AsInt16()).AsUInt16()),
        OfHalves<ushort>(Mnemonic.Phsubw, static (left, right) => Even(left, right) - Odd(left, right)),
        OfHalves<uint>(Mnemonic.Phsubd, static (left, right) => Even(left, right) - Odd(left, right)),
        OfHalves<ushort>(Mnemonic.Phsubsw, static (left, right) => Vector128.SubtractSaturate(Even(left, right).AsInt16(), Odd(left, right).AsInt16()).AsUInt16()),
        OfSource<ushort>(Mnemonic.Phminposuw, LeastWord),
        OfImmediate<byte>(Mnemonic.Mpsadbw, SumsOfDifferences) with { LaneBits = 3 },
    ];

    // The sum of each eight bytes.
    private static Vector128<ulong> SumOfBytes(Vector128<byte> bytes)
    {
        Vector128<uint> words = ((bytes.AsUInt16() << 8 >>> 8) + (bytes.AsUInt16() >>> 8)).AsUInt32();
        Vector128<ulong> pairs = ((words << 16 >>> 16) + (words >>> 16)).AsUInt64();
        return (pairs << 32 >>> 32) + (pairs >>> 32);
    }

    private static Vector128<T> Sign<T>(Vector128<T> left, Vector128<T> right) =>
        Negate(left, Negative(right)) & ~Vector128.Equals(right, Vector128<T>.Zero);

    private static Vector128<short> Products(Vector128<short> left, Vector128<short> right, Func<Vector128<int>, Vector128<int>> part) => Vector128.Narrow(
        part(Vector128.WidenLower(left) * Vector128.WidenLower(right)), part(Vector128.WidenUpper(left) * Vector128.WidenUpper(right)));

    private static Vector128<uint> SumsOfProducts(Vector128<short> left, Vector128<short> right)
    {
        Vector128<uint> low = (Vector128.WidenLower(left) * Vector128.WidenLower(right)).AsUInt32();
        Vector128<uint> high = (Vector128.WidenUpper(left) * Vector128.WidenUpper(right)).AsUInt32();
        return Even(low, high) + Odd(low, high);
    }

    // SDM "PHMINPOSUW": the least word, the lowest of equal ones, then its number.
    private static Vector128<ushort> LeastWord(Vector128<ushort> source)
    {
        int least = 0;
        for (int i = 1; i < Vector128<ushort>.Count; i++)
        {
            least = source[i] < source[least] ? i : least;
        }

        return Vector128<ushort>.Zero.WithElement(0, source[least]).WithElement(1, (ushort)least);
    }

    // SDM "MPSADBW": four bytes of the second source against the first from eight places on.
    private static Vector128<byte> SumsOfDifferences(Vector128<byte> left, Vector128<byte> right, byte immediate)
    {
        int from = (immediate & 4) != 0 ? 4 : 0;
        int block = (immediate & 3) * 4;
        Vector128<ushort> sums = default;
        for (int i = 0; i < Vector128<ushort>.Count; i++)
        {
            int sum = 0;
            for (int k = 0; k < 4; k++)
            {
                sum += Math.Abs(left[from + i + k] - right[block + k]);
            }

            sums = sums.WithElement(i, (ushort)sum);
        }

        return sums.AsByte();
    }
}
