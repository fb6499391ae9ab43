using VmFuzz.Replay;
using VmFuzz.Testing;
using VmFuzz.Trace;

namespace VmFuzz.Replay.Tests;

public sealed class GoldenTraceTests
{
    public static TheoryData<string> Names() => [.. Directory.GetFiles(Recordings.Traces, "*.vmtrace").Select(static p => Path.GetFileNameWithoutExtension(p)).Order(StringComparer.Ordinal)];

    [Theory]
    [MemberData(nameof(Names))]
    public void GoldenTrace_Replayed_IsIdentical(string name)
    {
        ReplayResult result = TraceAssert.Replays(Path.Combine(Recordings.Traces, name + ".vmtrace"));
        using TraceReader reader = TraceReader.Open(Recordings.Golden(name));
        Assert.Equal(reader.EventCount, result.Events);
        Assert.Equal(reader.Counts.Inputs, result.Counts.Inputs);
    }

    [Fact]
    public void GoldenTraces_InTheCorpus_CoverBothAccelerators()
    {
        string[] names = [.. Names().Select(static row => row.Data)];
        foreach (string guest in (string[])["hello16", "hello32", "hello64", "faults64", "exits64", "chaos"])
        {
            Assert.Contains(guest + "-bare", names, StringComparer.Ordinal);
            Assert.Contains(guest + "-kvm", names, StringComparer.Ordinal);
        }
    }

    [Theory]
    [InlineData("hello64-kvm")]
    [InlineData("faults64-bare")]
    public void EveryFlippedBit_OfASmallTrace_IsReported(string name)
    {
        byte[] trace = Recordings.Golden(name);
        Assert.True(trace.Length <= 4096, $"{trace.Length} bytes");
        for (int bit = 0; bit < trace.Length * 8; bit++)
        {
            trace[bit >> 3] ^= (byte)(1 << (bit & 7));
            Assert.False(IsAccepted(trace), $"bit {bit & 7} of byte {bit >> 3} is flipped and nobody says so");
            trace[bit >> 3] ^= (byte)(1 << (bit & 7));
        }

        Assert.True(IsAccepted(trace));
    }

    [Theory]
    [InlineData("hello64-kvm")]
    [InlineData("faults64-bare")]
    public void EveryCut_OfASmallTrace_IsReported(string name)
    {
        byte[] trace = Recordings.Golden(name);
        for (int length = 0; length < trace.Length; length++)
        {
            Assert.False(IsAccepted(trace[..length]), $"the first {length} of {trace.Length} bytes are taken for a whole trace");
        }

        Assert.False(IsAccepted([.. trace, 0]));
        Assert.True(IsAccepted(trace));
    }

    [Fact]
    public void EveryCut_OfASmallTrace_ReplaysAsAPrefixOrNotAtAll()
    {
        byte[] trace = Recordings.Golden("hello64-kvm");
        int prefixes = 0;
        for (int length = 0; length < trace.Length; length++)
        {
            if (Recordings.Replay(trace[..length], out _) is { } result)
            {
                Assert.Equal(ReplayOutcome.IdenticalPrefix, result.Outcome);
                prefixes++;
            }
        }

        Assert.True(prefixes > 0);
    }

    // Whole for the reader and identical in a replay.
    private static bool IsAccepted(byte[] trace)
    {
        using TraceReader reader = TraceReader.Open(trace);
        return reader.Status.IsWhole && Recordings.Replay(trace, out _) is { Outcome: ReplayOutcome.Identical };
    }
}
