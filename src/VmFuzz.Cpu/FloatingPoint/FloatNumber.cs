namespace VmFuzz.Cpu.FloatingPoint;

/// <summary>What kind of value a floating-point number is.</summary>
public enum FloatClass : byte
{
    /// <summary>Zero, with a sign.</summary>
    Zero,

    /// <summary>A finite number other than zero.</summary>
    Finite,

    /// <summary>Infinity, with a sign.</summary>
    Infinity,

    /// <summary>A quiet NaN.</summary>
    QuietNan,

    /// <summary>A signalling NaN.</summary>
    SignalingNan,

    /// <summary>An encoding of the extended format that is no number any more (SDM "Unsupported Double Extended-Precision Floating-Point Encodings").</summary>
    Unsupported,
}

/// <summary>A floating-point number out of its format.</summary>
/// <param name="Class">Its kind.</param>
/// <param name="Negative">Its sign.</param>
/// <param name="Exponent">Of finite numbers: the power of two of the highest significand bit.</param>
/// <param name="Significand">Of finite numbers and NaNs: the significand with the integer bit as bit 63, which is set.</param>
/// <param name="IsDenormal">Whether its encoding was a denormal one.</param>
public readonly record struct FloatNumber(FloatClass Class, bool Negative, int Exponent = 0, ulong Significand = 0, bool IsDenormal = false)
{
    private const ulong QuietBit = 1UL << 62;

    /// <summary>The NaN that an invalid operation gives (SDM "QNaN Floating-Point Indefinite").</summary>
    public static FloatNumber Indefinite => new(FloatClass.QuietNan, true, 0, 3UL << 62);

    /// <summary>One.</summary>
    public static FloatNumber One => new(FloatClass.Finite, false, 0, 1UL << 63);

    /// <summary>Whether it is a NaN of either kind.</summary>
    public bool IsNan => Class is FloatClass.QuietNan or FloatClass.SignalingNan;

    /// <summary>Whether an operation on it is invalid by itself.</summary>
    public bool IsInvalid => Class is FloatClass.SignalingNan or FloatClass.Unsupported;

    /// <summary>Zero with a sign.</summary>
    public static FloatNumber Zero(bool negative) => new(FloatClass.Zero, negative);

    /// <summary>Infinity with a sign.</summary>
    public static FloatNumber Infinity(bool negative) => new(FloatClass.Infinity, negative);

    /// <summary>A NaN of 63 significand bits behind the integer bit; which kind, the highest of them says.</summary>
    public static FloatNumber Nan(bool negative, ulong significand) =>
        new((significand & QuietBit) != 0 ? FloatClass.QuietNan : FloatClass.SignalingNan, negative, 0, significand | (1UL << 63));

    /// <summary>An integer.</summary>
    public static FloatNumber FromInteger(long value) =>
        FromMagnitude(value < 0, value < 0 ? (ulong)-value : (ulong)value);

    /// <summary>An integer as sign and magnitude.</summary>
    public static FloatNumber FromMagnitude(bool negative, ulong magnitude)
    {
        if (magnitude == 0)
        {
            return Zero(negative);
        }

        int zeros = System.Numerics.BitOperations.LeadingZeroCount(magnitude);
        return new(FloatClass.Finite, negative, 63 - zeros, magnitude << zeros);
    }

    /// <summary>The same NaN, quiet.</summary>
    public FloatNumber Quieted() => this with { Class = FloatClass.QuietNan, Significand = Significand | QuietBit };

    /// <summary>The number with the other sign.</summary>
    public FloatNumber Negated() => this with { Negative = !Negative };
}
