using System.Buffers.Binary;

namespace VmFuzz.Machines;

/// <summary>Little-endian fields of an image that nobody vouches for: what lies outside reads as zero and is remembered.</summary>
internal ref struct ImageReader(ReadOnlySpan<byte> bytes)
{
    private readonly ReadOnlySpan<byte> _bytes = bytes;

    /// <summary>Whether a field was asked for that does not lie in the image.</summary>
    public bool Failed { get; private set; }

    /// <summary>Reads a field.</summary>
    /// <param name="offset">Its place.</param>
    /// <param name="size">Its bytes: 1, 2, 4 or 8.</param>
    public ulong Field(ulong offset, int size)
    {
        if (!Contains(offset, (ulong)size))
        {
            Failed = true;
            return 0;
        }

        ReadOnlySpan<byte> field = _bytes.Slice((int)offset, size);
        return size switch
        {
            1 => field[0],
            2 => BinaryPrimitives.ReadUInt16LittleEndian(field),
            4 => BinaryPrimitives.ReadUInt32LittleEndian(field),
            _ => BinaryPrimitives.ReadUInt64LittleEndian(field),
        };
    }

    /// <summary>Whether a range lies in the image.</summary>
    public readonly bool Contains(ulong offset, ulong length) =>
        length <= (ulong)_bytes.Length && offset <= (ulong)_bytes.Length - length;
}
