using System.Buffers.Binary;
using System.IO.Hashing;
using VmFuzz.Trace;

namespace VmFuzz.Trace.Tests;

public sealed class TraceFileTests : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("vmtrace").FullName;

    public static TheoryData<int> Levels => [0, 1, 9];

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [MemberData(nameof(Levels))]
    public void Trace_WrittenAndRead_IsTheSame(int level)
    {
        byte[] bytes = Samples.Small(new() { CompressionLevel = level });
        Assert.InRange(bytes.Length, 1, 4096);
        using TraceReader reader = TraceReader.Open(bytes);
        Assert.Equal("whole", reader.Status.ToString());
        Assert.True(reader.Readable);
        Assert.Equal(Samples.Header.Machine, reader.Header.Machine);
        Assert.Equal(Samples.Header.Plugins, reader.Header.Plugins);
        Assert.Equal(Samples.Header.Blobs, reader.Header.Blobs);
        Assert.Equal(7u, reader.Header.SemanticsVersion);
        Assert.Equal(Samples.Header.RowsHash, reader.Header.RowsHash);
        Assert.Equal("live", reader.Header.Source);
        Assert.Equal("0.1.0", reader.Header.EngineVersion);
        Assert.Equal("42", reader.Header.Setting("seed"));
        Assert.Null(reader.Header.Setting("none"));
        Assert.Equal(Samples.Image, reader.ReadBlob(reader.Blobs[0]));
        Assert.False(reader.HasBlob(reader.Blobs[1]));
        Assert.Null(reader.ReadBlob(reader.Blobs[1]));

        TraceCursor cursor = reader.Events();
        TraceEvent read = new();
        ulong sequence = 0;
        foreach (TraceEvent expected in Samples.AllKinds())
        {
            Assert.True(cursor.MoveNext(read));
            Assert.True(expected.SameAs(read), string.Join("; ", TraceEvent.Differences(expected, read)));
            Assert.Equal(sequence++, read.Sequence);
        }

        Assert.True(cursor.MoveNext(read));
        Assert.Equal(TraceEventKind.End, read.Kind);
        Assert.Equal("the guest halted", read.Text);
        Assert.Equal(2UL, read.Exits);
        Assert.Equal(2UL, read.Inputs);
        Assert.Equal(sequence, read.Sequence);
        Assert.False(cursor.MoveNext(read));
        Assert.Equal(sequence + 1, reader.EventCount);
    }

    [Theory]
    [MemberData(nameof(Levels))]
    public void Trace_AnyBitFlipped_IsReported(int level)
    {
        byte[] bytes = Samples.Small(new() { CompressionLevel = level });
        int lastChunk = bytes.Length - Split(bytes)[^1].Length;
        for (int bit = 0; bit < bytes.Length * 8; bit++)
        {
            bytes[bit >> 3] ^= (byte)(1 << (bit & 7));
            using TraceReader reader = TraceReader.Open(bytes);
            if (reader.Status.IsWhole || reader.Status.Why.Length + (int)reader.Status.Version == 0)
            {
                Assert.Fail($"bit {bit}: {reader.Status}");
            }

            // Before the last chunk no flip may pass for a truncation: that would hide what follows.
            if (reader.Status.Kind == TraceStatusKind.Truncated && bit >> 3 < lastChunk)
            {
                Assert.Fail($"bit {bit}: {reader.Status}");
            }

            bytes[bit >> 3] ^= (byte)(1 << (bit & 7));
        }
    }

    [Theory]
    [MemberData(nameof(Levels))]
    public void Trace_AnyByteRemovedOrDoubled_IsReported(int level)
    {
        byte[] bytes = Samples.Small(new() { CompressionLevel = level });
        for (int at = 0; at < bytes.Length; at++)
        {
            using TraceReader shorter = TraceReader.Open((byte[])[.. bytes[..at], .. bytes[(at + 1)..]]);
            using TraceReader longer = TraceReader.Open((byte[])[.. bytes[..at], bytes[at], .. bytes[at..]]);
            Assert.False(shorter.Status.IsWhole, $"without byte {at}");
            Assert.False(longer.Status.IsWhole, $"with byte {at} twice");
        }
    }

    [Theory]
    [MemberData(nameof(Levels))]
    public void Trace_CutAnywhere_IsTruncatedAndItsPrefixReads(int level)
    {
        byte[] bytes = Samples.Small(new() { CompressionLevel = level });
        List<TraceEvent> all = [.. Samples.AllKinds()];
        TraceEvent read = new();
        int mostEvents = 0;
        for (int length = 0; length < bytes.Length; length++)
        {
            using TraceReader reader = TraceReader.Open(bytes.AsMemory(0, length));
            Assert.Equal(TraceStatusKind.Truncated, reader.Status.Kind);
            Assert.InRange(reader.Status.Offset, 0, length);
            TraceCursor cursor = reader.Events();
            int events = 0;
            while (cursor.MoveNext(read))
            {
                Assert.True(read.Kind == TraceEventKind.End || all[events].SameAs(read));
                events++;
            }

            Assert.Equal((int)reader.EventCount, events);
            Assert.True(events >= mostEvents);
            mostEvents = events;
        }

        Assert.Equal(all.Count + 1, mostEvents);
    }

    [Fact]
    public void Trace_BytesBehindTheIndex_AreDamage()
    {
        byte[] bytes = Samples.Small();
        using TraceReader reader = TraceReader.Open((byte[])[.. bytes, 0]);
        Assert.Equal(TraceStatusKind.Damaged, reader.Status.Kind);
        Assert.Equal(bytes.Length, reader.Status.Offset);
        Assert.True(reader.HasEnd);
        using TraceReader twice = TraceReader.Open((byte[])[.. bytes, .. bytes]);
        Assert.Equal(TraceStatusKind.Damaged, twice.Status.Kind);

        // What could be the beginning of a chunk is no truncation either.
        using TraceReader begun = TraceReader.Open((byte[])[.. bytes, TraceChunk.FirstByte]);
        Assert.Equal(TraceStatusKind.Damaged, begun.Status.Kind);
    }

    [Fact]
    public void Trace_LengthThatReachesBeyondTheFile_IsDamageWhenChunksFollow()
    {
        byte[] bytes = Samples.Exits(20_000, TraceWriterOptions.Default);
        List<byte[]> chunks = Split(bytes);
        int victim = chunks.Count - 4;
        int offset = chunks.Take(victim).Sum(chunk => chunk.Length);
        Assert.Equal(MsgPackError.None, TraceChunk.ReadHead(chunks[victim], out TraceChunkHead head));
        Assert.True(head.Compressed);

        // The length's two bytes end the head: ff00 is below the raw length and beyond the end of the file.
        bytes[offset + head.HeadLength - 2] = 0xff;
        Assert.True(offset + 0xff00 > bytes.Length && head.RawLength > 0xffff);
        using TraceReader reader = TraceReader.Open(bytes);
        Assert.Equal(TraceStatusKind.Damaged, reader.Status.Kind);
        Assert.Equal(victim, reader.Status.Chunk);

        // The same with nothing behind it cannot be told from a truncation.
        using TraceReader alone = TraceReader.Open(bytes.AsMemory(0, offset + chunks[victim].Length));
        Assert.Equal(TraceStatusKind.Truncated, alone.Status.Kind);
    }

    [Theory]
    [InlineData("7f454c46020101")]
    [InlineData("00")]
    [InlineData("960105")]
    [InlineData("96010001")]
    public void Open_OtherFile_IsForeign(string hex)
    {
        using TraceReader reader = TraceReader.Open(Convert.FromHexString(hex));
        Assert.Equal(TraceStatusKind.Foreign, reader.Status.Kind);
        Assert.False(reader.Readable);
        Assert.False(reader.Events().MoveNext(new()));
    }

    [Fact]
    public void Open_EmptyFile_IsTruncatedWithoutChunks()
    {
        using TraceReader reader = TraceReader.Open(ReadOnlyMemory<byte>.Empty);
        Assert.Equal(TraceStatusKind.Truncated, reader.Status.Kind);
        Assert.Equal(-1, reader.Status.Chunk);
        Assert.False(reader.Readable);
    }

    [Fact]
    public void Open_NewerVersion_IsFuture()
    {
        // A header of another layout: only name and version are sure.
        byte[] payload = [0x93, 0xa7, .. "vmtrace"u8, 0x02, 0xc3];
        using TraceReader reader = TraceReader.Open(Chunk(TraceChunkKind.Header, 0, payload));
        Assert.Equal(TraceStatusKind.Future, reader.Status.Kind);
        Assert.Equal(2UL, reader.Status.Version);
        Assert.Null(reader.Header);

        byte[] old = [0x93, 0xa7, .. "vmtrace"u8, 0x00, 0xc3];
        using TraceReader zero = TraceReader.Open(Chunk(TraceChunkKind.Header, 0, old));
        Assert.Equal(TraceStatusKind.Damaged, zero.Status.Kind);
    }

    [Theory]
    [InlineData("duplicate")]
    [InlineData("swap")]
    [InlineData("drop")]
    [InlineData("number")]
    [InlineData("reserved")]
    [InlineData("index")]
    [InlineData("counts")]
    [InlineData("empty event")]
    [InlineData("second header")]
    public void Open_ChunksThatDoNotBelong_AreDamage(string what)
    {
        List<byte[]> chunks = Split(Samples.Small(new() { CompressionLevel = 0 }));
        Assert.Equal(7, chunks.Count);
        switch (what)
        {
            case "duplicate":
                chunks.Insert(2, chunks[2]);
                break;
            case "swap":
                (chunks[2], chunks[3]) = (chunks[3], chunks[2]);
                break;
            case "drop":
                chunks.RemoveAt(2);
                break;
            case "number":
                chunks[2] = Chunk(TraceChunkKind.Events, 9, Payload(chunks[2]));
                break;
            case "reserved":
                chunks[2] = Chunk(TraceChunkKind.Checkpoint, 2, Payload(chunks[2]));
                break;
            case "index":
                byte[] index = Payload(chunks[6]);
                index[^1] ^= 1;
                chunks[6] = Chunk(TraceChunkKind.Index, 6, index);
                break;
            case "counts":
                TraceEvent end = Samples.End();
                chunks[5] = Chunk(TraceChunkKind.End, 5, TraceEventTests.Encode(end));
                break;
            case "empty event":
                chunks[2] = Chunk(TraceChunkKind.Events, 2, [0x94, 0x02, 0x00, 0x01, 0x00]);
                break;
            default:
                chunks[2] = Chunk(TraceChunkKind.Header, 2, Payload(chunks[0]));
                break;
        }

        using TraceReader reader = TraceReader.Open((byte[])[.. chunks.SelectMany(chunk => chunk)]);
        Assert.Equal(TraceStatusKind.Damaged, reader.Status.Kind);
        Assert.NotEmpty(reader.Status.Why);
    }

    [Fact]
    public void Open_ImageWithAnotherHash_IsDamage()
    {
        List<byte[]> chunks = Split(Samples.Small(new() { CompressionLevel = 0 }));
        byte[] blob = Payload(chunks[1]);
        blob[^1] ^= 1;
        chunks[1] = Chunk(TraceChunkKind.Blob, 1, blob);
        using TraceReader reader = TraceReader.Open((byte[])[.. chunks.SelectMany(chunk => chunk)]);
        Assert.Equal(TraceStatusKind.Damaged, reader.Status.Kind);
        Assert.Equal(1, reader.Status.Chunk);
    }

    [Fact]
    public void Open_HugeClaimedLengths_AllocateLittle()
    {
        // A head that claims 16 MiB raw and a payload that is not there; and one that zlib cannot reach.
        byte[][] hostile =
        [
            [0x96, 1, 0, 0, 0xce, 1, 0, 0, 0, 0xcf, 1, 2, 3, 4, 5, 6, 7, 8, 0xc6, 1, 0, 0, 0],
            [0x96, 1, 0, 1, 0xce, 1, 0, 0, 0, 0xcf, 1, 2, 3, 4, 5, 6, 7, 8, 0xc4, 2, 0, 0],
            [0x96, 1, 0, 0, 0xce, 0xff, 0xff, 0xff, 0xff, 0xcf, 1, 2, 3, 4, 5, 6, 7, 8, 0xc6, 0xff, 0xff, 0xff, 0xff],
        ];
        foreach (byte[] bytes in hostile)
        {
            TraceReader.Open(bytes).Dispose();
            long before = GC.GetAllocatedBytesForCurrentThread();
            using TraceReader reader = TraceReader.Open(bytes);
            Assert.False(reader.Status.IsWhole);
            Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 100_000);
        }
    }

    [Fact]
    public void Open_RandomChunkPayloads_NeverThrow()
    {
        List<byte[]> chunks = Split(Samples.Small(new() { CompressionLevel = 0 }));
        int whole = 0;
        for (ulong round = 0; round < 3000; round++)
        {
            int victim = (int)(round % 7);
            byte[] payload = Payload(chunks[victim]);
            for (ulong change = 0; change < 1 + (round % 3); change++)
            {
                ulong random = Samples.Mix((round * 4) + change);
                payload[(int)(random % (ulong)payload.Length)] = (byte)(random >> 40);
            }

            List<byte[]> hostile = [.. chunks];
            hostile[victim] = Chunk((TraceChunkKind)chunks[victim][1], (ulong)victim, payload);
            using TraceReader reader = TraceReader.Open((byte[])[.. hostile.SelectMany(chunk => chunk)]);
            TraceCursor cursor = reader.Events();
            TraceEvent item = new();
            while (cursor.MoveNext(item))
            {
                Assert.NotEmpty(item.ToString());
            }

            whole += reader.Status.IsWhole ? 1 : 0;
        }

        Assert.InRange(whole, 1, 2999);
    }

    [Fact]
    public void Create_ExistingFile_NeedsOverwrite()
    {
        string path = Path.Combine(_directory, "a.vmtrace");
        TraceWriter.Create(path, Samples.Header).Dispose();
        TraceFileException error = Assert.Throws<TraceFileException>(() => TraceWriter.Create(path, Samples.Header));
        Assert.Contains("exists already", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', error.Message);
        using (TraceWriter writer = TraceWriter.Create(path, Samples.Header, overwrite: true))
        {
            writer.Finish(Samples.End());
        }

        using TraceReader reader = TraceReader.Open(path);
        Assert.True(reader.Status.IsWhole);
    }

    [Fact]
    public void Create_BadHeader_DoesNotTouchTheFile()
    {
        string path = Path.Combine(_directory, "kept.vmtrace");
        File.WriteAllText(path, "kept");
        TraceHeader bad = new() { Source = new string('x', TraceHeader.MaxText + 1) };
        Assert.Throws<ArgumentException>(() => TraceWriter.Create(path, bad, overwrite: true));
        Assert.Equal("kept", File.ReadAllText(path));
    }

    [Fact]
    public void CreateAndOpen_NoSuchDirectory_OneLineErrors()
    {
        string path = Path.Combine(_directory, "none", "a.vmtrace");
        TraceFileException create = Assert.Throws<TraceFileException>(() => TraceWriter.Create(path, Samples.Header));
        Assert.StartsWith("cannot create " + path, create.Message, StringComparison.Ordinal);
        TraceFileException open = Assert.Throws<TraceFileException>(() => TraceReader.Open(path));
        Assert.StartsWith("cannot read " + path, open.Message, StringComparison.Ordinal);
        Assert.Throws<TraceFileException>(() => TraceReader.Open(_directory));
        Assert.Throws<TraceFileException>(() => TraceWriter.Create(_directory, Samples.Header, overwrite: true));
    }

    [Fact]
    public void Writer_DiesAfterFlush_LeavesEverythingFlushed()
    {
        string path = Path.Combine(_directory, "crash.vmtrace");
        TraceWriter writer = TraceWriter.Create(path, Samples.Header);
        TraceEvent item = new();
        for (ulong i = 0; i < 100; i++)
        {
            writer.Append(Samples.Exit(item, i));
        }

        writer.Flush();
        writer.Append(Samples.Exit(item, 100));

        // The writer is not disposed: this is what another process sees after a kill.
        byte[] seen = ReadShared(path);
        using TraceReader reader = TraceReader.Open(seen);
        Assert.Equal(TraceStatusKind.Truncated, reader.Status.Kind);
        Assert.Equal(1, reader.Status.Chunk);
        Assert.Equal(seen.Length, reader.Status.Offset);
        Assert.Equal(100UL, reader.EventCount);
        Assert.False(reader.HasEnd);

        writer.Dispose();
        using TraceReader disposed = TraceReader.Open(path);
        Assert.Equal(TraceStatusKind.Truncated, disposed.Status.Kind);
        Assert.Equal(101UL, disposed.EventCount);
    }

    [Fact]
    public void Writer_DiskFull_ThrowsOneLineAndStopsWriting()
    {
        using FullStream stream = new(2000);
        using TraceWriter writer = new(stream, Samples.Header, new() { CompressionLevel = 0, ChunkSize = 500 });
        TraceEvent item = new();
        TraceFileException error = Assert.Throws<TraceFileException>(() =>
        {
            for (ulong i = 0; i < 1000; i++)
            {
                writer.Append(Samples.Exit(item, i));
            }
        });
        Assert.Equal("cannot write the trace: disk full", error.Message);
        Assert.Throws<InvalidOperationException>(() => writer.Append(item));
        using TraceReader reader = TraceReader.Open(stream.Kept.ToArray());
        Assert.Equal(TraceStatusKind.Truncated, reader.Status.Kind);
        Assert.True(reader.EventCount > 0);
    }

    [Fact]
    public void Writer_FieldOverMaximum_ThrowsAndKeepsTheTraceGood()
    {
        using MemoryStream stream = new();
        using TraceWriter writer = new(stream, Samples.Header, leaveOpen: true);
        TraceEvent item = new(TraceEventKind.Exit);
        item.SetWord(3, 1UL << 32);
        ArgumentException error = Assert.Throws<ArgumentException>(() => writer.Append(item));
        Assert.Contains("exit: reason", error.Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => writer.Append(new(TraceEventKind.End)));
        Assert.Throws<ArgumentException>(() => writer.Append(new()));
        writer.Append(Samples.Exit(item, 1));
        Assert.Throws<InvalidOperationException>(() => writer.AddBlob(Samples.Image));
        writer.Finish(Samples.End());
        Assert.Throws<InvalidOperationException>(() => writer.Append(item));
        using TraceReader reader = TraceReader.Open(stream.ToArray());
        Assert.True(reader.Status.IsWhole);
        Assert.Equal(2UL, reader.EventCount);
    }

    [Fact]
    public void AddBlob_UnknownOrTwice_Refused()
    {
        using MemoryStream stream = new();
        using TraceWriter writer = new(stream, Samples.Header, leaveOpen: true);
        Assert.Throws<ArgumentException>(() => writer.AddBlob([9, 9]));
        writer.AddBlob(Samples.Image);
        Assert.Throws<InvalidOperationException>(() => writer.AddBlob(Samples.Image));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1 << 20)]
    [InlineData((1 << 20) + 1)]
    [InlineData((5 << 20) + 77)]
    public void AddBlob_AnyLength_RoundTrips(int length)
    {
        byte[] image = Samples.MakeImage(length);
        TraceHeader header = new() { Blobs = [TraceBlobReference.Of("a", "same", image), TraceBlobReference.Of("b", "same", image)] };
        using MemoryStream stream = new();
        using (TraceWriter writer = new(stream, header, leaveOpen: true))
        {
            writer.AddBlob(image);
            writer.Finish(Samples.End());
        }

        using TraceReader reader = TraceReader.Open(stream, leaveOpen: true);
        Assert.Equal("whole", reader.Status.ToString());
        Assert.Equal(image, reader.ReadBlob(reader.Blobs[0]));
        Assert.Equal(image, reader.ReadBlob(reader.Blobs[1]));
    }

    [Fact]
    public void Append_SteadyState_AllocatesNothing()
    {
        using TraceWriter writer = new(Stream.Null, Samples.Header, new() { CompressionLevel = 0 });
        TraceEvent item = new();
        Fill(writer, item, 5000);

        // The list of index rows grows once in many chunks, so most rounds allocate nothing at all.
        Assert.Equal(0, Enumerable.Range(0, 5).Min(_ =>
        {
            long start = GC.GetAllocatedBytesForCurrentThread();
            Fill(writer, item, 4000);
            return GC.GetAllocatedBytesForCurrentThread() - start;
        }));

        using TraceWriter compressing = new(Stream.Null, Samples.Header);
        Fill(compressing, item, 10_000);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Fill(compressing, item, 500);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1024);
    }

    [Fact]
    public void MoveNext_SteadyState_AllocatesNothing()
    {
        byte[] bytes = Samples.Exits(20_000, new() { CompressionLevel = 0 });
        using TraceReader reader = TraceReader.Open(bytes);
        TraceCursor cursor = reader.Events();
        TraceEvent item = new();
        for (int i = 0; i < 5000; i++)
        {
            cursor.MoveNext(item);
        }

        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 14_000; i++)
        {
            cursor.MoveNext(item);
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public void Cursor_SeekAnywhere_ReadsThatEvent()
    {
        byte[] bytes = Samples.Exits(1000, new() { ChunkSize = 700 });
        using TraceReader reader = TraceReader.Open(bytes);
        Assert.True(reader.Index.Length > 10);
        TraceCursor cursor = reader.Events();
        TraceCursor other = reader.Events();
        TraceEvent item = new();
        TraceEvent expected = new();
        TraceEvent second = new();
        for (ulong i = 0; i < 1000; i++)
        {
            ulong wanted = Samples.Mix(i) % 1000;
            Assert.True(cursor.Seek(wanted));
            Assert.Equal(wanted, cursor.Next);
            Assert.True(cursor.MoveNext(item));
            Assert.Equal(wanted, item.Sequence);
            Assert.True(Samples.Exit(expected, wanted).SameAs(item));
            Assert.True(other.MoveNext(second));
            Assert.Equal(i, second.Sequence);
            Assert.True(cursor.SeekExit(wanted) && cursor.Next == wanted);
        }

        Assert.True(cursor.Seek(1000));
        Assert.True(cursor.MoveNext(item));
        Assert.Equal(TraceEventKind.End, item.Kind);
        Assert.True(cursor.Seek(1001));
        Assert.False(cursor.MoveNext(item));
        Assert.False(cursor.Seek(1002));
        Assert.False(cursor.SeekExit(1000));
        Assert.False(cursor.SeekEntry(0));
        Assert.True(reader.TryReadEnd(item));
        Assert.Equal(1000UL, item.Exits);
    }

    [Fact]
    public void Reader_FileOnDisk_SeesChangesAfterOpening()
    {
        string path = Path.Combine(_directory, "changing.vmtrace");
        byte[] bytes = Samples.Exits(1000, new() { ChunkSize = 700 });
        File.WriteAllBytes(path, bytes);
        using TraceReader reader = TraceReader.Open(path);
        Assert.True(reader.Status.IsWhole);
        long at = reader.Index[5].Offset + 60;
        using (FileStream file = new(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            file.Position = at;
            file.WriteByte((byte)(bytes[at] ^ 1));
        }

        Assert.Throws<TraceFileException>(() => reader.Events().Seek(reader.Index[5].First));
        Assert.True(reader.Events().Seek(reader.Index[4].First));
    }

    [Fact]
    public void Retired_BackwardsAndManyVcpus_AreExact()
    {
        using MemoryStream stream = new();
        using TraceWriter writer = new(stream, Samples.Header, new() { ChunkSize = 100 }, leaveOpen: true);
        List<(int Vcpu, ulong Retired)> written = [];
        TraceEvent item = new();
        for (ulong i = 0; i < 200; i++)
        {
            item.Clear(TraceEventKind.Sync);
            item.Vcpu = (int)(Samples.Mix(i) % TraceSchema.MaxVcpus);
            item.Retired = (i & 3) == 0 ? ulong.MaxValue - i : Samples.Mix(i) >> (int)(i % 64);
            written.Add((item.Vcpu, item.Retired));
            writer.Append(item);
        }

        writer.Finish(Samples.End());
        using TraceReader reader = TraceReader.Open(stream.ToArray());
        Assert.True(reader.Status.IsWhole);
        TraceCursor cursor = reader.Events();
        foreach ((int vcpu, ulong retired) in written)
        {
            Assert.True(cursor.MoveNext(item));
            Assert.Equal((vcpu, retired), (item.Vcpu, item.Retired));
        }
    }

    private static void Fill(TraceWriter writer, TraceEvent item, int count)
    {
        for (int i = 0; i < count; i++)
        {
            writer.Append(Samples.Exit(item, (ulong)i));
        }
    }

    private static byte[] ReadShared(string path)
    {
        using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        byte[] bytes = new byte[file.Length];
        file.ReadExactly(bytes);
        return bytes;
    }

    private static byte[] Chunk(TraceChunkKind kind, ulong sequence, byte[] payload)
    {
        byte[] head = new byte[TraceChunk.MaxHead];
        int length = TraceChunk.WriteHead(head, kind, sequence, false, payload.Length, payload, new Crc64());
        return [.. head[..length], .. payload];
    }

    private static List<byte[]> Split(byte[] bytes)
    {
        List<byte[]> chunks = [];
        int offset = 0;
        while (offset < bytes.Length)
        {
            Assert.Equal(MsgPackError.None, TraceChunk.ReadHead(bytes.AsSpan(offset), out TraceChunkHead head));
            chunks.Add(bytes[offset..(offset + (int)head.Length)]);
            offset += (int)head.Length;
        }

        return chunks;
    }

    private static byte[] Payload(byte[] chunk)
    {
        Assert.Equal(MsgPackError.None, TraceChunk.ReadHead(chunk, out TraceChunkHead head));
        Assert.Equal(head.Checksum, BinaryPrimitives.ReadUInt64BigEndian(chunk.AsSpan(head.ChecksumAt + 1)));
        return chunk[head.HeadLength..];
    }

    private sealed class FullStream(int room) : Stream
    {
        public MemoryStream Kept { get; } = new();

        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

        public override void Write(ReadOnlySpan<byte> buffer)
        {
            int fits = (int)Math.Min(buffer.Length, room - Kept.Length);
            Kept.Write(buffer[..fits]);
            if (fits < buffer.Length)
            {
                throw new IOException("disk full");
            }
        }
    }
}
