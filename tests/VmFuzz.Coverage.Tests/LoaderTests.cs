using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;

namespace VmFuzz.Coverage.Tests;

/// <summary>What runs inside the loader's context: static methods from bytes to bytes.</summary>
public static class Inside
{
    /// <summary>Runs a machine under the hypervisor; gives its trace, which holds every digest, and its console.</summary>
    public static byte[] RunMachine(byte[] code)
    {
        var options = new MachineOptions { Accelerator = Accelerator.Kvm, Images = [new MachineImage("code", "sample", code)] };
        using var file = new MemoryStream();
        using var console = new MemoryStream();
        using (Machine machine = Machine.Create(options, NoInputs.Instance))
        {
            using var recorder = new Recorder(machine, new TraceWriter(file, TraceHeaders.Of(options, "sample")));
            machine.ConsoleOutput = console.WriteByte;
            machine.Run();
        }

        return [.. BitConverter.GetBytes((int)console.Length), .. console.ToArray(), .. file.ToArray()];
    }

    /// <summary>Where types live, by name of the context.</summary>
    public static byte[] Contexts(byte[] input)
    {
        Type[] types = [typeof(Kvm.Vm), typeof(Vmx.VmxCapabilities), typeof(Machine), typeof(Recorder), typeof(Inside), typeof(Gpa), typeof(Memory.GuestMemory), typeof(Cpu.Processor), typeof(TraceWriter), typeof(CoverageMap)];
        IEnumerable<string> lines = types.Select(static t => $"{t.Assembly.GetName().Name}={System.Runtime.Loader.AssemblyLoadContext.GetLoadContext(t.Assembly)!.Name}");
        return System.Text.Encoding.UTF8.GetBytes(string.Join('\n', lines));
    }

    public static byte[] Throws(byte[] input) => throw new InvalidOperationException("from inside");

    public static int WrongShape(byte[] input) => input.Length;

    /// <summary>Opens a campaign: the sum of what came in so far, from a start on.</summary>
    public static Func<byte[], byte[]> Open(byte[] start)
    {
        int sum = start[0];
        return input => [(byte)(sum += input.Length)];
    }

    /// <summary>An overload that must not be taken for the other.</summary>
    public static Func<byte[], byte[]> Open(object start) => throw new InvalidOperationException(start.ToString());

    public static Gpa Outsider(byte[] input) => default;

    private sealed class NoInputs : IInputSource
    {
        public static NoInputs Instance { get; } = new();

        public ulong NextDue(int vcpu, ulong retired) => ulong.MaxValue;

        public bool TryTake(InputPoint point, in Position at, out Input input)
        {
            input = default;
            return false;
        }
    }
}

/// <summary>One loader for the default set, made once.</summary>
public sealed class DefaultLoader
{
    public DefaultLoader()
    {
        Assert.Null(CoverageLoader.TryCreate(new CoverageLoaderOptions(), out CoverageLoader loader));
        Loader = loader;
    }

    internal CoverageLoader Loader { get; }
}

public sealed class LoaderTests(DefaultLoader made) : IClassFixture<DefaultLoader>
{
    private const string Self = "VmFuzz.Coverage.Tests";
    private const string InsideName = "VmFuzz.Coverage.Tests.Inside";

    private readonly CoverageLoader _loader = made.Loader;

    // mov esi, 20 / again: xor eax, eax / cpuid / mov al, 'A' / out 0xe9, al / dec esi / jnz again / hlt
    private static byte[] Guest(byte count) =>
        [0xBE, count, 0, 0, 0, 0x31, 0xC0, 0x0F, 0xA2, 0xB0, 0x41, 0xE6, 0xE9, 0xFF, 0xCE, 0x75, 0xF4, 0xF4];

    [Fact]
    public void Machine_InsideAndOutside_GivesTheSameTraceAndConsole()
    {
        byte[] outside = Inside.RunMachine(Guest(20));
        Assert.True(outside.Length > 1000);
        CoverageMap.Clear();
        byte[] inside = _loader.Invoke(Self, InsideName, nameof(Inside.RunMachine), Guest(20));
        Assert.Equal(outside, inside);
        Assert.True(CoverageCounts.CountSet(_loader.Counts) > 100);
    }

    [Fact]
    public void Machine_RunTwiceInside_GivesTheSameMap()
    {
        Func<byte[], byte[]> run = Bind(nameof(Inside.RunMachine));
        run(Guest(3)); // Fills caches of the hypervisor's types.
        CoverageMap.Clear();
        run(Guest(3));
        byte[] first = _loader.Counts.ToArray();
        CoverageMap.Clear();
        run(Guest(3));
        Assert.Equal(first, _loader.Counts.ToArray());
        CoverageMap.Clear();
        run([0x0F, 0x0B, 0xF4]); // ud2
        Assert.NotEqual(CoverageCounts.Hash(first), CoverageCounts.Hash(_loader.Counts));
    }

    [Fact]
    public void Types_InsideTheContext_AreOthersWhereTheyBindToProbesOnly()
    {
        string[] lines = System.Text.Encoding.UTF8.GetString(_loader.Invoke(Self, InsideName, nameof(Inside.Contexts), [])).Split('\n');
        Assert.Equal(
            [
                "VmFuzz.Kvm=VmFuzz.Coverage", "VmFuzz.Vmx=VmFuzz.Coverage", "VmFuzz.Machines=VmFuzz.Coverage", "VmFuzz.Replay=VmFuzz.Coverage", $"{Self}=VmFuzz.Coverage",
                "VmFuzz.Arch=Default", "VmFuzz.Memory=Default", "VmFuzz.Cpu=Default", "VmFuzz.Trace=Default", "VmFuzz.Coverage=Default",
            ],
            lines);
        Assert.All(
            System.Text.Encoding.UTF8.GetString(Inside.Contexts([])).Split('\n'),
            static line => Assert.EndsWith("=Default", line, StringComparison.Ordinal));
    }

    [Fact]
    public void Probes_OfTheDefaultSet_AreDenseAndNamed()
    {
        Assert.Equal(["VmFuzz.Vmx", "VmFuzz.Kvm"], _loader.Probes.Modules.Select(static m => m.Assembly), StringComparer.Ordinal);
        Assert.Equal(_loader.Cells, _loader.Probes.Count);
        for (int i = 0; i < _loader.Cells; i++)
        {
            Assert.True(_loader.Probes.TryFind(_loader.FirstProbe + i, out ProbeLocation location));
            Assert.Matches("^[0-9a-f]{32}$", location.ModuleVersion);
        }

        Assert.False(_loader.Probes.TryFind(_loader.FirstProbe + _loader.Cells, out _));
        Assert.False(_loader.Probes.TryFind(_loader.FirstProbe - 1, out _));
        CoverageMap.Clear();
        Bind(nameof(Inside.RunMachine))(Guest(2));
        Assert.All(_loader.Probes.ByAssembly(CoverageMap.Counts), static share => Assert.InRange(share.Hit, 10, share.Total - 1));
        ProbeModule kvm = _loader.Probes.Modules[1];
        CoverageShare run = ProbeTable.ByMethod(kvm, CoverageMap.Counts).First(static s => s.Name.Contains("Vcpu::Run", StringComparison.Ordinal));
        Assert.InRange(run.Hit, 1, run.Total);
    }

    [Fact]
    public void Entry_ThatThrows_ThrowsTheSameOutside() =>
        Assert.Equal("from inside", Assert.Throws<InvalidOperationException>(() => Bind(nameof(Inside.Throws))([])).Message);

    [Theory]
    [InlineData(Self, InsideName, "Missing")]
    [InlineData(Self, InsideName, nameof(Inside.WrongShape))]
    [InlineData(Self, "VmFuzz.Missing", "Run")]
    [InlineData("VmFuzz.Missing", InsideName, "Run")]
    public void Entry_ThatDoesNotExist_IsAnErrorValue(string assembly, string type, string method)
    {
        Assert.Equal(CoverageErrorKind.NotFound, _loader.TryBind(assembly, type, method, out _)!.Kind);
        Assert.Throws<ArgumentException>(() => _loader.Invoke(assembly, type, method, []));
    }

    [Fact]
    public void Entry_OfAnotherShape_KeepsStateBetweenCalls()
    {
        Assert.Null(_loader.TryBind(Self, InsideName, nameof(Inside.Open), out Func<byte[], Func<byte[], byte[]>> open));
        Func<byte[], byte[]> one = open([10]);
        Func<byte[], byte[]> other = open([100]);
        Assert.Equal([12], one([1, 2]));
        Assert.Equal([101], other([1]));
        Assert.Equal([15], one([1, 2, 3]));
        Assert.Equal("VmFuzz.Coverage", System.Runtime.Loader.AssemblyLoadContext.GetLoadContext(one.Method.Module.Assembly)!.Name);
        Assert.Null(_loader.TryBind(Self, InsideName, nameof(Inside.WrongShape), out Func<byte[], int> length));
        Assert.Equal(3, length([1, 2, 3]));
    }

    [Fact]
    public void Entry_WhoseShapeDoesNotFit_IsAnErrorValue()
    {
        Assert.Equal(CoverageErrorKind.NotFound, _loader.TryBind(Self, InsideName, nameof(Inside.Open), out Func<byte[], byte[]> _)!.Kind);
        Assert.Equal(CoverageErrorKind.NotFound, _loader.TryBind(Self, InsideName, nameof(Inside.Open), out Func<byte[], object> _)!.Kind);
        Assert.Equal(CoverageErrorKind.NotFound, _loader.TryBind(Self, InsideName, nameof(Inside.WrongShape), out Func<byte[], long> _)!.Kind);
        Assert.Equal(CoverageErrorKind.NotFound, _loader.TryBind(Self, InsideName, nameof(Inside.WrongShape), out Action<byte[]> _)!.Kind);
        CoverageError error = _loader.TryBind(Self, InsideName, nameof(Inside.Open), out Func<int, string> _)!;
        Assert.Equal($"{Self} has no static System.String {InsideName}.Open(System.Int32)", error.Message);
    }

    [Fact]
    public void Entry_OverTypesThatAreNotOfTheCoreLibrary_IsRefused()
    {
        Assert.Equal(CoverageErrorKind.NotAllowed, _loader.TryBind(Self, InsideName, nameof(Inside.Outsider), out Func<byte[], Gpa> _)!.Kind);
        Assert.Equal(CoverageErrorKind.NotAllowed, _loader.TryBind(Self, InsideName, nameof(Inside.Open), out Func<byte[], Func<byte[], Machine[]>> _)!.Kind);
        Assert.Equal(CoverageErrorKind.NotAllowed, _loader.TryBind(Self, InsideName, nameof(Inside.WrongShape), out OwnShape _)!.Kind);
        Assert.Equal(CoverageErrorKind.NotAllowed, _loader.TryBind(Self, InsideName, nameof(Inside.WrongShape), out Delegate _)!.Kind);
    }

    [Theory]
    [InlineData("VmFuzz.Cpu", CoverageErrorKind.NotAllowed)]
    [InlineData("VmFuzz.Arch", CoverageErrorKind.NotAllowed)]
    [InlineData("VmFuzz.Coverage", CoverageErrorKind.NotAllowed)]
    [InlineData("Mono.Cecil", CoverageErrorKind.NotAllowed)]
    [InlineData("VmFuzz.Missing", CoverageErrorKind.NotFound)]
    public void Loader_ForAnAssemblyThatMayNotBe_IsAnErrorValue(string name, CoverageErrorKind kind) =>
        Assert.Equal(kind, CoverageLoader.TryCreate(new CoverageLoaderOptions { Instrumented = [name] }, out _)!.Kind);

    [Fact]
    public void Loader_WithoutItsFolderOrFile_IsAnErrorValue()
    {
        Assert.Equal(CoverageErrorKind.NotFound, CoverageLoader.TryCreate(new CoverageLoaderOptions { Folders = ["/nowhere/at/all"] }, out _)!.Kind);
        Assert.Equal(CoverageErrorKind.NotFound, CoverageLoader.TryCreate(new CoverageLoaderOptions { Files = ["/nowhere/at/all.dll"] }, out _)!.Kind);
    }

    [Fact]
    public void Loader_ForAPlugInOutsideTheFolder_LoadsIt()
    {
        string folder = Directory.CreateTempSubdirectory("vmfuzz-coverage").FullName;
        try
        {
            string path = Path.Combine(folder, "PlugIn.dll");
            File.WriteAllBytes(path, Made.Assembly("PlugIn", Made.BranchChain(3)));
            Assert.Null(CoverageLoader.TryCreate(new CoverageLoaderOptions { Instrumented = ["PlugIn"], Files = [path] }, out CoverageLoader loader));
            Assert.Equal(["PlugIn"], loader.Private);
            CoverageMap.Clear();
            Assert.Equal([2], loader.Invoke("PlugIn", Made.TypeName, Made.MethodName, [2]));
            Assert.True(CoverageCounts.CountSet(loader.Counts) > 1);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void Map_InUse_KeepsItsPlace()
    {
        Bind(nameof(Inside.Contexts));
        Assert.True(CoverageMap.IsInUse);
        unsafe
        {
            byte* before = CoverageMap.Address;
            byte* other = stackalloc byte[CoverageMap.MinCapacity];
            Assert.False(CoverageMap.UseExternal(other, CoverageMap.MinCapacity));
            Assert.False(CoverageMap.TryReserve(CoverageMap.Capacity + 1));
            Assert.True(CoverageMap.TryReserve(CoverageMap.MinCapacity));
            Assert.False(CoverageMap.TryAllocate(CoverageMap.Capacity, out _));
            Assert.False(CoverageMap.TryAllocate(-1, out _));
            Assert.True(before == CoverageMap.Address);
        }
    }

    internal delegate int OwnShape(byte[] input);

    private Func<byte[], byte[]> Bind(string method)
    {
        Assert.Null(_loader.TryBind(Self, InsideName, method, out Func<byte[], byte[]> entry));
        return entry;
    }
}
