namespace VmFuzz.Arch;

/// <summary>SplitMix64: a small generator whose sequence is the same everywhere. Not for secrets.</summary>
public static class SplitMixGenerator
{
    /// <summary>The next 64 bits.</summary>
    /// <param name="state">The generator's whole state; the seed at first.</param>
    public static ulong Next(ref ulong state)
    {
        state += 0x9E37_79B9_7F4A_7C15UL;
        ulong x = state;
        x = (x ^ (x >> 30)) * 0xBF58_476D_1CE4_E5B9UL;
        x = (x ^ (x >> 27)) * 0x94D0_49BB_1331_11EBUL;
        return x ^ (x >> 31);
    }

    /// <summary>A number below a bound that is not 0; the bias is below 2^-32 for bounds below 2^32.</summary>
    /// <param name="state">The generator's whole state.</param>
    /// <param name="bound">The bound.</param>
    public static ulong Below(ref ulong state, ulong bound) => Math.BigMul(Next(ref state), bound, out _);
}
