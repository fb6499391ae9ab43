using System.Collections.Immutable;
using System.Runtime.Intrinsics;
using Iced.Intel;
using static VmFuzz.Cpu.Microcode.Vectors.PackedOperation;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>Shifts of elements, by an immediate or by the low quadword of a source, and of whole registers by bytes.</summary>
internal static class PackedShifts
{
    // One count for both lanes of a YMM register.
    public static readonly ImmutableArray<PackedOperation> Operations =
    [
        .. Table.Select(static operation => operation with { LaneStride = 0 }),
    ];

    private static ImmutableArray<PackedOperation> Table =>
    [
        Shift<ushort>(Mnemonic.Psllw, 16, static (value, count) => value << count),
        Shift<uint>(Mnemonic.Pslld, 32, static (value, count) => value << count),
        Shift<ulong>(Mnemonic.Psllq, 64, static (value, count) => value << count),
        Shift<ushort>(Mnemonic.Psrlw, 16, static (value, count) => value >>> count),
        Shift<uint>(Mnemonic.Psrld, 32, static (value, count) => value >>> count),
        Shift<ulong>(Mnemonic.Psrlq, 64, static (value, count) => value >>> count),
        Of<short>(Mnemonic.Psraw, static (value, count) => value >> (int)Math.Min(Count(count), 15)),
        Of<int>(Mnemonic.Psrad, static (value, count) => value >> (int)Math.Min(Count(count), 31)),
        Of<byte>(Mnemonic.Pslldq, static (value, count) => Elements.MoveUp(value, (int)Math.Min(Count(count), 16))),
        Of<byte>(Mnemonic.Psrldq, static (value, count) => Elements.MoveDown(value, (int)Math.Min(Count(count), 16))),
    ];

    // A count that is not less than the width gives zeros.
    private static PackedOperation Shift<T>(Mnemonic mnemonic, int bits, Func<Vector128<T>, int, Vector128<T>> shift) =>
        Of<T>(mnemonic, (value, count) => Count(count) < (ulong)bits ? shift(value, (int)Count(count)) : default);

    private static ulong Count<T>(Vector128<T> source) => source.AsUInt64()[0];
}
