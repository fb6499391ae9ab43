namespace VmFuzz.Cpu.FloatingPoint;

/// <summary>How two numbers compare.</summary>
public enum FloatRelation : byte
{
    /// <summary>The left one is less.</summary>
    Less,

    /// <summary>They are equal; zeros of either sign are.</summary>
    Equal,

    /// <summary>The left one is greater.</summary>
    Greater,

    /// <summary>One of them is a NaN or no number.</summary>
    Unordered,
}

/// <summary>What a partial remainder gives beside its result.</summary>
/// <param name="Quotient">The low 64 bits of the quotient's magnitude.</param>
/// <param name="IsPartial">Whether the dividend is only reduced, and the quotient not known yet.</param>
public readonly record struct RemainderQuotient(ulong Quotient, bool IsPartial);

/// <summary>The operations of the x87 on numbers, NaNs and denormal operands included (SDM "x87 FPU Floating-Point Exception Conditions").</summary>
public static class X87Arithmetic
{
    private const int MaxScale = 1 << 17;
    private const int MaxWholeRemainder = 63;

    private static FloatFormat Format => FloatFormat.DoubleExtended;

    /// <summary>left + right.</summary>
    public static FloatNumber Add(in FloatNumber left, in FloatNumber right, ref FloatContext context) =>
        AreNumbers(left, right, ref context, out FloatNumber nan) ? SoftFloat.Add(left, right, Format, ref context) : nan;

    /// <summary>left - right.</summary>
    public static FloatNumber Subtract(in FloatNumber left, in FloatNumber right, ref FloatContext context) =>
        AreNumbers(left, right, ref context, out FloatNumber nan) ? SoftFloat.Add(left, right.Negated(), Format, ref context) : nan;

    /// <summary>left * right.</summary>
    public static FloatNumber Multiply(in FloatNumber left, in FloatNumber right, ref FloatContext context) =>
        AreNumbers(left, right, ref context, out FloatNumber nan) ? SoftFloat.Multiply(left, right, Format, ref context) : nan;

    /// <summary>left / right.</summary>
    public static FloatNumber Divide(in FloatNumber left, in FloatNumber right, ref FloatContext context)
    {
        // A divisor of zero comes before a denormal dividend.
        bool denormal = left.IsDenormal && right.Class != FloatClass.Zero;
        return AreNumbers(left with { IsDenormal = denormal }, right, ref context, out FloatNumber nan) ? SoftFloat.Divide(left, right, Format, ref context) : nan;
    }

    /// <summary>The square root.</summary>
    public static FloatNumber SquareRoot(in FloatNumber number, ref FloatContext context)
    {
        // A negative operand is invalid, and nothing else, even when it is a denormal.
        bool denormal = number.IsDenormal && !number.Negative;
        return IsNumber(number with { IsDenormal = denormal }, ref context, out FloatNumber nan) ? SoftFloat.SquareRoot(number, Format, ref context) : nan;
    }

    /// <summary>The number rounded to an integer.</summary>
    public static FloatNumber RoundToIntegral(in FloatNumber number, ref FloatContext context) =>
        IsNumber(number, ref context, out FloatNumber nan) ? SoftFloat.RoundToIntegral(number, context.Rounding, ref context) : nan;

    /// <summary>Brings a number from or into another format; only a conversion from memory looks at denormals.</summary>
    public static FloatNumber Convert(in FloatNumber number, in FloatFormat format, ref FloatContext context) =>
        IsNumber(number, ref context, out FloatNumber nan) ? SoftFloat.Round(number, format, ref context) : nan;

    /// <summary>Compares two numbers.</summary>
    /// <param name="left">Left.</param>
    /// <param name="right">Right.</param>
    /// <param name="quiet">Whether a quiet NaN is valid.</param>
    /// <param name="context">Takes the exceptions.</param>
    public static FloatRelation Compare(in FloatNumber left, in FloatNumber right, bool quiet, ref FloatContext context)
    {
        if (left.IsInvalid || right.IsInvalid || left.IsNan || right.IsNan)
        {
            if (!quiet || left.IsInvalid || right.IsInvalid)
            {
                context.Raise(FloatExceptions.Invalid);
            }

            return FloatRelation.Unordered;
        }

        NoteDenormal(left, right, ref context);
        int order = Order(left, right);
        return order < 0 ? FloatRelation.Less : order > 0 ? FloatRelation.Greater : FloatRelation.Equal;
    }

    /// <summary>number * 2^trunc(scale) (SDM "FSCALE").</summary>
    public static FloatNumber Scale(in FloatNumber number, in FloatNumber scale, ref FloatContext context)
    {
        if (!AreNumbers(number, scale, ref context, out FloatNumber nan))
        {
            return nan;
        }

        if (scale.Class == FloatClass.Infinity)
        {
            FloatClass unscalable = scale.Negative ? FloatClass.Infinity : FloatClass.Zero;
            if (number.Class == unscalable)
            {
                context.Raise(FloatExceptions.Invalid);
                return FloatNumber.Indefinite;
            }

            return scale.Negative ? FloatNumber.Zero(number.Negative) : FloatNumber.Infinity(number.Negative);
        }

        if (number.Class != FloatClass.Finite)
        {
            return number;
        }

        FloatContext exact = default;
        FloatNumber whole = SoftFloat.RoundToIntegral(scale, FloatRounding.Truncate, ref exact);
        int magnitude = whole.Class == FloatClass.Zero ? 0 : whole.Exponent > 16 ? MaxScale : (int)SoftFloat.Magnitude(whole);
        return SoftFloat.Round(number with { Exponent = number.Exponent + (scale.Negative ? -magnitude : magnitude) }, Format, ref context);
    }

    /// <summary>Takes a number apart (SDM "FXTRACT"): its exponent, and its significand with its sign.</summary>
    public static (FloatNumber Exponent, FloatNumber Significand) Extract(in FloatNumber number, ref FloatContext context)
    {
        if (!IsNumber(number, ref context, out FloatNumber nan))
        {
            return (nan, nan);
        }

        switch (number.Class)
        {
            case FloatClass.Zero:
                context.Raise(FloatExceptions.DivideByZero);
                return (FloatNumber.Infinity(true), number);
            case FloatClass.Infinity:
                return (FloatNumber.Infinity(false), number);
            default:
                return (FloatNumber.FromInteger(number.Exponent), number with { Exponent = 0 });
        }
    }

    /// <summary>The remainder of a division, or a step toward it (SDM "FPREM", "FPREM1").</summary>
    /// <param name="dividend">The dividend.</param>
    /// <param name="divisor">The divisor.</param>
    /// <param name="nearest">Whether the quotient is rounded to the nearest integer, ties to even, instead of toward zero.</param>
    /// <param name="context">Takes the exceptions.</param>
    /// <param name="quotient">The quotient; null without one.</param>
    public static FloatNumber Remainder(in FloatNumber dividend, in FloatNumber divisor, bool nearest, ref FloatContext context, out RemainderQuotient? quotient)
    {
        quotient = null;
        if (!AreNumbers(dividend, divisor, ref context, out FloatNumber nan))
        {
            return nan;
        }

        if (dividend.Class == FloatClass.Infinity || divisor.Class == FloatClass.Zero)
        {
            context.Raise(FloatExceptions.Invalid);
            return FloatNumber.Indefinite;
        }

        quotient = default(RemainderQuotient);
        if (dividend.Class == FloatClass.Zero || divisor.Class == FloatClass.Infinity)
        {
            return SoftFloat.Round(dividend, Format, ref context);
        }

        int difference = dividend.Exponent - divisor.Exponent;
        if (difference < -1 || (difference == -1 && !nearest))
        {
            return SoftFloat.Round(dividend, Format, ref context);
        }

        bool partial = difference > MaxWholeRemainder;

        // As many bits of a quotient that is not the last as its difference from a multiple of 32 says.
        int bits = partial ? (difference & 31) | 32 : Math.Max(difference, 0);
        (UInt128 whole, UInt128 rest) = difference < 0
            ? (UInt128.Zero, (UInt128)dividend.Significand)
            : UInt128.DivRem((UInt128)dividend.Significand << bits, divisor.Significand);
        UInt128 unit = difference < 0 ? (UInt128)divisor.Significand << 1 : divisor.Significand;
        bool negative = dividend.Negative;
        if (nearest && !partial && (rest << 1 > unit || (rest << 1 == unit && (whole & 1) != 0)))
        {
            whole++;
            rest = unit - rest;
            negative = !negative;
        }

        quotient = new RemainderQuotient((ulong)whole, partial);

        // Bit 127 of the remainder weighs 64 more than the divisor's highest.
        int exponent = divisor.Exponent + 64 + (partial ? difference - bits : difference < 0 ? -1 : 0);
        return rest == 0 ? FloatNumber.Zero(dividend.Negative) : SoftFloat.Round(negative, exponent, rest, Format, ref context);
    }

    // SDM "Rules for Handling NaNs".
    private static bool AreNumbers(in FloatNumber left, in FloatNumber right, ref FloatContext context, out FloatNumber nan)
    {
        nan = FloatNumber.Indefinite;
        if (left.IsInvalid || right.IsInvalid)
        {
            context.Raise(FloatExceptions.Invalid);
        }

        if (left.Class == FloatClass.Unsupported || right.Class == FloatClass.Unsupported)
        {
            return false;
        }

        if (left.IsNan || right.IsNan)
        {
            nan = Choose(left, right).Quieted();
            return false;
        }

        NoteDenormal(left, right, ref context);
        return true;
    }

    private static bool IsNumber(in FloatNumber number, ref FloatContext context, out FloatNumber nan) => AreNumbers(number, number, ref context, out nan);

    // A quiet NaN before a signalling one, then the one with the larger significand, then the positive one.
    private static FloatNumber Choose(in FloatNumber left, in FloatNumber right)
    {
        if (!left.IsNan || !right.IsNan)
        {
            return left.IsNan ? left : right;
        }

        if (left.Class != right.Class)
        {
            return left.Class == FloatClass.QuietNan ? left : right;
        }

        return left.Significand != right.Significand ? (left.Significand > right.Significand ? left : right) : left.Negative ? right : left;
    }

    private static void NoteDenormal(in FloatNumber left, in FloatNumber right, ref FloatContext context)
    {
        if (left.IsDenormal || right.IsDenormal)
        {
            context.Raise(FloatExceptions.Denormal);
        }
    }

    private static int Order(in FloatNumber left, in FloatNumber right)
    {
        int leftSign = left.Class == FloatClass.Zero ? 0 : left.Negative ? -1 : 1;
        int rightSign = right.Class == FloatClass.Zero ? 0 : right.Negative ? -1 : 1;
        if (leftSign != rightSign || leftSign == 0)
        {
            return leftSign - rightSign;
        }

        return leftSign * OrderOfMagnitudes(left, right);
    }

    private static int OrderOfMagnitudes(in FloatNumber left, in FloatNumber right)
    {
        if (left.Class != right.Class)
        {
            return left.Class == FloatClass.Infinity ? 1 : -1;
        }

        return left.Class == FloatClass.Infinity ? 0
            : left.Exponent != right.Exponent ? left.Exponent.CompareTo(right.Exponent)
            : left.Significand.CompareTo(right.Significand);
    }
}
