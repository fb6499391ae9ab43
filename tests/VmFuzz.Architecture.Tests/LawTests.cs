using Mono.Cecil;

namespace VmFuzz.Architecture.Tests;

/// <summary>Every law over every source assembly.</summary>
public sealed class LawTests
{
    public static TheoryData<string, string> Pairs()
    {
        var pairs = new TheoryData<string, string>();
        foreach (Law law in Law.All)
        {
            foreach (Layer layer in Layer.All.Concat(Layer.Beside))
            {
                pairs.Add(law.Id, layer.Name);
            }
        }

        return pairs;
    }

    [Theory]
    [MemberData(nameof(Pairs))]
    public void Assembly_UnderALaw_KeepsIt(string law, string name)
    {
        using AssemblyDefinition assembly = Assemblies.Read(name);
        string[] offenders = [.. Law.All.Single(row => row.Id == law).Find(assembly, Layer.Of(assembly)).Distinct(StringComparer.Ordinal)];
        Assert.True(offenders.Length == 0, $"{law}:{Environment.NewLine}{string.Join(Environment.NewLine, offenders)}");
    }

    [Fact]
    public void Layers_AgainstTheFolder_NameEveryProject()
    {
        string[] folders = [.. Assemblies.Projects().Select(static folder => Path.GetFileName(folder)!).Concat(Assemblies.Hosts()).Order(StringComparer.Ordinal)];
        string[] rows = [.. Layer.All.Select(static layer => layer.Name == "vmfuzz" ? "VmFuzz.Cli" : layer.Name).Order(StringComparer.Ordinal)];
        Assert.Equal(rows, folders);
    }

    [Fact]
    public void Projects_InTheSourceFolder_HaveAReadme()
    {
        string[] without =
        [
            .. Assemblies.Projects().Where(static folder => !File.Exists(Path.Combine(folder, "README.md"))).Select(static folder => Path.GetFileName(folder)!),
        ];
        Assert.Empty(without);
    }

    [Fact]
    public void Readmes_OfProjects_FitAPage()
    {
        string[] tooLong =
        [
            .. Assemblies.Projects()
                .Select(static folder => Path.Combine(folder, "README.md"))
                .Where(static path => File.Exists(path) && File.ReadAllLines(path).Length > 80),
        ];
        Assert.Empty(tooLong);
    }

    [Fact]
    public void AllowedStatics_AgainstTheAssemblies_AllExist()
    {
        var fields = new HashSet<string>(StringComparer.Ordinal);
        var types = new HashSet<string>(StringComparer.Ordinal);
        foreach (Layer layer in Layer.All)
        {
            using AssemblyDefinition assembly = Assemblies.Read(layer.Name);
            foreach (TypeDefinition type in assembly.MainModule.GetTypes())
            {
                types.Add(type.FullName);
                fields.UnionWith(type.Fields.Where(static f => f.IsStatic).Select(f => $"{type.FullName}::{f.Name}"));
                fields.UnionWith(type.Properties.Select(p => $"{type.FullName}::{p.Name}"));
            }
        }

        Assert.All(StaticRules.Allowed, row => Assert.Contains(row.Key, fields));
        Assert.All(StaticRules.Allowed, static row => Assert.NotEmpty(row.Value));
        Assert.All(StaticRules.AllowedTypes, row => Assert.Contains(row.Key, types));
        Assert.All(StaticRules.AllowedTypes, static row => Assert.NotEmpty(row.Value));
    }
}
