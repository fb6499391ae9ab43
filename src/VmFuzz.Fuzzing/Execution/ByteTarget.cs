using System.Runtime.Loader;

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
    /// <param name="plugin">Simple name of the plug-in's assembly, which this context can load; empty for none.</param>
    /// <returns>From bytes and counts of features to what was broken, one line, or null; null when there is no such target.</returns>
    public static Func<ReadOnlySpan<byte>, Span<byte>, string?>? Open(string target, string plugin)
    {
        ArgumentNullException.ThrowIfNull(plugin);
        foreach (FuzzTargetRow row in Rows(plugin))
        {
            if (row.Name == target)
            {
                ByteTarget opened = new(row.CreateExecutor());
                return (bytes, features) => opened.Run(bytes, features)?.ToString();
            }
        }

        return null;
    }

    /// <summary>Names of the targets, a plug-in's included, in their order.</summary>
    /// <param name="plugin">As for <see cref="Open"/>.</param>
    public static string[] Names(string plugin)
    {
        ArgumentNullException.ThrowIfNull(plugin);
        return [.. Rows(plugin).Select(static row => row.Name)];
    }

    // The plug-in binds to the assemblies of the context that this code is in.
    private static IEnumerable<FuzzTargetRow> Rows(string plugin)
    {
        if (plugin.Length == 0)
        {
            return FuzzTargetRow.BuiltIn;
        }

        AssemblyLoadContext home = AssemblyLoadContext.GetLoadContext(typeof(ByteTarget).Assembly)!;
        Type[] types = home.LoadFromAssemblyName(new(plugin)).GetExportedTypes();
        Type[] offers = [.. types.Where(static type => !type.IsAbstract && type.IsAssignableTo(typeof(IFuzzPlugin)))];
        Array.Sort(offers, static (a, b) => string.CompareOrdinal(a.FullName, b.FullName));
        return FuzzTargetRow.BuiltIn.AddRange(offers.SelectMany(static type => ((IFuzzPlugin)Activator.CreateInstance(type)!).Targets));
    }
}
