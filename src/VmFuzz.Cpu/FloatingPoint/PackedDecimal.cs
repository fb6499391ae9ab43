namespace VmFuzz.Cpu.FloatingPoint;

/// <summary>Packed decimal integers of 18 digits in ten bytes (SDM "BCD and Packed BCD Integers"), in the layout of <see cref="Extended"/>.</summary>
public static class PackedDecimal
{
    private const int DigitsInSignificand = 16;

    /// <summary>The greatest magnitude.</summary>
    public const ulong Max = 999_999_999_999_999_999;

    /// <summary>What an invalid operation stores.</summary>
    public static Extended Indefinite => new(0xC000_0000_0000_0000, 0xFFFF);

    /// <summary>Decodes; digits above nine count what they say.</summary>
    public static FloatNumber Decode(Extended image)
    {
        ulong magnitude = ((ulong)(image.SignExponent >> 4 & 0xF) * 10) + (ulong)(image.SignExponent & 0xF);
        for (int digit = DigitsInSignificand - 1; digit >= 0; digit--)
        {
            magnitude = (magnitude * 10) + ((image.Significand >> (digit * 4)) & 0xF);
        }

        return FloatNumber.FromMagnitude((image.SignExponent & Extended.SignBit) != 0, magnitude);
    }

    /// <summary>Encodes a magnitude of at most <see cref="Max"/>.</summary>
    public static Extended Encode(bool negative, ulong magnitude)
    {
        ulong low = 0;
        for (int digit = 0; digit < DigitsInSignificand; digit++)
        {
            (magnitude, ulong value) = Math.DivRem(magnitude, 10);
            low |= value << (digit * 4);
        }

        ulong high = ((magnitude / 10) << 4) | (magnitude % 10);
        return new((ulong)low, (ushort)(high | (negative ? Extended.SignBit : 0U)));
    }
}
