using VmFuzz.Arch;

namespace VmFuzz.Replay;

/// <summary><see cref="SplitMixGenerator"/> as an object that keeps the state.</summary>
public sealed class SplitMix(ulong seed)
{
    private ulong _state = seed;

    /// <summary>Begins again from another seed.</summary>
    public void Restart(ulong seed) => _state = seed;

    /// <summary>The next 64 bits.</summary>
    public ulong Next() => SplitMixGenerator.Next(ref _state);

    /// <summary>A number below a bound that is not 0; the bias is below 2^-32 for bounds below 2^32.</summary>
    public ulong Below(ulong bound) => SplitMixGenerator.Below(ref _state, bound);
}
