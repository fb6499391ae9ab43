using System.Collections.Immutable;

namespace VmFuzz.Cpu;

/// <summary>Names of features, as <c>-cpu MODEL,+name,-name</c> takes them: those of QEMU.</summary>
public static class CpuFeatureNames
{
    // Where QEMU's name is not that of the enum's member in small letters.
    private static readonly ImmutableArray<(CpuFeatures Feature, string Name)> Special =
    [
        (CpuFeatures.LongMode, "lm"),
        (CpuFeatures.Page1G, "pdpe1gb"),
        (CpuFeatures.Lahf64, "lahf-lm"),
        (CpuFeatures.Lzcnt, "abm"),
        (CpuFeatures.TscDeadline, "tsc-deadline"),
        (CpuFeatures.Sse3, "pni"),
        (CpuFeatures.Sse41, "sse4.1"),
        (CpuFeatures.Sse42, "sse4.2"),
        (CpuFeatures.Sha, "sha-ni"),
    ];

    /// <summary>All names, by feature.</summary>
    public static ImmutableArray<(CpuFeatures Feature, string Name)> All { get; } =
    [
        .. Enum.GetValues<CpuFeatures>().Where(static f => f != CpuFeatures.None).Select(static f => (f, NameOf(f))),
    ];

    /// <summary>The names of features, with spaces between.</summary>
    public static string Of(CpuFeatures features) => string.Join(' ', All.Where(row => (row.Feature & features) != 0).Select(static row => row.Name));

    /// <summary>Finds a feature by its name; case and the difference between - and _ do not matter.</summary>
    public static bool TryFind(string name, out CpuFeatures feature)
    {
        ArgumentNullException.ThrowIfNull(name);
        foreach ((CpuFeatures candidate, string text) in All)
        {
            if (string.Equals(text, name.Replace('_', '-'), StringComparison.OrdinalIgnoreCase))
            {
                feature = candidate;
                return true;
            }
        }

        feature = CpuFeatures.None;
        return false;
    }

    private static string NameOf(CpuFeatures feature)
    {
        foreach ((CpuFeatures candidate, string name) in Special)
        {
            if (candidate == feature)
            {
                return name;
            }
        }

        return feature.ToString().ToLowerInvariant();
    }
}
