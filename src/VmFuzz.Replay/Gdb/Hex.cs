using System.Buffers.Binary;

namespace VmFuzz.Replay.Gdb;

/// <summary>Hexadecimal digits as the protocol writes them. Total: what is no number is a value.</summary>
internal static class Hex
{
    private const int NoDigit = 0x100;

    /// <summary>The value of a digit; more than a byte when it is none.</summary>
    public static int Digit(byte value) => value switch
    {
        >= (byte)'0' and <= (byte)'9' => value - '0',
        >= (byte)'a' and <= (byte)'f' => value - 'a' + 10,
        >= (byte)'A' and <= (byte)'F' => value - 'A' + 10,
        _ => NoDigit,
    };

    /// <summary>Takes a number of 1 to 16 digits, the most significant first, from the front.</summary>
    public static bool TryTakeNumber(ref ReadOnlySpan<byte> text, out ulong value)
    {
        value = 0;
        int digits = 0;
        while (digits < text.Length && Digit(text[digits]) != NoDigit)
        {
            if (digits == 16)
            {
                return false;
            }

            value = (value << 4) | (uint)Digit(text[digits++]);
        }

        text = text[digits..];
        return digits != 0;
    }

    /// <summary>Takes two digits for each byte; the text must have exactly as many.</summary>
    public static bool TryBytes(ReadOnlySpan<byte> text, Span<byte> destination)
    {
        if (text.Length != destination.Length * 2)
        {
            return false;
        }

        for (int i = 0; i < destination.Length; i++)
        {
            int value = (Digit(text[2 * i]) << 4) | Digit(text[(2 * i) + 1]);
            if (value > byte.MaxValue)
            {
                return false;
            }

            destination[i] = (byte)value;
        }

        return true;
    }

    /// <summary>Takes a byte if it is the next one.</summary>
    public static bool TryTake(ref ReadOnlySpan<byte> text, byte value)
    {
        bool there = text.Length != 0 && text[0] == value;
        text = there ? text[1..] : text;
        return there;
    }

    /// <summary>Two digits for each byte.</summary>
    public static string Of(ReadOnlySpan<byte> bytes) => Convert.ToHexStringLower(bytes);

    /// <summary>A number as the bytes of little-endian memory.</summary>
    public static ulong FromLittleEndian(ReadOnlySpan<byte> bytes)
    {
        Span<byte> wide = stackalloc byte[8];
        bytes[..Math.Min(8, bytes.Length)].CopyTo(wide);
        return BinaryPrimitives.ReadUInt64LittleEndian(wide);
    }
}
