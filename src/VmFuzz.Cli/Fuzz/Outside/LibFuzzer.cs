using System.Diagnostics;
using System.Globalization;

namespace VmFuzz.Cli;

/// <summary>A worker that is a libFuzzer. It ends with what it finds and is started again.</summary>
internal sealed class LibFuzzer(int worker, FuzzArguments arguments, CampaignDirectory directory) : OutsideFuzzer(worker, arguments, directory)
{
    /// <summary>Name of the host.</summary>
    public const string HostName = "VmFuzz.Fuzz.LibFuzzer";

    private const int ErrorStatus = 77, TimeoutStatus = 70, MemoryStatus = 71;

    // Left by the host: the input that runs, behind its length in four bytes, which are 0 while none runs.
    private const string CurrentName = "current";

    private readonly string _seeds = SeedsOf(directory);
    private readonly string _all = directory.Root;
    private readonly int _jobs = arguments.Jobs;
    private ulong _before;
    private ulong _now;
    private ulong _corpus;
    private ulong _probes;
    private ulong _features;
    private ulong _cells;

    /// <summary>The driver.</summary>
    public static FuzzDriver Driver { get; } = new(
        "libfuzzer",
        "libFuzzer in the process of the target: mutates bytes; with structured mutators too",
        Missing,
        static (host, arguments) => OutsideCampaign.Execute(host, arguments, static (worker, a, directory) => new LibFuzzer(worker, a, directory)));

    /// <inheritdoc/>
    public override ProcessStartInfo Recipe(double seconds)
    {
        string queue = QueueOf(Worker);
        string crashes = Path.Combine(Root, "crashes");
        Directory.CreateDirectory(queue);
        Directory.CreateDirectory(crashes);
        _before += _now;
        _now = 0;
        string[] host = HostOf(HostName);
        string[] words =
        [
            .. host.Skip(1), .. TargetOf(Arguments), "--structured", FindingsOption,
            string.Create(CultureInfo.InvariantCulture, $"-seed={Math.Max(1, Seed)}"),
            $"-timeout={Text(Arguments.HangSeconds)}",
            string.Create(CultureInfo.InvariantCulture, $"-rss_limit_mb={Math.Max(2048, 4 * Arguments.Memory)}"),
            $"-artifact_prefix={crashes}/",
            .. seconds > 0 ? (string[])[$"-max_total_time={Text(seconds)}"] : [],
            .. Share > 0 ? (string[])[string.Create(CultureInfo.InvariantCulture, $"-runs={Share - Math.Min(Share, _before)}")] : [],

            // The first is written to; the others are read at the start.
            queue, _seeds, .. Enumerable.Range(0, _jobs).Where(other => other != Worker).Select(QueueOf).Where(Directory.Exists),
        ];
        ProcessStartInfo start = new(host[0], words);
        Surround(start);
        return start;
    }

    /// <inheritdoc/>
    public override void Hear(string line)
    {
        // INFO: Loaded 1 modules   (123 inline 8-bit counters): 123 [0x1, 0x2),
        if (line.StartsWith("INFO: Loaded", StringComparison.Ordinal) && line.Contains("counters", StringComparison.Ordinal))
        {
            _cells = Number(line.Split('(', 2)[^1].Split(' ')[0]) ?? _cells;
            return;
        }

        // #123 NEW cov: 10 ft: 20 corp: 5/100b ...
        if (line.Length < 2 || line[0] != '#' || !char.IsAsciiDigit(line[1]))
        {
            return;
        }

        string[] words = line[1..].Split((char[])[' ', '\t', '/'], StringSplitOptions.RemoveEmptyEntries);
        _now = Number(words[0]) ?? _now;
        for (int i = 0; i + 1 < words.Length; i++)
        {
            switch (words[i])
            {
                case "cov:":
                    _probes = Number(words[i + 1]) ?? _probes;
                    break;
                case "ft:":
                    _features = Number(words[i + 1]) ?? _features;
                    break;
                case "corp:":
                    _corpus = Number(words[i + 1]) ?? _corpus;
                    break;
                default:
                    break;
            }
        }
    }

    /// <inheritdoc/>
    public override WorkerStatus Figures() => new() { Executions = _before + _now, Corpus = _corpus, ProbesSeen = _probes, ProbesTotal = _cells, Features = _features };

    /// <inheritdoc/>
    public override IEnumerable<string> Saved()
    {
        string folder = Path.Combine(Root, "crashes");
        return Directory.Exists(folder) ? Directory.EnumerateFiles(folder).Where(static path => Path.GetFileName(path) != CurrentName) : [];
    }

    /// <inheritdoc/>
    public override OutsideEnd Judge(int exitCode)
    {
        if (exitCode is not (ErrorStatus or TimeoutStatus or MemoryStatus) && !TakeCurrent(exitCode))
        {
            return exitCode == 0 ? OutsideEnd.Done : OutsideEnd.Broken;
        }

        SetAside();
        return Share > 0 && _before + _now >= Share ? OutsideEnd.Done : OutsideEnd.Again;
    }

    // libFuzzer has no say when .NET ends the process; then the input is where the host left it.
    private bool TakeCurrent(int exitCode)
    {
        const int Killed = 128 + 9, Interrupted = 128 + 2, Terminated = 128 + 15;
        string path = Path.Combine(Root, "crashes", CurrentName);
        if (exitCode is < 128 or Killed or Interrupted or Terminated || !File.Exists(path))
        {
            return false;
        }

        byte[] bytes = File.ReadAllBytes(path);
        int length = bytes.Length < sizeof(int) ? 0 : BitConverter.ToInt32(bytes);
        if (length <= 0 || length > bytes.Length - sizeof(int))
        {
            return false;
        }

        byte[] input = bytes[sizeof(int)..(sizeof(int) + length)];
        File.WriteAllBytes(Path.Combine(Root, "crashes", $"death-{Convert.ToHexStringLower(SHA1Of(input))}"), input);
        return true;
    }

    // libFuzzer's own way to name files.
#pragma warning disable CA5350 // A name, not a secret.
    private static byte[] SHA1Of(byte[] bytes) => System.Security.Cryptography.SHA1.HashData(bytes);
#pragma warning restore CA5350

    // What ended the process must not be there when it starts again.
    private void SetAside()
    {
        foreach (string saved in Saved())
        {
            byte[] bytes = File.ReadAllBytes(saved);
            foreach (string file in ((string[])[_seeds, QueueOf(Worker)]).Where(Directory.Exists).SelectMany(Directory.GetFiles))
            {
                if (new FileInfo(file) is { Exists: true } info && info.Length == bytes.Length && File.ReadAllBytes(file).AsSpan().SequenceEqual(bytes))
                {
                    File.Delete(file);
                }
            }
        }
    }

    private static string? Missing()
    {
        if (!OperatingSystem.IsLinux())
        {
            return "it runs on Linux only";
        }

        string[] host = HostOf(HostName);
        try
        {
            using Process process = Process.Start(new ProcessStartInfo(host[0], [.. host.Skip(1), "--check"]) { UseShellExecute = false, RedirectStandardError = true })!;
            string text = process.StandardError.ReadToEnd().Trim();
            process.WaitForExit();
            return process.ExitCode == 0 ? null : text.Split(": ", 2)[^1];
        }
        catch (System.ComponentModel.Win32Exception error)
        {
            return $"its host cannot be started ({error.Message})";
        }
    }

    private static ulong? Number(string text) => ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out ulong value) ? value : null;

    private string QueueOf(int worker) => Path.Combine(_all, CampaignFile.WorkerName(worker), "queue");
}
