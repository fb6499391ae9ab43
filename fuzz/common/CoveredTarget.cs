using VmFuzz.Coverage;
using VmFuzz.Fuzzing;

namespace VmFuzz.Fuzz;

/// <summary>A target with probes in it, for a fuzzer that hands over bytes and reads a map of counts.</summary>
public sealed unsafe class CoveredTarget
{
    private readonly HostOptions _options;
    private readonly CoverageLoader _loader;
    private readonly int _features;
    private readonly FindingFolder _findings;
    private byte[] _saved = [];
    private int _untilDeep;
    private Func<ReadOnlySpan<byte>, Span<byte>, bool, string?> _run = static (_, _, _) => null;

    private CoveredTarget(HostOptions options, CoverageLoader loader, int features)
    {
        _options = options;
        _loader = loader;
        _features = features;
        _findings = new FindingFolder(options.Findings);
    }

    /// <summary>Cells of the map: one a probe, then the semantic features.</summary>
    public static int Cells => CoverageMap.Used;

    /// <summary>First cell of the map. Settles it.</summary>
    public static byte* Map => CoverageMap.Address;

    /// <summary>What the last run broke, for people; null when it broke nothing.</summary>
    public string? LastViolation { get; private set; }

    /// <summary>Instruments, and sizes the map. Nothing of the target runs yet, so the map can still be moved.</summary>
    /// <param name="options">The target.</param>
    /// <param name="target">The target, when the result is null.</param>
    /// <returns>What is wrong, or null.</returns>
    public static string? TryPrepare(HostOptions options, out CoveredTarget target)
    {
        target = null!;
        CoverageLoaderOptions load = new()
        {
            Files = options.Plugins,
            Folders = [AppContext.BaseDirectory, .. options.Plugins.Select(static path => Path.GetDirectoryName(path)!)],
            Instrumented = [.. options.Instrumented, .. options.PluginNames],
        };
        if (CoverageLoader.TryCreate(load, out CoverageLoader loader) is { } error)
        {
            return error.Message;
        }

        if (!CoverageMap.TryAllocate(ByteTarget.FeatureCells, out int features))
        {
            return $"the map has no room for {ByteTarget.FeatureCells} features";
        }

        target = new CoveredTarget(options, loader, features);
        return null;
    }

    /// <summary>Opens the target. Settles the map.</summary>
    /// <returns>What is wrong, or null.</returns>
    public string? TryOpen()
    {
        string[] entry = _options.Entry.Split(':');
        if (_loader.TryBind(entry[0], entry[1], entry[2], out Func<string, string[], Func<ReadOnlySpan<byte>, Span<byte>, bool, string?>?> open) is { } error)
        {
            return error.Message;
        }

        try
        {
            _run = open(_options.Target, [.. _options.Plugins])!;
        }
        catch (Exception wrong) when (wrong is NotSupportedException or ArgumentException)
        {
            return wrong.Message;
        }

        return _run is not null ? null : $"there is no target {_options.Target}{(_options.Plugins.IsEmpty ? "" : ", or a plug-in cannot be loaded")}";
    }

    /// <summary>
    /// Runs the least input some times, so that what happens only once has happened, and empties the map. Nothing more: a
    /// fault that ends the process must not meet every worker here.
    /// </summary>
    public void WarmUp()
    {
        for (int i = 0; i < 8; i++)
        {
            RunOnce([], false);
        }

        LastViolation = null;
        _untilDeep = 0;
        CoverageMap.Clear();
    }

    /// <summary>Runs bytes. The map is not emptied before.</summary>
    /// <param name="bytes">The bytes.</param>
    /// <param name="deep">Whether the oracles that cost several runs are wanted in any case.</param>
    /// <returns>
    /// Whether nothing was broken that is not in the folder of findings; otherwise <see cref="LastViolation"/> says what.
    /// </returns>
    public bool Run(ReadOnlySpan<byte> bytes, bool deep = false)
    {
        RunOnce(bytes, deep);
        if (LastViolation is { } violation && !_findings.Add(violation, bytes))
        {
            LastViolation = null;
        }

        return LastViolation is null;
    }

    /// <summary>Runs files, one after the other, and says what each broke.</summary>
    /// <returns>0 when none broke anything, 1 when one did, 2 when one cannot be read.</returns>
    public int Reproduce(IEnumerable<string> files, TextWriter output)
    {
        int status = 0;
        foreach (string file in files)
        {
            byte[] bytes;
            try
            {
                bytes = File.ReadAllBytes(file);
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
                output.WriteLine($"{file}: {error.Message}");
                return 2;
            }

            bool fine = Run(bytes, _options.DeepEvery != 0);
            output.WriteLine(fine ? $"{file}: fine" : $"{file}: {LastViolation}");
            status = fine ? status : 1;
        }

        return status;
    }

    private void RunOnce(ReadOnlySpan<byte> bytes, bool deep)
    {
        try
        {
            LastViolation = _run(bytes, CoverageMap.Counts.Slice(_features, ByteTarget.FeatureCells), false);
            if (LastViolation is null && (deep || IsDeepDue()))
            {
                LastViolation = RunDeep();
            }
        }
#pragma warning disable CA1031 // Whatever comes out of a target is a finding.
        catch (Exception error)
#pragma warning restore CA1031
        {
            LastViolation = $"crash@{error.GetType().Name}: {error}";
        }
    }

    private bool IsDeepDue()
    {
        bool due = _untilDeep == 0;
        _untilDeep = due ? _options.DeepEvery - 1 : _untilDeep - 1;
        return due && _options.DeepEvery != 0;
    }

    // The fuzzer sees what the first run reached, not what the others added.
    private string? RunDeep()
    {
        Span<byte> counts = CoverageMap.Counts;
        if (_saved.Length < counts.Length)
        {
            _saved = new byte[counts.Length];
        }

        counts.CopyTo(_saved);
        string? violation = _run(default, default, true);
        _saved.AsSpan(0, counts.Length).CopyTo(counts);
        return violation;
    }
}
