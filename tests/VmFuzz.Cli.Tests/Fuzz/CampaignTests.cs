using System.Diagnostics;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli.Tests;

/// <summary>Campaigns with real worker processes.</summary>
public class CampaignTests : SupervisorFixture
{
    private static readonly string Plugin = typeof(HarmfulPlugin).Assembly.Location;

    [Fact]
    public void Fuzz_OneWorkerSameSeed_GivesTheSameCampaign()
    {
        foreach (string name in (string[])["one", "two"])
        {
            Ran ran = Run("fuzz", "--execs", "1500", "--jobs", "1", "--seed", "3", "--out", At(name), "--json");
            Assert.True(ran.Status is 0 or 1, ran.Err);
            Assert.Equal(1500UL, ran.Json.GetProperty("executions").GetUInt64());
            Assert.True(ran.Json.GetProperty("probesSeen").GetInt32() > 100, ran.Out);
            Assert.Equal(0, ran.Json.GetProperty("workers")[0].GetProperty("restarts").GetInt32());
        }

        Assert.NotEmpty(Queue("one"));
        Assert.Equal(Queue("one"), Queue("two"));
    }

    [Fact]
    public void Fuzz_NoCoverage_CountsNoProbes()
    {
        Ran ran = Run("fuzz", "--execs", "50", "--jobs", "1", "--seed", "3", "--out", At("out"), "--no-coverage", "--json");
        Assert.True(ran.Status is 0 or 1, ran.Err);
        Assert.Equal(0, ran.Json.GetProperty("probesTotal").GetInt32());
        Assert.True(ran.Json.GetProperty("features").GetInt32() > 0);
    }

    [Fact]
    public void Fuzz_Resume_GoesOnWhereItEnded()
    {
        Assert.True(Run("fuzz", "--execs", "1000", "--jobs", "1", "--seed", "3", "--out", At("out"), "--no-coverage").Status is 0 or 1);
        Ran ran = Run("fuzz", "--resume", "--execs", "500", "--jobs", "1", "--out", At("out"), "--no-coverage", "--json");
        Assert.True(ran.Status is 0 or 1, ran.Err);
        Assert.Equal(500UL, ran.Json.GetProperty("executions").GetUInt64());
        Assert.Equal(1500UL, ran.Json.GetProperty("executionsTotal").GetUInt64());
    }

    [Fact]
    public void Rerun_ExecutionOfACampaign_GivesTheNotedDigest()
    {
        Assert.True(Run("fuzz", "--execs", "300", "--jobs", "1", "--seed", "3", "--out", At("out"), "--no-coverage").Status is 0 or 1);
        Ran ran = Run("fuzz", "rerun", At("out"), "--execution", "1", "--trace", At("case.vmtrace"), "--json");
        Assert.True(ran.Status is 0 or 1, ran.Err);
        Assert.StartsWith("0x", ran.Json.GetProperty("digest").GetString(), StringComparison.Ordinal);
        Assert.Equal("the same as when it ran first", ran.Json.GetProperty("compared").GetString(), StringComparer.Ordinal);
        Assert.Equal(File.Exists(At("case.vmtrace")), ran.Json.GetProperty("trace").ValueKind == System.Text.Json.JsonValueKind.String);
    }

    [Fact]
    public void Run_WorkerIsKilled_IsStartedAgainAndGoesOn()
    {
        int killed = 0;
        CampaignView end = RunReal(Arguments with { HangSeconds = 60 }, (supervisor, view) =>
        {
            if (view.Workers[0].Status.Executions < 200)
            {
                return;
            }

            if (killed == 0)
            {
                killed = supervisor.Processes.Single();
                using var process = Process.GetProcessById(killed);
                process.Kill();
            }
            else if (view.Workers[0].Restarts == 1 && view.Workers[0].State == "fuzzing" && view.Workers[0].Status.Executions > 1000)
            {
                supervisor.Stop();
            }
        });
        Assert.Equal(1, end.Workers[0].Restarts);
        Assert.True(end.Workers[0].Status.Executions > 1000);
        Assert.DoesNotContain(end.Findings, static f => f.Key.StartsWith(OracleFolders.Death, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(HarmfulPlugin.Loops, OracleFolders.Hang + "@cpuid")]
    [InlineData(HarmfulPlugin.Overflows, OracleFolders.Death + "@stack-overflow in VmFuzz.Cli.Tests.HarmfulPlugin.Overflow")]
    public void Run_HandlerEndsTheProcess_IsAFindingWithItsInput(string target, string key)
    {
        FuzzPlugins plugins = FuzzPlugins.Load([Plugin]);
        CampaignView end = RunReal(
            Arguments with { Target = plugins.Find(target)!, Plugins = plugins.Paths, PluginIdentities = plugins.Identities, HangSeconds = 1 },
            (supervisor, view) =>
            {
                if (!view.Findings.IsEmpty && view.Workers[0].State == "fuzzing")
                {
                    supervisor.Stop();
                }
            });
        FoundFinding finding = Assert.Single(end.Findings, f => f.Key == key);
        Assert.NotNull(finding.File);
        Assert.True(File.Exists(finding.File) || Directory.Exists(finding.File), finding.File);
        Assert.True(end.Workers[0].Restarts >= 1);
    }

    [Fact]
    public void Fuzz_CtrlC_EndsWithASummary()
    {
        NeedsInterrupts();
        using Process process = Start("fuzz", "--jobs", "1", "--out", At("out"), "--no-coverage");
        AwaitExecutions(process);
        Signal("-INT", process.Id);
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode is 0 or 1, output);
        Assert.Contains("everything is in", output, StringComparison.Ordinal);
        Assert.True(File.Exists(Path.Combine(At("out"), "worker00", "fuzzer_stats")));
    }

    [Fact]
    public void Fuzz_SupervisorIsKilled_ItsWorkerEnds()
    {
        using Process process = Start("fuzz", "--jobs", "1", "--out", At("out"), "--no-coverage");
        AwaitExecutions(process);
        FuzzerStats stats = FuzzerStats.Parse(File.ReadAllText(Path.Combine(At("out"), "worker00", "fuzzer_stats")));
        using Process worker = Process.GetProcessById((int)stats.Process);
        process.Kill();
        process.WaitForExit();

        // It ends, or the test never does.
        worker.WaitForExit();
        Assert.Equal(0, Run("fuzz", "--resume", "--execs", "10", "--jobs", "1", "--out", At("out"), "--no-coverage").Status & ~1);
    }

    [Fact]
    public void Fuzz_AflWhatsup_ReadsTheDirectory()
    {
        Assert.SkipUnless(File.Exists("/usr/bin/afl-whatsup"), "needs afl-whatsup (Debian: afl++)");
        Assert.True(Run("fuzz", "--execs", "500", "--jobs", "1", "--out", At("out"), "--no-coverage").Status is 0 or 1);
        var start = new ProcessStartInfo("/usr/bin/afl-whatsup") { ArgumentList = { "-d", At("out") }, RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };
        using Process process = Process.Start(start)!;
        string text = process.StandardOutput.ReadToEnd() + process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.Contains("exit-handlers-00", text, StringComparison.Ordinal);
        Assert.DoesNotContain("rror", text, StringComparison.Ordinal);
    }

    [Fact]
    public void CorpusMin_QueueOfACampaign_KeepsPartOfIt()
    {
        Assert.True(Run("fuzz", "--execs", "600", "--jobs", "1", "--seed", "3", "--out", At("out"), "--no-coverage").Status is 0 or 1);
        Ran ran = Run("corpus", "min", At("out"), At("small"), "--json");
        Assert.True(ran.Status == 0, ran.Err);
        int kept = ran.Json.GetProperty("kept").GetInt32();
        Assert.InRange(kept, 1, ran.Json.GetProperty("inputs").GetInt32());
        Assert.Equal(kept, Directory.GetFiles(At("small")).Length);

        // Caches of the model make what a few inputs reach depend on what ran before.
        Assert.InRange(Run("corpus", "merge", At("out"), "--out", At("small"), "--json").Json.GetProperty("kept").GetInt32(), 0, 20);
    }

    private static void Signal(string signal, int process)
    {
        using Process kill = Process.Start("/bin/kill", [signal, process.ToString(System.Globalization.CultureInfo.InvariantCulture)]);
        kill.WaitForExit();
    }

    private CampaignView RunReal(FuzzArguments arguments, Action<Supervisor, CampaignView> shown)
    {
        arguments = arguments with { Coverage = false, Output = At("out") };
        using CampaignDirectory directory = CampaignDirectory.Open(arguments, static () => 1);
        using var supervisor = new Supervisor(arguments, directory, View, () => WorkerProcess.Recipe(arguments.Memory));
        View.Shown = view => shown(supervisor, view);
        Assert.Null(supervisor.Run());
        return supervisor.View;
    }

    private string[] Queue(string name) =>
        [.. Directory.GetFiles(Path.Combine(At(name), "worker00", "queue")).Order(StringComparer.Ordinal).Select(static f => Convert.ToHexString(File.ReadAllBytes(f)))];
}
