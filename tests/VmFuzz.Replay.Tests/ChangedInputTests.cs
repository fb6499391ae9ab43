using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Trace;

namespace VmFuzz.Replay.Tests;

/// <summary>A recorded input that was changed, with all checksums right, makes the replay diverge no later than there.</summary>
public sealed class ChangedInputTests
{
    public static TheoryData<string> Changes => new("value", "auxiliary", "kind", "point", "ordinal", "later", "digest");

    [Theory]
    [MemberData(nameof(Changes))]
    public void Replay_OneInputChanged_DivergesNoLater(string change)
    {
        foreach (Accelerator accelerator in (Accelerator[])[Accelerator.Bare, Accelerator.Kvm])
        {
            byte[] trace = SmallTrace.Record(accelerator);
            List<ulong> inputs = Inputs(trace);
            Assert.Equal(7, inputs.Count);
            foreach (ulong at in inputs)
            {
                ReplayResult result = SmallTrace.Replay(TracePatcher.Change(trace, at, e => Apply(e, change)));
                Assert.Equal(ReplayOutcome.Diverged, result.Outcome);

                // Console bytes are written out when an input comes, so an input that does not come shows there already.
                Assert.InRange(result.Divergence!.Sequence, Math.Max(at, 1) - 1, at);
            }
        }
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Replay_OneInputDropped_DivergesNoLater(Accelerator accelerator)
    {
        byte[] trace = SmallTrace.Record(accelerator);
        foreach (ulong at in Inputs(trace))
        {
            using TraceReader reader = TraceReader.Open(trace);
            using var dropped = new MemoryStream();
            ulong number = 0;
            Assert.True(TracePatcher.Rewrite(reader, dropped, _ => number++ == at ? TracePatch.Drop : TracePatch.Keep));
            ReplayResult result = SmallTrace.Replay(dropped.ToArray());
            Assert.Equal(ReplayOutcome.Diverged, result.Outcome);
            Assert.InRange(result.Divergence!.Sequence, Math.Max(at, 1) - 1, at);
        }
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Replay_ManyTimes_IsIdentical(Accelerator accelerator)
    {
        byte[] trace = SmallTrace.Record(accelerator);
        Assert.Equal(trace, SmallTrace.Record(accelerator));
        for (int i = 0; i < 3; i++)
        {
            ReplayResult result = SmallTrace.Replay(trace);
            Assert.Equal(ReplayOutcome.Identical, result.Outcome);
            Assert.Equal(7UL, result.Counts.Inputs);
        }
    }

    private static void Apply(TraceEvent e, string change)
    {
        switch (change)
        {
            case "value": e.Value ^= 1; break;
            case "auxiliary": e.Auxiliary ^= 2; break;
            case "kind": e.InputKind = e.InputKind == InputKind.Kick ? InputKind.Signal : InputKind.Kick; break;
            case "point": e.InputPoint = e.InputPoint == InputPoint.Boundary ? InputPoint.Random : InputPoint.Boundary; break;
            case "ordinal": e.Ordinal++; break;
            case "later": e.Retired++; break;
            default: e.Digest ^= 1; break;
        }
    }

    private static List<ulong> Inputs(byte[] trace)
    {
        using TraceReader reader = TraceReader.Open(trace);
        TraceCursor cursor = reader.Events();
        var item = new TraceEvent();
        List<ulong> inputs = [];
        while (cursor.MoveNext(item))
        {
            if (item.Kind == TraceEventKind.Input)
            {
                inputs.Add(item.Sequence);
            }
        }

        return inputs;
    }
}
