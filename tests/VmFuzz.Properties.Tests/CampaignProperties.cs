using FsCheck;
using FsCheck.Fluent;
using VmFuzz.Fuzzing;
using VmFuzz.Testing;

namespace VmFuzz.Properties.Tests;

/// <summary>An execution of a campaign can be had again from its index.</summary>
public sealed class CampaignProperties
{
    private const int Executions = 120;

    [Fact]
    public void Rerun_OfAnyExecution_HasTheDigestThatItHad() =>
        Seeds.Check(
            (from target in Gen.Elements(Enum.GetValues<FuzzTarget>())
             from seeds in Gen.NonEmptyListOf(Generators.FuzzInputs(target).Generator)
             from seed in Generators.Word64
             select (Target: target, Seeds: seeds.Take(6).ToArray(), Seed: seed)).ToArbitrary(),
            12,
            static x =>
            {
                DirectoryInfo folder = Directory.CreateTempSubdirectory("vmfuzz-properties-");
                try
                {
                    string seeds = folder.CreateSubdirectory("seeds").FullName;
                    for (int i = 0; i < x.Seeds.Length; i++)
                    {
                        File.WriteAllBytes(Path.Combine(seeds, $"seed{i}"), FuzzCodec.Encode(x.Seeds[i]));
                    }

                    Check(x.Target, x.Seed, seeds, Path.Combine(folder.FullName, "campaign"));
                }
                finally
                {
                    folder.Delete(recursive: true);
                }
            });

    private static void Check(FuzzTarget target, ulong seed, string seeds, string directory)
    {
        FuzzTargetRow row = FuzzTargetRow.BuiltIn.Single(r => r.Kind == target);
        var ran = new Dictionary<string, ulong>(StringComparer.Ordinal);
        ulong end;
        using (IFuzzExecutor executor = row.CreateExecutor())
        {
            var recording = new RecordingExecutor(executor, ran);
            using Campaign campaign = Open(recording, row, seed, seeds, directory, resume: false);
            campaign.Step(Executions, 0);
            end = campaign.Next;
        }

        using IFuzzExecutor fresh = row.CreateExecutor();
        using Campaign again = Open(fresh, row, seed, seeds, directory, resume: true);
        int compared = 0;
        for (ulong execution = 0; execution < end; execution += 9)
        {
            Assert.Null(again.TryRerun(execution, out RerunResult? rerun));
            string input = Convert.ToHexString(FuzzCodec.Encode(rerun!.Made.Input));
            Assert.True(ran.TryGetValue(input, out ulong digest), $"execution {execution} was another input: {rerun.Made.Input}");
            Assert.Equal(digest, rerun.Digest);
            Assert.Equal(rerun.Made.Digest ?? digest, rerun.Digest);
            compared++;
        }

        Assert.True(compared > 5);
    }

    private static Campaign Open(IFuzzExecutor executor, FuzzTargetRow row, ulong seed, string seeds, string directory, bool resume)
    {
        Assert.Null(Campaign.TryOpen(
            new CampaignOptions
            {
                Directory = directory,
                Identity = new CampaignIdentity(row.Name, FuzzMode.Full, seed, CampaignIdentity.EngineOf(MutatorTable.Default, [])),
                Executor = executor,
                Inputs = [seeds],
                Resume = resume,
                DeepEvery = 0,
            },
            out Campaign? campaign));
        return campaign!;
    }

    /// <summary>Notes the digest of every input that runs.</summary>
    private sealed class RecordingExecutor(IFuzzExecutor inner, Dictionary<string, ulong> ran) : IFuzzExecutor
    {
        public FuzzTarget Target => inner.Target;

        public FeatureMap Features => inner.Features;

        public Execution Run(FuzzInput input)
        {
            Execution execution = inner.Run(input);
            ran[Convert.ToHexString(FuzzCodec.Encode(input.Clone()))] = inner.Digest();
            return execution;
        }

        public ulong Digest() => inner.Digest();

        public Violation? RunDeep(FuzzInput input) => inner.RunDeep(input);

        public Violation? Record(FuzzInput input, string path, FuzzOrigin origin) => inner.Record(input, path, origin);

        public void Dispose()
        {
        }
    }
}
