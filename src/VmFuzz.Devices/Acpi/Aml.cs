using System.Buffers.Binary;
using System.Text;

namespace VmFuzz.Devices.Acpi;

/// <summary>
/// Encodes ACPI machine language (ACPI Specification, "ACPI Machine Language (AML) Specification"): as much as a small
/// namespace needs. Every method gives the bytes of one term.
/// </summary>
internal static class Aml
{
    private const byte ZeroOp = 0x00;
    private const byte NameOp = 0x08;
    private const byte ByteOp = 0x0A;
    private const byte DWordOp = 0x0C;
    private const byte ScopeOp = 0x10;
    private const byte BufferOp = 0x11;
    private const byte PackageOp = 0x12;
    private const byte ExtendedOp = 0x5B;
    private const byte DeviceOp = 0x82;

    /// <summary>Scope (path) { terms }.</summary>
    public static byte[] Scope(string path, params byte[][] terms) => [ScopeOp, .. Sized([Path(path), .. terms])];

    /// <summary>Device (path) { terms }.</summary>
    public static byte[] Device(string path, params byte[][] terms) => [ExtendedOp, DeviceOp, .. Sized([Path(path), .. terms])];

    /// <summary>Name (path, value).</summary>
    public static byte[] Name(string path, byte[] value) => [NameOp, .. Path(path), .. value];

    /// <summary>Package () { values }.</summary>
    public static byte[] Package(params byte[][] values) => [PackageOp, .. Sized([[(byte)values.Length], .. values])];

    /// <summary>An integer.</summary>
    public static byte[] Integer(byte value) => value == 0 ? [ZeroOp] : [ByteOp, value];

    /// <summary>EisaId (id): three letters and four hexadecimal digits, such as "PNP0A03".</summary>
    public static byte[] EisaId(string id)
    {
        uint letters = ((uint)(id[0] - '@') << 10) | ((uint)(id[1] - '@') << 5) | (uint)(id[2] - '@');
        uint number = Convert.ToUInt32(id[3..], 16);
        return [DWordOp, (byte)(letters >> 8), (byte)letters, (byte)(number >> 8), (byte)number];
    }

    /// <summary>ResourceTemplate () { descriptors }: a buffer that ends in an end tag without a checksum.</summary>
    public static byte[] Resources(params byte[][] descriptors)
    {
        byte[] bytes = [.. descriptors.SelectMany(static d => d), 0x79, 0];
        return [BufferOp, .. Sized([Integer((byte)bytes.Length), bytes])];
    }

    /// <summary>IO (Decode16): ports that a device has.</summary>
    public static byte[] Ports(ushort first, byte count) =>
        [0x47, 1, (byte)first, (byte)(first >> 8), (byte)first, (byte)(first >> 8), 1, count];

    /// <summary>IRQNoFlags: an edge-triggered ISA interrupt line.</summary>
    public static byte[] Irq(int line) => [0x22, (byte)(1 << line), (byte)((1 << line) >> 8)];

    /// <summary>WordBusNumber: a range of PCI buses that a bridge produces.</summary>
    public static byte[] BusRange(ushort first, ushort last) => WordSpace(2, 0, first, last);

    /// <summary>WordIO: a range of ports that a bridge passes on.</summary>
    public static byte[] PortRange(ushort first, ushort last) => WordSpace(1, 3, first, last);

    /// <summary>DWordMemory: a range of uncached, writable addresses that a bridge passes on.</summary>
    public static byte[] MemoryRange(uint first, uint last)
    {
        byte[] bytes = new byte[26];
        bytes[0] = 0x87;
        bytes[1] = 23;
        bytes[4] = 0x0C; // Both ends are fixed.
        bytes[5] = 1;
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(10), first);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(14), last);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(22), last - first + 1);
        return bytes;
    }

    private static byte[] WordSpace(byte type, byte flags, ushort first, ushort last)
    {
        byte[] bytes = new byte[16];
        bytes[0] = 0x88;
        bytes[1] = 13;
        bytes[3] = type;
        bytes[4] = 0x0C;
        bytes[5] = flags;
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(8), first);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(10), last);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(14), (ushort)(last - first + 1));
        return bytes;
    }

    // A path from the root ("\_SB") or one segment ("PCI0"), filled up to four characters.
    private static byte[] Path(string path) => path[0] == '\\'
        ? [(byte)'\\', .. Encoding.ASCII.GetBytes(path[1..].PadRight(4, '_'))]
        : Encoding.ASCII.GetBytes(path.PadRight(4, '_'));

    // "Package Length Encoding": the length counts its own bytes.
    private static byte[] Sized(IEnumerable<byte[]> parts)
    {
        byte[] body = [.. parts.SelectMany(static part => part)];
        int length = body.Length + 1;
        if (length < 0x40)
        {
            return [(byte)length, .. body];
        }

        length++;
        return length < 0x1000
            ? [(byte)(0x40 | (length & 0xF)), (byte)(length >> 4), .. body]
            : throw new ArgumentException("A term is too long.", nameof(parts));
    }
}
