using System.Buffers.Binary;
using System.Text;
using VmFuzz.Devices.Apic;

namespace VmFuzz.Devices.Acpi;

/// <summary>
/// The tables by which a PC of this project describes itself (ACPI Specification, "ACPI Software Programming Model"):
/// RSDP, RSDT, XSDT, FADT, FACS, DSDT, MADT, HPET. Two blocks of bytes and the places in them that depend on where they are put.
/// </summary>
/// <remarks>
/// A machine without firmware puts them into memory itself (<see cref="Place"/>); firmware finds them as files of
/// <see cref="FwCfg"/> with a script that says how to link them (<see cref="AddTo"/>).
/// </remarks>
public sealed class AcpiTables
{
    /// <summary>The interrupt line of the system control interrupt.</summary>
    public const byte SciLine = 9;

    private const string TablesFile = "etc/acpi/tables";
    private const string PointerFile = "etc/acpi/rsdp";
    private const string LoaderFile = "etc/table-loader";
    private const int HeaderLength = 36;
    private const int ChecksumOffset = 9;
    private const ushort ResetPort = ResetControl.ResetPort;

    private readonly List<byte> _tables = [];
    private readonly List<(int Offset, int Size, int Target)> _pointers = [];
    private readonly List<(int Start, int Length)> _checksums = [];
    private readonly byte[] _rsdp = new byte[36];
    private readonly int _rsdt;
    private readonly int _xsdt;

    /// <summary>Makes the tables.</summary>
    /// <param name="processors">Number of processors; their APICs are numbered from 0.</param>
    /// <param name="lowMemory">Bytes of memory below 4 GiB; what lies between there and the IO APIC is PCI's.</param>
    public AcpiTables(int processors, ulong lowMemory)
    {
        int facs = Add([.. "FACS"u8, .. Word(64), .. new byte[24], 1, .. new byte[31]]);
        int dsdt = AddTable("DSDT", 2, Namespace((uint)lowMemory));
        int fadt = AddTable("FACP", 3, FixedDescription());
        Point(fadt + 36, 4, facs);
        Point(fadt + 40, 4, dsdt);
        Point(fadt + 132, 8, facs);
        Point(fadt + 140, 8, dsdt);
        int madt = AddTable("APIC", 1, InterruptControllers(processors));
        int hpet = AddTable("HPET", 1, [.. Word(Hpet.BlockId), .. Register(0, 64, Hpet.DefaultAddress), 0, 0x80, 0, 0]);
        int[] all = [fadt, madt, hpet];
        _rsdt = AddList("RSDT", 4, all);
        _xsdt = AddList("XSDT", 8, all);
        "RSD PTR "u8.CopyTo(_rsdp);
        "VMFUZZ"u8.CopyTo(_rsdp.AsSpan(9));
        _rsdp[15] = 2;
        _rsdp[20] = (byte)_rsdp.Length;
    }

    /// <summary>Bytes of the tables without the root pointer.</summary>
    public int Length => _tables.Count;

    /// <summary>The tables and the root pointer as they stand at an address, complete with checksums.</summary>
    /// <param name="address">Where the root pointer is put, on 64 bytes, below 4 GiB; the tables follow behind it.</param>
    public byte[] Place(uint address)
    {
        const int First = 64;
        byte[] image = new byte[First + _tables.Count];
        _rsdp.CopyTo(image, 0);
        _tables.CopyTo(image, First);
        Span<byte> tables = image.AsSpan(First);
        foreach ((int offset, _, int target) in _pointers)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(tables[offset..], address + First + (uint)target);
        }

        foreach ((int start, int length) in _checksums)
        {
            tables[start + ChecksumOffset] = Checksum(tables.Slice(start, length));
        }

        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(16), address + First + (uint)_rsdt);
        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(24), address + First + (uint)_xsdt);
        image[8] = Checksum(image.AsSpan(0, 20));
        image[32] = Checksum(image.AsSpan(0, 36));
        return image;
    }

    /// <summary>Adds the tables as files for firmware, with the script that links them.</summary>
    public FwCfgTable AddTo(FwCfgTable table)
    {
        ArgumentNullException.ThrowIfNull(table);
        byte[] tables = [.. _tables];
        byte[] rsdp = [.. _rsdp];
        var script = new LoaderScript();
        script.Allocate(PointerFile, 16, LoaderScript.LowZone);
        script.Allocate(TablesFile, 64, LoaderScript.HighZone);
        foreach ((int offset, int size, int target) in _pointers)
        {
            // What stands at the place is the offset, to which the file's address is added.
            BinaryPrimitives.WriteUInt32LittleEndian(tables.AsSpan(offset), (uint)target);
            script.AddPointer(TablesFile, TablesFile, offset, size);
        }

        foreach ((int start, int length) in _checksums)
        {
            script.AddChecksum(TablesFile, start + ChecksumOffset, start, length);
        }

        BinaryPrimitives.WriteUInt32LittleEndian(rsdp.AsSpan(16), (uint)_rsdt);
        BinaryPrimitives.WriteUInt32LittleEndian(rsdp.AsSpan(24), (uint)_xsdt);
        script.AddPointer(PointerFile, TablesFile, 16, 4);
        script.AddPointer(PointerFile, TablesFile, 24, 8);
        script.AddChecksum(PointerFile, 8, 0, 20);
        script.AddChecksum(PointerFile, 32, 0, 36);
        return table.WithFile(TablesFile, tables).WithFile(PointerFile, rsdp).WithFile(LoaderFile, script.ToArray());
    }

    // \_S5: soft-off by the type of sleep that PowerControl takes. One PCI host bridge, the first serial port, the clock.
    private static byte[] Namespace(uint lowMemory) =>
    [
        .. Aml.Name("\\_S5", Aml.Package(Aml.Integer(PowerControl.SoftOff), Aml.Integer(PowerControl.SoftOff), Aml.Integer(0), Aml.Integer(0))),
        .. Aml.Scope("\\_SB", Aml.Device(
            "PCI0",
            Aml.Name("_HID", Aml.EisaId("PNP0A03")),
            Aml.Name("_ADR", Aml.Integer(0)),
            Aml.Name("_CRS", Aml.Resources(
                Aml.BusRange(0, 0xFF),
                Aml.Ports(PciHost.FirstPort, 8),
                Aml.PortRange(0, PciHost.FirstPort - 1),
                Aml.PortRange(PciHost.FirstPort + 8, 0xFFFF),
                Aml.MemoryRange(0xA_0000, 0xB_FFFF),
                Aml.MemoryRange(Math.Max(lowMemory, 0x10_0000), (uint)IoApic.DefaultAddress - 1))),
            Aml.Device("COM1", Aml.Name("_HID", Aml.EisaId("PNP0501")), Aml.Name("_CRS", Aml.Resources(Aml.Ports(Serial16550.FirstPort, 8), Aml.Irq(4)))),
            Aml.Device("RTC", Aml.Name("_HID", Aml.EisaId("PNP0B00")), Aml.Name("_CRS", Aml.Resources(Aml.Ports(Rtc.FirstPort, 2), Aml.Irq(8)))))),
    ];

    // "Fixed ACPI Description Table (FADT)", without its header. No SMI command port: the platform is in ACPI mode.
    private static byte[] FixedDescription()
    {
        byte[] bytes = new byte[244];
        Span<byte> table = bytes;
        table[46] = SciLine;
        BinaryPrimitives.WriteUInt32LittleEndian(table[56..], PowerControl.FirstPort);
        BinaryPrimitives.WriteUInt32LittleEndian(table[64..], PowerControl.ControlPort);
        BinaryPrimitives.WriteUInt32LittleEndian(table[76..], PmTimer.DefaultPort);
        table[88] = 4; // Bytes of the event block, of the control block, of the timer
        table[89] = 2;
        table[91] = 4;
        BinaryPrimitives.WriteUInt16LittleEndian(table[96..], 0xFFF); // No C2, no C3
        BinaryPrimitives.WriteUInt16LittleEndian(table[98..], 0xFFF);
        table[108] = 0x32; // Century
        table[109] = 3; // ISA devices, 8042
        BinaryPrimitives.WriteUInt32LittleEndian(table[112..], 1 | (1 << 2) | (1 << 4) | (1 << 5) | (1 << 10)); // WBINVD, C1, no fixed buttons, reset register
        Register(1, 8, ResetPort).CopyTo(table[116..]);
        table[128] = 6; // Hard reset
        Register(1, 32, PowerControl.FirstPort).CopyTo(table[148..]);
        Register(1, 16, PowerControl.ControlPort).CopyTo(table[172..]);
        Register(1, 32, PmTimer.DefaultPort).CopyTo(table[208..]);
        return bytes[HeaderLength..];
    }

    // "Multiple APIC Description Table (MADT)".
    private static byte[] InterruptControllers(int processors)
    {
        List<byte> bytes = [.. Word((uint)LocalApic.DefaultAddress), .. Word(1)];
        for (int i = 0; i < processors; i++)
        {
            bytes.AddRange([0, 8, (byte)i, (byte)i, .. Word(1)]);
        }

        bytes.AddRange([1, 12, 0, 0, .. Word((uint)IoApic.DefaultAddress), .. Word(0)]);
        bytes.AddRange([2, 10, 0, 0, .. Word(2), 0, 0]); // The interval timer ends at pin 2.
        bytes.AddRange([2, 10, 0, SciLine, .. Word(SciLine), 0x0D, 0]); // Active high, level
        bytes.AddRange([4, 6, 0xFF, 0, 0, 1]); // NMI at LINT1 of all
        return [.. bytes];
    }

    // "Generic Address Structure": 0 is memory, 1 is ports.
    private static byte[] Register(byte space, byte bits, ulong address)
    {
        byte[] bytes = new byte[12];
        bytes[0] = space;
        bytes[1] = bits;
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(4), address);
        return bytes;
    }

    private static byte[] Word(uint value)
    {
        byte[] bytes = new byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, value);
        return bytes;
    }

    // What makes the sum of all bytes 0.
    private static byte Checksum(ReadOnlySpan<byte> bytes)
    {
        byte sum = 0;
        foreach (byte value in bytes)
        {
            sum += value;
        }

        return (byte)-sum;
    }

    private int AddList(string signature, int size, int[] targets)
    {
        int list = AddTable(signature, 1, new byte[size * targets.Length]);
        for (int i = 0; i < targets.Length; i++)
        {
            Point(list + HeaderLength + (size * i), size, targets[i]);
        }

        return list;
    }

    private int AddTable(string signature, byte revision, byte[] body)
    {
        int length = HeaderLength + body.Length;
        int start = Add(
        [
            .. Encoding.ASCII.GetBytes(signature), .. Word((uint)length), revision, 0,
            .. "VMFUZZ"u8, .. "VMFUZZPC"u8, .. Word(1), .. "VMFZ"u8, .. Word(1), .. body,
        ]);
        _checksums.Add((start, length));
        return start;
    }

    private int Add(ReadOnlySpan<byte> bytes)
    {
        while (_tables.Count % 64 != 0)
        {
            _tables.Add(0);
        }

        int start = _tables.Count;
        _tables.AddRange(bytes);
        return start;
    }

    private void Point(int offset, int size, int target) => _pointers.Add((offset, size, target));
}
