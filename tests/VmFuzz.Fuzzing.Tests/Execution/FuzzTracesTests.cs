using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;

namespace VmFuzz.Fuzzing.Tests;

public sealed class FuzzTracesTests : IDisposable
{
    private readonly string _path = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName() + ".vft");

    [Theory]
    [InlineData(FlatMode.Real16)]
    [InlineData(FlatMode.Protected32)]
    [InlineData(FlatMode.Long64)]
    public void Record_OfAnInput_ReplaysFromTheTraceAlone(FlatMode mode)
    {
        FuzzInput input = GuestCodeExecutorTests.Program(mode, "FB0FA20FC7F0E4E90F0B90909090");
        input.Registers.AddRange([new(1, 0x77), new(36, 3)]);
        input.Patches.Add(new MemoryPatch(0x2_0000, [1, 2, 3]));
        input.Events.AddRange([new(2, InputKind.Nmi), new(4, InputKind.Interrupt, 0x21), new(5, InputPoint.BeforeLastCheck, InputKind.Kick, 0)]);
        input.Answers.Add(0x55);
        input.Normalise();
        using var executor = new GuestCodeExecutor(MachineVariants.None);
        Assert.Null(executor.Record(input, _path));

        using TraceReader reader = TraceReader.Open(_path);
        Assert.Null(TraceHeaders.TryOptions(reader, compareOnly: false, out MachineOptions options, knowsInput: true));
        using var replayer = new Replayer(reader, options, FuzzTraces.Variants(options));
        ReplayResult result = replayer.Run();
        Assert.True(result.Outcome == ReplayOutcome.Identical, result.Divergence?.ToString());
        Assert.Equal(executor.Run(input).Instructions, result.Retired);
    }

    [Fact]
    public void TryOptions_WithoutKnowingInputs_RefusesInOneLine()
    {
        using var executor = new GuestCodeExecutor(MachineVariants.None);
        executor.Record(GuestCodeExecutorTests.Program(FlatMode.Long64, "90F4"), _path);
        using TraceReader reader = TraceReader.Open(_path);
        string? wrong = TraceHeaders.TryOptions(reader, compareOnly: false, out _);
        Assert.NotNull(wrong);
        Assert.Contains("fuzzer's input", wrong, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', wrong);
    }

    [Fact]
    public void Variants_WithoutAnInput_ReplaceNothing() =>
        Assert.Same(MachineVariants.None, FuzzTraces.Variants(FuzzLayout.Options(FlatMode.Long64, Accelerator.Kvm, 10)));

    public void Dispose() => File.Delete(_path);
}
