using System.Diagnostics;
using System.Globalization;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary>A worker that is an <c>afl-fuzz</c>.</summary>
internal sealed class AflFuzzer(int worker, FuzzArguments arguments, CampaignDirectory directory) : OutsideFuzzer(worker, arguments, directory)
{
    /// <summary>Name of the host.</summary>
    public const string HostName = "VmFuzz.Fuzz.Afl";

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
            "--", .. HostOf(HostName), .. TargetOf(Arguments), FindingsOption,
        ];
        ProcessStartInfo start = new("afl-fuzz", words);
        Surround(start);
        foreach (string name in (string[])["AFL_SKIP_BIN_CHECK", "AFL_NO_UI", "AFL_NO_AFFINITY", "AFL_SKIP_CPUFREQ", "AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES", "AFL_AUTORESUME"])
        {
            start.Environment[name] = "1";
        }

        start.Environment["AFL_FORKSRV_INIT_TMOUT"] = "120000";
        return start;
    }

    /// <inheritdoc/>
    public override WorkerStatus Figures()
    {
        // The file is written seldom, and at the end; in between the names of the queue tell more.
        FuzzerStats stats = FuzzerStats.Parse(ReadText("fuzzer_stats"));
        (ulong executions, ulong corpus) = ReadQueue();
        return new WorkerStatus
        {
            Executions = Math.Max(executions, stats.Executions),
            Corpus = Math.Max(corpus, stats.CorpusCount),
            Imported = stats.CorpusImported,
            ProbesSeen = stats.EdgesFound,
            ProbesTotal = stats.EdgesTotal,
            Stability = Stability(stats),
        };
    }

    /// <inheritdoc/>
    public override IEnumerable<string> Saved() =>
        ((string[])["crashes", "hangs"]).Select(folder => Path.Combine(Root, folder)).Where(Directory.Exists).SelectMany(static folder => Directory.EnumerateFiles(folder, "id*"));

    /// <inheritdoc/>
    public override OutsideEnd Judge(int exitCode) => exitCode == 0 ? OutsideEnd.Done : OutsideEnd.Broken;

    private (ulong Executions, ulong Corpus) ReadQueue()
    {
        string queue = Path.Combine(Root, "queue");
        ulong executions = 0;
        ulong corpus = 0;
        foreach (string path in Directory.Exists(queue) ? Directory.EnumerateFiles(queue, "id*") : [])
        {
            executions = Math.Max(executions, CorpusName.Parse(Path.GetFileName(path))?.Executions ?? 0);
            corpus++;
        }

        return (executions, corpus);
    }

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
