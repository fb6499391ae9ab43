using VmFuzz.Fuzz.SampleHandlers;

namespace VmFuzz.Cli.Tests;

/// <summary>The sample of a user's own handlers, from the campaign to the replayed trace, by the command.</summary>
public class SampleHandlersTests : CommandFixture
{
    private static readonly string Plugin = typeof(SamplePlugin).Assembly.Location;

    [Fact]
    public void Fuzz_RightHandlers_FindsNothing()
    {
        Ran ran = Fuzz("sample", "3000");
        Assert.True(ran.Status == 0, ran.Out + ran.Err);
    }

    [Fact]
    public void Fuzz_ForgottenCheck_IsFoundAndReplays()
    {
        Ran ran = Fuzz("sample-bug", "2000");
        Assert.True(ran.Status == 1, ran.Out + ran.Err);
        string finding = Assert.Single(Directory.GetDirectories(Path.Combine(At("out"), "worker00", "findings")));
        Assert.StartsWith("privilege.canonical-vmcall-", Path.GetFileName(finding), StringComparison.Ordinal);
        Assert.Contains("replay      vmfuzz replay ", Run("explain", finding).Out, StringComparison.Ordinal);

        string trace = Path.Combine(finding, "trace.vmtrace");
        Ran replayed = Run("replay", trace, "--plugin", Plugin, "--check");
        Assert.Equal(1, replayed.Status);
        Assert.Contains("identical to the recording", replayed.Out, StringComparison.Ordinal);
        Assert.Contains("BROKEN INVARIANT privilege.canonical@vmcall at event 1, exit 1, ", replayed.Out, StringComparison.Ordinal);
        Assert.Equal(0, Run("replay", trace, "--plugin", Plugin).Status);
        var broken = Run("replay", trace, "--plugin", Plugin, "--check", "--json").Json.GetProperty("invariants").GetProperty("broken");
        Assert.Equal(("privilege.canonical", "vmcall", 1UL), (broken.GetProperty("invariant").GetString(), broken.GetProperty("where").GetString(), broken.GetProperty("event").GetUInt64()));

        Refuses(Run("replay", trace), "sample-handlers 1.0", "--plugin");
        Assert.Contains("DIVERGED", Run("replay", trace, "--compare").Out, StringComparison.Ordinal);
    }

    private Ran Fuzz(string target, string executions) =>
        Run("fuzz", "--plugin", Plugin, "--target", target, "--execs", executions, "--jobs", "1", "--seed", "1", "--out", At("out"));
}
