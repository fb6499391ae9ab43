using System.Collections.Immutable;

namespace VmFuzz.Devices;

/// <summary>The reset values and the writable bits of a function's configuration space, 256 bytes each.</summary>
internal sealed record PciTable(ImmutableArray<byte> Values, ImmutableArray<byte> Writable);

/// <summary>One row: consecutive registers with one reset value and one mask of writable bits.</summary>
internal readonly record struct PciRow(int Offset, int Length, byte Value, byte Writable);

/// <summary>The built-in functions, row by row. Registers without a row read 0 and ignore writes.</summary>
internal static class PciTables
{
    /// <summary>Intel 82441FX, "PCI Configuration Space Mapped Registers".</summary>
    public static readonly PciTable HostBridge = Make(
        Word(0x00, 0x8086), // Vendor
        Word(0x02, 0x1237), // Device
        Word(0x04, 0x0006, 0x0040 | 0x0100), // Command: memory and master fixed
        Word(0x06, 0x0280), // Status: medium timing
        new(0x08, 1, 0x02, 0), // Revision
        new(0x0B, 1, 0x06, 0), // Class: bridge, host
        new(0x0D, 1, 0x00, 0xF8), // Master latency
        Word(0x2C, 0x1AF4), // Subsystem vendor
        Word(0x2E, 0x1100), // Subsystem
        new(0x50, 2, 0x00, 0xFF), // Bridge configuration
        new(0x52, 3, 0x00, 0xFF), // Data bus buffer control
        new(0x57, 1, 0x01, 0xFF), // DRAM control
        new(0x58, 1, 0x00, 0xFF), // DRAM timing
        new(0x59, 1, 0x00, 0x30), // Memory attributes 0: 0xf0000 only
        new(0x5A, 6, 0x00, 0x33), // Memory attributes 1 to 6
        new(0x60, 8, 0x01, 0xFF), // DRAM row boundaries
        new(0x68, 1, 0x00, 0xFF), // Fixed DRAM hole
        new(0x70, 1, 0x00, 0xFF), // Multi-transaction timer
        new(0x71, 1, 0x10, 0xFF), // Processor latency timer
        new(0x72, 1, 0x02, 0x78), // System-management memory
        new(0x90, 3, 0x00, 0xFF), // Error command and status
        new(0x93, 1, 0x00, 0x07)); // Turbo and reset control

    /// <summary>Intel 82371SB, "PCI to ISA Bridge" (function 0).</summary>
    public static readonly PciTable IsaBridge = Make(
        Word(0x00, 0x8086),
        Word(0x02, 0x7000),
        Word(0x04, 0x0007, 0x0008), // Command: I/O, memory and master fixed
        Word(0x06, 0x0200),
        new(0x0A, 1, 0x01, 0), // Class: bridge, ISA
        new(0x0B, 1, 0x06, 0),
        new(0x0E, 1, 0x80, 0), // Header: several functions
        new(0x4C, 1, 0x4D, 0xFF), // I/O recovery
        new(0x4E, 1, 0x03, 0xFF), // X-bus chip select
        new(0x4F, 1, 0x00, 0x01),
        new(0x60, 4, 0x80, 0x8F), // Routing of PIRQ A to D
        new(0x69, 1, 0x02, 0xFE), // Top of memory
        new(0x6A, 2, 0x00, 0xFF),
        new(0x70, 2, 0x80, 0xCF), // Routing of motherboard interrupts
        new(0x76, 2, 0x0C, 0x8F), // Motherboard DMA
        new(0x78, 2, 0x02, 0xFF), // Programmable chip select
        new(0x80, 1, 0x00, 0x7F), // APIC base
        new(0x82, 1, 0x00, 0x0F), // Deterministic latency
        new(0xA0, 1, 0x08, 0xFF), // System management
        new(0xA2, 8, 0x00, 0xFF),
        new(0xAC, 1, 0x00, 0xFF),
        new(0xAE, 1, 0x00, 0xFF));

    /// <summary>Intel 82371AB, "Power Management" (function 3).</summary>
    public static readonly PciTable PowerManagement = Make(
        Word(0x00, 0x8086),
        Word(0x02, 0x7113),
        Word(0x04, 0x0000, 0x0001),
        Word(0x06, 0x0280),
        new(0x08, 1, 0x03, 0),
        new(0x0A, 1, 0x80, 0), // Class: bridge, other
        new(0x0B, 1, 0x06, 0),
        Word(0x2C, 0x1AF4),
        Word(0x2E, 0x1100),
        new(0x3C, 1, 0x09, 0xFF), // Interrupt line
        new(0x3D, 1, 0x01, 0), // Interrupt pin A
        new(0x40, 1, 0x01, 0xC0), // Base of the power-management registers: I/O
        new(0x41, 1, 0x00, 0xFF),
        new(0x44, 0x17, 0x00, 0xFF), // Device monitors
        new(0x5B, 1, 0x02, 0xFF), // SMI on APM commands enabled: firmware takes system management as set up and leaves it
        new(0x5C, 4, 0x00, 0xFF),
        new(0x60, 0x20, 0x00, 0xFF),
        new(0x80, 1, 0x00, 0x01), // Power-management registers enabled
        new(0x90, 1, 0x01, 0xF0), // Base of the SMBus registers: I/O
        new(0x91, 1, 0x00, 0xFF),
        new(0xD2, 5, 0x00, 0xFF)); // SMBus host

    private static PciRow[] Word(int offset, ushort value, ushort writable = 0) =>
    [
        new(offset, 1, (byte)value, (byte)writable),
        new(offset + 1, 1, (byte)(value >> 8), (byte)(writable >> 8)),
    ];

    private static PciTable Make(params Rows[] rows)
    {
        byte[] values = new byte[PciConfiguration.Size];
        byte[] writable = new byte[PciConfiguration.Size];
        foreach (Rows group in rows)
        {
            foreach (PciRow row in group.Items)
            {
                values.AsSpan(row.Offset, row.Length).Fill(row.Value);
                writable.AsSpan(row.Offset, row.Length).Fill(row.Writable);
            }
        }

        return new PciTable([.. values], [.. writable]);
    }

    /// <summary>One or more rows, so that a table may mix bytes and words.</summary>
    private readonly struct Rows(params PciRow[] items)
    {
        public PciRow[] Items { get; } = items;

        public Rows(int offset, int length, byte value, byte writable)
            : this(new PciRow(offset, length, value, writable))
        {
        }

        public static implicit operator Rows(PciRow[] items) => new(items);
    }
}
