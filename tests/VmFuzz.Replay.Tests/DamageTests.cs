using VmFuzz.Machines;
using VmFuzz.Trace;

namespace VmFuzz.Replay.Tests;

/// <summary>Every flipped bit and every cut of a small trace is told; none is taken for the whole recording.</summary>
public sealed class DamageTests
{
    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Open_AnyFlippedBit_IsNotWhole(Accelerator accelerator)
    {
        byte[] trace = SmallTrace.Record(accelerator);
        Assert.InRange(trace.Length, 100, 4096);
        for (int bit = 0; bit < trace.Length * 8; bit++)
        {
            trace[bit >> 3] ^= (byte)(1 << (bit & 7));
            using (TraceReader reader = TraceReader.Open(trace))
            {
                Assert.False(reader.Status.IsWhole, $"bit {bit} was flipped and the trace is whole");
            }

            trace[bit >> 3] ^= (byte)(1 << (bit & 7));
        }

        Assert.Equal(ReplayOutcome.Identical, SmallTrace.Replay(trace).Outcome);
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Open_AnyCut_IsTruncatedAndItsPrefixReplays(Accelerator accelerator)
    {
        byte[] trace = SmallTrace.Record(accelerator);
        ReplayOutcome last = ReplayOutcome.Diverged;
        for (int length = 0; length < trace.Length; length++)
        {
            using TraceReader reader = TraceReader.Open(trace.AsMemory(0, length));
            Assert.Equal(TraceStatusKind.Truncated, reader.Status.Kind);
            if (TraceHeaders.TryOptions(reader, compareOnly: false, out MachineOptions options) is null)
            {
                using var replayer = new Replayer(reader, options);
                last = replayer.Run().Outcome;
                Assert.Equal(ReplayOutcome.IdenticalPrefix, last);
            }
        }

        Assert.Equal(ReplayOutcome.IdenticalPrefix, last);
    }
}
