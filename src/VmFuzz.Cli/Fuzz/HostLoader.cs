using VmFuzz.Coverage;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary>Finds the campaign engine: among instrumented assemblies, or as it is.</summary>
internal static class HostLoader
{
    /// <summary>Opens a campaign.</summary>
    /// <param name="config">What it is told; the probes' place in the map is filled in here.</param>
    /// <param name="coverage">Whether probes are put into the assemblies.</param>
    /// <returns>What answers requests.</returns>
    public static Func<byte[], byte[]> Open(FuzzHostConfig config, bool coverage)
    {
        if (!coverage)
        {
            FuzzPlugins.LookBeside(config.Plugins);
            return FuzzHost.Open(config.ToJson());
        }

        CoverageLoader loader = Instrument(config.Plugins);
        if (loader.TryBind(typeof(FuzzHost).Assembly.GetName().Name!, typeof(FuzzHost).FullName!, nameof(FuzzHost.Open), out Func<byte[], Func<byte[], byte[]>> open) is { } error)
        {
            throw UserError.At($"the campaign engine cannot be loaded ({error})", AppContext.BaseDirectory, "reinstall, or use --no-coverage");
        }

        config.ProbeBase = loader.FirstProbe;
        config.ProbeCount = loader.Cells;
        return open(config.ToJson());
    }

    /// <summary>Puts probes into the assemblies under test and into plug-ins.</summary>
    public static CoverageLoader Instrument(IReadOnlyList<string> plugins)
    {
        var options = new CoverageLoaderOptions();
        options = options with
        {
            Files = [.. plugins],
            Instrumented = [.. options.Instrumented, .. plugins.Select(static p => Path.GetFileNameWithoutExtension(p))],
            Folders = [.. options.Folders, .. plugins.Select(static p => Path.GetDirectoryName(p)!)],
        };
        return CoverageLoader.TryCreate(options, out CoverageLoader loader) is { } error
            ? throw UserError.At($"probes cannot be put into the assemblies ({error})", plugins.Count == 0 ? AppContext.BaseDirectory : string.Join(", ", plugins), "use --no-coverage, or build the plug-in as IL only")
            : loader;
    }
}
