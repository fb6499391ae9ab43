using System.Collections.Immutable;
using VmFuzz.Trace;

namespace VmFuzz.Testing;

/// <summary>A trace that no machine made: any events, and how they are laid out in chunks.</summary>
/// <param name="Events">The events, the end apart.</param>
/// <param name="ChunkSize">Bytes before compression after which a chunk is closed.</param>
/// <param name="CompressionLevel">0 to 9.</param>
public sealed record TraceOfEvents(ImmutableArray<TraceEvent> Events, int ChunkSize, int CompressionLevel)
{
    /// <summary>The file.</summary>
    public byte[] ToBytes()
    {
        using var stream = new MemoryStream();
        var options = new TraceWriterOptions { ChunkSize = ChunkSize, CompressionLevel = CompressionLevel };
        using (TraceWriter writer = new(stream, new TraceHeader(), options, leaveOpen: true))
        {
            foreach (TraceEvent item in Events)
            {
                writer.Append(item);
            }

            writer.Finish(new TraceEvent(TraceEventKind.End));
        }

        return stream.ToArray();
    }

    /// <inheritdoc/>
    public override string ToString() => $"chunks of {ChunkSize} bytes, compression {CompressionLevel}:{string.Concat(Events.Select(static e => $"\n    {e}"))}";
}
