using System.Collections.Immutable;
using FsCheck;
using FsCheck.Fluent;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines;
using VmFuzz.Memory;
using VmFuzz.Replay;
using VmFuzz.Testing;
using VmFuzz.Trace;

namespace VmFuzz.Properties.Tests;

public sealed unsafe class StateProperties
{
    [Fact]
    public void StateRestored_InAFreshMachine_GoesOnTheSame() =>
        Seeds.Check(Case.All(AtomTraits.All, interrupts: true, tail: 20, Generators.Schedules(300), Accelerator.Bare), 120, SaveAndGoOn);

    private static void SaveAndGoOn(Case c)
    {
        using Machine whole = Run.Machine(c);
        whole.Run();
        ulong middle = Math.Max(2, whole.Processor.Retired / 2);
        var source = new ScheduledSource(c.Schedule);
        using Machine first = Machine.Create(c.Program.Options(c.Accelerator) with { MaxInstructions = middle }, source);
        first.Run();
        if (first.Stop.Kind != MachineStopKind.MaxInstructions)
        {
            return;
        }

        using Machine second = Run.Machine(c);
        Snapshot.Of(first).Restore(second);
        second.Processor.Door.Source = source.Fork();
        Result.Same(Result.Of(first) with { Stop = "", ConsoleHash = 0, ConsoleLength = 0 }, Result.Of(second) with { Stop = "", ConsoleHash = 0, ConsoleLength = 0 }, "saved and restored");
        second.Run();
        Result.Same(Result.Of(whole) with { ConsoleHash = 0, ConsoleLength = 0 }, Result.Of(second) with { ConsoleHash = 0, ConsoleLength = 0 }, "straight on and from the restored state");
        Assert.Equal(whole.ConsoleLength, first.ConsoleLength + second.ConsoleLength);
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void StateField_WrittenBack_ChangesNothing(Accelerator accelerator) =>
        Seeds.Check(Case.All(AtomTraits.All, interrupts: true, tail: 20, Generators.Schedules(300)), 25, c =>
        {
            using Machine machine = Run.Machine(c with { Accelerator = accelerator });
            machine.Run();
            Result before = Result.Of(machine);
            Snapshot.Of(machine).Restore(machine);
            Result.Same(before, Result.Of(machine), "before and after");
        });

    [Fact]
    public void ProcessorFields_WithAnyValues_AreReadBackAsWritten() =>
        Seeds.Check(Generators.ProcessorChanges(), 200, static change =>
        {
            using Machine machine = Run.Machine(new Case(new GuestProgram(FlatMode.Long64, RegisterFile.Zero, []), Accelerator.Bare, InputSchedule.Empty));
            change.Apply(machine.Processor);
            foreach (FieldValue value in change.Values.Reverse().DistinctBy(static v => v.Index))
            {
                byte[] expected = ProcessorChange.BytesOf(value);
                byte[] back = new byte[expected.Length];
                machine.Processor.Fields.ReadField(value.Index, back);
                Assert.Equal((ProcessorState.List[value.Index].Name, Convert.ToHexString(expected)), (ProcessorState.List[value.Index].Name, Convert.ToHexString(back)));
            }
        });

    [Fact]
    public void ProcessorSnapshot_PutBackAfterAnyChanges_GoesOnTheSame() =>
        Seeds.Check(
            (from c in Case.All(AtomTraits.All, interrupts: true, tail: 20, Generators.Schedules(1), Accelerator.Bare).Generator
             from change in Generators.ProcessorChanges().Generator
             select (Case: c with { Schedule = InputSchedule.Empty }, Change: change)).ToArbitrary(),
            100,
            static x =>
            {
                Result expected = Run.ToEnd(x.Case);
                using Machine machine = Run.Machine(x.Case);
                string start = Result.Dump(machine);
                var snapshot = new ProcessorSnapshot(machine.Processor);
                x.Change.Apply(machine.Processor);
                snapshot.Restore(machine.Processor);
                Assert.Equal(start, Result.Dump(machine));
                machine.Run();
                Result.Same(expected, Result.Of(machine), "as it started and put back");
            });

    [Fact]
    public void Reset_OfAUsedMachine_RestoresEverything() =>
        Seeds.Check(Case.All(AtomTraits.All, interrupts: true, tail: 20, Generators.Schedules(300)), 100, static c =>
        {
            using Machine machine = Run.Machine(c);
            Result fresh = Result.Of(machine);
            byte[] memory = Run.Read(machine, 0, (int)GuestProgram.MemorySize);
            machine.Run();
            machine.Reset();
            Result.Same(fresh, Result.Of(machine), "fresh and reset");
            Assert.True(memory.AsSpan().SequenceEqual(Run.Read(machine, 0, memory.Length)), "memory");
        });

    [Fact]
    public void IncrementalDigest_AtEveryEvent_EqualsTheFullOne() =>
        Seeds.Check(Case.All(AtomTraits.All, interrupts: true, tail: 20, Generators.Schedules(300)), 60, static c =>
        {
            using Machine machine = Run.Machine(c);
            var watcher = new DigestWatcher(machine);
            machine.Observe(watcher);
            machine.Run();
            Assert.Equal("", watcher.Broken);
            Assert.True(watcher.Seen > 0);
        });

    private sealed class DigestWatcher(Machine machine) : EventBuilder(machine)
    {
        public int Seen { get; private set; }

        public string Broken { get; private set; } = "";

        protected override void Emit(TraceEvent made)
        {
            Seen++;
            Tracker.Update();
            ulong full = Tracker.FullDigest();
            if (Broken.Length == 0 && Tracker.Digest != full)
            {
                Broken = $"event {Seen}, {made}: incremental 0x{Tracker.Digest:x}, full 0x{full:x}";
            }
        }
    }

    // 1 MiB to write, 64 KiB that only a loader writes, and the first 64 KiB once more.
    [Fact]
    public void MemoryDigest_AfterAnyWritesAndResets_EqualsTheFullOne() =>
        Seeds.Check(Generators.MemorySteps((1 << 20) + (2 << 16)), 60, static steps =>
        {
            using GuestMemory memory = new();
            int page = memory.AddSlot(new Gpa(0), 1 << 20);
            memory.AddSlot(new Gpa(1 << 20), 1 << 16, readOnly: true);
            memory.AddAlias(new Gpa((1 << 20) + (1 << 16)), 1 << 16, page);
            memory.Commit();
            foreach (MemoryStep step in steps)
            {
                step.Apply(memory);
                if (step.Action == MemoryAction.Reset || step.Seed % 8 == 0)
                {
                    Assert.Equal(memory.FullDigest(), memory.Digest());
                }
            }

            Assert.Equal(memory.FullDigest(), memory.Digest());
        });

    [Fact]
    public void LazyFlags_OfAnyOperation_EqualTheExplicitOnes()
    {
        Gen<(int Kind, int Bytes, ulong Left, ulong Right, bool Carry)> gen =
            from kind in Gen.Choose(0, 3)
            from size in Gen.Choose(0, 3)
            from left in Generators.Interesting
            from right in Generators.Interesting
            from carry in Gen.Elements(false, true)
            select (kind, 1 << size, left, right, carry);
        Seeds.Check(gen.ToArbitrary(), 5000, static c =>
        {
            int bits = c.Bytes * 8;
            UInt128 mask = (UInt128.One << bits) - 1;
            UInt128 left = c.Left & mask, right = c.Right & mask;
            LazyKind kind = LazyKind.Add + (ulong)c.Kind;
            bool single = kind is LazyKind.Inc or LazyKind.Dec;
            right = single ? 1 : right;
            UInt128 carry = c.Carry && !single ? 1UL : 0UL;
            bool subtract = kind is LazyKind.Sub or LazyKind.Dec;
            UInt128 wide = subtract ? left - right - carry : left + right + carry;
            UInt128 result = wide & mask;
            bool sign = (result >> (bits - 1)) != 0, leftSign = (left >> (bits - 1)) != 0, rightSign = (right >> (bits - 1)) != 0;
            bool overflow = subtract ? leftSign != rightSign && sign != leftSign : leftSign == rightSign && sign != leftSign;
            bool carried = single ? c.Carry : (wide & (UInt128.One << bits)) != 0;
            ulong expected = (carried ? RFlags.Cf : 0) | (overflow ? RFlags.Of : 0) | (sign ? RFlags.Sf : 0) | (result == 0 ? RFlags.Zf : 0)
                | (UInt128.PopCount(result & 0xFF) % 2 == 0 ? RFlags.Pf : 0) | (ulong)((left ^ right ^ result) & RFlags.Af);
            CpuState* s = stackalloc CpuState[1];
            s->Flags = RFlags.If | RFlags.Reserved1 | RFlags.Arithmetic;
            s->Lazy = kind;
            s->LazyLeft = Extend(left, bits);
            s->LazyRight = Extend(right, bits);
            s->LazyResult = Extend(result, bits);
            s->LazyCarry = c.Carry ? 1UL : 0;
            Assert.Equal(expected | RFlags.If | RFlags.Reserved1, LazyFlags.Materialize(s));
            bool[] conditions = [.. Enumerable.Range(0, 16).Select(i => LazyFlags.Condition(s, i))];
            LazyFlags.Settle(s);
            Assert.Equal(expected | RFlags.If | RFlags.Reserved1, s->Flags);
            Assert.Equal(conditions, Enumerable.Range(0, 16).Select(i => LazyFlags.Condition(s, i)));
        });

        static long Extend(UInt128 value, int bits) => (long)((ulong)value << (64 - bits)) >> (64 - bits);
    }

    [Fact]
    public void MachineOptions_ThroughAHeader_AreTheSame() =>
        Seeds.Check(Generators.FlatOptions(), 50, static options =>
        {
            using var stream = new MemoryStream();
            using (TraceWriter writer = new(stream, TraceHeaders.Of(options, "test"), leaveOpen: true))
            {
                writer.AddBlob(options.Images[0].Bytes.Span);
                writer.Finish(new TraceEvent(TraceEventKind.End));
            }

            Assert.Null(options.Validate());
            using TraceReader reader = TraceReader.Open(stream.ToArray());
            Assert.Null(TraceHeaders.TryOptions(reader, compareOnly: false, out MachineOptions read));
            Assert.Equal(MachineSettings.ToSettings(options), MachineSettings.ToSettings(read));
            Assert.Equal(options.Images[0].Bytes.ToArray(), read.Images[0].Bytes.ToArray());
        });
}
