using System.Globalization;

namespace VmFuzz.Fuzz.Tests;

/// <summary>The host for AFL++, alone and under afl-fuzz.</summary>
public sealed class AflTests : IDisposable
{
    private readonly HostProcess _made = new();

    public void Dispose() => _made.Dispose();

    [Fact]
    public void Host_WithoutArguments_SaysHowToUseIt()
    {
        (int status, string output) = HostProcess.Run(HostProcess.Afl, []);
        Assert.Equal(2, status);
        Assert.Contains("afl-fuzz -i SEEDS", output, StringComparison.Ordinal);
    }

    [Fact]
    public void Host_WithFiles_SaysWhatEachBreaks()
    {
        string fine = _made.Write("fine", [0, 1, 2]);
        string fault = _made.Write("fault", HostProcess.Fault);
        (int status, string output) = HostProcess.Run(HostProcess.Afl, [.. HostProcess.Planted("order"), fine, fault]);
        Assert.Equal(1, status);
        Assert.Equal($"{fine}: fine\n{fault}: planted@order: the order that must not be\n", output);
        Assert.Equal(0, HostProcess.Run(HostProcess.Afl, [.. HostProcess.Planted("order"), fine]).Status);
    }

    [Fact]
    public void Host_WithAFile_AlsoRunsItUnderOtherConditions()
    {
        string fault = _made.Write("fault", HostProcess.Fault);
        (int status, string output) = HostProcess.Run(HostProcess.Afl, [.. HostProcess.Planted("deep"), fault]);
        Assert.Equal(1, status);
        Assert.Contains("planted@deep", output, StringComparison.Ordinal);
        Assert.Equal(0, HostProcess.Run(HostProcess.Afl, [.. HostProcess.Planted("deep"), "--deep-every=0", fault]).Status);
    }

    [Fact]
    public void Host_WithAFolderOfFindings_ReportsEachOnce()
    {
        string fault = _made.Write("fault", HostProcess.Fault);
        string again = _made.Write("again", [.. HostProcess.Fault, 30, 0]);
        string findings = Path.Combine(_made.Folder, "findings");
        string[] options = [.. HostProcess.Planted("order"), $"--findings={findings}"];
        (int status, string output) = HostProcess.Run(HostProcess.Afl, [.. options, fault, again]);
        Assert.Equal(1, status);
        Assert.Equal($"{fault}: planted@order: the order that must not be\n{again}: fine\n", output);
        string kept = Assert.Single(Directory.GetFiles(findings));
        Assert.Equal(HostProcess.Fault, File.ReadAllBytes(kept));
        Assert.Equal(0, HostProcess.Run(HostProcess.Afl, [.. options, fault]).Status);
    }

    [Theory]
    [InlineData("there is no target other", "--target=other")]
    [InlineData("there is no assembly None in the folders", "--target=order", "--instrument=None")]
    public void Host_WithWhatIsNotThere_SaysSo(string why, params string[] arguments)
    {
        string[] options = ["--entry=" + Planted.Entry, "--instrument=VmFuzz.Fuzz.Tests", .. arguments, _made.Write("fine", [0])];
        (int status, string output) = HostProcess.Run(HostProcess.Afl, options);
        Assert.Equal(2, status);
        Assert.Equal($"VmFuzz.Fuzz.Afl: {why}\n", output);
    }

    [Fact]
    public void AflFuzz_OnAPlantedFault_FindsIt()
    {
        Run("order", ["-V", "60"], ("AFL_BENCH_UNTIL_CRASH", "1"));
        string[] crashes = [.. Saved("crashes")];
        Assert.NotEmpty(crashes);
        (int status, string output) = HostProcess.Run(HostProcess.Afl, [.. HostProcess.Planted("order"), .. crashes]);
        Assert.Equal(1, status);
        Assert.DoesNotContain(": fine", output, StringComparison.Ordinal);
    }

    [Fact]
    public void AflFuzz_WhenWorkersDieAndHang_GoesOn()
    {
        _made.Write("seeds/death", HostProcess.Death);
        _made.Write("seeds/hang", HostProcess.Hang);
        string log = Run("deaths", ["-E", "2000", "-V", "60"]);
        Assert.Contains("results in a crash", log, StringComparison.Ordinal);
        Assert.Contains("results in a timeout", log, StringComparison.Ordinal);
        Assert.InRange(Stat("execs_done"), 2000, double.MaxValue);
        Assert.Equal(100, Stat("stability"));
    }

    [Fact]
    public void AflFuzz_OnAHandlerOfAPlugin_FindsItsFault()
    {
        Run(["-E", "30000", "-V", "60"], [.. HostProcess.Plugin, $"--findings={_made.Folder}/findings"]);
        string kept = Assert.Single(Directory.GetFiles(Path.Combine(_made.Folder, "findings")), static name => name.Contains("PlantedPlugin", StringComparison.Ordinal));
        (int status, string output) = HostProcess.Run(HostProcess.Afl, [.. HostProcess.Plugin, kept]);
        Assert.Equal(1, status);
        Assert.Contains("InvalidOperationException", output, StringComparison.Ordinal);
    }

    private static void NeedAfl() => Assert.SkipUnless(HostProcess.IsInstalled("afl-fuzz"), "afl-fuzz is not installed (package afl++)");

    private string Run(string target, string[] bounds, params (string Name, string Value)[] more) =>
        Run(bounds, HostProcess.Planted(target), more);

    private string Run(string[] bounds, string[] options, params (string Name, string Value)[] more)
    {
        NeedAfl();
        _made.Write("seeds/zero", new byte[16]);
        (int _, string log) = HostProcess.Run(
            "afl-fuzz",
            [.. bounds, "-s", "1", "-t", "500", "-i", Path.Combine(_made.Folder, "seeds"), "-o", Path.Combine(_made.Folder, "out"), "--", HostProcess.Afl, .. options],
            [.. more, ("AFL_SKIP_BIN_CHECK", "1"), ("AFL_NO_UI", "1"), ("AFL_NO_COLOR", "1"), ("AFL_NO_AFFINITY", "1"), ("AFL_SKIP_CPUFREQ", "1"), ("AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES", "1"), ("AFL_FORKSRV_INIT_TMOUT", "60000")]);
        return log;
    }

    private IEnumerable<string> Saved(string kind) => Directory.EnumerateFiles(Path.Combine(_made.Folder, "out", "default", kind), "id*");

    private double Stat(string name)
    {
        string line = File.ReadLines(Path.Combine(_made.Folder, "out", "default", "fuzzer_stats")).Single(line => line.StartsWith(name, StringComparison.Ordinal));
        return double.Parse(line.Split(':')[1].Trim(' ', '%'), CultureInfo.InvariantCulture);
    }
}
