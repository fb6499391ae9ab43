using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;

namespace VmFuzz.Trace;

/// <summary>
/// A trace opened for reading. Opening looks at every byte of the file; what was found is <see cref="Status"/>. The
/// events before a damaged or missing part can be read. One chunk at a time is in memory.
/// </summary>
public sealed class TraceReader : IDisposable
{
    private readonly TraceSource _source;
    private readonly TraceBlobPlace[] _blobs;
    private readonly ImmutableArray<TraceIndexRow> _rows;
    private readonly TraceIndexRow? _end;

    private TraceReader(TraceSource source)
    {
        _source = source;
        TraceVerifier verifier = new(source);
        Status = verifier.Run();
        Header = Status.Kind is TraceStatusKind.Foreign or TraceStatusKind.Future ? null : verifier.Header;
        Counts = verifier.Counts;
        _blobs = verifier.Blobs;
        _rows = [.. verifier.Rows];
        _end = verifier.EndRow;
    }

    /// <summary>What the file is: whole, truncated, damaged, foreign, of a newer format.</summary>
    public TraceStatus Status { get; }

    /// <summary>The header; null when it cannot be read.</summary>
    public TraceHeader? Header { get; }

    /// <summary>Whether there is a header, so that <see cref="Events"/> can be read as far as the file is good.</summary>
    [MemberNotNullWhen(true, nameof(Header))]
    public bool Readable => Header is not null;

    /// <summary>Counts of the events that can be read, the end not among them.</summary>
    public TraceCounts Counts { get; }

    /// <summary>Whether the last event is the end.</summary>
    public bool HasEnd => _end is not null;

    /// <summary>Events that a cursor passes, with the end.</summary>
    public ulong EventCount => Counts.Events + (HasEnd ? 1UL : 0);

    /// <summary>The index: a row for every chunk of events, from the file's scan.</summary>
    public ImmutableArray<TraceIndexRow> Index => _rows;

    /// <summary>Bytes in the file.</summary>
    public long Length => _source.Length;

    /// <summary>The images that the header refers to; see <see cref="HasBlob"/>.</summary>
    public ImmutableArray<TraceBlobReference> Blobs => Header?.Blobs ?? [];

    /// <summary>Opens a file and looks at all of it.</summary>
    /// <exception cref="TraceFileException">The file cannot be read.</exception>
    public static TraceReader Open(string path) => new(TraceSource.Open(path));

    /// <summary>Opens a trace in a stream that can seek.</summary>
    /// <param name="stream">The stream; the trace begins at its start. Cursors move it.</param>
    /// <param name="leaveOpen">Whether <see cref="Dispose"/> leaves it open.</param>
    public static TraceReader Open(Stream stream, bool leaveOpen = false)
    {
        ArgumentNullException.ThrowIfNull(stream);
        return new(new TraceSource.StreamSource(stream, leaveOpen));
    }

    /// <summary>Opens a trace in memory.</summary>
    public static TraceReader Open(ReadOnlyMemory<byte> bytes) => new(new TraceSource.MemorySource(bytes));

    /// <summary>A cursor before the first event. Cursors are independent of each other.</summary>
    public TraceCursor Events() => new(_source, _end is { } end ? _rows.Add(end) : _rows);

    /// <summary>Reads the end event.</summary>
    /// <returns>False when the trace has none.</returns>
    public bool TryReadEnd(TraceEvent into)
    {
        TraceCursor cursor = Events();
        return HasEnd && cursor.Seek(Counts.Events) && cursor.MoveNext(into);
    }

    /// <summary>Whether the content of an image is in the file.</summary>
    public bool HasBlob(TraceBlobReference reference) => Find(reference) >= 0;

    /// <summary>Reads the content of an image.</summary>
    /// <param name="reference">One of <see cref="Blobs"/>.</param>
    /// <returns>The content, or null when it is not in the file.</returns>
    /// <exception cref="TraceFileException">The file changed since it was opened.</exception>
    public byte[]? ReadBlob(TraceBlobReference reference)
    {
        int index = Find(reference);
        if (index < 0)
        {
            return null;
        }

        byte[] content = new byte[Blobs[index].Length];
        TraceChunkReader chunks = new(_source);
        foreach (long part in _blobs[index].Parts)
        {
            if (chunks.Read(part, out _, out _) is not null
                || !TraceVerifier.TryReadPart(chunks.Raw, out _, out ulong offset, out ReadOnlySpan<byte> bytes)
                || offset + (ulong)bytes.Length > (ulong)content.Length)
            {
                throw new TraceFileException($"{_source.Name} changed while it was read");
            }

            bytes.CopyTo(content.AsSpan((int)offset));
        }

        return content;
    }

    /// <inheritdoc/>
    public void Dispose() => _source.Dispose();

    private int Find(TraceBlobReference reference)
    {
        ArgumentNullException.ThrowIfNull(reference);
        for (int i = 0; i < Blobs.Length; i++)
        {
            if (_blobs[i].Whole && string.Equals(Blobs[i].Hash, reference.Hash, StringComparison.Ordinal))
            {
                return i;
            }
        }

        return -1;
    }
}
