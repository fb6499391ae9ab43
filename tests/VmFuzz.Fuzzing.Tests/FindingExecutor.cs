namespace VmFuzz.Fuzzing.Tests;

/// <summary>Breaks what a function of the input says, without a machine.</summary>
internal sealed class FindingExecutor(Func<FuzzInput, Violation?> breaks) : IFuzzExecutor
{
    private ulong _digest;

    public Func<FuzzInput, Violation?> Deep { get; init; } = static _ => null;

    /// <summary>Added to each digest.</summary>
    public ulong Noise { get; init; }

    public bool Records { get; init; } = true;

    public FuzzTarget Target => FuzzTarget.GuestCode;

    public FeatureMap Features { get; } = new();

    public Execution Run(FuzzInput input)
    {
        _digest = Noise;
        foreach (byte value in FuzzCodec.Encode(input.Clone()))
        {
            _digest = Arch.StateHash.Step(_digest, value);
        }

        return new(breaks(input), Exits: 3, Instructions: 7);
    }

    public ulong Digest() => _digest;

    public Violation? RunDeep(FuzzInput input) => Deep(input);

    public Violation? Record(FuzzInput input, string path, FuzzOrigin origin)
    {
        if (Records)
        {
            File.WriteAllText(path, "a trace");
        }

        return breaks(input);
    }

    public void Dispose()
    {
    }
}
