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

        public bool TryTake(InputPoint point, in Position at, out Input input)
        {
            input = default;
            return false;
        }
    }
}
