using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Testing;

namespace VmFuzz.Properties.Tests;

/// <summary>Caches, tiers and limits are invisible: a run under any of them is the same run.</summary>
public sealed class CacheProperties
{
    private static void SameAs(int count, Action<Machine> change, AtomTraits allowed = AtomTraits.All, int schedule = 300, params FlatMode[] modes) =>
        Seeds.Check(Case.All(allowed, interrupts: true, tail: 20, Generators.Schedules(schedule), modes), count, c =>
            Result.Same(Run.ToEnd(c), Run.ToEnd(c, change), "as it is, and changed"));

    [Fact]
    public void ReferenceMicrocode_OnAnyRun_IsTheSame() => SameAs(200, static m => m.Processor.ReferenceOnly = true);

    [Fact]
    public void LoopThreading_OnAnyRun_IsTheSame() => SameAs(100, static m => m.Processor.LoopThreading = true);

    [Fact]
    public void CompiledRegions_OnAnyRun_AreTheSame() => SameAs(200, static m => m.Processor.RegionThreshold = 1);

    [Fact]
    public void EdgeMap_OnAnyRun_IsTheSame() => SameAs(150, static m => m.Processor.Edges = new GuestEdgeMap(12));

    [Fact]
    public void EdgeMap_OfAnyRun_DoesNotDependOnCaches() =>
        Seeds.Check(Case.All(AtomTraits.All, interrupts: true, tail: 20, Generators.Schedules(300)), 120, static c =>
        {
            byte[] expected = Edges(c, static _ => { });
            Assert.Contains(expected, static cell => cell != 0);
            Action<Machine>[] changes =
            [
                static m => m.Processor.LoopThreading = true,
                static m => m.Processor.ReferenceOnly = true,
                static m => _ = new Meddler(m, static _ => 1, static (_, _) => { }),
                static m =>
                {
                    var random = new SplitMix(13);
                    _ = new Meddler(m, _ => 1 + random.Below(9), static (p, _) => p.DropBlocks());
                },
            ];
            for (int i = 0; i < changes.Length; i++)
            {
                Assert.True(expected.AsSpan().SequenceEqual(Edges(c, changes[i])), $"change {i}");
            }
        });

    private static byte[] Edges(Case c, Action<Machine> change)
    {
        var map = new GuestEdgeMap(12);
        Run.ToEnd(c, m =>
        {
            m.Processor.Edges = map;
            change(m);
        });
        return map.Counts.ToArray();
    }

    [Fact]
    public void LimitAtEveryInstruction_OnAnyRun_IsTheSame() => SameAs(120, static m => _ = new Meddler(m, static _ => 1, static (_, _) => { }));

    [Fact]
    public void TlbFlushedAtRandomBoundaries_OnAnyRun_IsTheSame() => SameAs(120, static m =>
    {
        var random = new SplitMix(11);
        _ = new Meddler(m, _ => 1 + random.Below(9), static (p, _) => p.FlushTlb());
    });

    [Fact]
    public void BlocksDroppedAtRandomBoundaries_OnAnyRun_IsTheSame() => SameAs(120, static m =>
    {
        var random = new SplitMix(12);
        _ = new Meddler(m, _ => 1 + random.Below(9), static (p, _) => p.DropBlocks());
    });

    [Fact]
    public void CodeThatChangesItself_AgainstFreshDecoding_IsTheSame() =>
        SameAs(150, static m =>
        {
            m.Processor.ReferenceOnly = true;
            _ = new Meddler(m, static _ => 1, static (p, _) =>
            {
                p.DropBlocks();
                p.FlushTlb();
            });
        }, AtomTraits.ModifiesCode | AtomTraits.Privileged | AtomTraits.Console | AtomTraits.Interrupts);

    [Fact]
    public void UsedMachine_AfterAReset_RunsTheSame() =>
        Seeds.Check(
            Case.All(AtomTraits.All, interrupts: true, tail: 20, Generators.Schedules(300)), 100, static c =>
            {
                Result expected = Run.ToEnd(c);

                // The same machine first runs with other inputs, up to three times.
                using Machine machine = Run.Machine(c with { Schedule = InputSchedule.Empty });
                for (int i = 0; i < 1 + (c.Schedule.Inputs.Length % 3); i++)
                {
                    machine.Run();
                    machine.Reset();
                    ImmutableArray<ScheduledInput> inputs = c.Schedule.Inputs;
                    machine.Processor.Door.Source = new ScheduledSource(new InputSchedule(inputs.RemoveRange(inputs.Length / 2, inputs.Length - (inputs.Length / 2)), (ulong)i));
                }

                machine.Processor.Door.Source = new ScheduledSource(c.Schedule);
                machine.Run();
                Result.Same(expected, Result.Of(machine), "fresh and used");
            });

    /// <summary>Stands between processor and machine: shortens limits and does something at boundaries.</summary>
    private sealed class Meddler : IBoundary
    {
        private readonly Machine _machine;
        private readonly Func<ulong, ulong> _distance;
        private readonly Action<Processor, ulong> _act;

        public Meddler(Machine machine, Func<ulong, ulong> distance, Action<Processor, ulong> act)
        {
            _machine = machine;
            _distance = distance;
            _act = act;
            machine.Processor.Boundary = this;
        }

        public bool OnBoundary(ulong retired, out ulong nextLimit)
        {
            bool on = _machine.OnBoundary(retired, out nextLimit);
            _act(_machine.Processor, retired);
            nextLimit = Math.Min(nextLimit, retired + _distance(retired));
            return on;
        }
    }
}
