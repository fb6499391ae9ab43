using System.Collections.Immutable;
using System.Reflection;
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

    /// <summary>What they say they are, in the same order.</summary>
    public ImmutableArray<string> Identities { get; }

    /// <summary>Targets of the product and of the plug-ins.</summary>
    public ImmutableArray<FuzzTargetRow> Targets { get; }

    /// <summary>A target by name; null when there is none.</summary>
    public FuzzTargetRow? Find(string name) => Targets.FirstOrDefault(t => t.Name == name);

    /// <summary>Loads them, to know what they offer; the workers load them again, with probes.</summary>
    public static FuzzPlugins Load(IReadOnlyList<string> paths)
    {
        ImmutableArray<FuzzTargetRow> targets = FuzzTargetRow.BuiltIn;
        var full = ImmutableArray.CreateBuilder<string>();
        var identities = ImmutableArray.CreateBuilder<string>();
        foreach (string path in paths)
        {
            InputFiles.MustExist(path, "the plug-in");
            IFuzzPlugin plugin = Make(path);
            full.Add(Path.GetFullPath(path));
            identities.Add(plugin.Identity);
            foreach (FuzzTargetRow target in plugin.Targets)
            {
                targets = targets.Any(t => t.Name == target.Name)
                    ? throw UserError.At($"there are two targets '{target.Name}'", path, "rename the plug-in's")
                    : targets.Add(target);
            }
        }

        return new FuzzPlugins(full.ToImmutable(), identities.ToImmutable(), targets);
    }

    private static IFuzzPlugin Make(string path)
    {
        try
        {
            // Among instrumented assemblies the plug-in is one of them, and knows its own kind of targets.
            AssemblyLoadContext own = AssemblyLoadContext.GetLoadContext(typeof(FuzzPlugins).Assembly)!;
            Assembly assembly = own == AssemblyLoadContext.Default
                ? Assembly.LoadFrom(Path.GetFullPath(path))
                : own.LoadFromAssemblyName(new AssemblyName(Path.GetFileNameWithoutExtension(path)));
            Type type = assembly.GetExportedTypes().FirstOrDefault(static t => t is { IsClass: true, IsAbstract: false } && typeof(IFuzzPlugin).IsAssignableFrom(t))
                ?? throw UserError.At("the plug-in offers nothing", path, $"add a public class that implements {typeof(IFuzzPlugin).FullName}");
            return (IFuzzPlugin)Activator.CreateInstance(type)!;
        }
        catch (Exception error) when (error is IOException or BadImageFormatException or TypeLoadException or ReflectionTypeLoadException or MissingMethodException or TargetInvocationException)
        {
            string why = (error is TargetInvocationException { InnerException: { } inner } ? inner : error).Message;
            throw UserError.At($"the plug-in cannot be loaded ({why.ReplaceLineEndings(" ")})", path, "build it against this version, with a public constructor without parameters");
        }
    }
}
