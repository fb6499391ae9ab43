using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Replay.Snapshots;
using VmFuzz.Testing;
using VmFuzz.Trace;

namespace VmFuzz.Replay.Tests.Snapshots;

/// <summary>A run to N, saved, put into another machine and gone on with to M is the run to M.</summary>
public sealed class SnapshotTests
{
    private static string Guests => Path.Combine(Recordings.Root, "corpus", "guests");

    public static TheoryData<MachineKind, Accelerator, string, ulong> Runs()
    {
        var data = new TheoryData<MachineKind, Accelerator, string, ulong>();
        foreach (Accelerator accelerator in Enum.GetValues<Accelerator>())
        {
            data.Add(MachineKind.Flat, accelerator, "chaos", 60_000);
            data.Add(MachineKind.Flat, accelerator, "faults64", 400);
            data.Add(MachineKind.Flat, accelerator, "paging64", 600);
            data.Add(MachineKind.Flat, accelerator, "exits64", 2_000);
            data.Add(MachineKind.Pc, accelerator, "apic", 20_000);
            data.Add(MachineKind.UnitTest, accelerator, "unittest", 4_000);
            data.Add(MachineKind.Microvm, accelerator, "unittest", 1_500);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Runs))]
    public void Run_SavedAndGoneOnWith_IsTheRunWithoutAStop(MachineKind kind, Accelerator accelerator, string guest, ulong span)
    {
        MachineOptions options = Options(kind, accelerator, guest);
        var random = new SplitMix(span);
        for (int i = 0; i < 4; i++)
        {
            ulong n = 1 + random.Below(span);
            ulong m = n + 1 + random.Below(span);
            ulong seed = random.Next();
            using Machine whole = Machine.Create(options with { MaxInstructions = m }, new Planned(seed, span, 0));
            whole.Run();
            var source = new Planned(seed, span, 0);
            using Machine first = Machine.Create(options, source);
            first.PauseAt = n;
            if (first.Run().Kind != MachineStopKind.Paused)
            {
                continue;
            }

            using Machine second = GoOn(Snapshot.Save(first), m, new Planned(seed, span, source.Taken));
            Assert.Equal(State(first), State(second));
            second.Run();
            Assert.Equal(whole.Stop, second.Stop);
            Assert.Equal(State(whole), State(second));
        }
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Snapshot_OfARecording_IsRecordedFromAndReplays(Accelerator accelerator)
    {
        MachineOptions options = Options(MachineKind.Flat, accelerator, "chaos");
        byte[] trace = Recordings.Record(options with { MaxInstructions = 50_000 }, new Planned(7, 50_000, 0));
        using TraceReader reader = TraceReader.Open(trace);
        Assert.Null(TraceHeaders.TryOptions(reader, compareOnly: false, out MachineOptions recorded));
        using var replayer = new Replayer(reader, recorded);
        replayer.Machine.PauseAt = 20_000;
        ReplayResult paused = replayer.Run();
        Assert.Equal(ReplayOutcome.IdenticalPrefix, paused.Outcome);
        Assert.Equal(MachineStopKind.Paused, paused.Stop.Kind);

        MachineOptions from = From(Snapshot.Save(replayer.Machine)) with { MaxInstructions = 50_000 };
        byte[] rest = Recordings.Record(from, new Planned(7, 50_000, Typed(trace, replayer.Machine.Processor.Door.Count)), variants: Snapshot.Variants(from));
        TraceAssert.Replays(rest);
        TraceEvent whole = Recordings.Events(trace)[^1];
        TraceEvent part = Recordings.Events(rest)[^1];
        Assert.Equal((whole.Digest, whole.MemoryDigest, whole.InputsHash), (part.Digest, part.MemoryDigest, part.InputsHash));
    }

    [Fact]
    public void Machine_FromASnapshot_IsResetToIt()
    {
        var source = new Planned(3, 9_000, 0);
        using Machine first = Machine.Create(Options(MachineKind.Flat, Accelerator.Kvm, "chaos"), source);
        first.PauseAt = 5_000;
        first.Run();
        using Machine second = GoOn(Snapshot.Save(first), 9_000, new Planned(3, 9_000, source.Taken));
        second.Run();
        second.Reset();
        Assert.Equal(State(first), State(second));
        second.Run();
        Assert.Equal(9_000UL, second.Processor.Retired);
    }

    [Fact]
    public void Save_ByText_PausesBehindIt()
    {
        using Machine machine = Machine.Create(Options(MachineKind.Flat, Accelerator.Bare, "hello64"), new NoInputs());
        machine.PauseAfter = new ConsoleMatch("h");
        Assert.Equal(MachineStopKind.Paused, machine.Run().Kind);
        Assert.Equal(1UL, machine.ConsoleLength);
        using Machine second = GoOn(Snapshot.Save(machine), 1000, new NoInputs());
        var text = new List<byte>();
        second.ConsoleOutput = text.Add;
        second.Run();
        Assert.Equal("i\n"u8.ToArray(), text);
    }

    [Fact]
    public void Snapshot_OfMuchEmptyMemory_IsSmall()
    {
        using Machine machine = Machine.Create(Options(MachineKind.Flat, Accelerator.Bare, "hello64") with { Memory = 1UL << 30 }, new NoInputs());
        machine.PauseAt = 2;
        machine.Run();
        Assert.True(Snapshot.Save(machine).Length < 20_000);
    }

    [Fact]
    public void TryOptions_OfATraceOrACutSnapshot_SaysWhatToDo()
    {
        using TraceReader trace = TraceReader.Open(Recordings.Golden("hello64-bare"));
        Assert.Contains("vmfuzz snapshot", Snapshot.TryOptions(trace, out _), StringComparison.Ordinal);
        byte[] whole = Saved();
        for (int length = 0; length < whole.Length; length += 97)
        {
            using TraceReader cut = TraceReader.Open(whole.AsMemory(0, length));
            Assert.NotNull(Snapshot.TryOptions(cut, out _));
        }
    }

    // The container's checksums are right; the state in it is not.
    [Fact]
    public void Restore_OfAChangedState_IsRefusedInOneLineOrChangesNothing()
    {
        MachineOptions options = From(Saved());
        List<string> saved;
        using (Machine machine = Create(options, new NoInputs()))
        {
            saved = State(machine);
        }

        byte[] state = options.Image(MachineImage.SnapshotRole)!.Bytes.ToArray();
        var random = new SplitMix(11);
        int refused = 0;
        for (int i = 0; i < 120; i++)
        {
            byte[] changed = i % 4 == 0 ? state[..(int)random.Below((ulong)state.Length)] : [.. state];
            if (i % 4 != 0)
            {
                // Near the front more often: heads and fields stand there.
                int at = (int)random.Below(i % 2 == 0 ? 3_000UL : (ulong)state.Length);
                changed[at] ^= (byte)(1 + random.Below(255));
            }

            try
            {
                // What a field cannot hold is dropped: the state is the one that was saved.
                using Machine machine = Create(With(options, changed), new NoInputs());
                Assert.Equal(saved, State(machine));
            }
            catch (TraceFileException error)
            {
                Assert.StartsWith("the snapshot cannot be used: ", error.Message, StringComparison.Ordinal);
                refused++;
            }
        }

        Assert.InRange(refused, 90, 120);
    }

    // Of the first inputs of a trace, those that are planned.
    private static int Typed(byte[] trace, ulong inputs) => Recordings.Events(trace)
        .Where(static e => e.Kind == TraceEventKind.Input)
        .Take((int)inputs)
        .Count(static e => e.InputPoint != InputPoint.Random);

    private static byte[] Saved()
    {
        using Machine machine = Machine.Create(Options(MachineKind.Flat, Accelerator.Kvm, "hello64"), new NoInputs());
        machine.PauseAt = 3;
        machine.Run();
        return Snapshot.Save(machine);
    }

    private static MachineOptions With(MachineOptions options, byte[] state) => options with
    {
        MaxInstructions = 1_000,
        Images = [.. options.Images.Select(image => image.Role == MachineImage.SnapshotRole ? image with { Bytes = state } : image)],
    };

    private static MachineOptions Options(MachineKind kind, Accelerator accelerator, string guest) => new()
    {
        Kind = kind,
        Accelerator = accelerator,
        Memory = 16 << 20,
        Images = [new MachineImage(
            kind switch
            {
                MachineKind.Flat => MachineImage.CodeRole,
                MachineKind.Pc => MachineImage.BiosRole,
                _ => MachineImage.KernelRole,
            },
            guest,
            File.ReadAllBytes(Path.Combine(Guests, guest + ".bin")))],
    };

    private static MachineOptions From(byte[] snapshot)
    {
        using TraceReader reader = TraceReader.Open(snapshot);
        Assert.Null(Snapshot.TryOptions(reader, out MachineOptions options));
        return options;
    }

    private static Machine Create(MachineOptions options, IInputSource inputs) => Machine.Create(options, inputs, Snapshot.Variants(options));

    private static Machine GoOn(byte[] snapshot, ulong limit, IInputSource inputs) =>
        Create(From(snapshot) with { MaxInstructions = limit }, inputs);

    // Every field by name, and memory.
    private static List<string> State(Machine machine)
    {
        var lines = new List<string>();
        foreach (IStateful component in machine.WholeState)
        {
            for (int i = 0; i < component.Fields.Length; i++)
            {
                byte[] value = new byte[component.Fields[i].Width];
                component.ReadField(i, value);
                lines.Add($"{component.Component}.{component.Fields[i].Name} {Convert.ToHexString(value)}");
            }
        }

        machine.Processor.FlushWriteTlb();
        lines.Add($"memory {machine.Memory.Digest():x}");
        return lines;
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

    /// <summary>Inputs at counts that follow from a seed, without the first few; random values follow from the count too.</summary>
    private sealed class Planned : IInputSource
    {
        private readonly List<(ulong At, Input Input)> _plan = [];

        public Planned(ulong seed, ulong span, int skip)
        {
            var random = new SplitMix(seed);
            for (ulong at = random.Below((span / 8) + 1); at < span * 2; at += 1 + random.Below((span / 8) + 1))
            {
                _plan.Add((at, random.Below(3) switch
                {
                    0 => new Input(InputKind.Nmi),
                    1 => new Input(InputKind.Interrupt, 0x20 + random.Below(0xE0)),
                    _ => new Input(InputKind.ConsoleByte, 'a' + random.Below(26)),
                }));
            }

            Taken = skip;
        }

        public int Taken { get; private set; }

        public ulong NextDue(int vcpu, ulong retired) => Taken < _plan.Count ? Math.Max(_plan[Taken].At, retired) : ulong.MaxValue;

        public bool TryTake(InputPoint point, in Position at, out Input input)
        {
            if (point == InputPoint.Random)
            {
                input = new Input(InputKind.Random, new SplitMix(at.Retired).Next(), 1);
                return true;
            }

            bool due = Taken < _plan.Count && (point == InputPoint.Blocked || (point == InputPoint.Boundary && _plan[Taken].At <= at.Retired));
            input = due ? _plan[Taken++].Input : default;
            return due;
        }

        public ulong QuietUntil(int vcpu, ulong retired) => ulong.MaxValue;
    }
}
