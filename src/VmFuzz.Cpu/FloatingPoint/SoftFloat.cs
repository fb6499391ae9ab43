using System.Numerics;

namespace VmFuzz.Cpu.FloatingPoint;

/// <summary>
/// Arithmetic on finite numbers and infinities, rounded to a format by a context, the same bits on every host. NaNs and
/// denormal operands are looked at before (see <see cref="X87Arithmetic"/>): which NaN wins differs between x87 and SSE.
/// </summary>
public static class SoftFloat
{
    private const int WideBits = 128;

    /// <summary>left + right.</summary>
    public static FloatNumber Add(in FloatNumber left, in FloatNumber right, in FloatFormat format, ref FloatContext context)
    {
        if (left.Class == FloatClass.Infinity || right.Class == FloatClass.Infinity)
        {
            return left.Class == right.Class && left.Negative != right.Negative ? Invalid(ref context)
                : FloatNumber.Infinity(left.Class == FloatClass.Infinity ? left.Negative : right.Negative);
        }

        if (left.Class == FloatClass.Zero && right.Class == FloatClass.Zero)
        {
            return FloatNumber.Zero(left.Negative == right.Negative ? left.Negative : context.Rounding == FloatRounding.Down);
        }

        if (left.Class == FloatClass.Zero || right.Class == FloatClass.Zero)
        {
            return Round(left.Class == FloatClass.Zero ? right : left, format, ref context);
        }

        bool swap = left.Exponent < right.Exponent || (left.Exponent == right.Exponent && left.Significand < right.Significand);
        FloatNumber large = swap ? right : left, small = swap ? left : right;

        // One bit for the carry above, 63 bits and the sticky one below.
        UInt128 one = (UInt128)large.Significand << 63;
        UInt128 other = ShiftRightSticky((UInt128)small.Significand << 63, large.Exponent - small.Exponent);
        UInt128 sum = large.Negative == small.Negative ? one + other : one - other;
        return sum == 0
            ? FloatNumber.Zero(context.Rounding == FloatRounding.Down)
            : Round(large.Negative, large.Exponent + 1, sum, format, ref context);
    }

    /// <summary>left * right.</summary>
    public static FloatNumber Multiply(in FloatNumber left, in FloatNumber right, in FloatFormat format, ref FloatContext context)
    {
        bool negative = left.Negative != right.Negative;
        if (left.Class == FloatClass.Finite && right.Class == FloatClass.Finite)
        {
            ulong high = Math.BigMul(left.Significand, right.Significand, out ulong low);
            return Round(negative, left.Exponent + right.Exponent + 1, new UInt128(high, low), format, ref context);
        }

        bool infinite = left.Class == FloatClass.Infinity || right.Class == FloatClass.Infinity;
        bool zero = left.Class == FloatClass.Zero || right.Class == FloatClass.Zero;
        return infinite && zero ? Invalid(ref context)
            : infinite ? FloatNumber.Infinity(negative) : FloatNumber.Zero(negative);
    }

    /// <summary>left / right.</summary>
    public static FloatNumber Divide(in FloatNumber left, in FloatNumber right, in FloatFormat format, ref FloatContext context)
    {
        bool negative = left.Negative != right.Negative;
        if (left.Class != FloatClass.Finite || right.Class != FloatClass.Finite)
        {
            if (left.Class == right.Class)
            {
                return Invalid(ref context);
            }

            if (left.Class == FloatClass.Finite && right.Class == FloatClass.Zero)
            {
                context.Raise(FloatExceptions.DivideByZero);
            }

            return left.Class == FloatClass.Infinity || right.Class == FloatClass.Zero ? FloatNumber.Infinity(negative) : FloatNumber.Zero(negative);
        }

        // 126 or 127 bits of quotient in two steps.
        (UInt128 first, UInt128 rest) = UInt128.DivRem((UInt128)left.Significand << 63, right.Significand);
        (UInt128 second, rest) = UInt128.DivRem(rest << 63, right.Significand);
        UInt128 quotient = (first << 63) + second;
        return Round(negative, left.Exponent - right.Exponent + 1, quotient | (rest == 0 ? UInt128.Zero : UInt128.One), format, ref context);
    }

    /// <summary>The square root.</summary>
    public static FloatNumber SquareRoot(in FloatNumber number, in FloatFormat format, ref FloatContext context)
    {
        if (number.Class == FloatClass.Zero || (number.Class == FloatClass.Infinity && !number.Negative))
        {
            return number;
        }

        if (number.Negative)
        {
            return Invalid(ref context);
        }

        // Digit by digit; the radicand is the significand as a number of one or two integer bits, so that the exponent is even.
        int odd = number.Exponent & 1;
        UInt128 radicand = (UInt128)number.Significand << (63 + odd);
        UInt128 root = 0, rest = 0;
        const int digits = 66;
        for (int i = 0; i < digits; i++)
        {
            rest = (rest << 2) | (i < WideBits / 2 ? (radicand >> (WideBits - 2 - (2 * i))) & 3 : 0);
            root <<= 1;
            UInt128 trial = (root << 1) | 1;
            if (rest >= trial)
            {
                rest -= trial;
                root |= 1;
            }
        }

        return Round(false, (number.Exponent - odd) / 2, (root << (WideBits - digits)) | (rest == 0 ? UInt128.Zero : UInt128.One), format, ref context);
    }

    /// <summary>Rounds a number to a format.</summary>
    public static FloatNumber Round(in FloatNumber number, in FloatFormat format, ref FloatContext context) => number.Class == FloatClass.Finite
        ? Round(number.Negative, number.Exponent, (UInt128)number.Significand << 64, format, ref context)
        : number;

    /// <summary>Rounds to an integer.</summary>
    /// <param name="number">A finite number or zero.</param>
    /// <param name="rounding">Rounding direction, which may not be the context's.</param>
    /// <param name="context">Takes <see cref="FloatExceptions.Inexact"/>.</param>
    public static FloatNumber RoundToIntegral(in FloatNumber number, FloatRounding rounding, ref FloatContext context)
    {
        if (number.Class != FloatClass.Finite || number.Exponent >= 63)
        {
            return number;
        }

        FloatNumber rounded = RoundAt(number.Negative, number.Exponent, (UInt128)number.Significand << 64, number.Exponent + 1, rounding, out bool inexact, out bool up);
        Note(inexact, up, FloatExceptions.Inexact, ref context);
        return rounded;
    }

    /// <summary>The magnitude of an integral number below 2^64.</summary>
    public static ulong Magnitude(in FloatNumber integral) => integral.Class == FloatClass.Zero ? 0 : integral.Significand >> (63 - integral.Exponent);

    /// <summary>Rounds an exact value, or one whose lowest bit says that there is more, to a format.</summary>
    /// <param name="negative">The sign.</param>
    /// <param name="exponent">The power of two of bit 127.</param>
    /// <param name="significand">Not zero.</param>
    /// <param name="format">The format.</param>
    /// <param name="context">How, and what comes of it.</param>
    public static FloatNumber Round(bool negative, int exponent, UInt128 significand, in FloatFormat format, ref FloatContext context)
    {
        int zeros = (int)UInt128.LeadingZeroCount(significand);
        exponent -= zeros;
        significand <<= zeros;
        int precision = Math.Min(context.Precision, format.Precision);
        FloatNumber rounded = RoundAt(negative, exponent, significand, precision, context.Rounding, out bool inexact, out bool up);
        if (rounded.Exponent > format.Bias)
        {
            return Overflow(rounded, inexact, up, precision, format, ref context);
        }

        if (rounded.Exponent >= format.MinExponent)
        {
            Note(inexact, up, FloatExceptions.Inexact, ref context);
            return rounded;
        }

        // SDM "Numeric Underflow Exception (#U)": tiny after rounding with an exponent without bounds.
        if (context.IsUnmasked(FloatExceptions.Underflow))
        {
            context.Raise(FloatExceptions.Underflow);
            int adjusted = rounded.Exponent + format.TrapAdjustment;
            bool within = adjusted >= format.MinExponent;
            Note(inexact || !within, up && within, FloatExceptions.Inexact, ref context);
            return within ? rounded with { Exponent = adjusted } : FloatNumber.Zero(negative);
        }

        rounded = RoundAt(negative, exponent, significand, precision - (format.MinExponent - exponent), context.Rounding, out inexact, out up);
        Note(inexact, up, FloatExceptions.Underflow | FloatExceptions.Inexact, ref context);
        return rounded;
    }

    /// <summary>Shifts right; a bit that is lost leaves the lowest one set.</summary>
    internal static UInt128 ShiftRightSticky(UInt128 value, int count)
    {
        if (count >= WideBits)
        {
            return value == 0 ? 0 : UInt128.One;
        }

        UInt128 shifted = value >> count;
        return shifted << count == value ? shifted : shifted | 1;
    }

    private static FloatNumber Overflow(in FloatNumber rounded, bool inexact, bool up, int precision, in FloatFormat format, ref FloatContext context)
    {
        context.Raise(FloatExceptions.Overflow);
        if (context.IsUnmasked(FloatExceptions.Overflow) && rounded.Exponent - format.TrapAdjustment is var adjusted && adjusted <= format.Bias)
        {
            Note(inexact, up, FloatExceptions.Inexact, ref context);
            return rounded with { Exponent = adjusted };
        }

        // Too large even for the adjustment, which only scaling can be: an infinity, whatever the rounding.
        bool infinite = context.IsUnmasked(FloatExceptions.Overflow) || context.Rounding switch
        {
            FloatRounding.Nearest => true,
            FloatRounding.Down => rounded.Negative,
            FloatRounding.Up => !rounded.Negative,
            _ => false,
        };
        Note(true, infinite, FloatExceptions.Inexact, ref context);
        return infinite
            ? FloatNumber.Infinity(rounded.Negative)
            : new FloatNumber(FloatClass.Finite, rounded.Negative, format.Bias, ulong.MaxValue << (64 - precision));
    }

    // Keeps some of the highest bits of a significand whose bit 127 is set; none or less than none when all of it is below.
    private static FloatNumber RoundAt(bool negative, int exponent, UInt128 significand, int keep, FloatRounding rounding, out bool inexact, out bool up)
    {
        int drop = WideBits - keep;
        UInt128 kept = drop >= WideBits ? 0 : significand >> drop;
        UInt128 rest = drop >= WideBits ? significand : significand & ((UInt128.One << drop) - 1);
        inexact = rest != 0;
        up = rounding switch
        {
            FloatRounding.Nearest => drop <= WideBits && IsAboveHalf(kept, rest, UInt128.One << (drop - 1)),
            FloatRounding.Down => negative && inexact,
            FloatRounding.Up => !negative && inexact,
            _ => false,
        };
        kept += up ? 1U : 0;
        if (kept == 0)
        {
            return FloatNumber.Zero(negative);
        }

        // One more bit than kept where the carry ran through; then the others are zero.
        int top = WideBits - 1 - (int)UInt128.LeadingZeroCount(kept);
        return new FloatNumber(FloatClass.Finite, negative, exponent - keep + 1 + top, top > 63 ? 1UL << 63 : (ulong)kept << (63 - top));
    }

    private static bool IsAboveHalf(UInt128 kept, UInt128 rest, UInt128 half) => rest > half || (rest == half && (kept & 1) != 0);

    private static void Note(bool inexact, bool up, FloatExceptions exceptions, ref FloatContext context)
    {
        context.RoundedUp = up;
        if (inexact)
        {
            context.Raise(exceptions);
        }
    }

    private static FloatNumber Invalid(ref FloatContext context)
    {
        context.Raise(FloatExceptions.Invalid);
        return FloatNumber.Indefinite;
    }
}
