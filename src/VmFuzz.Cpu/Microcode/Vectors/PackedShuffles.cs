using System.Collections.Immutable;
using System.Runtime.Intrinsics;
using Iced.Intel;
using static VmFuzz.Cpu.Microcode.Vectors.Elements;
using static VmFuzz.Cpu.Microcode.Vectors.PackedOperation;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>Elements put elsewhere: interleaved, narrowed, widened, shuffled, chosen, inserted.</summary>
internal static class PackedShuffles
{
    public static readonly ImmutableArray<PackedOperation> Operations =
    [
        // The high half of eight bytes comes out above what the low half gives.
        Of<byte>(Mnemonic.Punpcklbw, InterleaveLow),
        Of<ushort>(Mnemonic.Punpcklwd, InterleaveLow),
        Of<uint>(Mnemonic.Punpckldq, InterleaveLow),
        Of<byte>(Mnemonic.Punpckhbw, static (left, right) => InterleaveLow(Upper(left), Upper(right)), static (left, right) => Upper(InterleaveLow(left, right))),
        Of<ushort>(Mnemonic.Punpckhwd, static (left, right) => InterleaveLow(Upper(left), Upper(right)), static (left, right) => Upper(InterleaveLow(left, right))),
        Of<uint>(Mnemonic.Punpckhdq, static (left, right) => InterleaveLow(Upper(left), Upper(right)), static (left, right) => Upper(InterleaveLow(left, right))),
        Of<ulong>(Mnemonic.Punpcklqdq, Join),
        Of<ulong>(Mnemonic.Punpckhqdq, static (left, right) => Join(Upper(left), Upper(right))),
        Of<uint>(Mnemonic.Unpcklps, InterleaveLow),
        Of<uint>(Mnemonic.Unpckhps, static (left, right) => InterleaveLow(Upper(left), Upper(right))),
        Of<ulong>(Mnemonic.Unpcklpd, Join),
        Of<ulong>(Mnemonic.Unpckhpd, static (left, right) => Join(Upper(left), Upper(right))),

        OfHalves<short>(Mnemonic.Packsswb, static (left, right) => Vector128.NarrowWithSaturation(left, right).AsInt16()),
        OfHalves<int>(Mnemonic.Packssdw, static (left, right) => Vector128.NarrowWithSaturation(left, right).AsInt32()),
        OfHalves<short>(Mnemonic.Packuswb, static (left, right) => Vector128.Narrow(Unsigned(left, byte.MaxValue), Unsigned(right, byte.MaxValue)).AsInt16()),
        OfHalves<int>(Mnemonic.Packusdw, static (left, right) => Vector128.Narrow(Unsigned(left, ushort.MaxValue), Unsigned(right, ushort.MaxValue)).AsInt32()),

        OfImmediate<uint>(Mnemonic.Pshufd, static (_, right, order) => Vector128.Shuffle(right, Places(order))),
        OfImmediate<ushort>(Mnemonic.Pshufw, static (_, right, order) => Vector128.Shuffle(right, Words(Places(order), Vector128<uint>.Zero))),
        OfImmediate<ushort>(Mnemonic.Pshuflw, static (_, right, order) => Vector128.Shuffle(right, Words(Places(order), Places(Identity) + Vector128.Create(4U)))),
        OfImmediate<ushort>(Mnemonic.Pshufhw, static (_, right, order) => Vector128.Shuffle(right, Words(Places(Identity), Places(order) + Vector128.Create(4U)))),
        OfImmediate<uint>(Mnemonic.Shufps, static (left, right, order) => Join(
            Vector128.Shuffle(left, Places(order)), Upper(Vector128.Shuffle(right, Places(order))))),
        OfImmediate<ulong>(Mnemonic.Shufpd, static (left, right, order) => Vector128.Create(left[order & 1], right[(order >> 1) & 1])) with { LaneBits = 2 },

        Of<byte>(
            Mnemonic.Pshufb,
            static (left, right) => Vector128.Shuffle(left, right & Vector128.Create((byte)0x8F)),
            static (left, right) => Vector128.Shuffle(left, right & Vector128.Create((byte)0x87))),
        OfImmediate<byte>(
            Mnemonic.Palignr,
            static (left, right, places) => MoveDown(right, Math.Min((int)places, 16)) | (places < 16 ? MoveUp(left, 16 - places) : MoveDown(left, Math.Min(places - 16, 16))),
            static (left, right, places) => MoveDown(Join(right, left), Math.Min((int)places, 16))),
        OfSource<uint>(Mnemonic.Movsldup, static source => Vector128.Shuffle(source, Vector128.Create(0U, 0, 2, 2))),
        OfSource<uint>(Mnemonic.Movshdup, static source => Vector128.Shuffle(source, Vector128.Create(1U, 1, 3, 3))),
        OfSource<ulong>(Mnemonic.Movddup, static source => Vector128.Create(source[0])),

        OfSource<sbyte>(Mnemonic.Pmovsxbw, static source => Vector128.WidenLower(source).AsSByte()) with { LaneStride = 8 },
        OfSource<sbyte>(Mnemonic.Pmovsxbd, static source => Vector128.WidenLower(Vector128.WidenLower(source)).AsSByte()) with { LaneStride = 4 },
        OfSource<sbyte>(Mnemonic.Pmovsxbq, static source => Vector128.WidenLower(Vector128.WidenLower(Vector128.WidenLower(source))).AsSByte()) with { LaneStride = 2 },
        OfSource<short>(Mnemonic.Pmovsxwd, static source => Vector128.WidenLower(source).AsInt16()) with { LaneStride = 8 },
        OfSource<short>(Mnemonic.Pmovsxwq, static source => Vector128.WidenLower(Vector128.WidenLower(source)).AsInt16()) with { LaneStride = 4 },
        OfSource<int>(Mnemonic.Pmovsxdq, static source => Vector128.WidenLower(source).AsInt32()) with { LaneStride = 8 },
        OfSource<byte>(Mnemonic.Pmovzxbw, static source => Vector128.WidenLower(source).AsByte()) with { LaneStride = 8 },
        OfSource<byte>(Mnemonic.Pmovzxbd, static source => Vector128.WidenLower(Vector128.WidenLower(source)).AsByte()) with { LaneStride = 4 },
        OfSource<byte>(Mnemonic.Pmovzxbq, static source => Vector128.WidenLower(Vector128.WidenLower(Vector128.WidenLower(source))).AsByte()) with { LaneStride = 2 },
        OfSource<ushort>(Mnemonic.Pmovzxwd, static source => Vector128.WidenLower(source).AsUInt16()) with { LaneStride = 8 },
        OfSource<ushort>(Mnemonic.Pmovzxwq, static source => Vector128.WidenLower(Vector128.WidenLower(source)).AsUInt16()) with { LaneStride = 4 },
        OfSource<uint>(Mnemonic.Pmovzxdq, static source => Vector128.WidenLower(source).AsUInt32()) with { LaneStride = 8 },

        OfImmediate<ushort>(Mnemonic.Pblendw, static (left, right, mask) => Blend(left, right, Vector128.Create((ushort)1, 2, 4, 8, 16, 32, 64, 128), mask)),
        OfImmediate<uint>(Mnemonic.Blendps, static (left, right, mask) => Blend(left, right, Vector128.Create(1U, 2, 4, 8), mask)) with { LaneBits = 4 },
        OfImmediate<ulong>(Mnemonic.Blendpd, static (left, right, mask) => Blend(left, right, Vector128.Create(1UL, 2), mask)) with { LaneBits = 2 },
        OfThree<sbyte>(Mnemonic.Pblendvb, static (left, right, mask) => Vector128.ConditionalSelect(Negative(mask), right, left)),
        OfThree<int>(Mnemonic.Blendvps, static (left, right, mask) => Vector128.ConditionalSelect(Negative(mask), right, left)),
        OfThree<long>(Mnemonic.Blendvpd, static (left, right, mask) => Vector128.ConditionalSelect(Negative(mask), right, left)),

        OfImmediate<uint>(Mnemonic.Insertps, InsertSingle),
        OfImmediate<byte>(Mnemonic.Pinsrb, static (left, right, place) => left.WithElement(place & 15, right[0])),
        OfImmediate<uint>(Mnemonic.Pinsrd, static (left, right, place) => left.WithElement(place & 3, right[0])),
        OfImmediate<ulong>(Mnemonic.Pinsrq, static (left, right, place) => left.WithElement(place & 1, right[0])),

        // A word comes from a general register or from memory.
        OfImmediate<ushort>(
            Mnemonic.Pinsrw,
            static (left, right, place) => left.WithElement(place & 7, right[0]),
            static (left, right, place) => left.WithElement(place & 3, right[0])),
    ];

    private const byte Identity = 0b11_10_01_00;

    private static Vector128<T> Blend<T>(Vector128<T> left, Vector128<T> right, Vector128<T> bits, T mask) =>
        Vector128.ConditionalSelect(Chosen(bits, Vector128.Create(mask)), right, left);

    // SDM "INSERTPS": an element of the source, its place, then elements that become zero.
    private static Vector128<uint> InsertSingle(Vector128<uint> left, Vector128<uint> right, byte control)
    {
        Vector128<uint> inserted = left.WithElement((control >> 4) & 3, right[control >> 6]);
        return inserted & ~Chosen(Vector128.Create(1U, 2, 4, 8), Vector128.Create((uint)control));
    }

    private static Vector128<ushort> Unsigned(Vector128<short> value, short most) => Vector128.Min(Vector128.Max(value, Vector128<short>.Zero), Vector128.Create(most)).AsUInt16();

    private static Vector128<uint> Unsigned(Vector128<int> value, int most) => Vector128.Min(Vector128.Max(value, Vector128<int>.Zero), Vector128.Create(most)).AsUInt32();

    // Four numbers of two bits.
    private static Vector128<uint> Places(byte order) => Vector128.Create((uint)order, (uint)order >> 2, (uint)order >> 4, (uint)order >> 6) & Vector128.Create(3U);

    private static Vector128<ushort> Words(Vector128<uint> low, Vector128<uint> high) => Vector128.Narrow(low, high);
}
