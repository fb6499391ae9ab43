using Mono.Cecil;

namespace VmFuzz.Architecture.Tests;

/// <summary>The built assemblies beside the tests, and the sources they come from.</summary>
internal static class Assemblies
{
    /// <summary>The root of the repository.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>Reads a built assembly.</summary>
    public static AssemblyDefinition Read(string name)
    {
        var resolver = new DefaultAssemblyResolver();
        resolver.AddSearchDirectory(AppContext.BaseDirectory);
        resolver.AddSearchDirectory(Path.GetDirectoryName(typeof(object).Assembly.Location)!);
        return AssemblyDefinition.ReadAssembly(
            Path.Combine(AppContext.BaseDirectory, name + ".dll"),
            new ReaderParameters { AssemblyResolver = resolver, InMemory = true });
    }

    /// <summary>Folders of the source projects, with their names.</summary>
    public static IEnumerable<string> Projects() =>
        Directory.EnumerateFiles(Path.Combine(Root, "src"), "*.csproj", SearchOption.AllDirectories)
            .Select(static path => Path.GetDirectoryName(path)!)
            .Order(StringComparer.Ordinal);

    /// <summary>Names of the hosts' assemblies: the projects in the folder <c>fuzz</c> that the solution holds.</summary>
    public static IEnumerable<string> Hosts()
    {
        string solution = File.ReadAllText(Path.Combine(Root, "VmFuzz.sln"));
        return Directory.EnumerateFiles(Path.Combine(Root, "fuzz"), "*.csproj", SearchOption.AllDirectories)
            .Select(static path => Path.GetFileName(path))
            .Where(name => solution.Contains(name, StringComparison.Ordinal))
            .Select(static name => Path.GetFileNameWithoutExtension(name));
    }

    private static string FindRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "VmFuzz.sln")))
            {
                return folder.FullName;
            }
        }

        throw new InvalidOperationException("The tests run outside the repository: there is no VmFuzz.sln above them.");
    }
}
