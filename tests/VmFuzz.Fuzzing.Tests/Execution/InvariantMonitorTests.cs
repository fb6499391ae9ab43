using VmFuzz.Arch;
using VmFuzz.Kvm;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing.Tests;

public sealed class InvariantMonitorTests : IDisposable
{
    private readonly string _path = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName() + ".vmtrace");

    private static readonly FuzzOrigin Origin = FuzzOrigin.Of(FuzzTarget.GuestCode);

    // Moves RIP, and the dispatcher does it again.
    private static readonly MachineVariants Bad = new()
    {
        Kvm = static options => options with
        {
            Exits = options.Exits.With(ExitReason.Cpuid, static (Vcpu vcpu, in VmExit _) =>
            {
                vcpu.Rip += 2;
                return ExitOutcome.RetireInstruction;
            }),
        },
    };

    [Fact]
    public void Replay_WithABadHandler_NamesTheRowAndThePlace()
    {
        // nop; cpuid; hlt
        using var executor = new GuestCodeExecutor(Bad);
        Assert.Equal("retire.rip@cpuid", executor.Record(GuestCodeExecutorTests.Program(FlatMode.Long64, "900FA2F4"), _path, Origin)?.Key);

        (ReplayResult result, InvariantMonitor monitor, ulong events) = Replay(Bad);

        Assert.True(result.Outcome == ReplayOutcome.Identical, result.Divergence?.ToString());
        BrokenInvariant broken = Assert.NotNull(monitor.Broken);
        Assert.Equal("retire.rip@cpuid", broken.Violation.Key);
        Assert.Equal(FuzzLayout.Code + 1, broken.Rip);
        Assert.Equal(2UL, broken.Retired);
        Assert.Equal(TraceEventKind.Exit, Event(events - 1).Kind);
        Assert.Equal(FuzzLayout.Code + 1, Event(events - 1).Rip);
    }

    [Fact]
    public void Replay_WithTheProductsHandlers_LooksAtEveryRow()
    {
        using var executor = new GuestCodeExecutor();
        Assert.Null(executor.Record(GuestCodeExecutorTests.Program(FlatMode.Long64, "900FA2E4E9F4"), _path, Origin));

        (ReplayResult result, InvariantMonitor monitor, _) = Replay(MachineVariants.None);

        Assert.Equal(ReplayOutcome.Identical, result.Outcome);
        Assert.Null(monitor.Broken);
        Assert.Equal(InvariantTable.Default.Rows, monitor.Held().Select(static row => row.Key));
        Assert.DoesNotContain(monitor.Held(), static row => row.Value == 0);
        Assert.Equal(result.Counts.Entries, monitor.Held().First(static row => row.Key.Moment == InvariantMoment.Entry).Value);
        Assert.Equal(result.Counts.Exits, monitor.Held().First(static row => row.Key.Moment == InvariantMoment.Handling).Value);
    }

    public void Dispose() => File.Delete(_path);

    private (ReplayResult Result, InvariantMonitor Monitor, ulong EventsWhenBroken) Replay(MachineVariants variants)
    {
        using TraceReader reader = TraceReader.Open(_path);
        Assert.Null(TraceHeaders.TryOptions(reader, compareOnly: false, out MachineOptions options, knowsInput: true));
        FuzzTargetRow target = FuzzTargetRow.BuiltIn.Single(static row => row.Name == Origin.Target) with { Variants = variants };
        Assert.Null(FuzzTraces.TryVariants(options, [target], compareOnly: false, out MachineVariants start));
        using var replayer = new Replayer(reader, options, start);
        ulong events = 0;
        var monitor = new InvariantMonitor(replayer.Machine, InvariantTable.Default) { Broke = _ => events = replayer.Events };
        replayer.Observe(monitor);
        return (replayer.Run(), monitor, events);
    }

    private TraceEvent Event(ulong number)
    {
        using TraceReader reader = TraceReader.Open(_path);
        var item = new TraceEvent();
        for (TraceCursor cursor = reader.Events(); cursor.MoveNext(item) && item.Sequence != number;)
        {
        }

        return item;
    }
}
