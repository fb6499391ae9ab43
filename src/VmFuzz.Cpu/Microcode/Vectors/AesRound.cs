using System.Collections.Immutable;
using System.Runtime.Intrinsics;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>The steps of an AES round (FIPS 197). A state's byte 4c + r is in row r of column c.</summary>
internal static class AesRound
{
    private static readonly ImmutableArray<byte> Box = MakeBox();
    private static readonly ImmutableArray<byte> InverseBox = [.. Enumerable.Range(0, 256).Select(static value => (byte)Box.IndexOf((byte)value))];

    /// <summary>ShiftRows, then SubBytes.</summary>
    public static Vector128<byte> Encrypt(Vector128<byte> state) =>
        Substitute(Vector128.Shuffle(state, Vector128.Create((byte)0, 5, 10, 15, 4, 9, 14, 3, 8, 13, 2, 7, 12, 1, 6, 11)), Box);

    /// <summary>InvShiftRows, then InvSubBytes.</summary>
    public static Vector128<byte> Decrypt(Vector128<byte> state) =>
        Substitute(Vector128.Shuffle(state, Vector128.Create((byte)0, 13, 10, 7, 4, 1, 14, 11, 8, 5, 2, 15, 12, 9, 6, 3)), InverseBox);

    /// <summary>MixColumns: each byte is twice itself, three times the next of its column, and the other two.</summary>
    public static Vector128<byte> MixColumns(Vector128<byte> state)
    {
        Vector128<byte> next = Next(state, 1);
        return Twice(state ^ next) ^ next ^ Next(state, 2) ^ Next(state, 3);
    }

    /// <summary>InvMixColumns: MixColumns after four times the byte and the next but one were added.</summary>
    public static Vector128<byte> InverseMixColumns(Vector128<byte> state) => MixColumns(state ^ Twice(Twice(state ^ Next(state, 2))));

    /// <summary>SDM "AESKEYGENASSIST": words 1 and 3 substituted, each as it is and rotated with the round's constant.</summary>
    public static Vector128<byte> KeyWords(Vector128<byte> source, byte constant)
    {
        Vector128<uint> words = Substitute(source, Box).AsUInt32();
        return Vector128.Create(
            words[1], uint.RotateRight(words[1], 8) ^ constant, words[3], uint.RotateRight(words[3], 8) ^ constant).AsByte();
    }

    // Each byte is the one so many rows below it in its column.
    private static Vector128<byte> Next(Vector128<byte> state, int rows) =>
        ((state.AsUInt32() >>> (8 * rows)) | (state.AsUInt32() << (32 - (8 * rows)))).AsByte();

    // Times x modulo x^8 + x^4 + x^3 + x + 1.
    private static Vector128<byte> Twice(Vector128<byte> value) => (value << 1) ^ (Elements.Negative(value.AsSByte()).AsByte() & Vector128.Create((byte)0x1B));

    private static Vector128<byte> Substitute(Vector128<byte> state, ImmutableArray<byte> box)
    {
        Span<byte> bytes = stackalloc byte[Vector128<byte>.Count];
        state.CopyTo(bytes);
        foreach (ref byte value in bytes)
        {
            value = box[value];
        }

        return Vector128.Create<byte>(bytes);
    }

    // The inverse of a value in the field, then an affine transformation. 3 generates the field: as one value goes through its
    // powers, another goes through their inverses, which are the powers of 1/3.
    private static ImmutableArray<byte> MakeBox()
    {
        byte[] box = new byte[256];
        box[0] = 0x63;
        byte value = 1, inverse = 1;
        do
        {
            value = (byte)(value ^ (value << 1) ^ ((value & 0x80) != 0 ? 0x1B : 0));
            inverse ^= (byte)(inverse << 1);
            inverse ^= (byte)(inverse << 2);
            inverse ^= (byte)(inverse << 4);
            inverse ^= (byte)((inverse & 0x80) != 0 ? 0x09 : 0);
            box[value] = (byte)(inverse ^ byte.RotateLeft(inverse, 1) ^ byte.RotateLeft(inverse, 2) ^ byte.RotateLeft(inverse, 3) ^ byte.RotateLeft(inverse, 4) ^ 0x63);
        }
        while (value != 1);

        return [.. box];
    }
}
