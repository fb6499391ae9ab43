namespace VmFuzz.Replay;

/// <summary>SplitMix64: a small generator whose sequence is the same everywhere. Not for secrets.</summary>
public sealed class SplitMix(ulong seed)
{
    private ulong _state = seed;

    /// <summary>Begins again from another seed.</summary>
    public void Restart(ulong seed) => _state = seed;

    /// <summary>The next 64 bits.</summary>
    public ulong Next()
    {
        _state += 0x9E37_79B9_7F4A_7C15UL;
        ulong x = _state;
        x = (x ^ (x >> 30)) * 0xBF58_476D_1CE4_E5B9UL;
        x = (x ^ (x >> 27)) * 0x94D0_49BB_1331_11EBUL;
        return x ^ (x >> 31);
    }

    /// <summary>A number below a bound that is not 0; the bias is below 2^-32 for bounds below 2^32.</summary>
    public ulong Below(ulong bound) => Math.BigMul(Next(), bound, out _);
}
