using System.Buffers.Binary;
using System.IO.Compression;
using K4os.Compression.LZ4;

namespace VmFuzz.Machines;

/// <summary>The compressed kernel inside a bzImage ("The Linux/x86 Boot Protocol", fields payload_offset and payload_length).</summary>
internal static class KernelPayload
{
    // Fields of the header, from version 2.08 on.
    private const int Version = 0x208;
    private const int PayloadOffset = 0x248;
    private const int PayloadLength = 0x24C;

    // The legacy frame of LZ4, which Linux uses: blocks of 8 MiB before compression, each with its size in front.
    private const uint Lz4Legacy = 0x184C_2102;
    private const int Lz4Block = 8 << 20;
    private const ushort Gzip = 0x8B1F;

    // Both formats can make at most 255, respectively 1032 bytes of one.
    private const long Lz4Ratio = 255;
    private const long GzipRatio = 1032;

    // Behind the payload stands its size before compression.
    private const int SizeField = 4;

    /// <summary>Largest kernel that is taken out: 256 MiB.</summary>
    public const int MaxKernel = 256 << 20;

    /// <summary>Whether the payload is compressed in a way that is read here.</summary>
    public static bool IsReadable(ReadOnlyMemory<byte> image) => TryFind(image, out ReadOnlyMemory<byte> payload) && MethodOf(payload.Span) is not null;

    /// <summary>Takes the kernel out.</summary>
    /// <param name="kernel">A bzImage whose payload can be read.</param>
    /// <param name="extracted">The kernel, when the result is null.</param>
    /// <returns>What is wrong, in one line that says what to do; or null.</returns>
    public static string? TryExtract(MachineImage kernel, out ReadOnlyMemory<byte> extracted)
    {
        extracted = default;
        if (!TryFind(kernel.Bytes, out ReadOnlyMemory<byte> payload) || MethodOf(payload.Span) is not { } method)
        {
            return $"{kernel.Name}: the compressed kernel does not lie in the image's {kernel.Bytes.Length} bytes; it may be truncated: give the whole image";
        }

        ReadOnlyMemory<byte> data = payload[..^SizeField];
        uint size = BinaryPrimitives.ReadUInt32LittleEndian(payload.Span[^SizeField..]);
        if (size is 0 or > MaxKernel || size > data.Length * method.Ratio)
        {
            return $"{kernel.Name}: the compressed kernel says that it has {size} bytes, which {data.Length} compressed ones cannot hold; the image is damaged: give another";
        }

        byte[] bytes = new byte[size];
        if (!method.Decode(data, bytes))
        {
            return $"{kernel.Name}: the compressed kernel cannot be unpacked ({method.Name}); the image is damaged: give another";
        }

        extracted = bytes;
        return null;
    }

    private static bool TryFind(ReadOnlyMemory<byte> image, out ReadOnlyMemory<byte> payload)
    {
        payload = default;
        var reader = new ImageReader(image.Span);
        ulong offset = (ulong)BzImage.SystemOffset(image.Span) + reader.Field(PayloadOffset, 4);
        ulong length = reader.Field(PayloadLength, 4);
        if (BzImage.VersionOf(image.Span) < Version || length <= 2 * SizeField || !reader.Contains(offset, length))
        {
            return false;
        }

        payload = image.Slice((int)offset, (int)length);
        return true;
    }

    private static Method? MethodOf(ReadOnlySpan<byte> payload) =>
        BinaryPrimitives.ReadUInt32LittleEndian(payload) == Lz4Legacy ? new Method("LZ4", Lz4Ratio, DecodeLz4)
        : BinaryPrimitives.ReadUInt16LittleEndian(payload) == Gzip ? new Method("gzip", GzipRatio, DecodeGzip)
        : null;

    private static bool DecodeLz4(ReadOnlyMemory<byte> data, byte[] kernel)
    {
        ReadOnlySpan<byte> rest = data.Span[4..];
        Span<byte> room = kernel;
        while (!room.IsEmpty)
        {
            if (rest.Length < 4)
            {
                return false;
            }

            uint size = BinaryPrimitives.ReadUInt32LittleEndian(rest);
            rest = rest[4..];
            if (size == 0 || size > (uint)rest.Length)
            {
                return false;
            }

            int written = LZ4Codec.Decode(rest[..(int)size], room[..Math.Min(room.Length, Lz4Block)]);
            if (written <= 0)
            {
                return false;
            }

            rest = rest[(int)size..];
            room = room[written..];
        }

        return true;
    }

    private static bool DecodeGzip(ReadOnlyMemory<byte> data, byte[] kernel)
    {
        try
        {
            using var stream = new GZipStream(new MemoryStream(data.ToArray()), CompressionMode.Decompress);
            stream.ReadExactly(kernel);
            return true;
        }
        catch (Exception error) when (error is InvalidDataException or EndOfStreamException)
        {
            return false;
        }
    }

    private sealed record Method(string Name, long Ratio, Func<ReadOnlyMemory<byte>, byte[], bool> Decode);
}
