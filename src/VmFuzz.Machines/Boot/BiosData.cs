using System.Buffers.Binary;
using VmFuzz.Arch;
using VmFuzz.Devices;
using VmFuzz.Memory;

namespace VmFuzz.Machines;

/// <summary>What kernels read of a BIOS's own data (IBM PS/2 and PC BIOS Interface Technical Reference, "BIOS Data Area").</summary>
internal static class BiosData
{
    private const ulong SerialPorts = 0x400;
    private const ulong ExtendedSegment = 0x40E;
    private const ulong BaseMemory = 0x413;

    /// <summary>Writes the serial port, the extended area's segment and size, and the memory below it.</summary>
    public static void Place(GuestMemory memory)
    {
        Put(memory, SerialPorts, Serial16550.FirstPort);
        Put(memory, ExtendedSegment, (ushort)(BootRequest.ConventionalEnd >> 4));
        Put(memory, BaseMemory, (ushort)(BootRequest.ConventionalEnd >> 10));

        // The extended area starts with its size in KiB.
        Put(memory, BootRequest.ConventionalEnd, 1);
    }

    private static void Put(GuestMemory memory, ulong address, ushort value)
    {
        Span<byte> bytes = stackalloc byte[2];
        BinaryPrimitives.WriteUInt16LittleEndian(bytes, value);
        memory.TryLoad(new Gpa(address), bytes);
    }
}
