using VmFuzz.Arch;
using VmFuzz.Machines;
<<<<<<< HEAD
using VmFuzz.Replay;
=======
>>>>>>> review
using VmFuzz.Trace;

namespace VmFuzz.Replay.Tests;

<<<<<<< HEAD
/// <summary>A trace with one input changed and all checksums right again diverges no later than the next event with a digest.</summary>
public sealed class ChangedInputTests
{
    public static TheoryData<Accelerator, string> Changes()
    {
        var data = new TheoryData<Accelerator, string>();
        foreach (Accelerator accelerator in (Accelerator[])[Accelerator.Bare, Accelerator.Kvm])
        {
            foreach (string change in (string[])["value", "auxiliary", "kind", "later", "earlier", "ordinal", "point", "drop", "double"])
            {
                data.Add(accelerator, change);
            }
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Changes))]
    public void AnyInput_Changed_DivergesByTheNextDigest(Accelerator accelerator, string change)
    {
        byte[] trace = Recordings.Chaos(accelerator);
        List<TraceEvent> events = Recordings.Events(trace);
        int inputs = 0;
        foreach (TraceEvent input in events.Where(static e => e.Kind == TraceEventKind.Input))
        {
            inputs++;
            byte[] changed = Change(trace, input.Sequence, change);
            using (TraceReader reader = TraceReader.Open(changed))
            {
                Assert.True(reader.Status.IsWhole, reader.Status.ToString());
            }

            ReplayResult? result = Recordings.Replay(changed, out string refused);
            Assert.Empty(refused);
            Assert.True(result!.Outcome == ReplayOutcome.Diverged, $"{change} of {input} was not noticed");

            // The changed event carries a digest itself; the one after it is the last that may pass.
            ulong next = events.First(e => e.Sequence > input.Sequence && HasDigest(e)).Sequence;
            ulong latest = change == "double" ? next + 1 : next;
            Assert.True(result.Divergence!.Sequence <= latest, $"{change} of {input} was noticed at event {result.Divergence.Sequence}, not by {latest}");
            Assert.NotEmpty(result.Divergence.Cause);
        }

        Assert.True(inputs >= 40, $"only {inputs} inputs");
    }

    private static bool HasDigest(TraceEvent e) => e.Kind is TraceEventKind.Exit or TraceEventKind.Input or TraceEventKind.Delivered
        or TraceEventKind.Injected or TraceEventKind.Sync or TraceEventKind.End;

    private static byte[] Change(byte[] trace, ulong sequence, string change)
    {
        switch (change)
        {
            case "drop":
                return Recordings.Rewrite(trace, e => e.Sequence == sequence ? TracePatch.Drop : TracePatch.Keep);
            case "double":
                return Recordings.Insert(trace, sequence, static e => e.Ordinal++);
            default:
                return TracePatcher.Change(trace, sequence, e =>
                {
                    switch (change)
                    {
                        case "value":
                            e.Value ^= 1;
                            break;
                        case "auxiliary":
                            e.Auxiliary ^= 1;
                            break;
                        case "kind":
                            e.InputKind = e.InputKind == InputKind.Kick ? InputKind.Nmi : InputKind.Kick;
                            break;
                        case "later":
                            e.Retired++;
                            break;
                        case "earlier":
                            e.Retired--;
                            break;
                        case "ordinal":
                            e.Ordinal++;
                            break;
                        default:
                            e.InputPoint = e.InputPoint == InputPoint.Boundary ? InputPoint.Blocked : InputPoint.Boundary;
                            break;
                    }
                });
        }
    }
=======
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
>>>>>>> review
}
