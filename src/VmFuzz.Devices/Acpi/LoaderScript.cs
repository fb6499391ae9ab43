using System.Buffers.Binary;
using System.Text;

namespace VmFuzz.Devices.Acpi;

/// <summary>
/// The script by which firmware loads and links tables (QEMU "etc/table-loader"): commands of 128 bytes.
/// </summary>
internal sealed class LoaderScript
{
    /// <summary>Any memory below 4 GiB.</summary>
    public const byte HighZone = 1;

    /// <summary>0xf0000 to 0xfffff, where operating systems look for the root pointer.</summary>
    public const byte LowZone = 2;

    private const int CommandLength = 128;
    private const int NameLength = 56;

    private readonly List<byte> _bytes = [];

    /// <summary>Loads a file into memory.</summary>
    public void Allocate(string file, uint alignment, byte zone)
    {
        Span<byte> command = stackalloc byte[CommandLength];
        Begin(command, 1, file);
        BinaryPrimitives.WriteUInt32LittleEndian(command[60..], alignment);
        command[64] = zone;
        _bytes.AddRange(command);
    }

    /// <summary>Adds the address of one file to a little-endian number in another.</summary>
    public void AddPointer(string file, string target, int offset, int size)
    {
        Span<byte> command = stackalloc byte[CommandLength];
        Begin(command, 2, file);
        Encoding.ASCII.GetBytes(target, command.Slice(60, NameLength));
        BinaryPrimitives.WriteInt32LittleEndian(command[116..], offset);
        command[120] = (byte)size;
        _bytes.AddRange(command);
    }

    /// <summary>Makes the sum of a range of a file's bytes 0, by the byte at an offset.</summary>
    public void AddChecksum(string file, int offset, int start, int length)
    {
        Span<byte> command = stackalloc byte[CommandLength];
        Begin(command, 3, file);
        BinaryPrimitives.WriteInt32LittleEndian(command[60..], offset);
        BinaryPrimitives.WriteInt32LittleEndian(command[64..], start);
        BinaryPrimitives.WriteInt32LittleEndian(command[68..], length);
        _bytes.AddRange(command);
    }

    /// <summary>The commands in their order.</summary>
    public byte[] ToArray() => [.. _bytes];

    private static void Begin(Span<byte> command, byte kind, string file)
    {
        command.Clear();
        command[0] = kind;
        Encoding.ASCII.GetBytes(file, command.Slice(4, NameLength));
    }
}
