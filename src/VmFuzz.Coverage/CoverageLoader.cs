using System.Collections.Immutable;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.Loader;

namespace VmFuzz.Coverage;

/// <summary>What to load, and what to instrument.</summary>
public sealed record CoverageLoaderOptions
{
    /// <summary>Simple names of the assemblies that get probes, in the order of their probes.</summary>
    public ImmutableArray<string> Instrumented { get; init; } = ["VmFuzz.Vmx", "VmFuzz.Kvm"];

    /// <summary>Folders with assemblies; the first that has a name wins.</summary>
    public ImmutableArray<string> Folders { get; init; } = [AppContext.BaseDirectory];

    /// <summary>Assemblies outside those folders, plug-ins for instance; they win over the folders.</summary>
    public ImmutableArray<string> Files { get; init; } = [];

    /// <summary>How to instrument; the loader chooses <c>FirstProbe</c> and <c>PairBase</c>, and looks for references in its folders first.</summary>
    public InstrumentOptions Instrument { get; init; } = new();
}

/// <summary>
/// Loads instrumented assemblies, and all that bind to them, into a context of their own. Types of those assemblies are
/// other types than outside; those of <see cref="Shared"/>, of packages and of the runtime are the same. Only strings and
/// bytes should cross.
/// </summary>
public sealed class CoverageLoader
{
    /// <summary>Assemblies of ours that stay in the default context and never get probes.</summary>
    public static readonly ImmutableArray<string> Shared =
        ["VmFuzz.Arch", "VmFuzz.Memory", "VmFuzz.Cpu", "VmFuzz.Devices", "VmFuzz.Trace", ProbeWriter.Home];

    private readonly Context _context;

    private CoverageLoader(Context context, ProbeTable probes, int firstProbe, int cells)
    {
        _context = context;
        Probes = probes;
        FirstProbe = firstProbe;
        Cells = cells;
    }

    /// <summary>What the probes stand for.</summary>
    public ProbeTable Probes { get; }

    /// <summary>First cell of the map that belongs to this loader.</summary>
    public int FirstProbe { get; }

    /// <summary>Number of cells: the number of probes, or in pair mode 2 to the power of <see cref="InstrumentOptions.PairBits"/>.</summary>
    public int Cells { get; }

    /// <summary>Names of the assemblies that the context loads itself.</summary>
    public ImmutableSortedSet<string> Private => _context.Plan.Private;

    /// <summary>This loader's part of the map. Settles the map.</summary>
    public Span<byte> Counts => CoverageMap.Counts.Slice(FirstProbe, Cells);

    /// <summary>Instruments and prepares; loads nothing yet, and does not settle the map.</summary>
    /// <param name="options">What.</param>
    /// <param name="loader">The loader, when the result is null.</param>
    /// <returns>Why it cannot be done, or null.</returns>
    public static CoverageError? TryCreate(CoverageLoaderOptions options, out CoverageLoader loader)
    {
        loader = null!;
        if (LoadPlan.Make(options, out LoadPlan plan) is { } bad)
        {
            return bad;
        }

        int first = CoverageMap.Used;
        int next = first;
        bool pairs = options.Instrument.Kind == ProbeKind.Pair;
        var images = ImmutableSortedDictionary.CreateBuilder<string, InstrumentedImage>(StringComparer.Ordinal);
        var modules = ImmutableArray.CreateBuilder<ProbeModule>();
        ImmutableArray<string> references =
            [.. options.Files.Select(static path => Path.GetDirectoryName(Path.GetFullPath(path))!), .. options.Folders, .. options.Instrument.References];
        foreach (string name in plan.Instrumented)
        {
            InstrumentOptions how = options.Instrument with { FirstProbe = next, PairBase = first, References = references };
            if (Read(plan.Files[name], how, out InstrumentedImage image) is { } error)
            {
                return error with { Message = $"{name}: {error.Message}" };
            }

            images.Add(name, image);
            modules.Add(image.Probes);
            next += image.Probes.Count;
        }

        int cells = pairs ? 1 << options.Instrument.PairBits : next - first;
        if (!CoverageMap.TryAllocate(cells, out first))
        {
            return new CoverageError(CoverageErrorKind.MapFull, $"the map has {CoverageMap.Capacity} cells, {CoverageMap.Used} of them given out; {cells} more are needed");
        }

        loader = new CoverageLoader(new Context(plan, images.ToImmutable()), new ProbeTable(modules.ToImmutable()), first, cells);
        return null;
    }

    /// <summary>Finds a way in: a static method from bytes to bytes, public or not. Settles the map.</summary>
    /// <param name="assembly">Simple name of the assembly.</param>
    /// <param name="type">Full name of the type.</param>
    /// <param name="method">Name of the method; it takes a <c>byte[]</c> and gives a <c>byte[]</c>.</param>
    /// <param name="entry">The method, when the result is null. What it throws comes out as it is.</param>
    /// <returns>Why there is none, or null.</returns>
    public CoverageError? TryBind(string assembly, string type, string method, out Func<byte[], byte[]> entry) =>
        TryBind<Func<byte[], byte[]>>(assembly, type, method, out entry);

    /// <summary>
    /// Finds a way in of another shape: a static method, public or not, with exactly the parameters and the result of a
    /// delegate type. With <c>Func&lt;byte[], Func&lt;byte[], byte[]&gt;&gt;</c> it opens something that keeps state
    /// between calls. Settles the map.
    /// </summary>
    /// <typeparam name="TDelegate">
    /// A delegate type of the core library, with type arguments of the core library down to the last: those are the same
    /// types on both sides. What is passed as <c>object</c> or behind an interface is up to both sides.
    /// </typeparam>
    /// <param name="assembly">Simple name of the assembly.</param>
    /// <param name="type">Full name of the type.</param>
    /// <param name="method">Name of the method, which may have overloads.</param>
    /// <param name="entry">The method, when the result is null. What it throws comes out as it is.</param>
    /// <returns>
    /// Why there is none, or null: <see cref="CoverageErrorKind.NotAllowed"/> for a delegate type that has to do with other
    /// types, <see cref="CoverageErrorKind.NotFound"/> for anything missing or of another shape.
    /// </returns>
    public CoverageError? TryBind<TDelegate>(string assembly, string type, string method, out TDelegate entry)
        where TDelegate : Delegate
    {
        entry = null!;
        if (typeof(TDelegate).GetMethod("Invoke") is not { } shape)
        {
            return new CoverageError(CoverageErrorKind.NotAllowed, $"{typeof(TDelegate)} has no shape of its own");
        }

        if (EntryShape.FindForeign(typeof(TDelegate)) is { } foreign)
        {
            return new CoverageError(CoverageErrorKind.NotAllowed, $"{foreign} is not of the core library and may be another type inside");
        }

        // Code that is optimised at once takes the map's address as a constant only if it is known by then.
        RuntimeHelpers.RunClassConstructor(typeof(CoverageProbe).TypeHandle);
        MethodInfo? found;
        try
        {
            Type? owner = _context.LoadFromAssemblyName(new AssemblyName(assembly)).GetType(type, throwOnError: false);
            found = owner is null ? null : EntryShape.Find(owner, method, shape);
        }
        catch (Exception e) when (e is IOException or BadImageFormatException or TypeLoadException)
        {
            return new CoverageError(CoverageErrorKind.NotFound, $"{assembly} cannot be loaded: {e.Message}");
        }

        if (found is null)
        {
            return new CoverageError(CoverageErrorKind.NotFound, $"{assembly} has no static {EntryShape.Describe(shape, $"{type}.{method}")}");
        }

        entry = found.CreateDelegate<TDelegate>();
        return null;
    }

    /// <summary>Calls a static method inside the context, once. Bind it instead for many calls.</summary>
    /// <param name="assembly">Simple name of the assembly.</param>
    /// <param name="type">Full name of the type.</param>
    /// <param name="method">Name of the method.</param>
    /// <param name="input">What it gets.</param>
    /// <returns>What it gives.</returns>
    /// <exception cref="ArgumentException">There is no such method; binding says so with a value.</exception>
    public byte[] Invoke(string assembly, string type, string method, byte[] input)
    {
        if (TryBind(assembly, type, method, out Func<byte[], byte[]> entry) is { } error)
        {
            throw new ArgumentException(error.ToString(), nameof(method));
        }

        using (_context.EnterContextualReflection())
        {
            return entry(input);
        }
    }

    private static CoverageError? Read(string path, InstrumentOptions options, out InstrumentedImage image)
    {
        image = null!;
        try
        {
            string symbols = Path.ChangeExtension(path, ".pdb");
            return Instrumenter.Instrument(File.ReadAllBytes(path), options, out image, File.Exists(symbols) ? File.ReadAllBytes(symbols) : null);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new CoverageError(CoverageErrorKind.NotFound, e.Message);
        }
    }

    private sealed class Context : AssemblyLoadContext
    {
        private readonly ImmutableSortedDictionary<string, InstrumentedImage> _images;

        public Context(LoadPlan plan, ImmutableSortedDictionary<string, InstrumentedImage> images)
            : base("VmFuzz.Coverage")
        {
            Plan = plan;
            _images = images;

            // What binds to nothing instrumented is left to the default context; a plug-in's own packages, which that
            // does not know, are loaded into it from the folders.
            Resolving += static (context, name) =>
                ((Context)context).Plan.Files.TryGetValue(name.Name ?? "", out string? path) ? Default.LoadFromAssemblyPath(path) : null;
        }

        public LoadPlan Plan { get; }

        protected override Assembly? Load(AssemblyName assemblyName)
        {
            string name = assemblyName.Name ?? "";
            if (_images.TryGetValue(name, out InstrumentedImage? image))
            {
                using var code = new MemoryStream(image.Image.ToArray());
                using MemoryStream? symbols = image.Symbols.IsEmpty ? null : new MemoryStream(image.Symbols.ToArray());
                return LoadFromStream(code, symbols);
            }

            return Plan.Private.Contains(name) ? LoadFromAssemblyPath(Plan.Files[name]) : null;
        }
    }
}
