using VmFuzz.Cpu.Tests.Integer;

namespace VmFuzz.Cpu.Tests.Vectors;

/// <summary>Random contents of vector registers and memory, of kinds that saturate, overflow, compare equal and count.</summary>
internal static class VectorValues
{
    private static readonly byte[] Bytes = [0, 1, 0x7F, 0x80, 0x81, 0xFF];

    /// <summary>Fills with quadwords of different kinds, many of them equal or nearly so.</summary>
    public static void Fill(Span<byte> target, ref SplitMix64 random)
    {
        Span<ulong> common = [Quadword(ref random), Quadword(ref random)];
        for (int i = 0; i + 8 <= target.Length; i += 8)
        {
            ulong value = random.Below(4) switch
            {
                0 => common[random.Below(2)],
                1 => common[random.Below(2)] ^ (random.Next() & (0xFFUL << random.Below(64))),
                _ => Quadword(ref random),
            };
            BitConverter.TryWriteBytes(target[i..], value);
        }
    }

    /// <summary>A length of a string, mostly one that a register holds; the sign does not matter.</summary>
    public static ulong Length(ref SplitMix64 random) => random.Below(4) == 0 ? RandomForms.Value(ref random) : (ulong)(random.Below(40) - 20);

    private static ulong Quadword(ref SplitMix64 random)
    {
        switch (random.Below(6))
        {
            case 0:
                // A count of a shift, in the quadword or in its low byte.
                return (random.Next() % 80) | (random.Below(8) == 0 ? random.Next() << 8 : 0);
            case 1:
                ulong bytes = 0;
                for (int i = 0; i < 8; i++)
                {
                    bytes = (bytes << 8) | Bytes[random.Below(Bytes.Length)];
                }

                return bytes;
            case 2:
                return (RandomForms.Value(ref random) & 0xFFFF_FFFF) | (RandomForms.Value(ref random) << 32);
            case 3:
                return RandomForms.Value(ref random);
            default:
                return random.Next();
        }
    }
}
