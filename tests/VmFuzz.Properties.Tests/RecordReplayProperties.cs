using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Testing;
using VmFuzz.Trace;

namespace VmFuzz.Properties.Tests;

public sealed class RecordReplayProperties
{
    [Fact]
    public void Recording_OfAnyRun_ReplaysIdentically() =>
        Seeds.Check(Case.All(AtomTraits.All, interrupts: true, tail: 50, Generators.Schedules(400)), 250, static c =>
            TraceAssert.Replays(Run.Record(c)));

    [Theory]
    [InlineData(InputKind.Init)]
    [InlineData(InputKind.Sipi)]
    [InlineData(InputKind.MachineCheck)]
    [InlineData(InputKind.PageAbsent)]
    [InlineData(InputKind.PageReady)]
    [InlineData(InputKind.PmuOverflow)]
    [InlineData(InputKind.AllocationFailure)]
    [InlineData(InputKind.Smi)]
    [InlineData(InputKind.Stop)]
    public void Recording_WithRareInputs_ReplaysIdentically(InputKind kind) =>
        Seeds.Check(
            Case.All(AtomTraits.All, interrupts: true, tail: 50, Generators.Schedules(300, kind, InputKind.Nmi, InputKind.PageReady)), 25,
            static c => TraceAssert.Replays(Run.Record(c)));

    [Fact]
    public void Recording_Twice_GivesTheSameTrace() =>
        Seeds.Check(Case.All(AtomTraits.All, interrupts: true, tail: 50, Generators.Schedules(400)), 40, static c =>
            TraceAssert.Identical(Run.Record(c), Run.Record(c)));

    [Fact]
    public void Recording_DoesNotChangeTheRun() =>
        Seeds.Check(Case.All(AtomTraits.All, interrupts: true, tail: 50, Generators.Schedules(400)), 60, static c =>
        {
            Result? recorded = null;
            byte[] trace = Run.Record(c, done: m => recorded = Result.Of(m));
            using TraceReader reader = TraceReader.Open(trace);
            var end = new TraceEvent();
            Assert.True(reader.TryReadEnd(end));
            Result plain = Run.ToEnd(c);
            Result.Same(plain, recorded!, "not recorded and recorded");
            Assert.Equal((end.MemoryDigest, end.Retired, end.ConsoleHash), (plain.Memory, plain.Retired, plain.ConsoleHash));
        });
}
