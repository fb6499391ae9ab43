using System.IO.Hashing;

namespace VmFuzz.Trace;

/// <summary>Where an image lies in the file.</summary>
internal sealed class TraceBlobPlace
{
    /// <summary>Offsets of its chunks, in order.</summary>
    public List<long> Parts { get; } = [];

    public bool Whole { get; set; }
}

/// <summary>Reads one chunk after the other and keeps the buffers for it.</summary>
internal sealed class TraceChunkReader(TraceSource source)
{
    private readonly byte[] _head = new byte[TraceChunk.MaxHead];
    private readonly Crc64 _crc = new();
    private byte[] _payload = [];
    private byte[] _raw = [];
    private int _rawLength;
    private bool _inPayload;

    /// <summary>The payload of the last chunk read, inflated.</summary>
    public ReadOnlySpan<byte> Raw => (_inPayload ? _payload : _raw).AsSpan(0, _rawLength);

    /// <summary>Reads and checks the chunk at an offset.</summary>
    /// <returns>Null, or what is wrong; <paramref name="cut"/> tells that the file ends inside the chunk.</returns>
    public string? Read(long offset, out TraceChunkHead head, out bool cut)
    {
        long left = source.Length - offset;
        int have = source.Read(offset, _head.AsSpan(0, (int)Math.Min(left, _head.Length)));
        MsgPackError error = TraceChunk.ReadHead(_head.AsSpan(0, have), out head);
        cut = error == MsgPackError.End || (error == MsgPackError.None && head.Length > left);
        if (cut)
        {
            return "the file ends inside a chunk";
        }

        if (error != MsgPackError.None)
        {
            return "no chunk starts here";
        }

        // Both lengths are bounded by now: the payload by the file, the raw length by what zlib can reach.
        if (head.Compressed && head.RawLength > 64 + (1040L * head.PayloadLength))
        {
            return "the raw length cannot be right";
        }

        Grow(ref _payload, head.PayloadLength);
        if (source.Read(offset + head.HeadLength, _payload.AsSpan(0, head.PayloadLength)) != head.PayloadLength)
        {
            cut = true;
            return "the file became shorter while it was read";
        }

        ulong checksum = TraceChunk.Checksum(_crc, _head.AsSpan(0, head.HeadLength), head.ChecksumAt, _payload.AsSpan(0, head.PayloadLength));
        if (checksum != head.Checksum)
        {
            return "the checksum is wrong";
        }

        _inPayload = !head.Compressed;
        _rawLength = head.RawLength;
        if (head.Compressed)
        {
            Grow(ref _raw, head.RawLength);
            if (!TraceChunk.TryInflate(_payload, head.PayloadLength, _raw.AsSpan(0, head.RawLength)))
            {
                return "the payload cannot be inflated";
            }
        }

        return null;
    }

    private static void Grow(ref byte[] buffer, int length)
    {
        if (buffer.Length < length)
        {
            buffer = new byte[Math.Max(length, Math.Min(2 * buffer.Length, TraceChunk.MaxRaw))];
        }
    }
}

/// <summary>Looks at every byte of a file once: framing, checksums, order, every event, images, counts, index.</summary>
internal sealed class TraceVerifier(TraceSource source)
{
    // What looks like the head of a chunk by chance is very rare; a file made to look so must not cost hours.
    private const int MaxTries = 16;

    private readonly TraceChunkReader _chunks = new(source);
    private readonly TraceEvent _event = new();
    private readonly XxHash128 _blobHash = new();
    private readonly ulong[] _retired = new ulong[TraceSchema.MaxVcpus];
    private TraceCounter _counter = new();
    private TraceChunkKind _previous;
    private int _blob = -1;
    private long _blobLength;
    private ulong _version;

    public TraceHeader? Header { get; private set; }

    public TraceBlobPlace[] Blobs { get; private set; } = [];

    public List<TraceIndexRow> Rows { get; } = [];

    public TraceIndexRow? EndRow { get; private set; }

    public TraceCounts Counts => _counter.Counts;

    /// <summary>Looks through the file.</summary>
    public TraceStatus Run()
    {
        long offset = 0;
        ulong sequence = 0;
        while (offset < source.Length)
        {
            if (_previous == TraceChunkKind.Index)
            {
                return new(TraceStatusKind.Damaged, offset, (long)sequence, "there are bytes after the index");
            }

            string? wrong = _chunks.Read(offset, out TraceChunkHead head, out bool cut);
            if (wrong is not null && offset == 0 && IsForeign(out TraceStatus foreign))
            {
                return foreign;
            }

            if (cut && AnotherChunkFollows(offset, sequence))
            {
                return new(TraceStatusKind.Damaged, offset, (long)sequence, "the chunk's length is wrong");
            }

            if (cut)
            {
                return new(TraceStatusKind.Truncated, offset, (long)sequence - 1, wrong!);
            }

            wrong ??= head.Sequence != sequence ? "the chunk's number is not the next one" : Accept(head, offset);
            if (_version > TraceSchema.Version)
            {
                return new(TraceStatusKind.Future, 0, 0, "", _version);
            }

            if (wrong is not null)
            {
                return new(TraceStatusKind.Damaged, offset, (long)sequence, wrong);
            }

            _previous = head.Kind;
            offset += head.Length;
            sequence++;
        }

        return _previous switch
        {
            TraceChunkKind.Index => new(TraceStatusKind.Whole, offset, (long)sequence - 1, ""),
            TraceChunkKind.End => new(TraceStatusKind.Truncated, offset, (long)sequence - 1, "the index is missing"),
            TraceChunkKind.None => new(TraceStatusKind.Truncated, 0, -1, "the file is empty"),
            _ => new(TraceStatusKind.Truncated, offset, (long)sequence - 1, "end and index are missing"),
        };
    }

    /// <summary>Whether the file does not even begin like a trace: an array of six, kind 1, number 0, no compression.</summary>
    private bool IsForeign(out TraceStatus status)
    {
        Span<byte> start = stackalloc byte[4];
        ReadOnlySpan<byte> expected = [TraceChunk.FirstByte, (byte)TraceChunkKind.Header, 0, 0];
        int have = source.Read(0, start[..(int)Math.Min(start.Length, source.Length)]);
        status = new(TraceStatusKind.Foreign, 0, 0, "the file does not begin with the header of a trace");
        return !start[..have].SequenceEqual(expected[..have]);
    }

    /// <summary>
    /// Whether the next chunk lies in what seems to be the end of a cut one. Then the length of the cut one is damaged,
    /// and to call the file truncated would hide what follows.
    /// </summary>
    private bool AnotherChunkFollows(long offset, ulong sequence)
    {
        byte[] rest = new byte[Math.Min(source.Length - offset, TraceChunk.MaxRaw + TraceChunk.MaxHead)];
        ReadOnlySpan<byte> bytes = rest.AsSpan(0, source.Read(offset, rest));
        int tries = MaxTries;
        for (int at = 1; at < bytes.Length && tries > 0; at++)
        {
            ReadOnlySpan<byte> from = bytes[at..];
            if (from[0] == TraceChunk.FirstByte
                && TraceChunk.ReadHead(from[..Math.Min(from.Length, TraceChunk.MaxHead)], out TraceChunkHead head) == MsgPackError.None
                && head.Sequence == sequence + 1
                && head.Length <= source.Length - offset - at)
            {
                if (_chunks.Read(offset + at, out _, out _) is null)
                {
                    return true;
                }

                tries--;
            }
        }

        return false;
    }

    private string? Accept(in TraceChunkHead head, long offset)
    {
        if (head.Kind != TraceChunkKind.Header && _previous == TraceChunkKind.None)
        {
            return "the first chunk is not a header";
        }

        if (head.Kind != TraceChunkKind.Blob && _blob >= 0)
        {
            string? incomplete = CloseBlob();
            if (incomplete is not null)
            {
                return incomplete;
            }
        }

        return head.Kind switch
        {
            TraceChunkKind.Header => _previous == TraceChunkKind.None && !head.Compressed ? AcceptHeader() : "a header is in the wrong place",
            TraceChunkKind.Blob => _previous is TraceChunkKind.Header or TraceChunkKind.Blob ? AcceptBlob(offset) : "an image is in the wrong place",
            TraceChunkKind.Events => _previous < TraceChunkKind.End ? AcceptEvents(head, offset) : "events are in the wrong place",
            TraceChunkKind.End => _previous < TraceChunkKind.End ? AcceptEnd(head, offset) : "an end is in the wrong place",
            TraceChunkKind.Index => _previous == TraceChunkKind.End ? AcceptIndex() : "an index is in the wrong place",
            _ => "unknown kind of chunk",
        };
    }

    private string? AcceptHeader()
    {
        MsgPackReader reader = new(_chunks.Raw);
        if (!reader.TryReadArrayHeader(TraceHeader.MaxItems, out int elements) || elements < 2
            || !reader.TryReadText(64, out ReadOnlySpan<byte> name) || !name.SequenceEqual("vmtrace"u8)
            || !reader.TryReadUInt(out ulong version))
        {
            return "the header does not name the format";
        }

        _version = version;
        if (version != TraceSchema.Version)
        {
            return "no such version of the format";
        }

        Header = elements == TraceHeader.Elements ? TraceHeader.Decode(ref reader) : null;
        if (Header is null)
        {
            return "the header cannot be read";
        }

        Blobs = new TraceBlobPlace[Header.Blobs.Length];
        for (int i = 0; i < Blobs.Length; i++)
        {
            Blobs[i] = new();
        }

        return null;
    }

    private string? AcceptBlob(long offset)
    {
        if (!TryReadPart(_chunks.Raw, out ReadOnlySpan<byte> hash, out ulong at, out ReadOnlySpan<byte> bytes))
        {
            return "a part of an image cannot be read";
        }

        string text = Convert.ToHexStringLower(hash);
        if (_blob < 0 || !string.Equals(Header!.Blobs[_blob].Hash, text, StringComparison.Ordinal))
        {
            string? incomplete = _blob < 0 ? null : CloseBlob();
            if (incomplete is not null)
            {
                return incomplete;
            }

            _blob = FindBlob(text);
            if (_blob < 0)
            {
                return "the header does not refer to this image";
            }

            if (Blobs[_blob].Whole)
            {
                return "an image is there twice";
            }

            _blobHash.Reset();
            _blobLength = 0;
        }

        long length = Header!.Blobs[_blob].Length;
        if (at != (ulong)_blobLength || (bytes.IsEmpty && length != 0) || bytes.Length > length - _blobLength
            || (Blobs[_blob].Parts.Count != 0 && length == _blobLength))
        {
            return "a part of an image is in the wrong place";
        }

        Blobs[_blob].Parts.Add(offset);
        _blobHash.Append(bytes);
        _blobLength += bytes.Length;
        if (_blobLength == length)
        {
            Span<byte> actual = stackalloc byte[TraceHeader.HashSize];
            _blobHash.GetCurrentHash(actual);
            if (!actual.SequenceEqual(hash))
            {
                return "an image does not have its hash";
            }

            Blobs[_blob].Whole = true;
        }

        return null;
    }

    private string? CloseBlob()
    {
        bool whole = Blobs[_blob].Whole;
        _blob = -1;
        return whole ? null : "an image is not complete";
    }

    private int FindBlob(string hash)
    {
        for (int i = 0; i < Header!.Blobs.Length; i++)
        {
            if (string.Equals(Header.Blobs[i].Hash, hash, StringComparison.Ordinal))
            {
                return i;
            }
        }

        return -1;
    }

    private string? AcceptEvents(in TraceChunkHead head, long offset)
    {
        Array.Clear(_retired);
        TraceCounts before = Counts;
        TraceCounter counter = _counter.Copy();
        ulong firstRetired = 0;
        MsgPackReader reader = new(_chunks.Raw);
        while (reader.Remaining != 0)
        {
            string? wrong = TraceEventCodec.Decode(ref reader, _event);
            wrong ??= _event.Kind == TraceEventKind.End ? "an end among the events" : null;
            if (wrong is not null)
            {
                return $"event {counter.Events}: {wrong}";
            }

            ref ulong retired = ref _retired[_event.Vcpu];
            retired = unchecked(retired + _event.Retired);
            firstRetired = counter.Events == before.Events ? retired : firstRetired;
            counter.Add(_event.Kind);
        }

        _counter = counter;
        Rows.Add(new(head.Sequence, offset, before.Events, counter.Events - before.Events, before.Entries, before.Exits, firstRetired));
        return null;
    }

    private string? AcceptEnd(in TraceChunkHead head, long offset)
    {
        MsgPackReader reader = new(_chunks.Raw);
        string? wrong = TraceEventCodec.Decode(ref reader, _event);
        if (wrong is not null)
        {
            return wrong;
        }

        if (_event.Kind != TraceEventKind.End || !reader.Finished)
        {
            return "the end chunk holds something else";
        }

        if (!Counts.Agrees(_event))
        {
            return "the counts in the end are not those of the events";
        }

        EndRow = new(head.Sequence, offset, Counts.Events, 1, Counts.Entries, Counts.Exits, _event.Retired);
        return null;
    }

    private string? AcceptIndex() =>
        _chunks.Raw.SequenceEqual(TraceIndex.Encode(Counts.Events, Rows)) ? null : "the index is not that of the chunks";

    /// <summary>Reads the payload of a blob chunk.</summary>
    internal static bool TryReadPart(ReadOnlySpan<byte> raw, out ReadOnlySpan<byte> hash, out ulong offset, out ReadOnlySpan<byte> bytes)
    {
        hash = default;
        bytes = default;
        offset = 0;
        MsgPackReader reader = new(raw);
        return reader.TryReadArrayHeader(3, out int count) && count == 3
            && reader.TryReadBin(TraceHeader.HashSize, out hash) && hash.Length == TraceHeader.HashSize
            && reader.TryReadUInt((ulong)TraceHeader.MaxBlob, out offset)
            && reader.TryReadBin(TraceChunk.MaxRaw, out bytes)
            && reader.Finished;
    }
}
