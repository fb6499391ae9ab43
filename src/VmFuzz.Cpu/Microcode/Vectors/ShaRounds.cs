using System.Runtime.Intrinsics;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>Rounds and message schedules of SHA-1 and SHA-256 (FIPS 180-4). Of four words the first is the highest element.</summary>
internal static class ShaRounds
{
    /// <summary>SDM "SHA1RNDS4": four rounds of A, B, C and D with words of the schedule, E in the first of them.</summary>
    public static Vector128<uint> Sha1Rounds(Vector128<uint> state, Vector128<uint> schedule, byte kind)
    {
        (uint a, uint b, uint c, uint d, uint e) = (state[3], state[2], state[1], state[0], 0);
        for (int i = 3; i >= 0; i--)
        {
            (uint mixed, uint constant) = (kind & 3) switch
            {
                0 => (Choose(b, c, d), 0x5A82_7999U),
                1 => (b ^ c ^ d, 0x6ED9_EBA1U),
                2 => (Majority(b, c, d), 0x8F1B_BCDCU),
                _ => (b ^ c ^ d, 0xCA62_C1D6U),
            };
            uint next = mixed + uint.RotateLeft(a, 5) + schedule[i] + e + constant;
            (a, b, c, d, e) = (next, a, uint.RotateLeft(b, 30), c, d);
        }

        return Vector128.Create(d, c, b, a);
    }

    /// <summary>SDM "SHA1MSG2".</summary>
    public static Vector128<uint> Sha1Schedule(Vector128<uint> left, Vector128<uint> right)
    {
        uint w16 = uint.RotateLeft(left[3] ^ right[2], 1);
        return Vector128.Create(
            uint.RotateLeft(left[0] ^ w16, 1), uint.RotateLeft(left[1] ^ right[0], 1), uint.RotateLeft(left[2] ^ right[1], 1), w16);
    }

    /// <summary>SDM "SHA256RNDS2": two rounds of A, B, E and F (second source) and C, D, G and H (first source).</summary>
    public static Vector128<uint> Sha256Rounds(Vector128<uint> cdgh, Vector128<uint> abef, Vector128<uint> schedule)
    {
        (uint a, uint b, uint c, uint d) = (abef[3], abef[2], cdgh[3], cdgh[2]);
        (uint e, uint f, uint g, uint h) = (abef[1], abef[0], cdgh[1], cdgh[0]);
        for (int i = 0; i < 2; i++)
        {
            uint first = Choose(e, f, g) + Rotations(e, 6, 11, 25) + schedule[i] + h;
            uint second = Majority(a, b, c) + Rotations(a, 2, 13, 22);
            (a, b, c, d, e, f, g, h) = (first + second, a, b, c, first + d, e, f, g);
        }

        return Vector128.Create(f, e, b, a);
    }

    /// <summary>SDM "SHA256MSG1".</summary>
    public static Vector128<uint> Sha256ScheduleFirst(Vector128<uint> left, Vector128<uint> right) => Vector128.Create(
        left[0] + FirstSigma(left[1]), left[1] + FirstSigma(left[2]), left[2] + FirstSigma(left[3]), left[3] + FirstSigma(right[0]));

    /// <summary>SDM "SHA256MSG2".</summary>
    public static Vector128<uint> Sha256ScheduleSecond(Vector128<uint> left, Vector128<uint> right)
    {
        uint w16 = left[0] + SecondSigma(right[2]);
        uint w17 = left[1] + SecondSigma(right[3]);
        return Vector128.Create(w16, w17, left[2] + SecondSigma(w16), left[3] + SecondSigma(w17));
    }

    private static uint Choose(uint x, uint y, uint z) => (x & y) ^ (~x & z);

    private static uint Majority(uint x, uint y, uint z) => (x & y) ^ (x & z) ^ (y & z);

    private static uint Rotations(uint x, int first, int second, int third) => uint.RotateRight(x, first) ^ uint.RotateRight(x, second) ^ uint.RotateRight(x, third);

    private static uint FirstSigma(uint x) => uint.RotateRight(x, 7) ^ uint.RotateRight(x, 18) ^ (x >> 3);

    private static uint SecondSigma(uint x) => uint.RotateRight(x, 17) ^ uint.RotateRight(x, 19) ^ (x >> 10);
}
