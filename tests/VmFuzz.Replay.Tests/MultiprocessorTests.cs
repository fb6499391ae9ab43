using System.Text;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Testing;
using VmFuzz.Trace;

namespace VmFuzz.Replay.Tests;

/// <summary>Machines of two VCPUs: the corpus's guest under several schedules, recorded and replayed.</summary>
public sealed class MultiprocessorTests
{
    private const string Stages = "almtinr";

    private static readonly MachineOptions Options = new()
    {
        Kind = MachineKind.Pc,
        Processors = 2,
        Memory = 1 << 20,
        MaxInstructions = 20_000_000,
        Images = [new MachineImage(MachineImage.BiosRole, "smp.bin", File.ReadAllBytes(Path.Combine(Recordings.Root, "corpus", "guests", "smp.bin")))],
    };

    private static IInputSource Scheduled(ulong seed, IInputSource? inner = null) => new ScheduleSource(inner ?? new ChaosSource(Nothing, new SplitMix(1).Next), seed);

    private static ChaosOptions Nothing => new() { Nmis = 0, Interrupts = 0, Kicks = 0, TypedBytes = 0 };

    private static string Output(byte[] trace) => string.Concat(Recordings.Events(trace)
        .Where(static e => e.Kind == TraceEventKind.Console)
        .Select(static e => Encoding.Latin1.GetString(e.Bytes)));

    [Fact]
    public void Guest_UnderThreeSeeds_GivesThreeTracesThatReplay()
    {
        var outputs = new HashSet<string>(StringComparer.Ordinal);
        for (ulong seed = 1; seed <= 3; seed++)
        {
            byte[] trace = Recordings.Record(Options, Scheduled(seed));
            string output = Output(trace);
            Assert.StartsWith(Stages, output, StringComparison.Ordinal);
            Assert.EndsWith("sh\n", output, StringComparison.Ordinal);
            outputs.Add(output);
            ReplayResult result = TraceAssert.Replays(trace);
            Assert.Equal(MachineStopKind.DebugExit, result.Stop.Kind);
            Assert.Equal(1, result.Stop.GuestStatus);
            Assert.Equal(trace, Recordings.Record(Options, Scheduled(seed)));
        }

        // The intended race of the guest: three interleavings, three results.
        Assert.Equal(3, outputs.Count);
    }

    [Fact]
    public void Trace_OfTwoVcpus_HasTheSeedAsAnInputAndEventsOfBoth()
    {
        byte[] trace = Recordings.Record(Options, Scheduled(0x1234));
        List<TraceEvent> events = Recordings.Events(trace);
        TraceEvent seed = Assert.Single(events, static e => e.Kind == TraceEventKind.Input && e.InputPoint == InputPoint.Schedule);
        Assert.Equal((InputKind.ScheduleSeed, 0x1234UL), (seed.InputKind, seed.Value));
        Assert.Contains(events, static e => e.Kind == TraceEventKind.Delivered && e.Vcpu == 0);
        Assert.Contains(events, static e => e.Kind == TraceEventKind.Delivered && e.Vcpu == 1);

        // Where each VCPU ended is there, and all of them together are the machine's count.
        ReplayResult result = TraceAssert.Replays(trace);
        Assert.Equal(result.Retired, events.GroupBy(static e => e.Vcpu).Select(static g => g.Max(static e => e.Retired)).Aggregate(static (a, b) => a + b));
    }

    [Fact]
    public void Seed_Changed_DivergesByTheNextDigest()
    {
        byte[] trace = Recordings.Record(Options, Scheduled(1));
        TraceEvent seed = Recordings.Events(trace).First(static e => e.Kind == TraceEventKind.Input);
        byte[] changed = TracePatcher.Change(trace, seed.Sequence, static e => e.Value ^= 1);
        ReplayResult? result = Recordings.Replay(changed, out string refused);
        Assert.Empty(refused);
        Assert.Equal(ReplayOutcome.Diverged, result!.Outcome);
        Assert.True(result.Divergence!.Sequence <= seed.Sequence + 1);
    }

    [Fact]
    public void OneVcpu_IsAskedForNoSchedule()
    {
        byte[] trace = Recordings.Record(Options with { Processors = 1, MaxInstructions = 100_000 }, Scheduled(1));
        Assert.DoesNotContain(Recordings.Events(trace), static e => e.Kind == TraceEventKind.Input);
        using TraceReader reader = TraceReader.Open(trace);
        Assert.DoesNotContain(reader.Header!.Machine, static s => s.Key == "smp");
    }

    [Theory]
    [InlineData("reference")]
    [InlineData("loop")]
    [InlineData("short blocks")]
    [InlineData("cold")]
    public void Caches_OfSeveralProcessors_AreInvisible(string kind)
    {
        byte[] trace = Recordings.Record(Options, Scheduled(7));
        Assert.Equal(trace, Recordings.Record(Options, Scheduled(7), machine =>
        {
            for (int i = 0; i < machine.Processors.Length; i++)
            {
                Processor processor = machine.Processors[i];
                switch (kind)
                {
                    case "reference":
                        processor.ReferenceOnly = true;
                        break;
                    case "loop":
                        // One alone: their caches differ from each other too.
                        processor.LoopThreading = i == 1;
                        break;
                    case "short blocks":
                        processor.BlockLimit = 1 + i;
                        break;
                    default:
                        processor.CodeCacheLimit = 2;
                        break;
                }
            }
        }));
    }

    [Fact]
    public void Reset_AfterARun_RunsTheSame()
    {
        using Machine machine = Machine.Create(Options, Scheduled(5));
        var digests = new List<(ulong, ulong, ulong)>();
        for (int i = 0; i < 2; i++)
        {
            Assert.Equal(MachineStopKind.DebugExit, machine.Run().Kind);
            machine.Processor.FlushWriteTlb();
            digests.Add((new StateTracker(machine.Components).Digest, machine.Memory.Digest(), machine.Retired));
            machine.Reset();
        }

        Assert.Equal(digests[0], digests[1]);
    }

    [Fact]
    public void EightVcpus_OfWhichTheGuestUsesTwo_Replay()
    {
        // The guest counts one processor that was started: with eight it says that something is wrong.
        byte[] trace = Recordings.Record(Options with { Processors = 8 }, Scheduled(3));
        Assert.Equal("!", Output(trace));
        TraceAssert.Replays(trace);
    }

    /// <summary>NMIs, spurious interrupts and typed bytes at random positions, random values, and two VCPUs.</summary>
    [Fact]
    public void TwoHundredEvents_AtRandomPositions_ReplayUnderTwentySeeds()
    {
        var chaos = new ChaosOptions { Nmis = 60, Interrupts = 70, Kicks = 0, TypedBytes = 70, From = 60_000, Span = 400_000 };
        var traces = new HashSet<ulong>();
        for (ulong seed = 1; seed <= 20; seed++)
        {
            byte[] trace = Recordings.Record(Options, Scheduled(seed, new ChaosSource(chaos, new SplitMix(seed).Next)));
            ReplayResult result = TraceAssert.Replays(trace);
            Assert.True(result.Counts.Inputs == 201, $"seed {seed}: {result.Counts.Inputs} inputs, {result.Stop.Text}");
            traces.Add(Recordings.Events(trace)[^1].Digest);
        }

        Assert.Equal(20, traces.Count);
    }
}
