using System.Text;
using VmFuzz.Replay;

namespace VmFuzz.Fuzzing.Tests;

public sealed class CampaignTests : IDisposable
{
    private readonly CampaignFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(FuzzMode.Full)]
    [InlineData(FuzzMode.Coverage)]
    [InlineData(FuzzMode.Structure)]
    [InlineData(FuzzMode.Random)]
    public void Campaign_SameSeedInOtherSteps_LeavesTheSameDirectory(FuzzMode mode)
    {
        int executions = mode == FuzzMode.Coverage ? 2000 : 10_000;
        CampaignStatus[] status = new CampaignStatus[2];
        for (int i = 0; i < 2; i++)
        {
            using Campaign campaign = _folder.Open($"w{i}", mode: mode);
            SplitMix sizes = new((ulong)i);
            for (int left = executions; left > 0;)
            {
                int size = i == 0 ? executions : Math.Min(left, 1 + (int)sizes.Below(777));
                status[i] = campaign.Step(size, (ulong)((i * 1000) + (executions - left)));
                left -= size;
            }
        }

        Assert.Equal(CampaignFolder.Content(_folder.At("w0")), CampaignFolder.Content(_folder.At("w1")));
        Assert.Equal((ulong)executions, status[0].Executions);
        Assert.Equal(status[0].Corpus, status[1].Corpus);
        Assert.Equal(status[0].Findings.Select(static f => (f.Key, f.Count)), status[1].Findings.Select(static f => (f.Key, f.Count)));
        bool learns = mode is FuzzMode.Full or FuzzMode.Coverage;
        Assert.Equal(learns, status[0].Corpus > 10);
        Assert.Equal(learns, status[0].ProbesSeen > 0);
    }

    [Fact]
    public void Campaign_OtherSeed_LeavesAnotherDirectory()
    {
        foreach (ulong seed in new ulong[] { 1, 2 })
        {
            using Campaign campaign = _folder.Open($"w{seed}", seed: seed);
            campaign.Step(2000, 0);
        }

        Assert.NotEqual(CampaignFolder.Content(_folder.At("w1")).Keys, CampaignFolder.Content(_folder.At("w2")).Keys);
    }

    [Theory]
    [InlineData(FuzzMode.Full)]
    [InlineData(FuzzMode.Coverage)]
    [InlineData(FuzzMode.Structure)]
    [InlineData(FuzzMode.Random)]
    public void InputOf_AnyExecutionOfAnySession_IsWhatRan(FuzzMode mode)
    {
        int executions = mode == FuzzMode.Coverage ? 2000 : 9000;
        var ran = new SortedDictionary<ulong, byte[]>();
        Campaign? running = null;
        void Note(FuzzInput input) => ran.TryAdd(running!.Next, FuzzCodec.Encode(input));
        for (int session = 0; session < 3; session++)
        {
            // Loading runs inputs too; those are not executions.
            bool loading = true;
            using Campaign campaign = _folder.Open("w", resume: session != 0, mode: mode, before: i =>
            {
                if (!loading)
                {
                    Note(i);
                }
            });
            running = campaign;
            int loads = mode is FuzzMode.Full or FuzzMode.Coverage ? campaign.Status().Corpus : 0;
            campaign.Step(mode == FuzzMode.Structure ? campaign.Status().Corpus : loads, 0);
            loading = false;
            campaign.Step(executions, 0);
        }

        Assert.True(ran.Count >= 3 * (executions - 100));
        Corpus.TryOpen(_folder.At("w"), static _ => { }, out Corpus? corpus);
        SplitMix random = new(1);
        ulong[] indexes = [.. ran.Keys];
        for (int i = 0; i < 60; i++)
        {
            ulong index = i < 4 ? indexes[i] : indexes[random.Below((ulong)indexes.Length)];
            Assert.Null(CampaignHistory.TryInputOf(corpus!, CampaignFolder.Identity(mode: mode), FuzzTarget.ExitHandlers, index, out MadeInput? made));
            Assert.Equal(ran[index], FuzzCodec.Encode(made!.Input));
        }

        Assert.NotNull(CampaignHistory.TryInputOf(corpus!, CampaignFolder.Identity(mode: mode), FuzzTarget.ExitHandlers, 1UL << 50, out _));
    }

    [Fact]
    public void Rerun_OfASampledExecution_GivesTheDigestNoted()
    {
        using Campaign campaign = _folder.Open("w");
        campaign.Step(9000, 0);
        int noted = 0;
        for (ulong execution = 0; execution < 8192; execution += 4)
        {
            Assert.Null(campaign.TryInputOf(execution, out MadeInput? made));
            if (made!.Digest is { } digest)
            {
                Assert.Null(campaign.TryRerun(execution, out RerunResult? again));
                Assert.Equal(digest, again!.Digest);
                noted++;
            }

            execution += execution > 16 ? 500UL : 0;
        }

        Assert.NotEqual(0, noted);
    }

    [Fact]
    public void Campaign_UnstableProbe_CountsItOutAndKeepsNothingForIt()
    {
        FakeProbes probes = new();
        using FakeExecutor executor = new(probes) { Unstable = true, Breaks = false };
        using Campaign campaign = CampaignFolder.Open(CampaignFolder.Options(_folder.At("w"), executor, probes));
        CampaignStatus status = campaign.Step(5000, 0);
        Assert.InRange(status.Stability, 9000, 9999);
        using Campaign stable = _folder.Open("v");
        Assert.Equal(10_000, stable.Step(5000, 0).Stability);
    }

    [Fact]
    public void Campaign_Findings_AreSavedOncePerKey()
    {
        using Campaign campaign = _folder.Open("w");
        CampaignStatus status = campaign.Step(20_000, 0);
        Assert.True(status.Findings.Count >= 2);
        Assert.Equal(status.Findings.Count, Directory.GetFiles(_folder.At("w/crashes")).Length);
        Assert.All(status.Findings, f => Assert.True(File.Exists(_folder.At("w/" + f.File))));
        Assert.Contains(status.Findings, static f => f.Count > 1);
        Assert.Equal(status.Findings.Count, status.Findings.Select(static f => f.Key).Distinct(StringComparer.Ordinal).Count());
    }

    [Fact]
    public void Campaign_OneInManyAndMoreOfWhatIsKept_AreRunDeeply()
    {
        FakeProbes probes = new();
        using FakeExecutor executor = new(probes) { Breaks = false };
        using Campaign campaign = CampaignFolder.Open(CampaignFolder.Options(_folder.At("w"), executor, probes));
        CampaignStatus status = campaign.Step(6400, 0);
        Assert.Equal((ulong)executor.DeepRuns, status.DeepRuns);

        // One in 64 of all, one in 8 of those kept.
        double expected = (6400 / 64.0) + (status.Corpus * (1 / 8.0 - (1 / 64.0)));
        Assert.InRange(executor.DeepRuns, expected * 0.7, expected * 1.4);
    }

    [Fact]
    public void Campaign_InputsAndForeignFiles_AreSeedsOnce()
    {
        Directory.CreateDirectory(_folder.At("seeds"));
        File.WriteAllBytes(_folder.At("seeds/a"), [0, 1, 2, 3]);
        File.WriteAllBytes(_folder.At("seeds/b"), [0, 1, 2, 3]);
        File.WriteAllBytes(_folder.At("seeds/c"), Encoding.ASCII.GetBytes(new string('x', 70_000)));
        Directory.CreateDirectory(_folder.At("w/queue"));
        File.WriteAllBytes(_folder.At("w/queue/anything"), [0xFF, 0xFF, 0]);
        File.WriteAllBytes(_folder.At("w/queue/id:4294967295,execs:18446744073709551615"), [1]);
        for (int i = 0; i < 2; i++)
        {
            FakeProbes probes = new();
            using FakeExecutor executor = new(probes) { Breaks = false };
            using Campaign campaign = CampaignFolder.Open(
                CampaignFolder.Options(_folder.At("w"), executor, probes) with { Inputs = [_folder.At("seeds"), _folder.At("none")], Resume = i == 1 });
            campaign.Step(500, 0);
            Assert.Equal(4, Directory.GetFiles(_folder.At("w/queue")).Count(static f => f.Contains("orig:", StringComparison.Ordinal)));
        }
    }

    [Fact]
    public void Campaign_FromEmpty_BeginsWithOneEmptyInput()
    {
        FakeProbes probes = new();
        using FakeExecutor executor = new(probes);
        using Campaign campaign = CampaignFolder.Open(CampaignFolder.Options(_folder.At("w"), executor, probes) with { Empty = true });
        campaign.Step(1, 0);
        byte[] seed = File.ReadAllBytes(Assert.Single(Directory.GetFiles(_folder.At("w/queue"))));
        Assert.Equal(FuzzCodec.Encode(new FuzzInput()), seed);
        Assert.True(campaign.Step(3000, 0).Corpus > 10);
    }

    [Fact]
    public void Campaign_BesideAnother_TakesOverWhatIsNewToIt()
    {
        using (Campaign first = _folder.Open("a", seed: 1))
        {
            first.Step(8000, 0);
        }

        FakeProbes probes = new();
        using FakeExecutor executor = new(probes);
        using Campaign second = CampaignFolder.Open(CampaignFolder.Options(_folder.At("b"), executor, probes) with { SyncFrom = _folder.Path });
        CampaignStatus status = second.Step(3000, 0);
        Assert.True(status.Imported > 10);
        Assert.Contains(Directory.GetFiles(_folder.At("b/queue")), static f => f.EndsWith("op:sync-a,+cov", StringComparison.Ordinal));
        Assert.Equal(status.Imported, second.Step(5000, 0).Imported);
        Assert.Null(second.TryInputOf(4500, out _));
    }

    [Fact]
    public void Stats_Written_AreWhatToolsRead()
    {
        using Campaign campaign = _folder.Open("w");
        CampaignStatus status = campaign.Step(5000, 2500);
        campaign.WriteStats(2500, 1_000_000, 1_000_002, 77, "banner \"$(x)", "vmfuzz fuzz");
        campaign.WriteStats(3500, 1_000_000, 1_000_003, 77, "", "vmfuzz fuzz");
        FuzzerStats stats = FuzzerStats.Parse(File.ReadAllText(_folder.At("w/fuzzer_stats")));
        Assert.Equal(status.Executions, stats.Executions);
        Assert.Equal((ulong)status.Corpus, stats.CorpusCount);
        Assert.Equal(3UL, stats.RunTime);
        Assert.Equal(3, File.ReadAllLines(_folder.At("w/plot_data")).Length);
    }
}
