using System.Collections.Immutable;
using System.Runtime.Loader;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary>Assemblies given with <c>--plugin</c>, and all targets that there are with them.</summary>
internal sealed class FuzzPlugins
{
    private FuzzPlugins(ImmutableArray<string> paths, ImmutableArray<string> identities, ImmutableArray<FuzzTargetRow> targets) =>
        (Paths, Identities, Targets) = (paths, identities, targets);

    /// <summary>Full paths, in the order given.</summary>
    public ImmutableArray<string> Paths { get; }

    /// <summary>What they say they are, in order.</summary>
    public ImmutableArray<string> Identities { get; }

    /// <summary>Targets of the product and of the plug-ins.</summary>
    public ImmutableArray<FuzzTargetRow> Targets { get; }

    /// <summary>A target by name; null when there is none.</summary>
    public FuzzTargetRow? Find(string name) => Targets.FirstOrDefault(t => t.Name == name);

    /// <summary>Loads them, to know what they offer; the workers load them again, with probes.</summary>
    public static FuzzPlugins Load(IReadOnlyList<string> paths)
    {
        foreach (string path in paths)
        {
            InputFiles.MustExist(path, "the plug-in");
        }

        ImmutableArray<string> full = [.. paths.Select(Path.GetFullPath)];
        LookBeside(full);
        return FuzzHost.TryTargets(full, out ImmutableArray<FuzzTargetRow> targets, out ImmutableArray<string> identities) is { } wrong
            ? throw UserError.At("the plug-in is of no use", wrong, "build it against this version, with a public constructor without parameters")
            : new FuzzPlugins(full, identities, targets);
    }

    /// <summary>Lets what lies in the folders of plug-ins be found, for plug-ins that bring packages of their own.</summary>
    public static void LookBeside(IReadOnlyList<string> paths)
    {
        ImmutableArray<string> folders = [.. paths.Select(static p => Path.GetDirectoryName(p)!).Distinct(StringComparer.Ordinal)];
        if (folders.IsEmpty)
        {
            return;
        }

        AssemblyLoadContext.Default.Resolving += (context, name) => folders
            .Select(folder => Path.Combine(folder, name.Name + ".dll"))
            .Where(File.Exists)
            .Select(context.LoadFromAssemblyPath)
            .FirstOrDefault();
    }
}
