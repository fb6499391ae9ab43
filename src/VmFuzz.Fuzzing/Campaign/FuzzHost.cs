using System.Collections.Immutable;
using System.Reflection;
using System.Runtime.Loader;
using System.Text.Json;

namespace VmFuzz.Fuzzing;

/// <summary>The way into a campaign from outside the instrumented load context: only bytes cross.</summary>
public static class FuzzHost
{
    /// <summary>Opens a campaign.</summary>
    /// <param name="config">A <see cref="FuzzHostConfig"/> as UTF-8 JSON.</param>
    /// <returns>
    /// Answers a <see cref="FuzzHostRequest"/> with a <see cref="FuzzHostResponse"/>, both as UTF-8 JSON. When the campaign
    /// cannot be opened every answer is the same error.
    /// </returns>
    public static Func<byte[], byte[]> Open(byte[] config) => Open(config, static row => row.CreateExecutor());

    /// <summary>The targets of this build and of some plug-ins.</summary>
    /// <param name="plugins">Paths of plug-ins.</param>
    /// <param name="targets">The rows, when the result is null; of two with one name the later.</param>
    /// <param name="identities">Identities of the plug-ins, in order, when the result is null.</param>
    /// <returns>Why a plug-in cannot be used, in one line; or null.</returns>
    public static string? TryTargets(IReadOnlyList<string> plugins, out ImmutableArray<FuzzTargetRow> targets, out ImmutableArray<string> identities)
    {
        ArgumentNullException.ThrowIfNull(plugins);
        var rows = new List<FuzzTargetRow>(FuzzTargetRow.BuiltIn);
        var names = ImmutableArray.CreateBuilder<string>();
        targets = [];
        identities = [];
        foreach (string path in plugins)
        {
            if (TryLoad(path, out List<IFuzzPlugin> found) is { } bad)
            {
                return bad;
            }

            foreach (IFuzzPlugin plugin in found)
            {
                names.Add(plugin.Identity);
                rows.RemoveAll(row => plugin.Targets.Any(own => own.Name == row.Name));
                rows.AddRange(plugin.Targets);
            }
        }

        targets = [.. rows];
        identities = names.ToImmutable();
        return null;
    }

    internal static Func<byte[], byte[]> Open(byte[] config, Func<FuzzTargetRow, IFuzzExecutor> create)
    {
        ArgumentNullException.ThrowIfNull(config);
        string? bad;
        FuzzHostSession? session = null;
        try
        {
            FuzzHostConfig read = JsonSerializer.Deserialize(config, FuzzJson.Default.FuzzHostConfig) ?? throw new JsonException("null is not a configuration");
            bad = TryOpen(read, create, out session);
        }
        catch (JsonException e)
        {
            bad = $"the configuration is not understood: {e.Message}";
        }

        if (session is { } opened)
        {
            return opened.Answer;
        }

        byte[] refusal = new FuzzHostResponse { Error = bad, Refused = true }.ToJson();
        return _ => refusal;
    }

    private static string? TryOpen(FuzzHostConfig config, Func<FuzzTargetRow, IFuzzExecutor> create, out FuzzHostSession? session)
    {
        session = null;
        if (config.Directory.Length == 0)
        {
            return "a campaign needs a directory";
        }

        if (TryTargets(config.Plugins, out ImmutableArray<FuzzTargetRow> targets, out ImmutableArray<string> identities) is { } bad)
        {
            return bad;
        }

        if (targets.FirstOrDefault(row => row.Name == config.Target) is not { } target)
        {
            return $"there is no target {config.Target}; there are {string.Join(", ", targets.Select(static row => row.Name))}";
        }

        if (config.ProbeCount < 0 || config.ProbeBase < 0
            || (config.ProbeCount != 0 && config.ProbeBase > Coverage.CoverageMap.Used - config.ProbeCount))
        {
            return "the probes are not in the coverage map";
        }

        var lines = new HostLog();
        IFuzzExecutor executor = create(target);
        CampaignOptions options = new()
        {
            Directory = config.Directory,
            Identity = new CampaignIdentity(target.Name, config.Mode, config.Seed, CampaignIdentity.EngineOf(MutatorTable.Default, identities)),
            Executor = executor,
            Probes = ProbeSource.Map(config.ProbeBase, config.ProbeCount),
            Resume = config.Resume,
            Inputs = [.. config.Inputs],
            Empty = config.Empty,
            SyncFrom = config.SyncFrom,
            DeepEvery = config.DeepEvery,
            Skip = [.. config.Skip],
            Sink = corpus => new FindingSink(corpus, () => create(target), FactsOf(config, target, identities, corpus.Root), lines.Add),
            Log = lines.Add,
        };
        if (Campaign.TryOpen(options, out Campaign? campaign) is { } refused)
        {
            executor.Dispose();
            return refused;
        }

        session = new FuzzHostSession(config, campaign!, executor, lines);
        return null;
    }

    private static CampaignFacts FactsOf(FuzzHostConfig config, FuzzTargetRow target, ImmutableArray<string> identities, string root) => new(
        target.Name, Path.GetFileName(Path.GetDirectoryName(root)) ?? "", Path.GetFileName(root), config.Seed, EngineIdentity.Here(identities), [.. config.Plugins]);

    // Into the context that this assembly is in: only there its types are the plug-in's types.
    private static string? TryLoad(string path, out List<IFuzzPlugin> plugins)
    {
        plugins = [];
        try
        {
            string full = Path.GetFullPath(path);
            AssemblyLoadContext context = AssemblyLoadContext.GetLoadContext(typeof(FuzzHost).Assembly) ?? AssemblyLoadContext.Default;
            Assembly assembly = context == AssemblyLoadContext.Default
                ? context.LoadFromAssemblyPath(full)
                : context.LoadFromAssemblyName(AssemblyName.GetAssemblyName(full));
            foreach (Type type in assembly.GetExportedTypes().OrderBy(static t => t.FullName, StringComparer.Ordinal))
            {
                if (type is { IsAbstract: false, IsClass: true } && typeof(IFuzzPlugin).IsAssignableFrom(type)
                    && type.GetConstructor(Type.EmptyTypes)?.Invoke(null) is IFuzzPlugin plugin)
                {
                    plugins.Add(plugin);
                }
            }
        }
        catch (Exception e) when (e is IOException or BadImageFormatException or UnauthorizedAccessException or ArgumentException or TypeLoadException)
        {
            return $"{path} cannot be loaded: {e.Message}";
        }
        catch (TargetInvocationException e)
        {
            return $"{path} cannot be started: {e.InnerException?.Message ?? e.Message}";
        }

        return plugins.Count == 0 ? $"{path} has no public class that implements {nameof(IFuzzPlugin)}" : null;
    }
}

/// <summary>Lines for people, until the next answer takes them.</summary>
internal sealed class HostLog
{
    private const int Most = 100;
    private readonly List<string> _lines = [];
    private string _last = "";

    public void Add(string line)
    {
        if (_lines.Count < Most && !string.Equals(line, _last, StringComparison.Ordinal))
        {
            _lines.Add(line);
            _last = line;
        }
    }

    public string[] Take()
    {
        string[] lines = [.. _lines];
        _lines.Clear();
        return lines;
    }
}
