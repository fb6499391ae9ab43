using System.Collections.Immutable;
using System.Runtime.InteropServices;
using Mono.Cecil;
using Mono.Cecil.Cil;

namespace VmFuzz.Coverage;

/// <summary>What a probe counts.</summary>
public enum ProbeKind : byte
{
    /// <summary>Runs of its block, in a cell of its own.</summary>
    Block,
    /// <summary>Runs of its block after the block before it, in a cell that pairs share by a hash. Slower.</summary>
    Pair,
}

/// <summary>How to instrument.</summary>
public sealed record InstrumentOptions
{
    /// <summary>The first probe; the others follow without gaps.</summary>
    public int FirstProbe { get; init; }

    /// <summary>What a probe counts.</summary>
    public ProbeKind Kind { get; init; } = ProbeKind.Block;

    /// <summary>In pair mode: the first cell.</summary>
    public int PairBase { get; init; }

    /// <summary>In pair mode: there are 2 to this power cells. 1 to 24.</summary>
    public int PairBits { get; init; } = 16;

    /// <summary>
    /// Also probe blocks of which other probes of the method tell whether they ran: for reports by block. Methods with
    /// handlers have all their blocks probed in any case.
    /// </summary>
    public bool AllBlocks { get; init; }

    /// <summary>Leave out accessors of automatic properties and generated members of records.</summary>
    public bool SkipCompilerGenerated { get; init; } = true;

    /// <summary>Bytes of IL up to which a method of one block counts as a small one.</summary>
    internal const int SmallCode = 32;

    /// <summary>Leave out methods of one small block, accessors mostly, whose callers tell as much.</summary>
    public bool SkipSmall { get; init; } = true;

    /// <summary>
    /// Bytes of IL up to which a method is marked as one to be compiled into its callers, since its probes make it too
    /// large to be chosen otherwise. 0 leaves all marks alone.
    /// </summary>
    public int InlineUpTo { get; init; } = 150;

    /// <summary>Leave out static constructors, which run once a process.</summary>
    public bool SkipStaticConstructors { get; init; } = true;

    /// <summary>Folders in which assemblies lie that the image uses. Only the width of enumerations is looked up there.</summary>
    public ImmutableArray<string> References { get; init; } = [AppContext.BaseDirectory, RuntimeEnvironment.GetRuntimeDirectory()];
}

/// <summary>An assembly with probes.</summary>
/// <param name="Image">The image.</param>
/// <param name="Symbols">Its portable symbols; empty when there were none.</param>
/// <param name="Probes">What the probes stand for.</param>
public sealed record InstrumentedImage(ReadOnlyMemory<byte> Image, ReadOnlyMemory<byte> Symbols, ProbeModule Probes);

/// <summary>Puts probes at the starts of basic blocks of an assembly. The same bytes give the same probes and the same image.</summary>
/// <remarks>
/// A count goes up when a block starts. A block has no probe if those of blocks right before or behind it tell whether it
/// ran, exceptions aside (see <see cref="InstrumentOptions.AllBlocks"/>): of an <c>if</c> without <c>else</c> only what it
/// guards and one block more. Each loop keeps a probe that counts its rounds. An edge between two blocks that have other
/// edges too is not told apart in block mode. The behaviour of the assembly stays what it was, except for what it can see
/// of its own IL.
/// </remarks>
public static class Instrumenter
{
    /// <summary>Instruments an image in memory.</summary>
    /// <param name="image">An assembly that holds IL only.</param>
    /// <param name="options">How.</param>
    /// <param name="result">The new image, when the result is null.</param>
    /// <param name="symbols">The image's portable symbols, or null; unreadable ones are left out.</param>
    /// <returns>Why it cannot be done, or null.</returns>
    public static CoverageError? Instrument(byte[] image, InstrumentOptions options, out InstrumentedImage result, byte[]? symbols = null)
    {
        result = null!;
        if (options.PairBits is < 1 or > 24 || options.FirstProbe < 0 || options.PairBase < 0)
        {
            return new CoverageError(CoverageErrorKind.NotAllowed, "a number in the options is out of range");
        }

        using (var stream = new MemoryStream(image, writable: false))
        {
            if (ImageFacts.Read(stream, out ImageFacts facts) is { } error)
            {
                return error;
            }

            if (facts.Name == ProbeWriter.Home)
            {
                return new CoverageError(CoverageErrorKind.NotAllowed, $"{facts.Name} counts and cannot be counted");
            }

            // What else may be wrong with an image is found by Cecil, in many ways; none of them is a fault of ours.
#pragma warning disable CA1031
            try
            {
                if (symbols is not null)
                {
                    try
                    {
                        return Rewrite(image, symbols, options, facts, out result);
                    }
                    catch (Exception e) when (e is not OutOfMemoryException)
                    {
                        // Without symbols, then.
                    }
                }

                return Rewrite(image, null, options, facts, out result);
            }
            catch (AssemblyResolutionException e)
            {
                result = null!;
                return new CoverageError(CoverageErrorKind.NotFound, $"{facts.Name} uses a constant of an enumeration in {e.AssemblyReference.Name}, which is not in the folders");
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                result = null!;
                return new CoverageError(CoverageErrorKind.Malformed, $"{facts.Name} cannot be read: {e.Message}");
            }
#pragma warning restore CA1031
        }
    }

    private static CoverageError? Rewrite(byte[] image, byte[]? symbols, InstrumentOptions options, ImageFacts facts, out InstrumentedImage result)
    {
        result = null!;
        using var input = new MemoryStream(image, writable: false);
        using MemoryStream? symbolInput = symbols is null ? null : new MemoryStream(symbols, writable: false);
        using var resolver = new Resolver(options.References);
        using var module = ModuleDefinition.ReadModule(input, new ReaderParameters(ReadingMode.Deferred)
        {
            AssemblyResolver = resolver,
            ReadSymbols = symbols is not null,
            SymbolStream = symbolInput,
            SymbolReaderProvider = symbols is null ? null : new PortablePdbReaderProvider(),
        });
        foreach (TypeReference type in module.GetTypeReferences())
        {
            if (type.Namespace == ProbeWriter.Home && type.Name == nameof(CoverageProbe))
            {
                return new CoverageError(CoverageErrorKind.AlreadyInstrumented, $"{facts.Name} has probes already");
            }
        }

        List<MethodDefinition> methods = WithBodies(module);
        var writer = new ProbeWriter(module, options);
        var probes = ImmutableArray.CreateBuilder<ProbeMethod>();
        var skipped = ImmutableArray.CreateBuilder<SkippedMethod>();
        var plan = new List<(MethodDefinition Method, string? Reason)>(methods.Count);
        SkipContext context = SkipContext.Of(methods, options);
        foreach (MethodDefinition method in methods)
        {
            plan.Add((method, SkipRule.Find(method, context)));
        }

        foreach ((MethodDefinition method, string? reason) in plan)
        {
            if (reason is null && method.Body.Instructions.Count != 0)
            {
                probes.Add(writer.Write(method));
            }
            else
            {
                skipped.Add(new SkippedMethod(method.MetadataToken.ToUInt32(), method.FullName, reason ?? "empty body"));
            }
        }

        var table = new ProbeModule(facts.Name, facts.ModuleVersion, options.FirstProbe, writer.Next - options.FirstProbe, probes.ToImmutable(), skipped.ToImmutable());
        using var output = new MemoryStream(image.Length * 2);
        using var symbolOutput = new MemoryStream();
        module.Write(output, new WriterParameters
        {
            WriteSymbols = symbols is not null,
            SymbolStream = symbols is null ? null : symbolOutput,
            SymbolWriterProvider = symbols is null ? null : new PortablePdbWriterProvider(),
        });
        result = new InstrumentedImage(output.ToArray(), symbolOutput.ToArray(), table);
        return null;
    }

    // By token: the order in which probes are given out.
    private static List<MethodDefinition> WithBodies(ModuleDefinition module)
    {
        var methods = new List<MethodDefinition>();
        foreach (TypeDefinition type in module.GetTypes())
        {
            foreach (MethodDefinition method in type.Methods)
            {
                if (method.HasBody)
                {
                    methods.Add(method);
                }
            }
        }

        methods.Sort(static (a, b) => a.MetadataToken.ToUInt32().CompareTo(b.MetadataToken.ToUInt32()));
        return methods;
    }

    // An optional parameter or a constant whose type is an enumeration of another assembly is written with that
    // enumeration's width; nothing else of other assemblies is looked at.
    private sealed class Resolver(ImmutableArray<string> folders) : IAssemblyResolver
    {
        private readonly SortedDictionary<string, AssemblyDefinition> _known = new(StringComparer.Ordinal);

        public AssemblyDefinition Resolve(AssemblyNameReference name) => Resolve(name, new ReaderParameters(ReadingMode.Deferred));

        public AssemblyDefinition Resolve(AssemblyNameReference name, ReaderParameters parameters)
        {
            if (_known.TryGetValue(name.Name, out AssemblyDefinition? known))
            {
                return known;
            }

            foreach (string folder in folders)
            {
                string path = Path.Combine(folder, name.Name + ".dll");
                if (File.Exists(path))
                {
                    known = AssemblyDefinition.ReadAssembly(path, new ReaderParameters(ReadingMode.Deferred) { AssemblyResolver = this, InMemory = true });
                    _known.Add(name.Name, known);
                    return known;
                }
            }

            throw new AssemblyResolutionException(name);
        }

        public void Dispose()
        {
            foreach ((_, AssemblyDefinition assembly) in _known)
            {
                assembly.Dispose();
            }

            _known.Clear();
        }
    }
}
