using Iced.Intel;
using VmFuzz.Cpu.FloatingPoint;
using VmFuzz.Cpu.Tests.Integer;

namespace VmFuzz.Cpu.Tests.Silicon;

/// <summary>Operands of x87 instructions: a dictionary of boundary values, neighbours of them, and random ones.</summary>
internal static class X87Values
{
    private const ulong Integer = 1UL << 63;

    // Sign and exponent apart: every significand is taken with every exponent.
    private static readonly ulong[] Significands =
    [
        0, 1, 2, Integer, Integer | 1, Integer - 1, Integer >> 1, (Integer >> 1) | 1, 3UL << 62, (3UL << 62) | 1, (3UL << 62) - 1, ulong.MaxValue, ulong.MaxValue - 1,
        0x8000_0080_0000_0000, 0x8000_0180_0000_0000, 0x8000_0080_0000_0001, 0x8000_007F_FFFF_FFFF, 0xFFFF_FF80_0000_0000, 0xFFFF_FF7F_FFFF_FFFF,
        0x8000_0000_0000_0400, 0x8000_0000_0000_0C00, 0x8000_0000_0000_0401, 0x8000_0000_0000_03FF, 0xFFFF_FFFF_FFFF_FC00, 0xFFFF_FFFF_FFFF_FBFF,
        0xC90F_DAA2_2168_C235, 0xB504_F333_F9DE_6484, 0xAAAA_AAAA_AAAA_AAAA, 0xDE0B_6B3A_763F_FFFF, 0xDE0B_6B3A_7640_0000,
    ];

    private static readonly ushort[] Exponents =
    [
        0, 1, 2, 63, 64, 65, 0x1FFF, 0x2000, 0x3BCC, 0x3BCD, 0x3BFF, 0x3C00, 0x3C01, 0x3C02, 0x3F69, 0x3F6A, 0x3F7F, 0x3F80, 0x3F81, 0x3F82, 0x3FBE, 0x3FFD, 0x3FFE, 0x3FFF,
        0x4000, 0x4001, 0x4002, 0x400D, 0x400E, 0x400F, 0x401D, 0x401E, 0x401F, 0x4038, 0x4039, 0x403A, 0x403C, 0x403D, 0x403E, 0x403F, 0x4040, 0x407E, 0x407F, 0x4080, 0x43FE, 0x43FF,
        0x4400, 0x5FFE, 0x5FFF, 0x6000, 0x7FFD, 0x7FFE, 0x7FFF, 0x7FFF,
    ];

    /// <summary>A number of the extended format, of any encoding.</summary>
    public static Extended Next(ref SplitMix64 random)
    {
        if (random.Below(12) == 0)
        {
            return new Extended(random.Next() | (3UL << 62), (ushort)(0x7FFF | (random.Below(2) << 15)));
        }

        ulong significand = random.Below(4) switch
        {
            0 => random.Next(),
            1 => random.Next() | Integer,
            2 => (random.Next() & (ulong.MaxValue << random.Below(63))) | Integer,
            _ => Significands[random.Below(Significands.Length)],
        };
        int exponent = random.Below(8) switch
        {
            0 => (int)random.Next() & 0x7FFF,
            1 or 2 => 0x3FFF + random.Below(80) - 8,
            _ => Exponents[random.Below(Exponents.Length)],
        };

        // Most with an integer bit where there must be one, so that they are numbers.
        significand |= exponent != 0 && random.Below(16) != 0 ? Integer : 0;
        return new Extended(significand, (ushort)(exponent | (random.Below(2) << 15)));
    }

    /// <summary>A number that is close to another one.</summary>
    public static Extended Near(Extended other, ref SplitMix64 random) => new(
        random.Below(3) switch { 0 => other.Significand, 1 => other.Significand + (ulong)random.Below(5) - 2, _ => random.Next() | Integer },
        (ushort)((((other.SignExponent & 0x7FFF) + random.Below(140) - 70) & 0x7FFF) | (random.Below(2) << 15)));

    /// <summary>Bytes of memory for an operand.</summary>
    public static void FillMemory(MemorySize size, Span<byte> memory, ref SplitMix64 random)
    {
        random.Fill(memory);
        Extended value = Next(ref random);
        switch (size)
        {
            case MemorySize.Float32 when random.Below(4) != 0:
                BitConverter.TryWriteBytes(memory, (uint)Narrow(value, FloatFormat.Single, ref random));
                break;
            case MemorySize.Float64 when random.Below(4) != 0:
                BitConverter.TryWriteBytes(memory, Narrow(value, FloatFormat.Double, ref random));
                break;
            case MemorySize.Float80:
                BitConverter.TryWriteBytes(memory, value.Significand);
                BitConverter.TryWriteBytes(memory[8..], value.SignExponent);
                break;
            case MemorySize.Int16 or MemorySize.Int32 or MemorySize.Int64 when random.Below(2) == 0:
                BitConverter.TryWriteBytes(memory, RandomForms.Value(ref random));
                break;
            case MemorySize.Bcd:
                for (int i = 0; i < 9; i++)
                {
                    memory[i] = (byte)(random.Below(10) | (random.Below(10) << 4));
                }

                break;
            default:
                break;
        }
    }

    // Fractions of the dictionary with exponents at the ends of the format or about its middle.
    private static ulong Narrow(Extended value, FloatFormat format, ref SplitMix64 random)
    {
        int fractionBits = format.Precision - 1;
        ulong fraction = (value.Significand << 1) >> (64 - fractionBits);
        int most = (1 << format.ExponentBits) - 1;
        ulong exponent = (ulong)(random.Below(6) switch
        {
            0 => 0,
            1 => 1,
            2 => most,
            3 => most - 1,
            _ => format.Bias + random.Below(70) - 5,
        });
        return fraction | (exponent << fractionBits) | ((ulong)random.Below(2) << (fractionBits + format.ExponentBits));
    }
}
