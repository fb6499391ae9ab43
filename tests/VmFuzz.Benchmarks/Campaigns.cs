using VmFuzz.Fuzzing;

namespace VmFuzz.Benchmarks;

/// <summary>What a campaign does around a run: choose, mutate, clear and merge. The run itself is next to nothing.</summary>
internal static class Campaigns
{
    private const int Executions = 50_000;

    public static Func<long> Create(FuzzTarget target, FuzzMode mode)
    {
        Campaign? campaign = null;
        return () =>
        {
            campaign ??= Open(target, mode);
            campaign.Step(Executions, 0);
            return Executions;
        };
    }

    private static Campaign Open(FuzzTarget target, FuzzMode mode)
    {
        string directory = Directory.CreateTempSubdirectory("vmfuzz-benchmark-").FullName;
        AppDomain.CurrentDomain.ProcessExit += (_, _) => Directory.Delete(directory, recursive: true);
        Probes probes = new();
        CampaignOptions options = new()
        {
            Directory = directory,
            Identity = new CampaignIdentity("benchmark", mode, 1, "benchmark"),
            Executor = new Nothing(probes, target),
            Probes = probes,
            DeepEvery = 0,
        };
        if (Campaign.TryOpen(options, out Campaign? campaign) is { } bad)
        {
            throw new InvalidOperationException(bad);
        }

        // Until the corpus is full.
        campaign!.Step(4 * Executions, 0);
        return campaign;
    }

    /// <summary>16 Ki probes, of which a run hits a few hundred.</summary>
    private sealed class Probes : ProbeSource
    {
        private readonly byte[] _counts = new byte[16 << 10];

        public override Span<byte> Counts => _counts;

        public override void Clear() => Array.Clear(_counts);
    }

    private sealed class Nothing(Probes probes, FuzzTarget target) : IFuzzExecutor
    {
        public FuzzTarget Target => target;

        public FeatureMap Features { get; } = new();

        public Execution Run(FuzzInput input)
        {
            Features.Clear();
            Span<byte> counts = probes.Counts;
            for (int i = 0; i < 400; i++)
            {
                counts[((i & ~7) * 37) + (i & 7)] = 1;
            }

            for (ulong i = 0; i < 30; i++)
            {
                Features.Add(i);
            }

            // What the corpus grows by: an exit of each reason, a field, a byte of code.
            foreach (MadeExit exit in input.Exits)
            {
                counts[(int)(1 + ((exit.Exit.Reason & 63) * 37))] = 1;
            }

            foreach (FieldOverride field in input.Vmcs)
            {
                counts[2 + (37 * ((int)field.Field & 255))] = 1;
            }

            foreach (byte value in input.Code)
            {
                counts[3 + (37 * value)] = 1;
            }

            return new Execution(null, (ulong)input.Exits.Count, (ulong)input.Code.Count);
        }

        public ulong Digest() => 0;

        public Violation? RunDeep(FuzzInput input) => null;

        public Violation? Record(FuzzInput input, string path, FuzzOrigin origin) => null;

        public void Dispose()
        {
        }
    }
}
