using System.Collections.Immutable;
using System.Runtime.Intrinsics;
using Iced.Intel;
using static VmFuzz.Cpu.Microcode.Vectors.PackedOperation;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>AES rounds, products without carry, SHA-1 and SHA-256 rounds.</summary>
internal static class PackedCryptography
{
    public static readonly ImmutableArray<PackedOperation> Operations =
    [
        Of<byte>(Mnemonic.Aesenc, static (state, key) => AesRound.MixColumns(AesRound.Encrypt(state)) ^ key),
        Of<byte>(Mnemonic.Aesenclast, static (state, key) => AesRound.Encrypt(state) ^ key),
        Of<byte>(Mnemonic.Aesdec, static (state, key) => AesRound.InverseMixColumns(AesRound.Decrypt(state)) ^ key),
        Of<byte>(Mnemonic.Aesdeclast, static (state, key) => AesRound.Decrypt(state) ^ key),
        OfSource<byte>(Mnemonic.Aesimc, AesRound.InverseMixColumns),
        OfImmediate<byte>(Mnemonic.Aeskeygenassist, static (_, source, constant) => AesRound.KeyWords(source, constant)),
        OfImmediate<ulong>(Mnemonic.Pclmulqdq, static (left, right, places) => Product(left[places & 1], right[(places >> 4) & 1])),

        OfImmediate<uint>(Mnemonic.Sha1rnds4, ShaRounds.Sha1Rounds),
        Of<uint>(Mnemonic.Sha1nexte, static (left, right) => right.WithElement(3, right[3] + uint.RotateLeft(left[3], 30))),
        Of<uint>(Mnemonic.Sha1msg1, static (left, right) => left ^ Vector128.Create(right[2], right[3], left[0], left[1])),
        Of<uint>(Mnemonic.Sha1msg2, ShaRounds.Sha1Schedule),
        OfThree<uint>(Mnemonic.Sha256rnds2, ShaRounds.Sha256Rounds),
        Of<uint>(Mnemonic.Sha256msg1, ShaRounds.Sha256ScheduleFirst),
        Of<uint>(Mnemonic.Sha256msg2, ShaRounds.Sha256ScheduleSecond),
    ];

    // The product of polynomials over the field of two elements.
    private static Vector128<ulong> Product(ulong left, ulong right)
    {
        UInt128 product = 0;
        for (int i = 0; i < 64; i++)
        {
            product ^= ((right >> i) & 1) != 0 ? (UInt128)left << i : 0;
        }

        return Vector128.Create((ulong)product, (ulong)(product >> 64));
    }
}
