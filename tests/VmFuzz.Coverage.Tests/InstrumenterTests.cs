using System.Reflection.PortableExecutable;
using System.Runtime.Loader;
using Mono.Cecil;
using Mono.Cecil.Cil;

namespace VmFuzz.Coverage.Tests;

/// <summary>This assembly with probes, loaded once, and in pair mode once more.</summary>
public sealed class ProbedSelf
{
    public ProbedSelf()
    {
        Block = Load(new InstrumentOptions());
        All = Load(new InstrumentOptions { AllBlocks = true });
        Pair = Load(new InstrumentOptions { Kind = ProbeKind.Pair, PairBits = 12 });
    }

    internal CoverageLoader Block { get; }

    internal CoverageLoader All { get; }

    internal CoverageLoader Pair { get; }

    private static CoverageLoader Load(InstrumentOptions options)
    {
        Assert.Null(CoverageLoader.TryCreate(new CoverageLoaderOptions { Instrumented = ["VmFuzz.Coverage.Tests"], Instrument = options }, out CoverageLoader loader));
        return loader;
    }
}

public sealed class InstrumenterTests(ProbedSelf probed) : IClassFixture<ProbedSelf>
{
    private const string SamplesName = "VmFuzz.Coverage.Tests.Samples";
    private static readonly byte[][] Inputs = [[], [1], [0, 1, 2, 3], [20, 33, 44, 2, 5, 6, 7, 8, 250, 1, 2], [2, 2]];

    public static TheoryData<string> SampleNames() => new(Samples.Names);

    [Theory]
    [MemberData(nameof(SampleNames))]
    public void Sample_WithProbes_BehavesTheSame(string name)
    {
        var plain = typeof(Samples).GetMethod(name)!.CreateDelegate<Func<byte[], byte[]>>();
        foreach (CoverageLoader loader in new[] { probed.Block, probed.All, probed.Pair })
        {
            Func<byte[], byte[]> entry = Bind(loader, name);
            foreach (byte[] input in Inputs)
            {
                CoverageMap.Clear();
                Assert.Equal(plain(input), entry(input));
                Assert.NotEqual(0, CoverageCounts.CountSet(loader.Counts));
            }
        }
    }

    [Fact]
    public void Branch_BothWays_GivesDifferentMaps()
    {
        foreach (CoverageLoader loader in new[] { probed.Block, probed.All, probed.Pair })
        {
            ulong[] hashes = [HashOf(loader, nameof(Samples.Branch), []), HashOf(loader, nameof(Samples.Branch), [3]), HashOf(loader, nameof(Samples.Branch), [30])];
            Assert.Equal(3, hashes.Distinct().Count());
            Assert.Equal(hashes[0], HashOf(loader, nameof(Samples.Branch), []));
        }
    }

    [Fact]
    public void Blocks_OfStraightCode_AreHitOnceAndInOrder()
    {
        Func<byte[], byte[]> entry = Bind(probed.All, nameof(Samples.Order));
        CoverageMap.Clear();
        byte[] steps = entry([]);
        Assert.Equal([1, 2, 4], steps); // The condition after the first step is a block of its own.
        ProbeMethod method = Method(probed.All, nameof(Samples.Order));
        Assert.Equal(method.Offsets.Order(), method.Offsets);
        Assert.Equal(0, method.Offsets[0]);
        for (int i = 0; i < method.Offsets.Length; i++)
        {
            Assert.Equal(1, CoverageMap.Counts[method.FirstProbe + i]);
        }

        Assert.Equal(method.Offsets.Length, CoverageMap.CountSet());
    }

    [Fact]
    public void Blocks_ThatOthersTellOf_HaveNoProbe()
    {
        ProbeMethod all = Method(probed.All, nameof(Samples.Order));
        ProbeMethod chosen = Method(probed.Block, nameof(Samples.Order));
        Assert.True(all.Offsets.Length > 3);
        Assert.Equal([all.Offsets[0], all.Offsets[1], all.Offsets[3]], chosen.Offsets); // The entry, and what each condition guards.
        ProbeMethod handlers = Method(probed.Block, nameof(Samples.Handlers));
        Assert.Equal(Method(probed.All, nameof(Samples.Handlers)).Offsets, handlers.Offsets);
    }

    [Fact]
    public void Loop_WithManyRounds_CountsThem()
    {
        Func<byte[], byte[]> entry = Bind(probed.Block, nameof(Samples.Switches));
        CoverageMap.Clear();
        entry([.. Enumerable.Repeat((byte)1, 50)]);
        ProbeMethod method = Method(probed.Block, nameof(Samples.Switches));
        Assert.Equal(1, CoverageMap.Counts[method.FirstProbe]);
        Assert.Contains((byte)50, CoverageMap.Counts.Slice(method.FirstProbe, method.Offsets.Length).ToArray());
    }

    [Fact]
    public void SkippedMethods_AreListedWithTheirReason()
    {
        ProbeModule module = probed.Block.Probes.Modules[0];
        Assert.Equal("attribute", Reason($"{SamplesName}::Skipped("));
        Assert.Equal("part of a skipped method", Reason("::<Skipped>b__"));
        Assert.Equal("compiler-generated member", Reason("Samples/Pair::get_Number("));
        Assert.Equal("single small block", Reason("Samples::Small("));
        Assert.DoesNotContain(module.Skipped, static m => m.Name.Contains("Samples::Taken(", StringComparison.Ordinal));
        Assert.Equal("static constructor", Reason("Samples::.cctor("));
        Assert.Contains(module.Methods, static m => m.Name.Contains("<AsyncBody>", StringComparison.Ordinal) && m.Name.Contains("MoveNext", StringComparison.Ordinal));
        Assert.Contains(module.Methods, static m => m.Name.Contains("<Twice>", StringComparison.Ordinal) && m.Name.Contains("MoveNext", StringComparison.Ordinal));
        Assert.Contains(module.Methods, static m => m.Name.Contains("<Lambdas>g__Local", StringComparison.Ordinal));

        CoverageMap.Clear();
        Assert.Equal([3], Bind(probed.Block, nameof(Samples.Skipped))([1, 9]));
        Assert.Equal(0, CoverageMap.CountSet());

        string Reason(string part) => module.Skipped.First(m => m.Name.Contains(part, StringComparison.Ordinal)).Reason;
    }

    [Fact]
    public void Probes_OfTheSameBytes_AreTheSame()
    {
        byte[] image = File.ReadAllBytes(typeof(Samples).Assembly.Location);
        byte[] symbols = File.ReadAllBytes(Path.ChangeExtension(typeof(Samples).Assembly.Location, ".pdb"));
        Assert.Null(Instrumenter.Instrument(image, new InstrumentOptions(), out InstrumentedImage a, symbols));
        Assert.Null(Instrumenter.Instrument(image, new InstrumentOptions { FirstProbe = 1000 }, out InstrumentedImage b, symbols));
        Assert.Null(Instrumenter.Instrument(image, new InstrumentOptions(), out InstrumentedImage c, symbols));
        Assert.True(a.Image.Span.SequenceEqual(c.Image.Span));
        Assert.True(a.Symbols.Length > 0);
        Assert.Equal(a.Probes.Count, b.Probes.Count);
        Assert.Equal(a.Probes.ModuleVersion, Convert.ToHexStringLower(typeof(Samples).Module.ModuleVersionId.ToByteArray()));
        int next = 0;
        foreach ((ProbeMethod one, ProbeMethod other, ProbeMethod again) in a.Probes.Methods.Zip(b.Probes.Methods, c.Probes.Methods))
        {
            Assert.Equal(next, one.FirstProbe);
            Assert.Equal(next + 1000, other.FirstProbe);
            Assert.Equal(next, again.FirstProbe);
            Assert.Equal((one.Token, one.Name), (again.Token, again.Name));
            Assert.Equal(one.Offsets, again.Offsets);
            next += one.Offsets.Length;
        }

        Assert.Equal(next, a.Probes.Count);
    }

    [Fact]
    public void Exception_InInstrumentedCode_KeepsItsLine()
    {
        Assert.Null(probed.Block.TryBind("VmFuzz.Coverage.Tests", "VmFuzz.Coverage.Tests.Inside", nameof(Inside.Throws), out Func<byte[], byte[]> entry));
        string? inside = Assert.Throws<InvalidOperationException>(() => entry([])).StackTrace!.Split('\n')[0];
        string? outside = Assert.Throws<InvalidOperationException>(() => Inside.Throws([])).StackTrace!.Split('\n')[0];
        Assert.Contains("LoaderTests.cs:line", outside, StringComparison.Ordinal);
        Assert.Equal(outside, inside);
    }

    [Theory]
    [InlineData(2)]
    [InlineData(60)]
    [InlineData(126)]
    [InlineData(127)]
    public void ShortBranch_UpToItsLimit_StillReachesItsTarget(int gap)
    {
        Func<byte[], byte[]> run = LoadMade(Made.ShortBranch(gap), out _);
        Assert.Equal([2], run([1]));
        Assert.Equal([1], run([0]));
    }

    [Fact]
    public void HugeMethod_WithThousandsOfBlocks_BehavesTheSame()
    {
        Func<byte[], byte[]> run = LoadMade(Made.BranchChain(5000), out InstrumentedImage image);
        CoverageMap.Clear();
        Assert.Equal([200], run([200]));
        Assert.Equal(5001, image.Probes.Count);
        Assert.Equal(1 + 200, CoverageMap.CountSet());
    }

    [Fact]
    public void TailCall_WhoseReturnIsATarget_StaysValid()
    {
        Func<byte[], byte[]> run = LoadMade(Made.TailCall(), out _);
        Assert.Equal([], run([]));
        Assert.Equal([5], run([5]));
    }

    [Fact]
    public void Image_InstrumentedAlready_IsRefused()
    {
        Assert.Null(Instrumenter.Instrument(Made.Assembly("Once", Made.BranchChain(2)), new InstrumentOptions(), out InstrumentedImage once));
        Assert.Equal(CoverageErrorKind.AlreadyInstrumented, Instrumenter.Instrument(once.Image.ToArray(), new InstrumentOptions(), out _)!.Kind);
    }

    [Fact]
    public void Image_WithNativeCode_IsRefused()
    {
        byte[] mixed = Made.Assembly("Mixed", Made.BranchChain(2));
        using (var pe = new PEReader(new MemoryStream(mixed)))
        {
            mixed[pe.PEHeaders.CorHeaderStartOffset + 16] &= 0xFE; // COMIMAGE_FLAGS_ILONLY
        }

        Assert.Equal(CoverageErrorKind.NotILOnly, Instrumenter.Instrument(mixed, new InstrumentOptions(), out _)!.Kind);
        byte[] compiled = File.ReadAllBytes(typeof(object).Assembly.Location);
        Assert.Equal(CoverageErrorKind.NotILOnly, Instrumenter.Instrument(compiled, new InstrumentOptions(), out _)!.Kind);
    }

    [Fact]
    public void Image_OfCoverageItself_IsRefused() =>
        Assert.Equal(
            CoverageErrorKind.NotAllowed,
            Instrumenter.Instrument(File.ReadAllBytes(typeof(CoverageMap).Assembly.Location), new InstrumentOptions(), out _)!.Kind);

    [Fact]
    public void Image_ThatIsNone_IsAnErrorValue()
    {
        Assert.Equal(CoverageErrorKind.Malformed, Instrumenter.Instrument([], new InstrumentOptions(), out _)!.Kind);
        Assert.Equal(CoverageErrorKind.Malformed, Instrumenter.Instrument([0x4D, 0x5A, 0, 0], new InstrumentOptions(), out _)!.Kind);
        Assert.NotNull(Instrumenter.Instrument(new byte[5000], new InstrumentOptions(), out _));
        Assert.NotNull(Instrumenter.Instrument([0x7F, (byte)'E', (byte)'L', (byte)'F', .. new byte[500]], new InstrumentOptions(), out _));
    }

    [Fact]
    public void Image_CutAnywhere_IsAnErrorValueOrWhole()
    {
        byte[] image = Made.Assembly("Cut", Made.BranchChain(4));
        for (int length = 0; length < image.Length; length += 7)
        {
            CoverageError? error = Instrumenter.Instrument(image[..length], new InstrumentOptions(), out InstrumentedImage result);
            Assert.True(error is not null || result.Probes.Count == 5, $"{length}: {result?.Probes.Count}");
            Assert.True(error is not null || length > 512);
        }
    }

    [Fact]
    public void Image_WithAFlippedByte_NeverThrows()
    {
        byte[] image = Made.Assembly("Flip", Made.BranchChain(4));
        int errors = 0;
        for (int at = 0; at < image.Length; at += 3)
        {
            byte[] bad = [.. image];
            bad[at] ^= 0x55;
            errors += Instrumenter.Instrument(bad, new InstrumentOptions(), out _) is null ? 0 : 1;
        }

        Assert.NotEqual(0, errors);
    }

    [Fact]
    public void Symbols_ThatCannotBeRead_AreLeftOut()
    {
        Assert.Null(Instrumenter.Instrument(Made.Assembly("Plain", Made.BranchChain(2)), new InstrumentOptions(), out InstrumentedImage image, [1, 2, 3]));
        Assert.Equal(0, image.Symbols.Length);
        Assert.Equal(3, image.Probes.Count);
    }

    private static Func<byte[], byte[]> LoadMade(Action<ModuleDefinition, MethodDefinition> fill, out InstrumentedImage image)
    {
        byte[] plain = Made.Assembly("Sample", fill);
        Assert.Null(Instrumenter.Instrument(plain, new InstrumentOptions(), out image));
        Assert.True(CoverageMap.TryAllocate(image.Probes.Count, out int first));
        Assert.Null(Instrumenter.Instrument(plain, new InstrumentOptions { FirstProbe = first }, out image));
        var context = new AssemblyLoadContext("made");
        return context.LoadFromStream(new MemoryStream(image.Image.ToArray())).GetType(Made.TypeName)!.GetMethod(Made.MethodName)!.CreateDelegate<Func<byte[], byte[]>>();
    }

    private static Func<byte[], byte[]> Bind(CoverageLoader loader, string method)
    {
        Assert.Null(loader.TryBind("VmFuzz.Coverage.Tests", SamplesName, method, out Func<byte[], byte[]> entry));
        return entry;
    }

    private static ulong HashOf(CoverageLoader loader, string method, byte[] input)
    {
        Func<byte[], byte[]> entry = Bind(loader, method);
        CoverageMap.Clear();
        entry(input);
        return CoverageCounts.Hash(loader.Counts);
    }

    private static ProbeMethod Method(CoverageLoader loader, string name) =>
        loader.Probes.Modules[0].Methods.Single(m => m.Name.Contains($"{SamplesName}::{name}(", StringComparison.Ordinal));
}
