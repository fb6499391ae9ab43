using System.Text;
using VmFuzz.Replay;

namespace VmFuzz.Fuzzing.Tests;

public sealed class CampaignResumeTests : IDisposable
{
    private readonly CampaignFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Resume_AfterAKillAtAnyMoment_LosesNothingAndRepeatsNoIndex()
    {
        var ran = new SortedDictionary<ulong, byte[]>();
        var copies = new List<(string Path, ulong Next, int Corpus, int Findings)>();
        SplitMix random = new(9);
        Campaign? running = null;
        using (Campaign campaign = _folder.Open("w", before: input =>
        {
            if (!ran.TryAdd(running!.Next, FuzzCodec.Encode(input)) || random.Below(2500) != 0)
            {
                return;
            }

            CampaignStatus status = running.Status();
            string copy = _folder.At($"copy{copies.Count}");
            CampaignFolder.Copy(_folder.At("w"), copy);
            copies.Add((copy, running.Next, status.Corpus, status.Findings.Count));
        }))
        {
            running = campaign;
            campaign.Step(20_000, 0);
        }

        Assert.True(copies.Count > 3);
        foreach ((string path, ulong next, int corpus, int findings) in copies)
        {
            // Some without what only helps, some with a log that ends in the middle of a line.
            if (random.Below(2) == 0)
            {
                File.Delete(Path.Combine(path, CurrentExecution.FileName));
            }

            if (random.Below(2) == 0)
            {
                File.AppendAllText(Path.Combine(path, EpochRecord.FileName), "epoch number=99 first=0 end=99999");
                File.AppendAllText(Path.Combine(path, CrashFolderSink.FileName), "crash%40r");
            }

            FakeProbes probes = new();
            using FakeExecutor executor = new(probes);
            using Campaign campaign = CampaignFolder.Open(CampaignFolder.Options(path, executor, probes) with { Resume = true });
            CampaignStatus status = campaign.Status();
            Assert.True(status.Next > next);
            Assert.Equal(0UL, status.Next % EpochRecord.Longest);
            Assert.Equal(corpus, status.Corpus);
            Assert.Equal(findings, status.Findings.Count);
            ulong first = status.Next;
            campaign.Step(corpus + 3000, 0);
            Assert.Null(campaign.TryInputOf(first + 2000, out _));
            for (int i = 0; i < 5; i++)
            {
                ulong index = random.Below(next + 1);
                Assert.Null(campaign.TryInputOf(index, out MadeInput? made));
                Assert.Equal(ran[index], FuzzCodec.Encode(made!.Input));
            }
        }
    }

    [Fact]
    public void Resume_WithALogCutAnywhere_Works()
    {
        using (Campaign campaign = _folder.Open("w"))
        {
            campaign.Step(20_000, 0);
        }

        byte[] log = File.ReadAllBytes(_folder.At("w/epochs.log"));
        SplitMix random = new(3);
        for (int i = 0; i < 6; i++)
        {
            string path = _folder.At($"copy{i}");
            CampaignFolder.Copy(_folder.At("w"), path);
            File.WriteAllBytes(Path.Combine(path, EpochRecord.FileName), log[..(int)random.Below((ulong)log.Length + 1)]);
            FakeProbes probes = new();
            using FakeExecutor executor = new(probes);
            using Campaign campaign = CampaignFolder.Open(CampaignFolder.Options(path, executor, probes) with { Resume = true });
            Assert.Equal(EpochRecord.Longest, campaign.Next);
            campaign.Step(5000, 0);
            Assert.Null(campaign.TryInputOf(EpochRecord.Longest + 100, out _));
        }
    }

    [Fact]
    public void Resume_OfACampaign_GoesOnCounting()
    {
        ulong corpus;
        int findings;
        using (Campaign campaign = _folder.Open("w"))
        {
            CampaignStatus status = campaign.Step(7777, 5000);
            (corpus, findings) = ((ulong)status.Corpus, status.Findings.Count);
        }

        using Campaign again = _folder.Open("w", resume: true);
        CampaignStatus after = again.Step((int)corpus + 100, 10);
        Assert.Equal(7877UL, after.Executions);
        Assert.True(after.Time >= 5010);
        Assert.True(after.Findings.Count >= findings);
        Assert.True((ulong)after.Corpus >= corpus);
        Assert.Equal(EpochRecord.Longest + 100, after.Next);
    }

    [Fact]
    public void Resume_WithEntriesToSkip_NeitherRunsNorMutatesThem()
    {
        using (Campaign campaign = _folder.Open("w"))
        {
            campaign.Step(2000, 0);
        }

        foreach (bool told in new[] { true, false })
        {
            FakeProbes probes = new();
            var loaded = new HashSet<string>(StringComparer.Ordinal);
            using FakeExecutor executor = new(probes) { Before = i => loaded.Add(Convert.ToHexString(FuzzCodec.Encode(i))) };
            using Campaign campaign = CampaignFolder.Open(
                CampaignFolder.Options(_folder.At("w"), executor, probes) with { Resume = true, Skip = told ? [2] : [] });
            string skipped = Convert.ToHexString(File.ReadAllBytes(Directory.GetFiles(_folder.At("w/queue"), "id:000002*")[0]));
            campaign.Step(campaign.Status().Corpus, 0);
            Assert.DoesNotContain(skipped, loaded);
            campaign.Step(3000, 0);
            for (ulong i = 0; i < 300; i++)
            {
                Assert.Null(campaign.TryInputOf(campaign.Next - 1 - (i * 7), out MadeInput? made));
                Assert.NotEqual(2U, made!.Source);
                i += 20;
            }
        }
    }

    [Fact]
    public void Open_OfADirectoryInUse_IsRefused()
    {
        using Campaign campaign = _folder.Open("w");
        FakeProbes probes = new();
        using FakeExecutor executor = new(probes);
        string? refused = Campaign.TryOpen(CampaignFolder.Options(_folder.At("w"), executor, probes) with { Resume = true }, out Campaign? second);
        Assert.Contains("in use", refused, StringComparison.Ordinal);
        Assert.Null(second);
    }

    [Theory]
    [InlineData("vmfuzz-campaign 1", "vmfuzz-campaign 2", true)]
    [InlineData("exit-handlers", "guest-code", true)]
    [InlineData("seed 5", "seed 6", true)]
    [InlineData("engine engine", "engine other", true)]
    [InlineData("mode Full", "mode Random", true)]
    [InlineData("vmfuzz-campaign", "\u0001\u001b[31m", true)]
    [InlineData("", "", false)]
    public void Open_OfAnotherCampaign_IsRefusedAndChangesNothing(string text, string replacement, bool resume)
    {
        using (Campaign campaign = _folder.Open("w"))
        {
            campaign.Step(500, 0);
        }

        string path = _folder.At("w/" + CampaignIdentity.FileName);
        if (text.Length != 0)
        {
            File.WriteAllText(path, File.ReadAllText(path).Replace(text, replacement, StringComparison.Ordinal));
        }

        SortedDictionary<string, string> before = CampaignFolder.Content(_folder.At("w"));
        FakeProbes probes = new();
        using FakeExecutor executor = new(probes);
        string? refused = Campaign.TryOpen(CampaignFolder.Options(_folder.At("w"), executor, probes) with { Resume = resume }, out _);
        Assert.NotNull(refused);
        Assert.DoesNotContain(refused, char.IsControl);
        Assert.Equal(before, CampaignFolder.Content(_folder.At("w")));
    }

    [Fact]
    public void Campaign_ThatCannotWrite_GoesOnAndWritesLater()
    {
        using Campaign campaign = _folder.Open("w");
        campaign.Step(3, 0);
        foreach (string name in new[] { "queue", "crashes" })
        {
            Directory.Move(_folder.At("w/" + name), _folder.At("w/" + name + "-away"));
            File.WriteAllText(_folder.At("w/" + name), "");
        }

        CampaignStatus status = campaign.Step(20_000, 0);
        Assert.Equal(20_003UL, status.Executions);
        Assert.True(status.Unwritten > 10);
        Assert.True(status.Findings.Count > 1);
        Assert.All(status.Findings, static f => Assert.Empty(f.File));

        foreach (string name in new[] { "queue", "crashes" })
        {
            File.Delete(_folder.At("w/" + name));
            Directory.Move(_folder.At("w/" + name + "-away"), _folder.At("w/" + name));
        }

        Assert.Equal(0, campaign.Flush());
        status = campaign.Status();
        Assert.Equal(status.Corpus, Directory.GetFiles(_folder.At("w/queue")).Length);
        Assert.All(status.Findings, f => Assert.True(File.Exists(_folder.At("w/" + f.File))));

        using Campaign untroubled = _folder.Open("v");
        untroubled.Step(20_003, 0);
        campaign.Dispose();
        untroubled.Dispose();
        Assert.Equal(
            CampaignFolder.Content(_folder.At("v")).Where(static f => f.Key != "findings.log"),
            CampaignFolder.Content(_folder.At("w")).Where(static f => f.Key != "findings.log"));
    }

    [Fact]
    public void CurrentExecution_WhileAnInputRuns_SaysWhich()
    {
        CurrentExecution? seen = null;
        Campaign? running = null;
        using Campaign campaign = _folder.Open("w", before: _ =>
        {
            if (running!.Next == 1234)
            {
                seen ??= CurrentExecution.TryRead(_folder.At("w"));
            }
        });
        running = campaign;
        Assert.Equal(CampaignPhase.Idle, CurrentExecution.TryRead(_folder.At("w"))!.Value.Phase);
        campaign.Step(2000, 0);
        Assert.Equal(new CurrentExecution(CampaignPhase.Fuzzing, 1234, 1234), seen);
        Assert.Equal(new CurrentExecution(CampaignPhase.Idle, 2000, 2000), CurrentExecution.TryRead(_folder.At("w")));
        Assert.Null(CurrentExecution.TryRead(_folder.At("none")));
        File.WriteAllText(_folder.At(CurrentExecution.FileName), new string('x', 32));
        Assert.Null(CurrentExecution.TryRead(_folder.Path));
    }

    [Fact]
    public void Fatal_FindingOfASupervisor_IsSavedWithItsInput()
    {
        using (Campaign campaign = _folder.Open("w"))
        {
            campaign.Step(2000, 0);
        }

        using Campaign again = _folder.Open("w", resume: true);
        Assert.Null(again.TryAddFatal(1234, new Violation(OracleFolders.Hang, "", "did not end"), 0));
        string file = Assert.Single(Directory.GetFiles(_folder.At("w/hangs")));
        Assert.Null(again.TryInputOf(1234, out MadeInput? made));
        Assert.Equal(FuzzCodec.Encode(made!.Input), File.ReadAllBytes(file));
        Assert.Contains("execs:1234", file, StringComparison.Ordinal);
        Assert.NotNull(again.TryAddFatal(1UL << 40, new Violation(OracleFolders.Hang, "", ""), 0));
    }

    [Fact]
    public void EpochRecord_Written_IsReadBack()
    {
        EpochRecord first = new()
        {
            Number = 1,
            First = 4096,
            End = 8192,
            Executed = 4000,
            Queue = 12,
            Weights = [64, 128, 1],
            Favoured = [0, 1, 2, 5, 9, 10],
            Skipped = [3],
            Synced = new EpochRecord().Synced.Add("w 1,:%=#", 7),
            Samples = [new(4095, ulong.MaxValue)],
        };
        EpochRecord second = first with { Number = 2, First = 8192, End = 16384, Samples = [] };
        string[] lines = [first.Format(null), second.Format(first)];
        EpochRecord read = EpochRecord.Parse(lines[0], null)!;
        Assert.Equal(lines[0], read.Format(null));
        Assert.Equal(first.Favoured.AsEnumerable(), read.Favoured.AsEnumerable());
        Assert.Equal(7U, read.Synced["w 1,:%=#"]);
        Assert.True(lines[1].Length < lines[0].Length);
        Assert.Equal(second.Format(null), EpochRecord.Parse(lines[1], read)!.Format(null));
        Assert.True(EpochRecord.Parse(lines[1], null)!.Weights.IsEmpty);
        for (int cut = 0; cut < lines[0].Length; cut++)
        {
            Assert.Null(EpochRecord.Parse(lines[0][..cut], null));
        }
    }

    [Fact]
    public void EndOf_FromAnyStart_NeverLiesAcrossTheLongest()
    {
        ulong session = 3 * EpochRecord.Longest;
        ulong[] ends = new ulong[8];
        ulong at = session;
        for (int i = 0; i < ends.Length; i++)
        {
            at = ends[i] = EpochRecord.EndOf(at, session);
        }

        Assert.Equal([4096, 8192, 16384, 32768, 65536, 131072, 196608, 262144], ends.Select(e => e - session));
        Assert.Equal(session + 4096, EpochRecord.EndOf(session + 3, session));
        Assert.Equal(session + 8192, EpochRecord.EndOf(session + 4100, session));
    }
}
