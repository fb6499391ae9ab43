namespace VmFuzz.Cpu.FloatingPoint;

/// <summary>Floating-point exceptions, with the bits of the x87 status word and of MXCSR.</summary>
[Flags]
public enum FloatExceptions : byte
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>Invalid operation.</summary>
    Invalid = 1 << 0,

    /// <summary>Denormal operand.</summary>
    Denormal = 1 << 1,

    /// <summary>Division of a finite number by zero, or an exact infinity.</summary>
    DivideByZero = 1 << 2,

    /// <summary>Numeric overflow.</summary>
    Overflow = 1 << 3,

    /// <summary>Numeric underflow.</summary>
    Underflow = 1 << 4,

    /// <summary>Inexact result (precision).</summary>
    Inexact = 1 << 5,

    /// <summary>Those that are found before there is a result: unmasked, they leave everything as it is.</summary>
    BeforeResult = Invalid | Denormal | DivideByZero,
}

/// <summary>Rounding, with the numbers of the x87 control word and of MXCSR.</summary>
public enum FloatRounding : byte
{
    /// <summary>To the nearest, ties to even.</summary>
    Nearest = 0,

    /// <summary>Toward minus infinity.</summary>
    Down = 1,

    /// <summary>Toward plus infinity.</summary>
    Up = 2,

    /// <summary>Toward zero.</summary>
    Truncate = 3,
}

/// <summary>How an operation rounds, and what came of it. Made anew for each operation.</summary>
/// <param name="rounding">Rounding direction.</param>
/// <param name="masked">Exceptions that are masked: overflow and underflow have another result when they are not.</param>
/// <param name="precision">Bits of significand that a result is rounded to, if its format has as many.</param>
public struct FloatContext(FloatRounding rounding, FloatExceptions masked, int precision = FloatContext.FullPrecision)
{
    /// <summary>Significand bits of the widest format.</summary>
    public const int FullPrecision = 64;

    /// <summary>Rounding direction.</summary>
    public readonly FloatRounding Rounding => rounding;

    /// <summary>Bits of significand that a result is rounded to.</summary>
    public readonly int Precision => precision;

    /// <summary>The exceptions so far.</summary>
    public FloatExceptions Raised { get; private set; }

    /// <summary>Whether the last rounding made the magnitude larger.</summary>
    public bool RoundedUp { get; set; }

    /// <summary>Whether an unmasked exception was found before there is a result.</summary>
    public readonly bool Stops => IsStopped(FloatExceptions.BeforeResult);

    /// <summary>Whether one of some exceptions was found and is unmasked.</summary>
    public readonly bool IsStopped(FloatExceptions exceptions) => (Raised & ~masked & exceptions) != 0;

    /// <summary>Whether an exception is unmasked.</summary>
    public readonly bool IsUnmasked(FloatExceptions exception) => (exception & ~masked) != 0;

    /// <summary>Where one of some exceptions keeps the result back, leaves no other exception and no rounding.</summary>
    public void KeepBack(FloatExceptions exceptions)
    {
        if (IsStopped(exceptions))
        {
            Raised &= exceptions;
            RoundedUp = false;
        }
    }

    /// <summary>Notes exceptions. Behind an unmasked one that leaves everything as it is there are no others.</summary>
    public void Raise(FloatExceptions exceptions)
    {
        if (!Stops)
        {
            Raised |= exceptions;
        }
    }
}
