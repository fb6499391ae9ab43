using System.Runtime.Intrinsics;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>What several packed operations share. All of it is defined by .NET, and the same on every host.</summary>
internal static class Elements
{
    /// <summary>The low half of one vector below the low half of another.</summary>
    public static Vector128<T> Join<T>(Vector128<T> low, Vector128<T> high) => Vector128.Create(low.GetLower(), high.GetLower());

    /// <summary>The elements with even numbers, those of the first source first.</summary>
    public static Vector128<ushort> Even(Vector128<ushort> left, Vector128<ushort> right) => Vector128.Narrow(left.AsUInt32(), right.AsUInt32());

    /// <summary>The elements with odd numbers, those of the first source first.</summary>
    public static Vector128<ushort> Odd(Vector128<ushort> left, Vector128<ushort> right) => Vector128.Narrow(left.AsUInt32() >>> 16, right.AsUInt32() >>> 16);

    /// <summary>The elements with even numbers, those of the first source first.</summary>
    public static Vector128<uint> Even(Vector128<uint> left, Vector128<uint> right) => Vector128.Narrow(left.AsUInt64(), right.AsUInt64());

    /// <summary>The elements with odd numbers, those of the first source first.</summary>
    public static Vector128<uint> Odd(Vector128<uint> left, Vector128<uint> right) => Vector128.Narrow(left.AsUInt64() >>> 32, right.AsUInt64() >>> 32);

    /// <summary>Elements of the low halves by turns.</summary>
    public static Vector128<byte> InterleaveLow(Vector128<byte> left, Vector128<byte> right) =>
        (Vector128.WidenLower(left) | (Vector128.WidenLower(right) << 8)).AsByte();

    /// <summary>Elements of the low halves by turns.</summary>
    public static Vector128<ushort> InterleaveLow(Vector128<ushort> left, Vector128<ushort> right) =>
        (Vector128.WidenLower(left) | (Vector128.WidenLower(right) << 16)).AsUInt16();

    /// <summary>Elements of the low halves by turns.</summary>
    public static Vector128<uint> InterleaveLow(Vector128<uint> left, Vector128<uint> right) =>
        (Vector128.WidenLower(left) | (Vector128.WidenLower(right) << 32)).AsUInt32();

    /// <summary>The upper half moved down, zeros above it.</summary>
    public static Vector128<T> Upper<T>(Vector128<T> value) => value.GetUpper().ToVector128();

    /// <summary>Bytes moved up by a number of places, at most 16; zeros come in.</summary>
    public static Vector128<byte> MoveUp(Vector128<byte> value, int places) => Vector128.Shuffle(value, Vector128<byte>.Indices - Vector128.Create((byte)places));

    /// <summary>Bytes moved down by a number of places, at most 16; zeros come in.</summary>
    public static Vector128<byte> MoveDown(Vector128<byte> value, int places) => Vector128.Shuffle(value, Vector128<byte>.Indices + Vector128.Create((byte)places));

    /// <summary>The value where it is not negative, else its complement to two: the least value stays.</summary>
    public static Vector128<T> Magnitude<T>(Vector128<T> value) => Negate(value, Negative(value));

    /// <summary>The complement to two where a mask has ones.</summary>
    public static Vector128<T> Negate<T>(Vector128<T> value, Vector128<T> mask) => (value ^ mask) - mask;

    /// <summary>All ones in negative elements.</summary>
    public static Vector128<T> Negative<T>(Vector128<T> value) => Vector128.LessThan(value, Vector128<T>.Zero);

    /// <summary>All ones in the elements whose number is a bit of a mask.</summary>
    /// <param name="bits">Element i is 1 shifted by i.</param>
    /// <param name="mask">The mask.</param>
    public static Vector128<T> Chosen<T>(Vector128<T> bits, Vector128<T> mask) => Vector128.Equals(bits & mask, bits);
}
