using System.Collections.Immutable;

namespace VmFuzz.Fuzzing;

/// <summary>
/// A target for fuzzers that know only bytes: any bytes are decoded into an input and run. What a run did goes, beside
/// the coverage map, into counts that such a fuzzer can take as more of the same.
/// </summary>
public sealed class ByteTarget : IDisposable
{
    /// <summary>Counts of semantic features, folded from those of <see cref="FeatureMap"/>; a power of two.</summary>
    public const int FeatureCells = 1 << 14;

    private readonly IFuzzExecutor _executor;
    private readonly FuzzInput _input = new();

    /// <summary>Runs inputs on an executor, which is disposed with this.</summary>
    public ByteTarget(IFuzzExecutor executor)
    {
        ArgumentNullException.ThrowIfNull(executor);
        _executor = executor;
    }

    /// <summary>Runs some bytes.</summary>
    /// <param name="bytes">Any bytes; of many the first <see cref="FuzzLimits.InputBytes"/>.</param>
    /// <param name="features">Where features are added: <see cref="FeatureCells"/> counts, or empty to leave them out.</param>
    /// <returns>What was broken, or null.</returns>
    public Violation? Run(ReadOnlySpan<byte> bytes, Span<byte> features = default)
    {
        FuzzCodec.Decode(bytes, _input, _executor.Target);
        Execution execution = _executor.Run(_input);
        if (!features.IsEmpty)
        {
            FeatureMap map = _executor.Features;
            foreach (ushort cell in map.Touched)
            {
                ref byte count = ref features[cell & (FeatureCells - 1)];
                count = (byte)Math.Min(byte.MaxValue, count + map[cell]);
            }
        }

        return execution.Violation;
    }

    /// <summary>Runs the last bytes again under other conditions and compares. Leaves coverage undefined.</summary>
    /// <returns>What was broken, or null.</returns>
    public Violation? RunDeep() => _executor.RunDeep(_input);

    /// <summary>The bytes in their one form, which means the same to everything that reads inputs: for findings.</summary>
    public byte[] Canonical(ReadOnlySpan<byte> bytes)
    {
        FuzzCodec.Decode(bytes, _input, _executor.Target);
        return FuzzCodec.Encode(_input);
    }

    /// <inheritdoc/>
    public void Dispose() => _executor.Dispose();

    /// <summary>A target by its name, in a shape that can be bound from outside a context of assemblies.</summary>
    /// <param name="target">Name of a row: of <see cref="FuzzTargetRow.BuiltIn"/>, or of a plug-in's.</param>
    /// <param name="plugins">Paths of plug-ins.</param>
    /// <returns>
    /// From bytes, counts of features, and whether only the oracles that cost several runs are wanted, on the same bytes
    /// as last, to what was broken, one line, or null; null when there is no such target.
    /// </returns>
    public static Func<ReadOnlySpan<byte>, Span<byte>, bool, string?>? Open(string target, string[] plugins)
    {
        ArgumentNullException.ThrowIfNull(plugins);
        if (FuzzHost.TryTargets(plugins, out ImmutableArray<FuzzTargetRow> rows, out _) is not null || rows.FirstOrDefault(row => row.Name == target) is not { } row)
        {
            return null;
        }

        ByteTarget opened = new(row.CreateExecutor());
        return (bytes, features, deep) => (deep ? opened.RunDeep() : opened.Run(bytes, features))?.ToString();
    }
}
