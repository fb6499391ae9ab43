using VmFuzz.Trace;

namespace VmFuzz.Trace.Tests;

public sealed class TracePatcherTests
{
    [Fact]
    public void Change_OneInput_OnlyThatEventDiffersAndTheTraceIsWhole()
    {
        byte[] bytes = Samples.Small();
        using TraceReader before = TraceReader.Open(bytes);
        TraceCursor left = before.Events();
        TraceEvent expected = new();
        TraceEvent actual = new();
        ulong input = 0;
        while (left.MoveNext(expected))
        {
            input = expected.Kind == TraceEventKind.Input && input == 0 ? expected.Sequence : input;
        }

        byte[] changed = TracePatcher.Change(bytes, input, item => item.Value ^= 0x100);
        using TraceReader after = TraceReader.Open(changed);
        Assert.Equal("whole", after.Status.ToString());
        Assert.Equal(before.Header!.Machine, after.Header!.Machine);
        Assert.Equal(Samples.Image, after.ReadBlob(after.Blobs[0]));
        left = before.Events();
        TraceCursor right = after.Events();
        int differing = 0;
        while (left.MoveNext(expected))
        {
            Assert.True(right.MoveNext(actual));
            foreach (TraceDifference difference in TraceEvent.Differences(expected, actual))
            {
                Assert.Equal("value", difference.Field);
                Assert.Equal(input, actual.Sequence);
                differing++;
            }
        }

        Assert.Equal(1, differing);
        Assert.False(right.MoveNext(actual));
    }

    [Fact]
    public void Rewrite_EventDropped_CountsFollow()
    {
        using TraceReader source = TraceReader.Open(Samples.Small());
        using MemoryStream copy = new();
        TraceHeader? seen = null;
        bool whole = TracePatcher.Rewrite(
            source,
            copy,
            item => item.Kind == TraceEventKind.Input ? TracePatch.Drop : TracePatch.Keep,
            header => seen = header with { Source = "patched" });
        Assert.True(whole);
        using TraceReader reader = TraceReader.Open(copy.ToArray());
        Assert.True(reader.Status.IsWhole);
        Assert.Equal("patched", reader.Header!.Source);
        Assert.Equal(source.EventCount - 2, reader.EventCount);
        TraceEvent end = new();
        Assert.True(reader.TryReadEnd(end));
        Assert.Equal(0UL, end.Inputs);
        Assert.NotNull(seen);
    }

    [Fact]
    public void Rewrite_TruncatedTrace_StaysTruncated()
    {
        byte[] bytes = Samples.Small();
        using TraceReader source = TraceReader.Open(bytes.AsMemory(0, bytes.Length - 200));
        using MemoryStream copy = new();
        Assert.False(TracePatcher.Rewrite(source, copy, static _ => TracePatch.Keep));
        using TraceReader reader = TraceReader.Open(copy.ToArray());
        Assert.Equal(TraceStatusKind.Truncated, reader.Status.Kind);
        Assert.Equal(source.Counts, reader.Counts);
        Assert.Throws<ArgumentException>(() => TracePatcher.Rewrite(TraceReader.Open(new byte[] { 1 }), copy, static _ => TracePatch.Keep));
    }
}
