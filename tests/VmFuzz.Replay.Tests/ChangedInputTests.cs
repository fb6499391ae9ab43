using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;

namespace VmFuzz.Replay.Tests;

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
}
