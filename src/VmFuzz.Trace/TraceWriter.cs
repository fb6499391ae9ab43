using System.IO.Compression;
using System.IO.Hashing;

namespace VmFuzz.Trace;

/// <summary>How a trace is written. None of this changes what is read back.</summary>
public sealed record TraceWriterOptions
{
    /// <summary>The usual options.</summary>
    public static TraceWriterOptions Default { get; } = new();

    /// <summary>Level of zlib: 0 does not compress, 1 is fastest, 9 is smallest.</summary>
    public int CompressionLevel { get; init; } = 1;

    /// <summary>A chunk of events is closed when it has this many bytes before compression: 1 to 4 MiB.</summary>
    public int ChunkSize { get; init; } = 65536;
}

/// <summary>
/// Writes a trace from front to back, a whole chunk at a time, so that what was written stays readable when the writer
/// dies. In the steady state <see cref="Append"/> allocates nothing; closing a chunk allocates a little when it compresses.
/// </summary>
public sealed class TraceWriter : IDisposable
{
    private const int BlobPart = 1 << 20;

    private readonly Stream _stream;
    private readonly bool _leaveOpen;
    private readonly string _name;
    private readonly TraceHeader _header;
    private readonly bool[] _blobWritten;
    private readonly ZLibCompressionOptions? _compression;
    private readonly MemoryStream _compressed = new();
    private readonly Crc64 _crc = new();
    private readonly byte[] _head = new byte[TraceChunk.MaxHead];
    private readonly byte[] _buffer;
    private readonly int _chunkSize;
    private readonly ulong[] _retired = new ulong[TraceSchema.MaxVcpus];
    private readonly List<TraceIndexRow> _rows = [];
    private readonly TraceCounter _counter = new();
    private TraceIndexRow _open;
    private ulong _chunk;
    private long _offset;
    private int _used;
    private bool _closed;

    /// <summary>Starts a trace on a stream and writes its header.</summary>
    /// <param name="stream">Where to write; only written and flushed.</param>
    /// <param name="header">The header.</param>
    /// <param name="options">How to write.</param>
    /// <param name="leaveOpen">Whether <see cref="Dispose"/> leaves the stream open.</param>
    /// <exception cref="ArgumentException">The header is over a limit.</exception>
    /// <exception cref="TraceFileException">The stream cannot be written.</exception>
    public TraceWriter(Stream stream, TraceHeader header, TraceWriterOptions? options = null, bool leaveOpen = false)
        : this(stream, header, options, leaveOpen, "the trace")
    {
    }

    private TraceWriter(Stream stream, TraceHeader header, TraceWriterOptions? options, bool leaveOpen, string name)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(header);
        options ??= TraceWriterOptions.Default;
        ArgumentOutOfRangeException.ThrowIfLessThan(options.ChunkSize, 1, nameof(options));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.ChunkSize, 4 << 20, nameof(options));
        _stream = stream;
        _leaveOpen = leaveOpen;
        _name = name;
        _header = header;
        _blobWritten = new bool[header.Blobs.Length];
        _compression = options.CompressionLevel == 0 ? null : new() { CompressionLevel = options.CompressionLevel };
        _chunkSize = options.ChunkSize;
        _buffer = new byte[_chunkSize + TraceSchema.MaxEncodedEvent];
        WriteChunk(TraceChunkKind.Header, header.Encode(), compress: false);
        FlushStream();
    }

    /// <summary>Events appended so far; the sequence number of the next one.</summary>
    public ulong Count => _counter.Events;

    /// <summary>Events appended so far, by kind.</summary>
    public TraceCounts Counts => _counter.Counts;

    /// <summary>Bytes in the file so far; pending events are not in it.</summary>
    public long Length => _offset;

    /// <summary>Makes a file and writes the header.</summary>
    /// <param name="path">The file. It must not exist unless <paramref name="overwrite"/> is set.</param>
    /// <param name="header">The header.</param>
    /// <param name="overwrite">Whether an existing file is replaced.</param>
    /// <param name="options">How to write.</param>
    /// <exception cref="TraceFileException">The file exists, or cannot be made or written.</exception>
    /// <exception cref="ArgumentException">The header is over a limit.</exception>
    public static TraceWriter Create(string path, TraceHeader header, bool overwrite = false, TraceWriterOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(header);
        _ = header.Encode();
        FileStream stream;
        try
        {
            stream = new(path, overwrite ? FileMode.Create : FileMode.CreateNew, FileAccess.Write, FileShare.Read, bufferSize: 0);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            string why = !overwrite && File.Exists(path) ? "the file exists already" : TraceSource.OneLine(error);
            throw new TraceFileException($"cannot create {path}: {why}", error);
        }

        try
        {
            return new(stream, header, options, leaveOpen: false, path);
        }
        catch
        {
            stream.Dispose();
            throw;
        }
    }

    /// <summary>Puts the content of an image into the file. All images come before the first event.</summary>
    /// <param name="content">Content that the header refers to by its hash.</param>
    /// <exception cref="ArgumentException">The header does not refer to it.</exception>
    /// <exception cref="InvalidOperationException">It is in the file already, or events were written.</exception>
    /// <exception cref="TraceFileException">The file cannot be written.</exception>
    public void AddBlob(ReadOnlySpan<byte> content)
    {
        ThrowIfClosed();
        if (_counter.Events != 0)
        {
            throw new InvalidOperationException("images come before events");
        }

        string hash = TraceBlobReference.HashOf(content);
        int index = Find(hash);
        if (index < 0 || _header.Blobs[index].Length != content.Length)
        {
            throw new ArgumentException("the header does not refer to this image", nameof(content));
        }

        if (_blobWritten[index])
        {
            throw new InvalidOperationException("the image is in the file already");
        }

        _blobWritten[index] = true;
        byte[] hashBytes = Convert.FromHexString(hash);
        byte[] part = new byte[Math.Min(content.Length, BlobPart) + 64];
        int offset = 0;
        do
        {
            int length = Math.Min(content.Length - offset, BlobPart);
            MsgPackWriter writer = new(part);
            writer.WriteArrayHeader(3);
            writer.WriteBin(hashBytes);
            writer.WriteUInt((ulong)offset);
            writer.WriteBin(content.Slice(offset, length));
            WriteChunk(TraceChunkKind.Blob, writer.Written, compress: true);
            offset += length;
        }
        while (offset < content.Length);
    }

    /// <summary>Appends an event and gives it its sequence number. It is in the file when its chunk is closed.</summary>
    /// <param name="item">Any kind but none and end. It may be used again at once.</param>
    /// <exception cref="ArgumentException">A field is over its maximum, or the kind is none or end.</exception>
    /// <exception cref="TraceFileException">The file cannot be written.</exception>
    public void Append(TraceEvent item)
    {
        ArgumentNullException.ThrowIfNull(item);
        ThrowIfClosed();
        if (item.Kind == TraceEventKind.End || item.Row is not { } row)
        {
            throw new ArgumentException("the end is written by Finish", nameof(item));
        }

        int start = _used;
        Encode(item, row);
        if (start == 0)
        {
            _open = new(_chunk, _offset, _counter.Events, 0, _counter.Entries, _counter.Exits, item.Retired);
        }

        _counter.Add(item.Kind);
        if (_used >= _chunkSize)
        {
            CloseEvents();
        }
    }

    /// <summary>Closes the open chunk, so that everything appended so far survives the end of the process.</summary>
    /// <exception cref="TraceFileException">The file cannot be written.</exception>
    public void Flush()
    {
        ThrowIfClosed();
        CloseEvents();
        FlushStream();
    }

    /// <summary>Writes end and index; the trace is then whole. The counts in the event are set here.</summary>
    /// <param name="end">An event of kind end.</param>
    /// <exception cref="ArgumentException">The event is not an end, or a field is over its maximum.</exception>
    /// <exception cref="TraceFileException">The file cannot be written.</exception>
    public void Finish(TraceEvent end)
    {
        ArgumentNullException.ThrowIfNull(end);
        ThrowIfClosed();
        if (end.Kind != TraceEventKind.End || end.Row is not { } row)
        {
            throw new ArgumentException("not an end", nameof(end));
        }

        CloseEvents();
        _counter.Counts.CopyTo(end);
        Encode(end, row);
        WriteChunk(TraceChunkKind.End, _buffer.AsSpan(0, _used), compress: true);
        _used = 0;
        byte[] index = TraceIndex.Encode(_counter.Events, _rows);
        if (index.Length > TraceChunk.MaxRaw)
        {
            throw Failed("the index has too many rows", null);
        }

        WriteChunk(TraceChunkKind.Index, index, compress: true);
        FlushStream();
        _closed = true;
    }

    /// <summary>Writes what is pending, if it can be written, and closes the stream. Without <see cref="Finish"/> the file stays truncated.</summary>
    public void Dispose()
    {
        if (!_closed)
        {
            try
            {
                CloseEvents();
                FlushStream();
            }
            catch (TraceFileException)
            {
                // The file is truncated either way, and its reader says so.
            }

            _closed = true;
        }

        _compressed.Dispose();
        if (!_leaveOpen)
        {
            _stream.Dispose();
        }
    }

    private void Encode(TraceEvent item, TraceEventRow row)
    {
        item.Sequence = _counter.Events;
        ref ulong last = ref _retired[item.Vcpu];
        MsgPackWriter writer = new(_buffer.AsSpan(_used));
        TraceField? wrong = TraceEventCodec.Encode(ref writer, row, item, unchecked(item.Retired - last));
        if (wrong is not null || writer.Failed)
        {
            throw new ArgumentException($"{row.Name}: {wrong?.Name ?? "the event"} is over its maximum", nameof(item));
        }

        last = item.Retired;
        _used += writer.Position;
    }

    private void CloseEvents()
    {
        if (_used == 0)
        {
            return;
        }

        WriteChunk(TraceChunkKind.Events, _buffer.AsSpan(0, _used), compress: true);
        _rows.Add(_open with { Count = _counter.Events - _open.First });
        _used = 0;
        Array.Clear(_retired);
    }

    private void WriteChunk(TraceChunkKind kind, ReadOnlySpan<byte> raw, bool compress)
    {
        ReadOnlySpan<byte> payload = raw;
        if (compress && _compression is not null)
        {
            _compressed.SetLength(0);
            using (ZLibStream deflate = new(_compressed, _compression, leaveOpen: true))
            {
                deflate.Write(raw);
            }

            ReadOnlySpan<byte> shorter = _compressed.GetBuffer().AsSpan(0, (int)_compressed.Length);
            payload = shorter.Length < raw.Length ? shorter : raw;
        }

        int head = TraceChunk.WriteHead(_head, kind, _chunk, payload.Length < raw.Length, raw.Length, payload, _crc);
        try
        {
            _stream.Write(_head.AsSpan(0, head));
            _stream.Write(payload);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            throw Failed(TraceSource.OneLine(error), error);
        }

        _offset += head + payload.Length;
        _chunk++;
    }

    private void FlushStream()
    {
        try
        {
            _stream.Flush();
        }
        catch (IOException error)
        {
            throw Failed(TraceSource.OneLine(error), error);
        }
    }

    private TraceFileException Failed(string why, Exception? error)
    {
        _closed = true;
        string message = $"cannot write {_name}: {why}";
        return error is null ? new(message) : new(message, error);
    }

    private int Find(string hash)
    {
        for (int i = 0; i < _header.Blobs.Length; i++)
        {
            if (string.Equals(_header.Blobs[i].Hash, hash, StringComparison.Ordinal))
            {
                return i;
            }
        }

        return -1;
    }

    private void ThrowIfClosed()
    {
        if (_closed)
        {
            throw new InvalidOperationException("the trace is finished, or writing it failed");
        }
    }
}
