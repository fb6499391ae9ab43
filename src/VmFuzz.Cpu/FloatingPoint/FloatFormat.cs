namespace VmFuzz.Cpu.FloatingPoint;

/// <summary>A floating-point format: widths, and the encodings of those that keep no integer bit.</summary>
/// <param name="Precision">Bits of the significand, with the integer bit.</param>
/// <param name="ExponentBits">Bits of the exponent.</param>
public readonly record struct FloatFormat(int Precision, int ExponentBits)
{
    /// <summary>Binary32.</summary>
    public static FloatFormat Single => new(24, 8);

    /// <summary>Binary64.</summary>
    public static FloatFormat Double => new(53, 11);

    /// <summary>The x87 format of 80 bits; <see cref="Extended"/> has its encoding.</summary>
    public static FloatFormat DoubleExtended => new(64, 15);

    /// <summary>What is added to an exponent to encode it, and the greatest exponent.</summary>
    public int Bias => (1 << (ExponentBits - 1)) - 1;

    /// <summary>The exponent of the smallest normal number.</summary>
    public int MinExponent => 1 - Bias;

    /// <summary>
    /// What is taken off an exponent that overflows, or added to one that underflows, where that exception is unmasked
    /// (SDM "Numeric Overflow Exception (#O)").
    /// </summary>
    public int TrapAdjustment => 3 << (ExponentBits - 2);

    private int FractionBits => Precision - 1;

    private ulong FractionMask => (1UL << FractionBits) - 1;

    private ulong ExponentMask => (1UL << ExponentBits) - 1;

    /// <summary>Decodes a number of 32 or 64 bits.</summary>
    public FloatNumber Decode(ulong bits)
    {
        bool negative = ((bits >> (FractionBits + ExponentBits)) & 1) != 0;
        ulong fraction = bits & FractionMask;
        ulong exponent = (bits >> FractionBits) & ExponentMask;
        ulong significand = fraction << (63 - FractionBits);
        if (exponent == ExponentMask)
        {
            return fraction == 0 ? FloatNumber.Infinity(negative) : FloatNumber.Nan(negative, significand);
        }

        if (exponent != 0)
        {
            return new(FloatClass.Finite, negative, (int)exponent - Bias, significand | (1UL << 63));
        }

        if (fraction == 0)
        {
            return FloatNumber.Zero(negative);
        }

        int zeros = System.Numerics.BitOperations.LeadingZeroCount(significand);
        return new(FloatClass.Finite, negative, MinExponent - zeros, significand << zeros, IsDenormal: true);
    }

    /// <summary>Encodes a number that was rounded to this format, or a quiet NaN, whose lower bits are cut off.</summary>
    public ulong Encode(in FloatNumber number)
    {
        ulong sign = number.Negative ? 1UL << (FractionBits + ExponentBits) : 0;
        switch (number.Class)
        {
            case FloatClass.Zero:
                return sign;
            case FloatClass.Infinity:
                return sign | (ExponentMask << FractionBits);
            case FloatClass.Finite:
                ulong significand = number.Significand >> (63 - FractionBits);
                return number.Exponent < MinExponent
                    ? sign | (significand >> (MinExponent - number.Exponent))
                    : sign | ((ulong)(number.Exponent + Bias) << FractionBits) | (significand & FractionMask);
            default:
                return sign | (ExponentMask << FractionBits) | ((number.Significand >> (63 - FractionBits)) & FractionMask);
        }
    }
}
