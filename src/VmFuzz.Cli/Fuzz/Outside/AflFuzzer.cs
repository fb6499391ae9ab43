using System.Diagnostics;
using System.Globalization;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary>A worker that is an <c>afl-fuzz</c>.</summary>
internal sealed class AflFuzzer(int worker, FuzzArguments arguments, CampaignDirectory directory) : OutsideFuzzer(worker, arguments, directory)
{
    /// <summary>Name of the host.</summary>
    public const string HostName = "VmFuzz.Fuzz.Afl";

    // Columns of plot_data.
    private const int CorpusColumn = 3, ExecutionsColumn = 11, EdgesColumn = 12, Columns = 13;

    private readonly string _seeds = SeedsOf(directory);

    /// <summary>The driver.</summary>
    public static FuzzDriver Driver { get; } = new(
        "afl",
        "AFL++: mutates bytes; the target stays in one process and answers through a fork server of our own",
        static () => !OperatingSystem.IsLinux() ? "it runs on Linux only" : IsOnPath("afl-fuzz") ? null : "install the Debian package afl++",
        static (host, arguments) => OutsideCampaign.Execute(host, arguments, static (worker, a, directory) => new AflFuzzer(worker, a, directory)));

    /// <inheritdoc/>
    public override ProcessStartInfo Recipe(double seconds)
    {
        string[] words =
        [
            "-i", _seeds, "-o", Path.GetDirectoryName(Root)!, "-S", Path.GetFileName(Root),
            "-s", Seed.ToString(CultureInfo.InvariantCulture), "-t", Text(1000 * Arguments.HangSeconds),
            .. seconds > 0 ? (string[])["-V", Text(seconds)] : [],
            .. Share > 0 ? (string[])["-E", Share.ToString(CultureInfo.InvariantCulture)] : [],
            "--", .. HostOf(HostName), .. TargetOf(Arguments),
        ];
        ProcessStartInfo start = new("afl-fuzz", words);
        Surround(start);
        foreach (string name in (string[])["AFL_SKIP_BIN_CHECK", "AFL_NO_UI", "AFL_NO_COLOR", "AFL_NO_AFFINITY", "AFL_SKIP_CPUFREQ", "AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES", "AFL_AUTORESUME"])
        {
            start.Environment[name] = "1";
        }

        start.Environment["AFL_FORKSRV_INIT_TMOUT"] = "120000";
        return start;
    }

    /// <inheritdoc/>
    public override WorkerStatus Figures()
    {
        // plot_data has a line every few seconds, fuzzer_stats is written once a minute and at the end.
        FuzzerStats stats = FuzzerStats.Parse(ReadText("fuzzer_stats"));
        string? last = ReadText("plot_data").Split('\n').LastOrDefault(static line => line.Length != 0 && line[0] != '#');
        ulong[] plot = [.. (last ?? "").Split(',').Select(static word => ulong.TryParse(word.Trim(), CultureInfo.InvariantCulture, out ulong value) ? value : 0)];
        bool newer = plot.Length >= Columns && plot[ExecutionsColumn] > stats.Executions;
        return new WorkerStatus
        {
            Executions = newer ? plot[ExecutionsColumn] : stats.Executions,
            Corpus = newer ? plot[CorpusColumn] : stats.CorpusCount,
            Imported = stats.CorpusImported,
            ProbesSeen = newer ? plot[EdgesColumn] : stats.EdgesFound,
            ProbesTotal = stats.EdgesTotal,
            Stability = Stability(stats),
        };
    }

    /// <inheritdoc/>
    public override IEnumerable<string> Saved() =>
        ((string[])["crashes", "hangs"]).Select(folder => Path.Combine(Root, folder)).Where(Directory.Exists).SelectMany(static folder => Directory.EnumerateFiles(folder, "id*"));

    /// <inheritdoc/>
    public override OutsideEnd Judge(int exitCode) => exitCode == 0 ? OutsideEnd.Done : OutsideEnd.Broken;

    private static double Stability(FuzzerStats stats)
    {
        string? text = stats.More.FirstOrDefault(static line => line.Key == "stability").Value;
        return double.TryParse(text?.TrimEnd('%'), CultureInfo.InvariantCulture, out double value) ? value : 100;
    }

    private string ReadText(string name)
    {
        try
        {
            return File.ReadAllText(Path.Combine(Root, name));
        }
        catch (IOException)
        {
            return "";
        }
    }
}
