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
        OfImmediate<ulong>(Mnemonic.Shufpd, static (left, right, order) => Vector128.Create(left[order & 1], right[(order >> 1) & 1])),

        // A word comes from a general register or from memory.
        OfImmediate<ushort>(
            Mnemonic.Pinsrw,
            static (left, right, place) => left.WithElement(place & 7, right[0]),
            static (left, right, place) => left.WithElement(place & 3, right[0])),
    ];

    private const byte Identity = 0b11_10_01_00;

    private static Vector128<ushort> Unsigned(Vector128<short> value, short most) => Vector128.Min(Vector128.Max(value, Vector128<short>.Zero), Vector128.Create(most)).AsUInt16();

    private static Vector128<uint> Unsigned(Vector128<int> value, int most) => Vector128.Min(Vector128.Max(value, Vector128<int>.Zero), Vector128.Create(most)).AsUInt32();

    // Four numbers of two bits.
    private static Vector128<uint> Places(byte order) => Vector128.Create((uint)order, (uint)order >> 2, (uint)order >> 4, (uint)order >> 6) & Vector128.Create(3U);

    private static Vector128<ushort> Words(Vector128<uint> low, Vector128<uint> high) => Vector128.Narrow(low, high);
}
