namespace VmFuzz.Trace;

/// <summary>What becomes of an event.</summary>
public enum TracePatch : byte
{
    /// <summary>It is written as the callback left it.</summary>
    Keep = 0,
    /// <summary>It is left out; later events move up.</summary>
    Drop = 1,
}

/// <summary>Writes a trace again with some events changed and all checksums, counts and the index made right.</summary>
public static class TracePatcher
{
    /// <summary>Copies a trace.</summary>
    /// <param name="source">The trace. What cannot be read of it is not copied.</param>
    /// <param name="destination">Where to write; left open.</param>
    /// <param name="change">Called for every event in order, the end too; it may change the event in place.</param>
    /// <param name="header">Called with the header; null copies it.</param>
    /// <param name="options">How to write.</param>
    /// <returns>Whether the copy is whole: it is not when the source has no end, or the end was dropped.</returns>
    /// <exception cref="ArgumentException">The source has no header.</exception>
    /// <exception cref="TraceFileException">The destination cannot be written.</exception>
    public static bool Rewrite(
        TraceReader source, Stream destination, Func<TraceEvent, TracePatch> change, Func<TraceHeader, TraceHeader>? header = null, TraceWriterOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(change);
        if (!source.Readable)
        {
            throw new ArgumentException("the trace has no header", nameof(source));
        }

        TraceHeader written = header is null ? source.Header : header(source.Header);
        using TraceWriter writer = new(destination, written, options, leaveOpen: true);
        CopyBlobs(source, written, writer);
        TraceCursor cursor = source.Events();
        TraceEvent item = new();
        while (cursor.MoveNext(item))
        {
            if (change(item) == TracePatch.Drop)
            {
                continue;
            }

            if (item.Kind == TraceEventKind.End)
            {
                writer.Finish(item);
                return true;
            }

            writer.Append(item);
        }

        return false;
    }

    /// <summary>Copies a trace in memory and changes the event with one sequence number.</summary>
    /// <param name="trace">The trace.</param>
    /// <param name="sequence">Which event.</param>
    /// <param name="change">Changes it in place.</param>
    /// <returns>The bytes of the new trace.</returns>
    public static byte[] Change(ReadOnlyMemory<byte> trace, ulong sequence, Action<TraceEvent> change)
    {
        ArgumentNullException.ThrowIfNull(change);
        using TraceReader reader = TraceReader.Open(trace);
        using MemoryStream copy = new();
        Rewrite(reader, copy, item =>
        {
            if (item.Sequence == sequence)
            {
                change(item);
            }

            return TracePatch.Keep;
        });
        return copy.ToArray();
    }

    private static void CopyBlobs(TraceReader source, TraceHeader header, TraceWriter writer)
    {
        List<string> done = [];
        foreach (TraceBlobReference blob in header.Blobs)
        {
            if (!done.Contains(blob.Hash) && source.ReadBlob(blob) is { } content)
            {
                writer.AddBlob(content);
                done.Add(blob.Hash);
            }
        }
    }
}
