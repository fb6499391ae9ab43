using System.Text;

namespace VmFuzz.Fuzzing.Tests;

public sealed class TriageTests : IDisposable
{
    private static readonly Violation Broken = new("retire.rip", "Cpuid", "RIP did not move");

    private readonly string _root = Directory.CreateTempSubdirectory("vmfuzz-triage-").FullName;
    private readonly List<string> _lines = [];
    private int _folders;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private static CampaignFacts Facts => new("guest-code", "test", "worker00", 1, EngineIdentity.Here([]), []);

    // CPUID's second byte stands in the sample's code.
    private static FindingExecutor Stable() => new(static i => i.Code.Contains(0xA2) ? Broken : null);

    private Corpus Open(string? folder = null)
    {
        string path = folder ?? Path.Combine(_root, "c" + _folders++);
        Assert.Null(Corpus.TryOpen(path, _lines.Add, out Corpus? corpus));
        return corpus!;
    }

    private FindingTriage Triage(Corpus corpus, Func<IFuzzExecutor> create, TriageOptions? options = null) => new(corpus, create, Facts, _lines.Add, options);

    private static byte[] Rich => FuzzCodec.Encode(Samples.Rich(FuzzTarget.GuestCode));

    private static Finding Only(Corpus corpus, FindingTriage triage, out string folder)
    {
        FindingEntry entry = Assert.Single(triage.List());
        Assert.Null(entry.Pending);
        folder = Path.Combine(corpus.Root, "findings", entry.Slug);
        return entry.Finding!;
    }

    private static string Copy(string from, string to)
    {
        Directory.CreateDirectory(to);
        foreach (string file in Directory.GetFiles(from))
        {
            File.Copy(file, Path.Combine(to, Path.GetFileName(file)));
        }

        foreach (string folder in Directory.GetDirectories(from))
        {
            Copy(folder, Path.Combine(to, Path.GetFileName(folder)));
        }

        return to;
    }

    [Fact]
    public void Take_StableFinding_IsMinimisedConfirmedAndSaved()
    {
        Corpus corpus = Open();
        FindingTriage triage = Triage(corpus, Stable);
        Assert.NotNull(triage.Take(Rich, Broken, 4711, new CorpusName { Executions = 4711, Operation = "code.insert" }));
        Finding finding = Only(corpus, triage, out string folder);
        Assert.Equal(FindingState.Confirmed, finding.State);
        Assert.True(finding.Minimal);
        Assert.False(finding.Deep);
        Assert.Equal(4711UL, finding.Execution);
        FuzzInput small = FuzzCodec.Decode(File.ReadAllBytes(Path.Combine(folder, "input")));
        Assert.Equal([0xA2], small.Code);
        Assert.Equal(Rich, File.ReadAllBytes(Path.Combine(folder, "original")));
        Assert.Equal("a trace", File.ReadAllText(Path.Combine(folder, "trace.vmtrace")));
        Assert.Contains("retire.rip@Cpuid", File.ReadAllText(Path.Combine(folder, "report.txt")), StringComparison.Ordinal);
        CorpusFile crash = Assert.Single(corpus.Read(CorpusFolder.Crashes));
        Assert.Equal("id:000000,sig:06,time:0,execs:4711,op:code.insert", crash.FileName);
        Assert.Equal(File.ReadAllBytes(Path.Combine(folder, "input")), crash.Bytes);
        Assert.Equal("crashes/" + crash.FileName, finding.CorpusFile);
        string[] expected = ["finding.json", "input", "original", "report.txt", "trace.vmtrace"];
        Assert.Equal<IEnumerable<string>>(expected, Directory.GetFiles(folder).Select(static f => Path.GetFileName(f)!).Order(StringComparer.Ordinal));
        Assert.Empty(_lines);
    }

    [Fact]
    public void Take_KeyThatIsKnown_IsOneFinding()
    {
        Corpus corpus = Open();
        FindingTriage triage = Triage(corpus, Stable);
        string? first = triage.Take(Rich, Broken, 1, new CorpusName());
        Assert.Equal(first, triage.Take([1, 2, 3], Broken with { Text = "another" }, 2, new CorpusName()));
        Assert.Equal(first, Triage(Open(corpus.Root), Stable).Take([1, 2, 3], Broken, 3, new CorpusName()));
        Assert.Single(corpus.Read(CorpusFolder.Crashes));
    }

    [Fact]
    public void Take_DigestChanges_IsUnstableAndKeptAsItCame()
    {
        ulong runs = 0;
        Corpus corpus = Open();
        FindingTriage triage = Triage(corpus, () => new FindingExecutor(static _ => Broken) { Noise = runs++ });
        triage.Take(Rich, Broken, 0, new CorpusName());
        Finding finding = Only(corpus, triage, out string folder);
        Assert.Equal(FindingState.Unstable, finding.State);
        Assert.Equal("two fresh executors left different digests", finding.Note);
        Assert.Equal(Rich, File.ReadAllBytes(Path.Combine(folder, "input")));
        Assert.Equal(2UL, runs);
    }

    [Fact]
    public void Take_FreshExecutorShowsNothing_IsUnstableAndSaysSo()
    {
        Corpus corpus = Open();
        FindingTriage triage = Triage(corpus, static () => new FindingExecutor(static _ => null));
        triage.Take(Rich, Broken, 0, new CorpusName());
        Finding finding = Only(corpus, triage, out _);
        Assert.Equal(FindingState.Unstable, finding.State);
        Assert.Equal("a fresh executor showed nothing", finding.Note);
        Assert.Equal(Broken, finding.Violation);
    }

    [Fact]
    public void Take_OnlyDeepOraclesSeeIt_IsMinimisedUnderThem()
    {
        Corpus corpus = Open();
        FindingTriage triage = Triage(corpus, static () => new FindingExecutor(static _ => null) { Deep = static i => i.Events.Count != 0 ? Broken : null });
        triage.Take(Rich, Broken, 0, new CorpusName());
        Finding finding = Only(corpus, triage, out string folder);
        Assert.Equal(FindingState.Confirmed, finding.State);
        Assert.True(finding.Deep);
        Assert.Single(FuzzCodec.Decode(File.ReadAllBytes(Path.Combine(folder, "input"))).Events);
    }

    [Fact]
    public void Take_SmallerInputsBreakSomethingElse_KeepsTheKey()
    {
        Violation other = new("crash.exception", "Decoder", "x");
        Corpus corpus = Open();
        FindingTriage triage = Triage(corpus, () => new FindingExecutor(i => i.Exits.Count == 3 ? Broken : other));
        triage.Take(Rich, Broken, 0, new CorpusName());
        Finding finding = Only(corpus, triage, out string folder);
        Assert.Equal(Broken.Key, finding.Violation.Key);
        Assert.Equal(3, FuzzCodec.Decode(File.ReadAllBytes(Path.Combine(folder, "input"))).Exits.Count);
    }

    [Theory]
    [InlineData("crash.process", false, CorpusFolder.Crashes)]
    [InlineData("process-death", false, CorpusFolder.Crashes)]
    [InlineData("hang", false, CorpusFolder.Hangs)]
    [InlineData("hang.wall", false, CorpusFolder.Hangs)]
    [InlineData("crash.exception", true, CorpusFolder.Crashes)]
    public void Take_InputThatEndsTheProcess_IsSavedWithoutRunningIt(string oracle, bool fatal, CorpusFolder expected)
    {
        Corpus corpus = Open();
        FindingTriage triage = Triage(corpus, static () => throw new InvalidOperationException("must not be run"));
        triage.Take(Rich, new Violation(oracle, "", "gone"), 5, new CorpusName(), fatal);
        Finding finding = Only(corpus, triage, out string folder);
        Assert.Equal(FindingState.Unconfirmed, finding.State);
        Assert.Contains("not run again", finding.Note, StringComparison.Ordinal);
        Assert.Equal(Rich, File.ReadAllBytes(Path.Combine(folder, "input")));
        Assert.Equal(Rich, Assert.Single(corpus.Read(expected)).Bytes);
    }

    [Fact]
    public void Take_ExecutorThrows_KeepsTheFinding()
    {
        Corpus corpus = Open();
        FindingTriage triage = Triage(corpus, static () => throw new InvalidOperationException("no machine"));
        triage.Take(Rich, Broken, 5, new CorpusName());
        Finding finding = Only(corpus, triage, out _);
        Assert.Equal(FindingState.Unconfirmed, finding.State);
        Assert.Contains("InvalidOperationException: no machine", finding.Note, StringComparison.Ordinal);
    }

    [Fact]
    public void Take_TargetRecordsNoTrace_SaysSo()
    {
        Corpus corpus = Open();
        FindingTriage triage = Triage(corpus, static () => new FindingExecutor(static _ => Broken) { Records = false });
        triage.Take(Rich, Broken, 0, new CorpusName());
        Finding finding = Only(corpus, triage, out string folder);
        Assert.Equal((FindingState.Confirmed, false, "its target records no trace"), (finding.State, finding.Trace, finding.Note));
        Assert.False(File.Exists(Path.Combine(folder, "trace.vmtrace")));
        Assert.Empty(_lines);
    }

    [Fact]
    public void Take_AnyBytes_AreKeptAsTheyAre()
    {
        Corpus corpus = Open();
        FindingTriage triage = Triage(corpus, static () => new FindingExecutor(static _ => null));
        byte[] any = [0xFF, 0xFE, 0, 1, 2, 3, 0x80];
        triage.Take(any, Broken, 0, new CorpusName());
        Only(corpus, triage, out string folder);
        Assert.Equal(any, File.ReadAllBytes(Path.Combine(folder, "original")));
        Assert.Equal(any, Assert.Single(corpus.Read(CorpusFolder.Crashes)).Bytes);
    }

    [Fact]
    public void Take_MoreKeysThanAllowed_KeepsTheBoundAndSaysSoOnce()
    {
        Corpus corpus = Open();
        FindingTriage triage = Triage(corpus, static () => new FindingExecutor(static _ => null), new TriageOptions(Findings: 2));
        for (int i = 0; i < 5; i++)
        {
            string? folder = triage.Take(Rich, Broken with { Where = "place " + i }, 0, new CorpusName());
            Assert.Equal(i >= 2, folder == "");
        }

        Assert.Equal(2, triage.Count);
        Assert.Contains("2 findings", Assert.Single(_lines), StringComparison.Ordinal);
    }

    [Fact]
    public void Resume_AfterAKillAtAnyStep_EndsWithTheSameFinding()
    {
        Corpus corpus = Open();
        var copies = new List<string>();
        corpus.Changed = () => copies.Add(Copy(corpus.Root, Path.Combine(_root, "k" + copies.Count)));
        FindingTriage triage = Triage(corpus, Stable);
        triage.Take(Rich, Broken, 9, new CorpusName { Executions = 9 });
        corpus.Changed = null;
        Finding expected = Only(corpus, triage, out _);
        Assert.True(copies.Count > 15, $"only {copies.Count} steps");
        int begun = 0;
        foreach (string copy in copies)
        {
            Corpus again = Open(copy);
            FindingTriage resumed = Triage(again, Stable);
            bool known = resumed.Count != 0;
            begun += known ? 1 : 0;
            resumed.Resume();
            // What was not begun is found again by the campaign, which makes the same executions.
            Assert.NotNull(resumed.Take(Rich, Broken, 9, new CorpusName { Executions = 9 }));
            Assert.Equal(expected.Violation, Only(again, resumed, out string folder).Violation);
            Assert.Equal(FindingState.Confirmed, resumed.List()[0].Finding!.State);
            Assert.Equal([0xA2], FuzzCodec.Decode(File.ReadAllBytes(Path.Combine(folder, "input"))).Code);
            Assert.Equal(Rich, File.ReadAllBytes(Path.Combine(folder, "original")));
            Assert.Equal(File.ReadAllBytes(Path.Combine(folder, "input")), Assert.Single(again.Read(CorpusFolder.Crashes)).Bytes);
        }

        Assert.True(begun > 10, "the kills came too early to mean anything");
    }

    [Fact]
    public void Take_BeforeItIsRun_TheInputIsInCrashes()
    {
        Corpus corpus = Open();
        int looks = 0;
        FindingTriage triage = Triage(corpus, () =>
        {
            looks++;
            Assert.Equal(Rich, Assert.Single(corpus.Read(CorpusFolder.Crashes)).Bytes);
            return Stable();
        });
        triage.Take(Rich, Broken, 9, new CorpusName());
        Assert.Equal(FindingState.Confirmed, Only(corpus, triage, out _).State);
        Assert.True(looks >= 5);
    }

    [Fact]
    public void Resume_ProcessDiedTwiceInTriage_IsSavedWithoutRunningIt()
    {
        string Killed(string root, bool take)
        {
            Corpus corpus = Open(root);
            string? copy = null;
            FindingTriage triage = Triage(corpus, () =>
            {
                copy ??= Copy(corpus.Root, Path.Combine(_root, "d" + _folders++));
                return Stable();
            });
            _ = take ? triage.Take(Rich, Broken, 1, new CorpusName())?.Length : triage.Resume();
            return copy!;
        }

        string twice = Killed(Killed(Path.Combine(_root, "start"), take: true), take: false);
        Corpus last = Open(twice);
        FindingTriage end = Triage(last, static () => throw new InvalidOperationException("must not be run"));
        Assert.Equal(1, end.Resume());
        Finding finding = Only(last, end, out string folder);
        Assert.Equal(FindingState.Unconfirmed, finding.State);
        Assert.StartsWith("twice", finding.Note, StringComparison.Ordinal);
        Assert.Equal(Rich, File.ReadAllBytes(Path.Combine(folder, "input")));
    }

    [Fact]
    public void Take_FindingsCannotBeWritten_TheInputIsInCrashesAndItIsTriedAgain()
    {
        Corpus corpus = Open();
        File.WriteAllText(Path.Combine(corpus.Root, "findings"), "in the way");
        FindingTriage triage = Triage(corpus, Stable);
        Assert.Null(triage.Take(Rich, Broken, 1, new CorpusName()));
        Assert.Null(triage.Take(Rich, Broken, 1, new CorpusName()));
        Assert.Equal(Rich, Assert.Single(corpus.Read(CorpusFolder.Crashes)).Bytes);
        Assert.NotEmpty(_lines);
        File.Delete(Path.Combine(corpus.Root, "findings"));
        Assert.NotNull(triage.Take(Rich, Broken, 1, new CorpusName()));
        Assert.Single(corpus.Read(CorpusFolder.Crashes));
    }

    [Fact]
    public void Sink_AddThenKnown_TellsWhereFindingsAre()
    {
        Corpus corpus = Open();
        FuzzInput input = Samples.Rich(FuzzTarget.GuestCode);
        var sink = new FindingSink(Triage(corpus, Stable));
        Assert.Empty(sink.Known());
        string? file = sink.Add(new FoundInput(input, Broken, 12, Time: 3400, Source: 3, "code.insert", Fatal: false));
        Assert.True(Directory.Exists(Path.Combine(corpus.Root, file!)));
        Assert.True(input.SameAs(Samples.Rich(FuzzTarget.GuestCode)));
        KnownFinding known = Assert.Single(new FindingSink(Triage(Open(corpus.Root), Stable)).Known());
        Assert.Equal(new KnownFinding(Broken.Key, file!, 12, Broken.Text), known);
        Assert.Equal("id:000000,sig:06,src:000003,time:3400,execs:12,op:code.insert", Assert.Single(corpus.Read(CorpusFolder.Crashes)).FileName);
    }

    [Theory]
    [InlineData("not json")]
    [InlineData("{}")]
    [InlineData("[1,2]")]
    [InlineData("{\"schema\":2}")]
    [InlineData("{\"schema\":1,\"oracle\":5}")]
    [InlineData("{\"schema\":1,\"oracle\":\"a\",\"target\":\"b\"}")]
    [InlineData("{\"schema\":1,\"oracle\":\"a\",\"target\":\"b\",\"inputBytes\":\"!\"}")]
    public void List_BrokenFacts_AreOneLineAndTheRestGoesOn(string text)
    {
        Corpus corpus = Open();
        FindingTriage triage = Triage(corpus, Stable);
        triage.Take(Rich, Broken, 1, new CorpusName());
        string folder = Path.Combine(corpus.Root, "findings", "a-broken");
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, "pending.json"), text);
        FindingTriage again = Triage(Open(corpus.Root), Stable);
        Assert.Equal(2, again.List().Count);
        Assert.Contains("pending.json cannot be used", again.List()[0].Wrong, StringComparison.Ordinal);
        Assert.Equal(0, again.Resume());
        Assert.Equal(1, again.Count);
    }

    [Theory]
    [InlineData("../../x")]
    [InlineData("queue/id:000000")]
    [InlineData("crashes/../../id:000000")]
    [InlineData("fuzzer_stats")]
    public void Resume_HostilePlaceForTheInput_IsNotWritten(string place)
    {
        Corpus corpus = Open();
        Finding finding = new() { Violation = Broken, State = FindingState.Unconfirmed, Campaign = Facts, CorpusFile = place };
        string folder = Path.Combine(corpus.Root, "findings", "x");
        Directory.CreateDirectory(folder);
        File.WriteAllBytes(Path.Combine(folder, "pending.json"), FindingJson.Write(new PendingFinding(finding, false, 0, [.. Rich])));
        Assert.Equal(1, Triage(corpus, Stable).Resume());
        Assert.Single(corpus.Read(CorpusFolder.Crashes));
        Assert.Empty(corpus.Read(CorpusFolder.Queue));
        Assert.False(File.Exists(Path.Combine(corpus.Root, "fuzzer_stats")));
    }

    [Fact]
    public void Json_RoundTrip_KeepsEverything()
    {
        Finding finding = new()
        {
            Violation = new("a.b", "Where \"x\"", "text"),
            State = FindingState.Unstable,
            Note = "note",
            Campaign = new("t", "c", "worker03", ulong.MaxValue, new("1.2.3", 4, 0xABCD, ["p 1"]), ["/x y.dll"]),
            Execution = ulong.MaxValue,
            Deep = true,
            Digest = 5,
            Exits = 1,
            Instructions = 2,
            Bytes = 3,
            OriginalBytes = 4,
            MinimizerExecutions = 5,
            Minimal = true,
            Trace = true,
            CorpusFile = "crashes/id:000000",
        };
        Assert.Null(FindingJson.TryRead(FindingJson.Write(finding), out Finding? again));
        Assert.Equal(finding, again);
    }

    [Fact]
    public void Json_ControlCharacters_DoNotReachATerminal()
    {
        string text = "{\"schema\":1,\"oracle\":\"a\",\"target\":\"t\",\"text\":\"\\u001b[2J\\ud800x\"}";
        Assert.Null(FindingJson.TryRead(Encoding.UTF8.GetBytes(text), out Finding? finding));
        Assert.DoesNotContain(finding!.Violation.Text, char.IsControl);
    }

    [Theory]
    [InlineData("retire.rip@Cpuid")]
    [InlineData("../../etc/passwd")]
    [InlineData("")]
    [InlineData("...")]
    [InlineData("a/b\\c:d*e?f\"g<h>i|j\n\0")]
    [InlineData("ÄÖÜ 漢字")]
    public void Slug_AnyKey_IsASafeName(string key)
    {
        string slug = FindingNames.Slug(key);
        Assert.Matches("^[a-z0-9][a-z0-9._-]*-[0-9a-f]{8}$", slug);
        Assert.DoesNotContain("..", slug, StringComparison.Ordinal);
        Assert.True(FindingNames.Slug(key + new string('x', 500)).Length <= 80);
        Assert.False(slug == FindingNames.Slug(key + "x"));
        Assert.False(slug == FindingNames.Slug(key, 1));
    }

    [Fact]
    public void OracleText_EveryOracleOfTheProduct_HasAFamily()
    {
        string[] ids = [.. InvariantTable.Default.Rows.Select(static r => r.Id), .. DeepOracleRows.All.Select(static r => r.Id), CrashPlace.Oracle, GuestKill.NoProgress];
        Assert.All(ids, static id => Assert.NotEqual(OracleText.Of("what is this").Meaning, OracleText.Of(id).Meaning, StringComparer.Ordinal));
        Assert.All(InvariantTable.Default.Rows, static r => Assert.Equal(r.Source, OracleText.SourceOf(new Violation(r.Id, "", "")), StringComparer.Ordinal));
    }
}
