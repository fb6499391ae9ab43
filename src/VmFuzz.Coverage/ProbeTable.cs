using System.Collections.Immutable;

namespace VmFuzz.Coverage;

/// <summary>The probes of one method; the probe of <c>Offsets[i]</c> is <c>FirstProbe + i</c>.</summary>
/// <param name="Token">Metadata token in the original image.</param>
/// <param name="Name">Full name with parameters.</param>
/// <param name="FirstProbe">Its first probe.</param>
/// <param name="Offsets">IL offsets of the blocks in the original image, rising.</param>
public sealed record ProbeMethod(uint Token, string Name, int FirstProbe, ImmutableArray<int> Offsets);

/// <summary>A method without probes.</summary>
/// <param name="Token">Metadata token in the original image.</param>
/// <param name="Name">Full name with parameters.</param>
/// <param name="Reason">Name of the rule that left it out.</param>
public sealed record SkippedMethod(uint Token, string Name, string Reason);

/// <summary>The probes of one module.</summary>
/// <param name="Assembly">Simple name of the assembly.</param>
/// <param name="ModuleVersion">The module version id as stored, 32 hexadecimal digits: with a token and an offset, a probe's identity.</param>
/// <param name="FirstProbe">Its first probe.</param>
/// <param name="Count">How many; they are dense.</param>
/// <param name="Methods">Methods with probes, by token.</param>
/// <param name="Skipped">Methods with a body and without probes, by token.</param>
public sealed record ProbeModule(
    string Assembly,
    string ModuleVersion,
    int FirstProbe,
    int Count,
    ImmutableArray<ProbeMethod> Methods,
    ImmutableArray<SkippedMethod> Skipped);

/// <summary>Where a probe is.</summary>
/// <param name="Assembly">Simple name of the assembly.</param>
/// <param name="ModuleVersion">The module version id.</param>
/// <param name="Token">Metadata token of the method.</param>
/// <param name="Method">Full name of the method.</param>
/// <param name="Offset">IL offset of the block in the original image.</param>
public readonly record struct ProbeLocation(string Assembly, string ModuleVersion, uint Token, string Method, int Offset)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Assembly}!{Method}+IL_{Offset:X4}";
}

/// <summary>How much of something was reached.</summary>
/// <param name="Name">Assembly or method.</param>
/// <param name="Hit">Probes hit.</param>
/// <param name="Total">Probes.</param>
public readonly record struct CoverageShare(string Name, int Hit, int Total);

/// <summary>What the probes of a map stand for. In pair mode a cell stands for several pairs and no location is found.</summary>
public sealed class ProbeTable
{
    private readonly ImmutableArray<ProbeModule> _modules;

    /// <summary>A table of modules.</summary>
    /// <param name="modules">Modules by rising first probe, ranges apart.</param>
    public ProbeTable(ImmutableArray<ProbeModule> modules) => _modules = modules;

    /// <summary>The modules.</summary>
    public ImmutableArray<ProbeModule> Modules => _modules;

    /// <summary>Number of probes.</summary>
    public int Count
    {
        get
        {
            int count = 0;
            foreach (ProbeModule module in _modules)
            {
                count += module.Count;
            }

            return count;
        }
    }

    /// <summary>Finds the place of a probe.</summary>
    /// <param name="probe">The probe.</param>
    /// <param name="location">Its place.</param>
    /// <returns>False when no module has it.</returns>
    public bool TryFind(int probe, out ProbeLocation location)
    {
        foreach (ProbeModule module in _modules)
        {
            if (probe >= module.FirstProbe && probe - module.FirstProbe < module.Count)
            {
                ProbeMethod method = FindMethod(module.Methods, probe);
                location = new ProbeLocation(module.Assembly, module.ModuleVersion, method.Token, method.Name, method.Offsets[probe - method.FirstProbe]);
                return true;
            }
        }

        location = default;
        return false;
    }

    /// <summary>What was reached of each assembly.</summary>
    /// <param name="seen">Counts or sets of buckets, from probe 0 on.</param>
    public ImmutableArray<CoverageShare> ByAssembly(ReadOnlySpan<byte> seen)
    {
        var shares = ImmutableArray.CreateBuilder<CoverageShare>(_modules.Length);
        foreach (ProbeModule module in _modules)
        {
            shares.Add(new CoverageShare(module.Assembly, CoverageCounts.CountSet(Part(seen, module.FirstProbe, module.Count)), module.Count));
        }

        return shares.MoveToImmutable();
    }

    /// <summary>What was reached of each method of a module.</summary>
    /// <param name="module">One of <see cref="Modules"/>.</param>
    /// <param name="seen">Counts or sets of buckets, from probe 0 on.</param>
    public static ImmutableArray<CoverageShare> ByMethod(ProbeModule module, ReadOnlySpan<byte> seen)
    {
        var shares = ImmutableArray.CreateBuilder<CoverageShare>(module.Methods.Length);
        foreach (ProbeMethod method in module.Methods)
        {
            shares.Add(new CoverageShare(method.Name, CoverageCounts.CountSet(Part(seen, method.FirstProbe, method.Offsets.Length)), method.Offsets.Length));
        }

        return shares.MoveToImmutable();
    }

    private static ReadOnlySpan<byte> Part(ReadOnlySpan<byte> seen, int first, int count) =>
        first >= seen.Length ? [] : seen.Slice(first, Math.Min(count, seen.Length - first));

    // The last method whose first probe is not above the one looked for.
    private static ProbeMethod FindMethod(ImmutableArray<ProbeMethod> methods, int probe)
    {
        int low = 0;
        int high = methods.Length - 1;
        while (low < high)
        {
            int middle = (low + high + 1) >> 1;
            if (methods[middle].FirstProbe <= probe)
            {
                low = middle;
            }
            else
            {
                high = middle - 1;
            }
        }

        return methods[low];
    }
}
