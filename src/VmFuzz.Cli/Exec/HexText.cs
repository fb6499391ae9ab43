using System.Buffers;
using System.Globalization;
using VmFuzz.Machines.Vectors;

namespace VmFuzz.Cli.Exec;

/// <summary>Numbers and bytes in hexadecimal digits, as JSON strings hold them.</summary>
internal static class HexText
{
    /// <summary>Digits of the widest register, with its 0x.</summary>
    public const int MostCharacters = 66;

    private const int DigitsOfHalf = 32;

    /// <summary>Reads 0x and 1 to 64 digits.</summary>
    public static bool TryNumber(ReadOnlySpan<byte> text, out VectorValue value)
    {
        value = default;
        if (text.Length is < 3 or > MostCharacters || text[0] != '0' || (text[1] | 0x20) != 'x')
        {
            return false;
        }

        ReadOnlySpan<byte> digits = text[2..];
        int low = Math.Min(digits.Length, DigitsOfHalf);
        if (!TryHalf(digits[^low..], out UInt128 lower) | !TryHalf(digits[..^low], out UInt128 upper))
        {
            return false;
        }

        value = new VectorValue(lower, upper);
        return true;
    }

    /// <summary>Reads pairs of digits.</summary>
    /// <returns>False when something else is there, or half a byte.</returns>
    public static bool TryBytes(ReadOnlySpan<byte> text, Span<byte> bytes) =>
        (text.Length & 1) == 0 && Convert.FromHexString(text, bytes, out _, out _) == OperationStatus.Done;

    /// <summary>Writes 0x and the digits without leading zeros.</summary>
    /// <param name="value">The number.</param>
    /// <param name="text">At least <see cref="MostCharacters"/> long.</param>
    /// <returns>How many characters.</returns>
    public static int Format(in VectorValue value, Span<byte> text)
    {
        text[0] = (byte)'0';
        text[1] = (byte)'x';
        int at = 2;
        if (value.High != 0)
        {
            at += Digits(value.High, "x", text[at..]);
            return at + Digits(value.Low, "x32", text[at..]);
        }

        return at + (value.Low >> 64 == 0 ? Digits((ulong)value.Low, text[at..]) : Digits(value.Low, "x", text[at..]));
    }

    private static int Digits(ulong value, Span<byte> text)
    {
        value.TryFormat(text, out int count, "x", CultureInfo.InvariantCulture);
        return count;
    }

    private static int Digits(UInt128 value, string format, Span<byte> text)
    {
        value.TryFormat(text, out int count, format, CultureInfo.InvariantCulture);
        return count;
    }

    private static bool TryHalf(ReadOnlySpan<byte> digits, out UInt128 value)
    {
        value = 0;
        if (digits.Length > DigitsOfHalf / 2)
        {
            return UInt128.TryParse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out value);
        }

        bool read = ulong.TryParse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong word);
        value = word;
        return read || digits.IsEmpty;
    }
}
