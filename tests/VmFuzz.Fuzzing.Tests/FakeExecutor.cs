using System.Text;
using System.Text.RegularExpressions;
using VmFuzz.Arch;

namespace VmFuzz.Fuzzing.Tests;

/// <summary>Counts of probes in an array of the test's own.</summary>
internal sealed class FakeProbes(int count = 512) : ProbeSource
{
    private readonly byte[] _counts = new byte[count];

    public override Span<byte> Counts => _counts;

    public override void Clear() => Array.Clear(_counts);

    /// <summary>Counts up to 2: few inputs are worth keeping, so that tests are quick.</summary>
    public void Hit(ulong probe)
    {
        ref byte hits = ref _counts[probe % (ulong)_counts.Length];
        hits += (byte)(hits < 2 ? 1 : 0);
    }
}

/// <summary>A target without a machine: what it covers and breaks is a function of the input's exits and code.</summary>
internal sealed class FakeExecutor(FakeProbes probes, FuzzTarget target = FuzzTarget.ExitHandlers) : IFuzzExecutor
{
    private ulong _hash;
    private int _runs;

    public FuzzTarget Target => target;

    public FeatureMap Features { get; } = new();

    /// <summary>Told before each run.</summary>
    public Action<FuzzInput> Before { get; set; } = static _ => { };

    /// <summary>Whether a probe is hit in every other run only.</summary>
    public bool Unstable { get; init; }

    /// <summary>Whether anything is ever broken.</summary>
    public bool Breaks { get; init; } = true;

    public int DeepRuns { get; private set; }

    public bool Disposed { get; private set; }

    public Execution Run(FuzzInput input)
    {
        Before(input);
        Features.Clear();
        _hash = 0;
        _runs++;
        Violation? violation = null;
        ulong last = 0;
        foreach (MadeExit exit in input.Exits)
        {
            ulong reason = exit.Exit.Reason & 0xFF;
            probes.Hit(reason);
            probes.Hit(128 + (exit.Exit.Qualification & 31));
            Features.Add((last << 8) | (reason & 3));
            last = reason & 3;
            _hash = StateHash.Step(_hash, exit.Exit.Qualification ^ reason);
            if (Breaks && (exit.Exit.Qualification & 0xFF) == 0x77)
            {
                violation ??= new Violation(reason % 2 == 0 ? OracleFolders.Crash : "liveness", $"row {reason % 8}", "broken");
            }
        }

        foreach (byte value in input.Code)
        {
            probes.Hit(256UL + (value & 15UL));
            _hash = StateHash.Step(_hash, value);
        }

        if (Unstable && _runs % 2 == 0)
        {
            probes.Hit(511);
        }

        return new Execution(violation, (ulong)input.Exits.Count, (ulong)input.Code.Count);
    }

    public ulong Digest() => _hash;

    public Violation? RunDeep(FuzzInput input)
    {
        DeepRuns++;
        return null;
    }

    public Violation? Record(FuzzInput input, string path, FuzzOrigin origin) => null;

    public void Dispose() => Disposed = true;
}

/// <summary>A directory for a test, with campaigns in it.</summary>
internal sealed class CampaignFolder : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("vmfuzz-campaign-").FullName;

    public string Path => _root;

    public string At(string name) => System.IO.Path.Combine(_root, name);

    public static CampaignIdentity Identity(ulong seed = 5, FuzzMode mode = FuzzMode.Full) => new("exit-handlers", mode, seed, "engine");

    public static CampaignOptions Options(string directory, FakeExecutor executor, FakeProbes probes, ulong seed = 5, FuzzMode mode = FuzzMode.Full) => new()
    {
        Directory = directory,
        Identity = Identity(seed, mode),
        Executor = executor,
        Probes = probes,
    };

    public static Campaign Open(CampaignOptions options)
    {
        Assert.Null(Campaign.TryOpen(options, out Campaign? campaign));
        return campaign!;
    }

    /// <summary>A campaign with a fake executor.</summary>
    public Campaign Open(string name, bool resume = false, ulong seed = 5, FuzzMode mode = FuzzMode.Full, Action<FuzzInput>? before = null)
    {
        FakeProbes probes = new();
        FakeExecutor executor = new(probes);
        if (before is not null)
        {
            executor.Before = before;
        }

        return Open(Options(At(name), executor, probes, seed, mode) with { Resume = resume });
    }

    /// <summary>Every file of a directory but the lock and what is mapped, with times taken out of the names.</summary>
    public static SortedDictionary<string, string> Content(string directory)
    {
        var content = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach (string path in Directory.GetFiles(directory, "*", SearchOption.AllDirectories))
        {
            string name = System.IO.Path.GetRelativePath(directory, path);
            if (name is not (".lock" or CurrentExecution.FileName))
            {
                string text = name == CrashFolderSink.FileName ? WithoutTimes(Encoding.UTF8.GetString(Read(path))) : Convert.ToHexString(Read(path));
                content.Add(WithoutTimes(name), text);
            }
        }

        return content;
    }

    /// <summary>What a kill at this moment leaves.</summary>
    public static void Copy(string from, string to)
    {
        Directory.CreateDirectory(to);
        foreach (string folder in Directory.GetDirectories(from))
        {
            Copy(folder, System.IO.Path.Combine(to, System.IO.Path.GetFileName(folder)));
        }

        foreach (string path in Directory.GetFiles(from))
        {
            File.WriteAllBytes(System.IO.Path.Combine(to, System.IO.Path.GetFileName(path)), System.IO.Path.GetFileName(path) == ".lock" ? [] : Read(path));
        }
    }

    public void Dispose() => Directory.Delete(_root, recursive: true);

    // The hash at the end of a line knows the time.
    private static string WithoutTimes(string text) => Regex.Replace(text, "time:[0-9]+|#[0-9a-f]{16}", "time");

    private static byte[] Read(string path)
    {
        using FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        byte[] bytes = new byte[stream.Length];
        stream.ReadExactly(bytes);
        return bytes;
    }
}
