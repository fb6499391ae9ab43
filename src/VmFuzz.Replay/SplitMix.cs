using VmFuzz.Arch;

namespace VmFuzz.Replay;

/// <summary><see cref="SplitMix64"/> as an object that keeps the state.</summary>
public sealed class SplitMix(ulong seed)
{
    private ulong _state = seed;

    /// <summary>Begins again from another seed.</summary>
    public void Restart(ulong seed) => _state = seed;

    /// <summary>The next 64 bits.</summary>
    public ulong Next() => SplitMix64.Next(ref _state);

    /// <summary>A number below a bound that is not 0; the bias is below 2^-32 for bounds below 2^32.</summary>
    public ulong Below(ulong bound) => SplitMix64.Below(ref _state, bound);
}
