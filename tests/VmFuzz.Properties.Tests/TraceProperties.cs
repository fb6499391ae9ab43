using VmFuzz.Testing;
using VmFuzz.Trace;

namespace VmFuzz.Properties.Tests;

/// <summary>What is written into a trace is what is read, however it is laid out and wherever it ends.</summary>
public sealed class TraceProperties
{
    [Fact]
    public void Trace_OfAnyEvents_ReadsAsWritten() =>
        Seeds.Check(Generators.Traces(), 150, static trace =>
        {
            using TraceReader reader = TraceReader.Open(trace.ToBytes());
            Assert.True(reader.Status.IsWhole, reader.Status.ToString());
            Assert.Equal((ulong)trace.Events.Length + 1, reader.EventCount);
            Assert.Equal(trace.Events.Length, Prefix(trace, reader));
        });

    // A process may die at any byte: whole chunks count.
    [Fact]
    public void Trace_CutAnywhere_ReadsAsFarAsItGoes() =>
        Seeds.Check(Generators.Traces(), 60, static trace =>
        {
            byte[] bytes = trace.ToBytes();
            int most = 0;
            for (int cut = 0; cut < bytes.Length; cut += 1 + (bytes.Length / 40))
            {
                using TraceReader reader = TraceReader.Open(bytes.AsMemory(0, cut));
                Assert.False(reader.Status.IsWhole);
                int read = reader.Readable ? Prefix(trace, reader) : 0;
                Assert.True(read >= most, $"cut at {cut}: {read} events, with less of the file {most}");
                most = read;
            }
        });

    // How many events there are; those are the first ones of the trace.
    private static int Prefix(TraceOfEvents trace, TraceReader reader)
    {
        TraceCursor cursor = reader.Events();
        var read = new TraceEvent();
        int count = 0;
        while (cursor.MoveNext(read) && read.Kind != TraceEventKind.End)
        {
            Assert.Empty(TraceEvent.Differences(trace.Events[count], read));
            count++;
        }

        return count;
    }
}
