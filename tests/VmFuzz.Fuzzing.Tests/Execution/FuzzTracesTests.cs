using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Kvm;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing.Tests;

public sealed class FuzzTracesTests : IDisposable
{
    private readonly string _path = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName() + ".vmtrace");

    [Theory]
    [InlineData(FlatMode.Real16)]
    [InlineData(FlatMode.Protected32)]
    [InlineData(FlatMode.Long64)]
    public void Record_OfAProgram_ReplaysFromTheTraceAlone(FlatMode mode)
    {
        FuzzInput input = GuestCodeExecutorTests.Program(mode, "FB0FA20FC7F0E4E90F0B90909090");
        input.Registers.AddRange([new(1, 0x77), new(36, 3)]);
        input.Patches.Add(new MemoryPatch(0x2_0000, [1, 2, 3]));
        input.Events.AddRange([new(2, InputKind.Nmi), new(4, InputKind.Interrupt, 0x21), new(5, InputPoint.BeforeLastCheck, InputKind.Kick, 0)]);
        input.Answers.Add(0x55);
        input.Normalise();
        using var executor = new GuestCodeExecutor(MachineVariants.None);
        ReplayResult result = RecordAndReplay(executor, input);
        Assert.Equal(executor.Run(input).Instructions, result.Retired);
    }

    [Fact]
    public void Record_OfMadeExits_ReplaysFromTheTraceAlone()
    {
        FuzzInput input = Samples.Rich(FuzzTarget.ExitHandlers);
        input.Events.Clear();
        input.Exits.RemoveAll(static made => made.Exit.Basic == ExitReason.Hlt);
        using var executor = new ExitHandlersExecutor();
        ReplayResult result = RecordAndReplay(executor, input);
        Execution run = executor.Run(input);
        Assert.Equal((run.Exits, run.Instructions), (result.Counts.Exits, result.Retired));
        Assert.True(run.Exits >= (ulong)input.Exits.Count);
        Assert.Equal("all made exits were played", result.Stop.Text);
    }

    [Fact]
    public void Record_OfAnyMadeExits_Replays()
    {
        // Mutilated bytes become raw material: registers, events, exits of all reasons.
        var random = new SplitMix(11);
        byte[] whole = FuzzCodec.Encode(Samples.Rich(FuzzTarget.ExitHandlers));
        FuzzInput input = new();
        using var executor = new ExitHandlersExecutor();
        ulong exits = 0;
        for (int i = 0; i < 200; i++)
        {
            FuzzCodec.Decode(Samples.Bytes(random, whole), input, FuzzTarget.ExitHandlers);
            exits += RecordAndReplay(executor, input).Counts.Exits;
            File.Delete(_path);
        }

        Assert.True(exits > 300, $"only {exits} exits were played");
    }

    [Fact]
    public void Record_OfALoopWithoutProgress_EndsInTheReplayToo()
    {
        MachineVariants variants = Handler(ExitReason.Cpuid, static (Vcpu _, in VmExit _) => ExitOutcome.Resume);
        using var executor = new GuestCodeExecutor(variants);
        ReplayResult result = RecordAndReplay(executor, GuestCodeExecutorTests.Program(FlatMode.Long64, "0FA2F4"), variants, "guest-kill.no-progress@Cpuid");
        Assert.Equal(MachineStopKind.UserStop, result.Stop.Kind);
    }

    [Fact]
    public void Record_OfVmcsInputs_LeavesNoFile()
    {
        using var executor = new VmcsEntryExecutor();
        executor.Record(Samples.Rich(FuzzTarget.VmcsEntry), _path, FuzzOrigin.Of(FuzzTarget.VmcsEntry));
        Assert.False(File.Exists(_path));
    }

    [Fact]
    public void Record_OfAPlugInsTarget_NeedsThePlugIn()
    {
        MachineVariants variants = Handler(ExitReason.Cpuid, static (Vcpu vcpu, in VmExit _) =>
        {
            vcpu.Rax = 0x1234;
            return ExitOutcome.RetireInstruction;
        });
        FuzzTargetRow own = new("mine", FuzzTarget.ExitHandlers, "for tests", variants);
        using (IFuzzExecutor executor = own.CreateExecutor())
        {
            Assert.Null(executor.Record(Samples.Rich(FuzzTarget.ExitHandlers), _path, new FuzzOrigin("mine", ["Mine 1.0"])));
        }

        using TraceReader reader = TraceReader.Open(_path);
        Assert.Contains("Mine 1.0", TraceHeaders.TryOptions(reader, compareOnly: false, out _, knowsInput: true), StringComparison.Ordinal);
        Assert.Null(TraceHeaders.TryOptions(reader, compareOnly: false, out MachineOptions options, knowsInput: true, ["Mine 1.0"]));
        Assert.Contains("--plugin", FuzzTraces.TryVariants(options, FuzzTargetRow.BuiltIn, compareOnly: false, out _), StringComparison.Ordinal);
        Assert.Equal(ReplayOutcome.Identical, Replayed(reader, options, [own], compareOnly: false).Outcome);

        // Against the product's own handlers: the first difference is what the handler left.
        Divergence divergence = Assert.IsType<Divergence>(Replayed(reader, options, [.. FuzzTargetRow.BuiltIn], compareOnly: true).Divergence);
        Assert.Contains(divergence.Differences, static difference => difference.Expected == "0x1234");
    }

    [Fact]
    public void TryOptions_WithoutKnowingInputs_RefusesInOneLine()
    {
        using var executor = new GuestCodeExecutor(MachineVariants.None);
        executor.Record(GuestCodeExecutorTests.Program(FlatMode.Long64, "90F4"), _path, FuzzOrigin.Of(FuzzTarget.GuestCode));
        using TraceReader reader = TraceReader.Open(_path);
        string? wrong = TraceHeaders.TryOptions(reader, compareOnly: false, out _);
        Assert.NotNull(wrong);
        Assert.Contains("fuzzer's input", wrong, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', wrong);
    }

    [Fact]
    public void TryVariants_WithoutAnInput_ReplaceNothing()
    {
        Assert.Null(FuzzTraces.TryVariants(FuzzLayout.Options(FlatMode.Long64, Accelerator.Kvm, 10), [], compareOnly: false, out MachineVariants variants));
        Assert.Same(MachineVariants.None, variants);
    }

    [Fact]
    public void TryVariants_OfAMachineThatNoTargetHas_AreRefused()
    {
        MachineOptions options = FuzzTraces.Options(Samples.Rich(FuzzTarget.ExitHandlers), "exit-handlers");
        Assert.Null(Refusal(options));
        Assert.NotNull(Refusal(options with { Accelerator = Accelerator.Bare }));
        Assert.NotNull(Refusal(options with { Kind = MachineKind.Pc }));
        Assert.NotNull(Refusal(options with { FlatMode = FlatMode.Real16 }));
        Assert.NotNull(Refusal(options with { Memory = 1UL << 34 }));
        Assert.NotNull(Refusal(options with { MaxInstructions = 0 }));
        Assert.NotNull(Refusal(options with { Images = options.Images.RemoveAt(0) }));
        Assert.NotNull(Refusal(options with { Images = options.Images.SetItem(0, new MachineImage("code", "other", new byte[] { 0x90 })) }));
        Assert.NotNull(Refusal(Named(options, FuzzCodec.Encode(Samples.Rich(FuzzTarget.ExitHandlers)), "guest-code")));
        Assert.NotNull(Refusal(Named(options, FuzzCodec.Encode(Samples.Rich(FuzzTarget.VmcsEntry)), "vmcs-entry")));
        Assert.NotNull(Refusal(Named(options, FuzzCodec.Encode(Samples.Rich(FuzzTarget.ExitHandlers)), "../exit-handlers")));
    }

    [Fact]
    public void TryVariants_OfAnyInputBytes_AreRefusedOrStartAMachine()
    {
        var random = new SplitMix(5);
        byte[] whole = FuzzCodec.Encode(Samples.Rich(FuzzTarget.ExitHandlers));
        int started = 0;
        for (int i = 0; i < 300; i++)
        {
            byte[] bytes = Samples.Bytes(random, whole);
            MachineOptions options = Named(FuzzTraces.Options(Samples.Rich(FuzzTarget.ExitHandlers), "exit-handlers"), bytes, "exit-handlers");
            if (FuzzTraces.TryVariants(options, FuzzTargetRow.BuiltIn, compareOnly: false, out MachineVariants variants) is null)
            {
                using var machine = Machine.Create(options, new FuzzSource(), variants);
                Assert.NotEqual(MachineStopKind.None, machine.Run().Kind);
                started++;
            }
        }

        Assert.InRange(started, 10, 290);
    }

    public void Dispose() => File.Delete(_path);

    private static MachineVariants Handler(ExitReason reason, ExitHandler handler) =>
        new() { Kvm = options => options with { Exits = options.Exits.With(reason, handler) } };

    private static string? Refusal(MachineOptions options) => FuzzTraces.TryVariants(options, FuzzTargetRow.BuiltIn, compareOnly: false, out _);

    private static MachineOptions Named(MachineOptions options, byte[] input, string target) =>
        options with { Images = options.Images.SetItem(1, new MachineImage(MachineImage.InputRole, target, input)) };

    private ReplayResult RecordAndReplay(IFuzzExecutor executor, FuzzInput input, MachineVariants? variants = null, string? breaks = null)
    {
        FuzzOrigin origin = FuzzOrigin.Of(executor.Target);
        Assert.Equal(breaks, executor.Record(input, _path, origin)?.Key);
        using TraceReader reader = TraceReader.Open(_path);
        Assert.Null(TraceHeaders.TryOptions(reader, compareOnly: false, out MachineOptions options, knowsInput: true));
        ReplayResult result = Replayed(reader, options, [new(origin.Target, executor.Target, "", variants ?? MachineVariants.None)], compareOnly: false);
        Assert.True(result.Outcome == ReplayOutcome.Identical, result.Divergence?.ToString());
        return result;
    }

    private static ReplayResult Replayed(TraceReader reader, MachineOptions options, ImmutableArray<FuzzTargetRow> targets, bool compareOnly)
    {
        Assert.Null(FuzzTraces.TryVariants(options, targets, compareOnly, out MachineVariants variants));
        using var replayer = new Replayer(reader, options, variants);
        return replayer.Run();
    }
}
