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
    public void ProcessorFields_WithAnyValues_AreReadBackAsWritten()
    {
        using Machine probe = Run.Machine(new Case(new GuestProgram(FlatMode.Long64, RegisterFile.Zero, []), Accelerator.Bare, InputSchedule.Empty));
        ProcessorState state = probe.Processor.Fields;
        Seeds.Check(Generators.FieldValues(state.Fields.Length), 200, values =>
        {
            foreach (FieldValue value in values)
            {
                StateField field = state.Fields[value.Index];
                byte[] bytes = value.Bytes(field.Width);
                if (field.Id is ProcessorState.RFlagsId)
                {
                    bytes = BitConverter.GetBytes((BitConverter.ToUInt64(bytes) & RFlags.Defined) | RFlags.Reserved1);
                }
                else if (field.Name == "nmi-pending")
                {
                    bytes = BitConverter.GetBytes(BitConverter.ToUInt64(bytes) & 1);
                }

                state.WriteField(value.Index, bytes);
                byte[] back = new byte[field.Width];
                state.ReadField(value.Index, back);
                Assert.True(bytes.AsSpan().SequenceEqual(back), $"{field.Name}: wrote {Convert.ToHexString(bytes)}, read {Convert.ToHexString(back)}");
            }
        });
    }

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

    [Fact]
    public void MemoryDigest_AfterAnyWritesAndResets_EqualsTheFullOne()
    {
        Gen<(int Address, int Length, ulong Seed, int How)> write =
            from address in Gen.Choose(0, (1 << 20) - 1)
            from length in Gen.Frequency((4, Gen.Choose(1, 9)), (1, Gen.Choose(1, 9000)))
            from seed in Generators.Word64
            from how in Gen.Choose(0, 11)
            select (address, length, seed, how);
        Seeds.Check(Gen.ListOf(write).Select(static l => l.ToImmutableArray()).ToArbitrary(), 60, static steps =>
        {
            using GuestMemory memory = new();
            int page = memory.AddSlot(new Gpa(0), 1 << 20);
            memory.AddSlot(new Gpa(2 << 20), 1 << 16, readOnly: true);
            memory.AddAlias(new Gpa(4 << 20), 1 << 16, page);
            memory.Commit();
            foreach ((int address, int length, ulong seed, int how) in steps)
            {
                byte[] bytes = new FieldValue(0, seed).Bytes(length);
                switch (how)
                {
                    case 0:
                        memory.Reset();
                        break;
                    case 1:
                        memory.Commit();
                        break;
                    case 2:
                        memory.TryLoad(new Gpa((2UL << 20) + ((ulong)address & 0xF000)), bytes.AsSpan(0, Math.Min(length, 4096)));
                        break;
                    case 3:
                        memory.TryWrite(new Gpa((4UL << 20) + ((ulong)address & 0xF000)), bytes.AsSpan(0, Math.Min(length, 4096)));
                        break;
                    default:
                        memory.TryWrite(new Gpa((ulong)address), bytes);
                        break;
                }

                if (how is 0 or 5)
                {
                    Assert.Equal(memory.FullDigest(), memory.Digest());
                }
            }

            Assert.Equal(memory.FullDigest(), memory.Digest());
        });
    }

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
    public void TraceEvents_WrittenAndRead_AreTheSame() =>
        Seeds.Check(Gen.NonEmptyListOf(Generators.TraceEvents().Generator).ToArbitrary(), 100, static events =>
        {
            using var stream = new MemoryStream();
            using (TraceWriter writer = new(stream, new TraceHeader(), leaveOpen: true))
            {
                foreach (TraceEvent item in events)
                {
                    writer.Append(item);
                }

                writer.Finish(new TraceEvent(TraceEventKind.End));
            }

            using TraceReader reader = TraceReader.Open(stream.ToArray());
            Assert.True(reader.Status.IsWhole, reader.Status.ToString());
            TraceCursor cursor = reader.Events();
            var read = new TraceEvent();
            foreach (TraceEvent item in events)
            {
                Assert.True(cursor.MoveNext(read));
                Assert.Empty(TraceEvent.Differences(item, read));
            }
        });

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

            using TraceReader reader = TraceReader.Open(stream.ToArray());
            Assert.Null(TraceHeaders.TryOptions(reader, compareOnly: false, out MachineOptions read));
            Assert.Equal(MachineSettings.ToSettings(options), MachineSettings.ToSettings(read));
            Assert.Equal(options.Images[0].Bytes.ToArray(), read.Images[0].Bytes.ToArray());
        });
}
