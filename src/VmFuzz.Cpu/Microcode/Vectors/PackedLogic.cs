using System.Collections.Immutable;
using System.Runtime.Intrinsics;
using Iced.Intel;
using static VmFuzz.Cpu.Microcode.Vectors.PackedOperation;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>Bitwise logic. The kind of the elements does not matter, and MXCSR has no part in it.</summary>
internal static class PackedLogic
{
    public static readonly ImmutableArray<PackedOperation> Operations =
    [
        .. Each(static (left, right) => left & right, Mnemonic.Pand, Mnemonic.Andps, Mnemonic.Andpd),
        .. Each(static (left, right) => ~left & right, Mnemonic.Pandn, Mnemonic.Andnps, Mnemonic.Andnpd),
        .. Each(static (left, right) => left | right, Mnemonic.Por, Mnemonic.Orps, Mnemonic.Orpd),
        .. Each(static (left, right) => left ^ right, Mnemonic.Pxor, Mnemonic.Xorps, Mnemonic.Xorpd),
    ];

    private static IEnumerable<PackedOperation> Each(Func<Vector128<byte>, Vector128<byte>, Vector128<byte>> function, params ReadOnlySpan<Mnemonic> mnemonics) =>
        mnemonics.ToArray().Select(mnemonic => Of(mnemonic, function));
}
