namespace VmFuzz.Fuzzing.Tests;

public sealed class RegressionTests : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("vmfuzz-regression-").FullName;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private static string Folder()
    {
        string? at = AppContext.BaseDirectory;
        while (at is not null && !File.Exists(Path.Combine(at, "VmFuzz.sln")))
        {
            at = Path.GetDirectoryName(at);
        }

        return Path.Combine(at ?? throw new InvalidOperationException("the tests run outside of the repository"), "corpus", "regressions");
    }

    /// <summary>Every finding that was fixed stays fixed.</summary>
    [Fact]
    public void Regressions_OfTheCorpus_BreakNothing()
    {
        var broken = new List<string>();
        foreach (string path in Directory.GetDirectories(Folder()).Order(StringComparer.Ordinal))
        {
            if (Regression.TryRead(path, out Regression? regression) is { } wrong)
            {
                broken.Add(wrong);
                continue;
            }

            FuzzTargetRow? target = FuzzTargetRow.BuiltIn.FirstOrDefault(t => t.Name == regression!.Target);
            Violation? violation = target is null
                ? new Violation("test", "", $"there is no target '{regression!.Target}'")
                : regression!.Run(target.CreateExecutor);
            if (violation is not null)
            {
                broken.Add($"{regression.Id}: {violation}");
            }
        }

        Assert.True(broken.Count == 0, string.Join('\n', broken));
    }

    [Fact]
    public void Regression_OfAFinding_IsReadAndRun()
    {
        Violation was = new("retire.rip", "Cpuid", "RIP did not move");
        Finding finding = new() { Violation = was, State = FindingState.Confirmed, Campaign = new("guest-code", "", "worker00", 0, EngineIdentity.Here([]), []) };
        FuzzInput input = Samples.Rich(FuzzTarget.GuestCode);
        File.WriteAllBytes(Path.Combine(_root, "input"), FuzzCodec.Encode(input));
        File.WriteAllBytes(Path.Combine(_root, "expect.json"), Regression.ExpectOf(finding, "a campaign of 60 s"));
        Assert.Null(Regression.TryRead(_root, out Regression? regression));
        Assert.Equal(("guest-code", "a campaign of 60 s", was.Key), (regression!.Target, regression.From, regression.Key));
        Assert.Null(regression.Run(static () => new FindingExecutor(static _ => null)));
        Assert.Equal(was, regression.Run(() => new FindingExecutor(i => i.SameAs(input) ? was : null)));
        Assert.Equal(was, regression.Run(() => new FindingExecutor(static _ => null) { Deep = _ => was }));
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("{}")]
    [InlineData("{\"breaks\":null}")]
    [InlineData("{\"target\":\"guest-code\",\"breaks\":\"retire\"}")]
    [InlineData("[[[[")]
    public void TryRead_BrokenExpectation_IsOneLine(string? expect)
    {
        File.WriteAllBytes(Path.Combine(_root, "input"), [1]);
        if (expect is not null)
        {
            File.WriteAllText(Path.Combine(_root, "expect.json"), expect);
        }

        string? wrong = Regression.TryRead(_root, out _);
        Assert.Contains("expect.json", wrong, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', wrong!);
    }

    [Fact]
    public void Reproducer_ComparesKeyDigestAndEngine()
    {
        FuzzInput input = Samples.Rich(FuzzTarget.GuestCode);
        Violation was = new("retire.rip", "Cpuid", "RIP did not move");
        EngineIdentity here = EngineIdentity.Here([]);
        Func<IFuzzExecutor> breaks = () => new FindingExecutor(_ => was);
        ulong digest = InputProbe.Look(breaks, input, null).Digest;
        Finding finding = new() { Violation = was, State = FindingState.Confirmed, Campaign = new("guest-code", "", "worker00", 0, here, []), Digest = digest };

        Reproduced same = Reproducer.Run(breaks, input, finding, here);
        Assert.True(same is { Still: true, SameKey: true, SameDigest: true, SameEngine: true });
        Reproduced other = Reproducer.Run(() => new FindingExecutor(_ => was with { Where = "Hlt" }) { Noise = 1 }, input, finding, EngineIdentity.Here(["plug 1"]));
        Assert.True(other is { Still: false, SameKey: false, SameDigest: false, SameEngine: false });
        Reproduced fixedNow = Reproducer.Run(static () => new FindingExecutor(static _ => null), input, finding, here);
        Assert.True(fixedNow is { Still: false, Probe.Violation: null, SameDigest: true });
        Reproduced unknown = Reproducer.Run(breaks, input, null, here);
        Assert.True(unknown is { Still: true, SameKey: null, SameDigest: null, SameEngine: null });
    }
}
