using System.Buffers.Binary;
using System.Text;
using System.Text.Json;
using VmFuzz.Coverage;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary>Runs inputs and says what each reached: probes with the bucket of their counts, and semantic features.</summary>
internal sealed class CoverRunner
{
    private readonly Func<byte[], byte[]> _run;

    private CoverRunner(Func<byte[], byte[]> run) => _run = run;

    /// <summary>Puts probes into the assemblies and opens a target among them.</summary>
    public static CoverRunner Open(FuzzTargetRow target, FuzzPlugins plugins)
    {
        CoverageLoader loader = HostLoader.Instrument(plugins.Paths);
        string[] what = [target.Name, .. plugins.Paths];
        if (loader.TryBind(typeof(CoverRunner).Assembly.GetName().Name!, typeof(CoverRunner).FullName!, nameof(OpenInside), out Func<byte[], Func<byte[], byte[]>> open) is { } error)
        {
            throw UserError.At($"the targets cannot be loaded ({error})", AppContext.BaseDirectory, "reinstall");
        }

        return new CoverRunner(open(JsonSerializer.SerializeToUtf8Bytes(new Setup(what, loader.FirstProbe, loader.Cells))));
    }

    /// <summary>What an input reaches: numbers of cells, ascending, as little-endian words.</summary>
    public byte[] Run(byte[] input) => _run(input);

    // Called among the instrumented assemblies, where only bytes arrive.
    private static Func<byte[], byte[]> OpenInside(byte[] setup)
    {
        Setup what = JsonSerializer.Deserialize<Setup>(Encoding.UTF8.GetString(setup))!;
        FuzzTargetRow target = FuzzPlugins.Load(what.Names[1..]).Find(what.Names[0])!;
        IFuzzExecutor executor = target.CreateExecutor();
        var input = new FuzzInput();
        return bytes =>
        {
            // What only one of two runs reaches is the doing of a cache, not of the input.
            FuzzCodec.Decode(bytes, input);
            HashSet<uint> first = Reach(executor, input, what);
            List<uint> cells = [.. Reach(executor, input, what).Where(first.Contains).Order()];
            var answer = new byte[cells.Count * sizeof(uint)];
            for (int i = 0; i < cells.Count; i++)
            {
                BinaryPrimitives.WriteUInt32LittleEndian(answer.AsSpan(i * sizeof(uint)), cells[i]);
            }

            return answer;
        };
    }

    private static HashSet<uint> Reach(IFuzzExecutor executor, FuzzInput input, Setup what)
    {
        CoverageMap.Clear();
        executor.Run(input);
        var cells = new HashSet<uint>();
        Span<byte> counts = CoverageMap.Counts.Slice(what.FirstProbe, what.Probes);
        CoverageCounts.Classify(counts, counts);
        for (int i = 0; i < counts.Length; i++)
        {
            if (counts[i] != 0)
            {
                cells.Add(((uint)i << 8) | counts[i]);
            }
        }

        foreach (ushort feature in executor.Features.Touched)
        {
            cells.Add((1U << 31) | feature);
        }

        return cells;
    }

    private sealed record Setup(string[] Names, int FirstProbe, int Probes);
}
