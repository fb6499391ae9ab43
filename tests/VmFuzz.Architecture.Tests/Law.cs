using System.Collections.Immutable;
using Mono.Cecil;

namespace VmFuzz.Architecture.Tests;

/// <summary>What the laws allow to each assembly.</summary>
/// <param name="Name">The assembly.</param>
/// <param name="Projects">Assemblies of this project that it may use.</param>
/// <param name="Packages">Packages that it may use, by assembly name.</param>
/// <param name="Ambient">Whether law 3 leaves it alone.</param>
internal sealed record Layer(string Name, ImmutableArray<string> Projects, ImmutableArray<string> Packages, bool Ambient = false)
{
    private static readonly ImmutableArray<string> Kvm = ["VmFuzz.Vmx", "VmFuzz.Devices", "VmFuzz.Cpu", "VmFuzz.Memory", "VmFuzz.Arch"];
    private static readonly ImmutableArray<string> Machines = ["VmFuzz.Kvm", .. Kvm];
    private static readonly ImmutableArray<string> Replay = ["VmFuzz.Machines", "VmFuzz.Trace", .. Machines];
    private static readonly ImmutableArray<string> Fuzzing = ["VmFuzz.Replay", "VmFuzz.Coverage", .. Replay];
    private static readonly ImmutableArray<string> Testing = ["VmFuzz.Fuzzing", .. Fuzzing];

    /// <summary>The layers, lowest first. A project that is not here fails the tests until it is.</summary>
    public static readonly ImmutableArray<Layer> All =
    [
        new("VmFuzz.Arch", [], []),
        new("VmFuzz.Memory", ["VmFuzz.Arch"], ["System.IO.Hashing"]),
        new("VmFuzz.Cpu", ["VmFuzz.Memory", "VmFuzz.Arch"], ["Iced"]),
        new("VmFuzz.Vmx", ["VmFuzz.Cpu", "VmFuzz.Memory", "VmFuzz.Arch"], []),
        new("VmFuzz.Devices", ["VmFuzz.Arch"], []),
        new("VmFuzz.Kvm", Kvm, ["Iced"]),
        // Only Mnemonic and Code, which instruction rows are named by: the engine's identity is made of them.
        new("VmFuzz.Machines", Machines, ["K4os.Compression.LZ4"]),
        new("VmFuzz.Trace", ["VmFuzz.Arch"], ["System.IO.Hashing"]),
        new("VmFuzz.Replay", Replay, []),
        new("VmFuzz.Coverage", [], ["Mono.Cecil"]),
        new("VmFuzz.Fuzzing", Fuzzing, ["Iced"]),
        new("VmFuzz.Testing", Testing, ["FsCheck", "FSharp.Core", "Iced"]),
        new("vmfuzz", ["VmFuzz.Testing", .. Testing], ["Iced", "Spectre.Console", "System.CommandLine"], Ambient: true),
        new("VmFuzz.Fuzz.Common", ["VmFuzz.Fuzzing", "VmFuzz.Coverage"], [], Ambient: true),
        new("VmFuzz.Fuzz.Afl", ["VmFuzz.Fuzz.Common", "VmFuzz.Coverage"], [], Ambient: true),
        new("VmFuzz.Fuzz.LibFuzzer", ["VmFuzz.Fuzz.Common", "VmFuzz.Fuzzing"], ["System.IO.Hashing"], Ambient: true),
        new("VmFuzz.Fuzz.SampleHandlers", ["VmFuzz.Fuzzing", "VmFuzz.Replay", .. Replay], []),
    ];

    /// <summary>Assemblies beside the product that the laws hold for too: plug-ins that stand for a user's.</summary>
    public static readonly ImmutableArray<Layer> Beside =
    [
        new("VmFuzz.Bugs", ["VmFuzz.Fuzzing", .. Fuzzing], ["Iced"], Ambient: true),
    ];

    /// <summary>The layer of an assembly.</summary>
    public static Layer Of(AssemblyDefinition assembly) =>
        All.Concat(Beside).FirstOrDefault(layer => layer.Name == assembly.Name.Name)
        ?? throw new InvalidOperationException($"{assembly.Name.Name} has no row in Layer.All.");
}

/// <summary>One rule: looks at an assembly and lists what breaks it, a line each.</summary>
/// <param name="Id">Name of the rule.</param>
/// <param name="Find">The offenders.</param>
internal sealed record Law(string Id, Func<AssemblyDefinition, Layer, IEnumerable<string>> Find)
{
    /// <summary>All rules.</summary>
    public static readonly ImmutableArray<Law> All =
    [
        new("layers", LayerRules.Find),
        new("mutable statics", StaticRules.Find),
        new("banned symbols", SymbolRules.FindBanned),
        new("hash-order iteration", SymbolRules.FindHashOrder),
    ];

    /// <inheritdoc/>
    public override string ToString() => Id;
}

internal static class LayerRules
{
    // The runtime's own assemblies; every other reference is a package.
    private static bool IsRuntime(string name) =>
        name is "netstandard" or "mscorlib" or "Microsoft.CSharp" or "Microsoft.Win32.Primitives"
        || (name.StartsWith("System.", StringComparison.Ordinal) && name is not ("System.CommandLine" or "System.IO.Hashing"));

    public static IEnumerable<string> Find(AssemblyDefinition assembly, Layer layer)
    {
        foreach (AssemblyNameReference reference in assembly.MainModule.AssemblyReferences)
        {
            string name = reference.Name;
            if (!IsRuntime(name) && !layer.Projects.Contains(name, StringComparer.Ordinal) && !layer.Packages.Contains(name, StringComparer.Ordinal))
            {
                yield return $"{layer.Name} uses {name}, which its layer may not";
            }
        }
    }
}
