namespace VmFuzz.Cpu.FloatingPoint;

/// <summary>A number in the x87 format of 80 bits (SDM "Double Extended-Precision Floating-Point Format").</summary>
/// <param name="Significand">The significand with its integer bit as bit 63.</param>
/// <param name="SignExponent">The sign as bit 15, and the biased exponent.</param>
public readonly record struct Extended(ulong Significand, ushort SignExponent)
{
    private const int ExponentMask = 0x7FFF;
    private const ulong IntegerBit = 1UL << 63;

    /// <summary>The sign bit.</summary>
    public const ushort SignBit = 0x8000;

    private int BiasedExponent => SignExponent & ExponentMask;

    private bool Negative => (SignExponent & SignBit) != 0;

    /// <summary>Decodes it. A pseudo-denormal counts as a denormal.</summary>
    public FloatNumber Decode()
    {
        bool integer = (Significand & IntegerBit) != 0;
        switch (BiasedExponent)
        {
            case 0 when Significand == 0:
                return FloatNumber.Zero(Negative);
            case 0:
                int zeros = System.Numerics.BitOperations.LeadingZeroCount(Significand);
                return new(FloatClass.Finite, Negative, FloatFormat.DoubleExtended.MinExponent - zeros, Significand << zeros, IsDenormal: true);
            case var _ when !integer:
                return new(FloatClass.Unsupported, Negative);
            case ExponentMask:
                return Significand == IntegerBit ? FloatNumber.Infinity(Negative) : FloatNumber.Nan(Negative, Significand);
            default:
                return new(FloatClass.Finite, Negative, BiasedExponent - FloatFormat.DoubleExtended.Bias, Significand);
        }
    }

    /// <summary>Encodes a number that was rounded to this format, or a NaN.</summary>
    public static Extended Encode(in FloatNumber number)
    {
        int sign = number.Negative ? SignBit : 0;
        FloatFormat format = FloatFormat.DoubleExtended;
        return number.Class switch
        {
            FloatClass.Zero => new(0, (ushort)sign),
            FloatClass.Infinity => new(IntegerBit, (ushort)(sign | ExponentMask)),
            FloatClass.Finite when number.Exponent < format.MinExponent => new(number.Significand >> (format.MinExponent - number.Exponent), (ushort)sign),
            FloatClass.Finite => new(number.Significand, (ushort)(sign | (number.Exponent + format.Bias))),
            _ => new(number.Significand, (ushort)(sign | ExponentMask)),
        };
    }
}
