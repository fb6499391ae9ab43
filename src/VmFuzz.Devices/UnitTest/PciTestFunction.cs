using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Text;
using VmFuzz.Arch;

namespace VmFuzz.Devices.UnitTest;

/// <summary>
/// A PCI function that counts writes (QEMU "PCI Test Device", 1b36:0005): three tests behind a memory and three behind a port
/// range. A header says what to write where; what matches counts.
/// </summary>
/// <remarks>DEVIATION: the base address registers can be sized, but the ranges stay where they are.</remarks>
public sealed class PciTestFunction : Device, IPciFunction, IMmioDevice, IPortDevice
{
    /// <summary>Address of the memory range.</summary>
    public const uint MemoryAddress = 0xFEBF_0000;

    /// <summary>First port of the port range.</summary>
    public const ushort FirstPort = 0xC000;

    private const uint MemorySize = 4096;
    private const uint PortCount = 256;

    // The writes of a test go behind the header, each test to its own byte.
    private const uint MemoryTarget = 2048;
    private const uint PortTarget = 128;
    private const uint Data = 0xFA;
    private const byte NoTest = 0xFF;
    private const int HeaderLength = 16;

    private static readonly StateMap<PciTestFunction> s_map = new StateMapBuilder<PciTestFunction>()
        .Add(1, "test", static f => ref f._test)
        .Add(2, "count", static f => ref f._count)
        .Add(3, "memory base", static f => ref f._memoryBase)
        .Add(4, "port base", static f => ref f._portBase)
        .Add(5, "command", static f => ref f._command)
        .Build();

    private static readonly ImmutableArray<string> s_names = ["no-eventfd", "wildcard-eventfd", "datamatch-eventfd"];

    private byte _test;
    private uint _count;
    private uint _memoryBase;
    private uint _portBase;
    private ushort _command;

    /// <summary>Makes the function.</summary>
    public PciTestFunction()
        : base(ComponentId.PciTest)
    {
        Reset();
    }

    /// <inheritdoc/>
    protected override StateMap Map => s_map;

    /// <inheritdoc/>
    public override void Reset()
    {
        _test = NoTest;
        _count = 0;
        _memoryBase = MemoryAddress;
        _portBase = FirstPort;
        _command = 3;
        Touch();
    }

    /// <summary>Puts the function on bus 0 and its ranges on a bus.</summary>
    /// <param name="bus">Ports and memory.</param>
    /// <param name="host">The PCI host.</param>
    /// <param name="number">Device * 8 + function.</param>
    public void Attach(IoBus bus, PciHost host, int number)
    {
        ArgumentNullException.ThrowIfNull(bus);
        ArgumentNullException.ThrowIfNull(host);
        host.Add(number, this);
        bus.AddMmio(new Gpa(MemoryAddress), MemorySize, this);
        bus.AddPorts(FirstPort, (int)PortCount, this, widest: 4);
    }

    /// <inheritdoc/>
    public uint ReadConfiguration(int offset, int size)
    {
        uint word = (offset & ~3) switch
        {
            0x00 => 0x0005_1B36,
            0x04 => _command,
            0x08 => 0x00FF_0000, // Class: other
            0x10 => _memoryBase & ~(MemorySize - 1),
            0x14 => (_portBase & ~(PortCount - 1)) | 1,
            0x2C => 0x1100_1AF4,
            _ => 0,
        };
        return word >> (8 * (offset & 3)) & (uint.MaxValue >> (32 - (8 * size)));
    }

    /// <inheritdoc/>
    public void WriteConfiguration(int offset, int size, uint value)
    {
        switch (offset)
        {
            case 0x04:
                _command = (ushort)(value & 3);
                break;
            case 0x10 when size == 4:
                _memoryBase = value;
                break;
            case 0x14 when size == 4:
                _portBase = value;
                break;
            default:
                break;
        }
    }

    /// <inheritdoc/>
    public ulong ReadMmio(ulong offset, int size) => Header((int)offset, size, MemoryTarget);

    /// <inheritdoc/>
    public void WriteMmio(ulong offset, int size, ulong value) => Write((uint)offset, size, (uint)value, MemoryTarget);

    /// <inheritdoc/>
    public uint ReadPort(int offset, int size) => Header(offset, size, PortTarget);

    /// <inheritdoc/>
    public void WritePort(int offset, int size, uint value) => Write((uint)offset, size, value, PortTarget);

    // The number of the test, the width of its writes, where they go, what they write, how many came, its name.
    private uint Header(int offset, int size, uint target)
    {
        if (_test >= s_names.Length)
        {
            return 0;
        }

        Span<byte> header = stackalloc byte[64];
        header.Clear();
        header[0] = _test;
        header[1] = 1;
        BinaryPrimitives.WriteUInt32LittleEndian(header[4..], target + _test);
        BinaryPrimitives.WriteUInt32LittleEndian(header[8..], Data);
        BinaryPrimitives.WriteUInt32LittleEndian(header[12..], _count);
        Encoding.ASCII.GetBytes(s_names[_test], header[HeaderLength..]);
        uint value = 0;
        for (int i = size - 1; i >= 0; i--)
        {
            value = (value << 8) | (offset + i < header.Length ? header[offset + i] : 0u);
        }

        return value;
    }

    private void Write(uint offset, int size, uint value, uint target)
    {
        if (offset == 0)
        {
            _test = value < s_names.Length ? (byte)value : NoTest;
            _count = 0;
        }
        else if (_test < s_names.Length && offset == target + _test && (_test != 2 || (size == 1 && value == Data)))
        {
            _count++;
        }
    }
}
