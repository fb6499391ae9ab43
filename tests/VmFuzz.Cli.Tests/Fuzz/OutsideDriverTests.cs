namespace VmFuzz.Cli.Tests;

/// <summary>Campaigns run by fuzzers from outside, where they are installed.</summary>
public class OutsideDriverTests : CommandFixture
{
    private static readonly string Plugin = typeof(HarmfulPlugin).Assembly.Location;

    [Theory]
    [InlineData("afl", HarmfulPlugin.Throws, "crash.exception")]
    [InlineData("libfuzzer", HarmfulPlugin.Throws, "crash.exception")]
    [InlineData("afl", HarmfulPlugin.Overflows, "process-death")]
    [InlineData("libfuzzer", HarmfulPlugin.Overflows, "process-death")]
    public void Fuzz_ByAnOutsideFuzzer_FindsWhatAHandlerDoes(string driver, string target, string key)
    {
        Need(driver);
        Ran ran = Run("fuzz", "--driver", driver, "--target", target, "--plugin", Plugin, "--execs", "1000", "--seconds", "12", "--jobs", "1", "--seed", "1", "--out", At("out"), "--json");
        Assert.True(ran.Status == ExitStatus.Finding, ran.Err);
        Assert.Contains(ran.Json.GetProperty("findings").EnumerateArray(), finding => finding.GetProperty("key").GetString()!.StartsWith(key, StringComparison.Ordinal));
        Assert.All(ran.Json.GetProperty("findings").EnumerateArray(), finding => Assert.True(File.Exists(finding.GetProperty("file").GetString())));
        Assert.True(target == HarmfulPlugin.Overflows || ran.Json.GetProperty("executions").GetUInt64() > 0, ran.Out);
        Assert.True(target != HarmfulPlugin.Overflows || Directory.GetFiles(Path.Combine(At("out"), "worker00", "crashes"), driver == "afl" ? "id*" : "death-*").Length != 0, ran.Err);
    }

    [Theory]
    [InlineData("afl")]
    [InlineData("libfuzzer")]
    public void Fuzz_ByTwoWorkersThenResumed_GoesOnInTheirQueues(string driver)
    {
        Need(driver);
        string[] options = ["fuzz", "--driver", driver, "--execs", "1000", "--seconds", "15", "--jobs", "2", "--out", At("out"), "--no-coverage", "--json"];
        Ran first = Run(options);
        Assert.True(first.Status is ExitStatus.Fine or ExitStatus.Finding, first.Err);
        Assert.Equal(2, first.Json.GetProperty("workers").GetArrayLength());
        ulong corpus = first.Json.GetProperty("corpus").GetUInt64();
        Assert.NotEqual(0UL, corpus);
        Assert.NotEmpty(Directory.GetFiles(Path.Combine(At("out"), "worker01", "queue")));
        Ran again = Run([.. options, "--resume"]);
        Assert.True(again.Status is ExitStatus.Fine or ExitStatus.Finding, again.Err);
        Refuses(Run("fuzz", "--resume", "--execs", "1", "--out", At("out"), "--no-coverage"), "the campaign's driver is " + driver);
    }

    private static void Need(string driver)
    {
        string? missing = FuzzDriver.All.Single(row => row.Name == driver).Missing();
        Assert.SkipUnless(missing is null, missing ?? "");
    }
}
