using System.IO.Compression;
using System.IO.Hashing;

namespace VmFuzz.Trace;

/// <summary>The head of a chunk, decoded.</summary>
internal readonly record struct TraceChunkHead(
    TraceChunkKind Kind, ulong Sequence, bool Compressed, int RawLength, ulong Checksum, int PayloadLength, int HeadLength, int ChecksumAt)
{
    public long Length => (long)HeadLength + PayloadLength;
}

/// <summary>
/// Framing: <c>[kind, sequence, codec, raw length, checksum, bin]</c>. The checksum is the CRC-64 (ECMA-182) of all bytes
/// of the chunk but the nine of the checksum itself.
/// </summary>
internal static class TraceChunk
{
    /// <summary>Largest payload before compression. Unit: bytes.</summary>
    public const int MaxRaw = 16 << 20;
    /// <summary>No head is longer. Unit: bytes.</summary>
    public const int MaxHead = 31;
    /// <summary>First byte of every chunk: an array of six.</summary>
    public const byte FirstByte = 0x96;

    private const int ChecksumSize = 9;

    /// <summary>Writes the head, with its checksum.</summary>
    /// <returns>Bytes written.</returns>
    public static int WriteHead(Span<byte> into, TraceChunkKind kind, ulong sequence, bool compressed, int rawLength, ReadOnlySpan<byte> payload, Crc64 crc)
    {
        MsgPackWriter writer = new(into);
        writer.WriteArrayHeader(6);
        writer.WriteUInt((ulong)kind);
        writer.WriteUInt(sequence);
        writer.WriteUInt(compressed ? 1UL : 0);
        writer.WriteUInt((ulong)rawLength);
        int checksumAt = writer.Position;
        writer.WriteUInt64Fixed(0);
        writer.WriteBinHeader(payload.Length);
        int length = writer.Position;
        ulong checksum = Checksum(crc, into[..length], checksumAt, payload);
        MsgPackWriter patch = new(into.Slice(checksumAt, ChecksumSize));
        patch.WriteUInt64Fixed(checksum);
        return length;
    }

    /// <summary>Reads a head from the bytes at hand.</summary>
    /// <returns>The error; <see cref="MsgPackError.End"/> means that more bytes could make it readable.</returns>
    public static MsgPackError ReadHead(ReadOnlySpan<byte> bytes, out TraceChunkHead head)
    {
        head = default;
        MsgPackReader reader = new(bytes);
        if (bytes.IsEmpty || bytes[0] != FirstByte)
        {
            return bytes.IsEmpty ? MsgPackError.End : MsgPackError.Type;
        }

        // The count is known; asking for the array's head would also ask for as many bytes behind it.
        reader = new(bytes[1..]);
        if (!reader.TryReadUInt(0x7f, out ulong kind) || !reader.TryReadUInt(out ulong sequence)
            || !reader.TryReadUInt(1, out ulong codec) || !reader.TryReadUInt(MaxRaw, out ulong raw))
        {
            return reader.Error;
        }

        int checksumAt = reader.Position + 1;
        if (!reader.TryReadUInt64Fixed(out ulong checksum) || !reader.TryReadBinHeader(MaxRaw, out int length))
        {
            return reader.Error;
        }

        // Compression that does not shorten is not used; so a payload never outgrows its raw length.
        if (raw == 0 || length == 0 || (codec == 0 ? (ulong)length != raw : (ulong)length >= raw))
        {
            return MsgPackError.TooLarge;
        }

        head = new((TraceChunkKind)kind, sequence, codec == 1, (int)raw, checksum, length, reader.Position + 1, checksumAt);
        return MsgPackError.None;
    }

    /// <summary>The checksum of a chunk.</summary>
    public static ulong Checksum(Crc64 crc, ReadOnlySpan<byte> head, int checksumAt, ReadOnlySpan<byte> payload)
    {
        crc.Reset();
        crc.Append(head[..checksumAt]);
        crc.Append(head[(checksumAt + ChecksumSize)..]);
        crc.Append(payload);
        return crc.GetCurrentHashAsUInt64();
    }

    /// <summary>Inflates a payload to exactly the raw length.</summary>
    public static bool TryInflate(byte[] payload, int length, Span<byte> raw)
    {
        try
        {
            using MemoryStream source = new(payload, 0, length, writable: false);
            using ZLibStream inflate = new(source, CompressionMode.Decompress);
            int done = inflate.ReadAtLeast(raw, raw.Length, throwOnEndOfStream: false);
            Span<byte> more = stackalloc byte[1];
            return done == raw.Length && inflate.Read(more) == 0;
        }
        catch (InvalidDataException)
        {
            return false;
        }
    }
}
