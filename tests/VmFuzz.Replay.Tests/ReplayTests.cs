using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Testing;
using VmFuzz.Trace;

namespace VmFuzz.Replay.Tests;

public sealed class ReplayTests
{
    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Chaos_Recorded_ReplaysIdentically(Accelerator accelerator)
    {
        byte[] trace = Recordings.Chaos(accelerator);
        ReplayResult result = TraceAssert.Replays(trace);
        Assert.True(result.Counts.Inputs >= 40);
        Assert.True(accelerator == Accelerator.Kvm ? result.Counts.Injected > 10 : result.Counts.Delivered > 10);
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Chaos_RecordedWithAnEdgeMap_GivesTheSameTrace(Accelerator accelerator)
    {
        var map = new GuestEdgeMap();
        Assert.Equal(Recordings.Chaos(accelerator), Recordings.Chaos(accelerator, change: m => m.Processor.Edges = map));
        Assert.True(map.Counts.ToArray().Count(static c => c != 0) > 20);
    }

    [Fact]
    public void Header_OfAChaosTrace_HoldsNoSeed()
    {
        using TraceReader reader = TraceReader.Open(Recordings.Golden("chaos-kvm"));
        Assert.DoesNotContain(reader.Header!.Machine, static s => s.Key.Contains("seed", StringComparison.OrdinalIgnoreCase));
        Assert.DoesNotContain(reader.Header.Machine, static s => s.Key.Contains("chaos", StringComparison.OrdinalIgnoreCase));
    }

    [Fact]
    public void Replay_UnderAnotherSourceName_IsTheSame()
    {
        byte[] trace = Recordings.Rewrite(Recordings.Chaos(Accelerator.Kvm), static _ => TracePatch.Keep, static h => h with { Source = "something else" });
        TraceAssert.Replays(trace);
    }

    [Fact]
    public void InputsLeftOver_AtTheEnd_AreADivergence()
    {
        byte[] trace = Recordings.Chaos(Accelerator.Bare);
        List<TraceEvent> events = Recordings.Events(trace);
        TraceEvent end = events[^1];

        // One more input after everything else, at a position at which nobody asks.
        byte[] changed = Recordings.Insert(trace, end.Sequence - 1, e =>
        {
            e.Clear(TraceEventKind.Input);
            e.Retired = end.Retired;
            e.InputPoint = InputPoint.Userspace;
            e.InputKind = InputKind.Kick;
            e.Ordinal = 99;
        });
        ReplayResult result = Recordings.Replay(changed, out _)!;
        Assert.Equal(ReplayOutcome.Diverged, result.Outcome);
        Assert.Equal(end.Sequence, result.Divergence!.Sequence);
        Assert.Equal(TraceEventKind.Input, result.Divergence.Expected!.Kind);
        Assert.Contains("input", result.Divergence.Cause, StringComparison.Ordinal);
    }

    [Fact]
    public void Replay_OfATruncatedTrace_VerifiesThePrefix()
    {
        byte[] trace = Recordings.Golden("chaos-kvm");
        byte[] cut = trace[..(trace.Length * 2 / 3)];
        using TraceReader reader = TraceReader.Open(cut);
        Assert.Equal(TraceStatusKind.Truncated, reader.Status.Kind);
        ReplayResult result = Recordings.Replay(cut, out _)!;
        Assert.Equal(ReplayOutcome.IdenticalPrefix, result.Outcome);
        Assert.Equal(reader.EventCount, result.Events);
        Assert.True(result.Events > 100);
    }

    [Fact]
    public void Replay_OfAnotherEngine_IsRefusedUnlessComparing()
    {
        byte[] trace = Recordings.Rewrite(Recordings.Golden("hello64-kvm"), static _ => TracePatch.Keep, static h => h with { SemanticsVersion = h.SemanticsVersion + 1 });
        Assert.Null(Recordings.Replay(trace, out string refused));
        Assert.Contains("semantics version", refused, StringComparison.Ordinal);
        Assert.Equal(ReplayOutcome.Identical, Recordings.Replay(trace, out _, compareOnly: true)!.Outcome);
        trace = Recordings.Rewrite(Recordings.Golden("hello64-kvm"), static _ => TracePatch.Keep, static h => h with { RowsHash = h.RowsHash + 1 });
        Assert.Null(Recordings.Replay(trace, out refused));
        Assert.Contains("rows", refused, StringComparison.Ordinal);
    }

    [Fact]
    public void Divergence_OfAnExit_NamesEventPositionFieldsAndCause()
    {
        byte[] trace = Recordings.Golden("exits64-kvm");
        TraceEvent exit = Recordings.Events(trace).First(static e => e.Kind == TraceEventKind.Exit && e.ExitReason == (uint)ExitReason.Cpuid);
        byte[] changed = TracePatcher.Change(trace, exit.Sequence, static e =>
        {
            e.Qualification ^= 8;
            e.Rip += 2;
        });
        ReplayResult result = Recordings.Replay(changed, out _)!;
        Divergence divergence = result.Divergence!;
        Assert.Equal((exit.Sequence, exit.Retired, exit.Sequence), (divergence.Sequence, divergence.Retired, result.Events));
        Assert.Equal(2, divergence.Differences.Count);
        Assert.NotEmpty(divergence.Cause);
        string report = TraceAssert.Report(divergence);
        Assert.Contains($"event {exit.Sequence}", report, StringComparison.Ordinal);
        Assert.Contains("rip", report, StringComparison.Ordinal);
        TraceAssertException thrown = Assert.Throws<TraceAssertException>(() => TraceAssert.Replays(changed));
        Assert.Contains(report, thrown.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Identical_TwoTraces_ReportTheFirstDifference()
    {
        byte[] trace = Recordings.Golden("exits64-kvm");
        TraceAssert.Identical(trace, trace);
        byte[] changed = TracePatcher.Change(trace, 7, static e => e.Retired++);
        TraceAssertException thrown = Assert.Throws<TraceAssertException>(() => TraceAssert.Identical(trace, changed));
        Assert.Contains("event 7", thrown.Message, StringComparison.Ordinal);
        Assert.Throws<TraceAssertException>(() => TraceAssert.Identical(trace, Recordings.Golden("exits64-bare")));
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Replay_InTheReferenceMicrocode_IsIdentical(Accelerator accelerator)
    {
        byte[] trace = Recordings.Chaos(accelerator);
        using TraceReader reader = TraceReader.Open(trace);
        Assert.Null(TraceHeaders.TryOptions(reader, compareOnly: false, out MachineOptions options));
        using var replayer = new Replayer(reader, options);
        replayer.Machine.Processor.ReferenceOnly = true;
        Assert.Equal(ReplayOutcome.Identical, replayer.Run().Outcome);
    }
}
