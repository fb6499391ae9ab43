using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Testing;
using VmFuzz.Trace;

namespace VmFuzz.Testing.Tests;

public sealed class TestingTests
{
    [Fact]
    public void Run_OfAPropertyThatHolds_TriesEveryCase()
    {
        int tried = 0;
        PropertyCheck.Run(Generators.RegisterFiles(), PropertySeed.Pinned, 50, _ => tried++);
        Assert.Equal(50, tried);
    }

    [Fact]
    public void Run_OfAPropertyThatFails_NamesTheSeed()
    {
        PropertyFailedException failed = Assert.Throws<PropertyFailedException>(
            static () => PropertyCheck.Run(Generators.RegisterFiles(), PropertySeed.Pinned, 50, static _ => throw new InvalidOperationException("planted")));
        Assert.Contains("planted", failed.Message, StringComparison.Ordinal);
        Assert.Contains("VMFUZZ_SEED", failed.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Generators_OfOneSeed_GiveTheSameCases()
    {
        Assert.Equal(Cases(PropertySeed.Pinned), Cases(PropertySeed.Pinned));
        Assert.NotEqual(Cases(PropertySeed.Pinned), Cases(PropertySeed.Parse("123")));

        static List<string> Cases(PropertySeed seed)
        {
            var cases = new List<string>();
            PropertyCheck.Run(Generators.Instructions(FlatMode.Long64), seed, 20, bytes => cases.Add(Convert.ToHexString(bytes)));
            return cases;
        }
    }

    [Fact]
    public void TraceAssert_OfARecording_PassesAndFailsWithAnotherEngine()
    {
        byte[] trace = Record();
        Assert.Equal(ReplayOutcome.Identical, TraceAssert.Replays(trace).Outcome);
        InstructionTable.Default.TryFind(Iced.Intel.Mnemonic.Inc, out InstructionRow row);
        var changed = new MachineVariants
        {
            // INC that does nothing.
            Instructions = InstructionTable.Default.With(row with { Handler = static (Processor _, in Iced.Intel.Instruction _) => ExecResult.Next }),
        };
        TraceAssertException failed = Assert.Throws<TraceAssertException>(() => TraceAssert.Replays(trace, changed));
        Assert.Contains("event", failed.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TraceAssert_OfTwoTracesThatDiffer_Fails()
    {
        byte[] trace = Record();
        TraceAssert.Identical(trace, trace);
        byte[] other = TracePatcher.Change(trace, 0, static e => e.Retired++);
        Assert.Throws<TraceAssertException>(() => TraceAssert.Identical(trace, other));
    }

    [Theory]
    [InlineData(1UL)]
    [InlineData(2UL)]
    [InlineData(3UL)]
    public void ScheduledSource_AskedAtEveryPointOrOnlyWhereItPromisedNothing_GivesTheSameRun(ulong seed)
    {
        var inputs = new List<ScheduledInput>();
        ulong state = seed;
        for (int i = 0; i < 60; i++)
        {
            state = (state * 6364136223846793005UL) + 1442695040888963407UL;
            InputKind kind = ((state >> 40) % 3) switch { 0 => InputKind.Reschedule, 1 => InputKind.Kick, _ => InputKind.HostVector };
            inputs.Add(new ScheduledInput((state >> 50) % 2000, (InputPoint)(5 + ((state >> 33) % 7)), new Input(kind, 0x80)));
        }

        var schedule = InputSchedule.Of(inputs);
        var source = new ScheduledSource(schedule);
        byte[] trace = Record(CpuidLoop, Accelerator.Kvm, source);
        Assert.True(source.Taken.Count > 30, $"{source.Taken.Count} inputs were taken");
        Assert.Equal(trace, Record(CpuidLoop, Accelerator.Kvm, new Asked(new ScheduledSource(schedule))));
        Assert.Equal(ReplayOutcome.Identical, TraceAssert.Replays(trace).Outcome);
    }

    [Fact]
    public void Door_WithAnotherSourceOrAfterAReset_ForgetsWhatWasPromised()
    {
        var options = new MachineOptions { Accelerator = Accelerator.Kvm, MaxInstructions = 50, Images = [new MachineImage("code", "guest", CpuidLoop)] };
        var kick = new ScheduledInput(10, InputPoint.BeforeEntry, new Input(InputKind.Kick));
        using Machine machine = Machine.Create(options, new NoInputs());
        machine.Run();
        var source = new ScheduledSource(InputSchedule.Of([kick]));
        machine.Processor.Door.Source = source;
        machine.Reset();
        machine.Run();
        Assert.Single(source.Taken);
        Assert.Equal(1UL, machine.Processor.Door.Count);
    }

    // mov ecx, 500 / again: mov edi, ecx / xor eax, eax / cpuid / mov ecx, edi / dec ecx / jnz again / out 0xf4, al
    private static readonly byte[] CpuidLoop =
        [0xB9, 0xF4, 0x01, 0, 0, 0x89, 0xCF, 0x31, 0xC0, 0x0F, 0xA2, 0x89, 0xF9, 0xFF, 0xC9, 0x75, 0xF4, 0xE6, 0xF4];

    private static byte[] Record(byte[] code, Accelerator accelerator, IInputSource source)
    {
        var options = new MachineOptions { Accelerator = accelerator, MaxInstructions = 5000, Images = [new MachineImage("code", "guest", code)] };
        using var stream = new MemoryStream();
        using (Machine machine = Machine.Create(options, source))
        using (var recorder = new Recorder(machine, new TraceWriter(stream, TraceHeaders.Of(options, "test"), leaveOpen: true)))
        {
            machine.Run();
        }

        return stream.ToArray();
    }

    // Promises nothing.
    private sealed class Asked(IInputSource source) : IInputSource
    {
        public ulong NextDue(int vcpu, ulong retired) => source.NextDue(vcpu, retired);

        public bool TryTake(InputPoint point, in Position at, out Input input) => source.TryTake(point, at, out input);
    }

    // inc dword [rsp - 8] (memory: the reference microcode's, at least once) / mov eax, [rsp - 8] / out 0xe9, al / out 0xf4, al
    private static byte[] Record()
    {
        byte[] code = [0xFF, 0x44, 0x24, 0xF8, 0x8B, 0x44, 0x24, 0xF8, 0xE6, 0xE9, 0xE6, 0xF4];
        var options = new MachineOptions { Images = [new MachineImage("code", "guest", code)] };
        using var stream = new MemoryStream();
        using (Machine machine = Machine.Create(options, new NoInputs()))
        using (var recorder = new Recorder(machine, new TraceWriter(stream, TraceHeaders.Of(options, "test"), leaveOpen: true)))
        {
            machine.Run();
        }

        return stream.ToArray();
    }

    private sealed class NoInputs : IInputSource
    {
        public ulong NextDue(int vcpu, ulong retired) => ulong.MaxValue;

        public ulong QuietUntil(int vcpu, ulong retired) => ulong.MaxValue;

        public bool TryTake(InputPoint point, in Position at, out Input input)
        {
            input = default;
            return false;
        }
    }
}
