using System.Buffers.Binary;
using VmFuzz.Arch;

namespace VmFuzz.Devices;

/// <summary>A PCI function outside the host bridge's own set. What it answers is its configuration space.</summary>
public interface IPciFunction
{
    /// <summary>Reads configuration space.</summary>
    /// <param name="offset">0 to 255, aligned to the size.</param>
    /// <param name="size">1, 2 or 4 bytes.</param>
    uint ReadConfiguration(int offset, int size);

    /// <summary>Writes configuration space.</summary>
    /// <param name="offset">0 to 255, aligned to the size.</param>
    /// <param name="size">1, 2 or 4 bytes.</param>
    /// <param name="value">The value; bits above the size are zero.</param>
    void WriteConfiguration(int offset, int size, uint value);
}

/// <summary>What a machine does when configuration registers of the built-in functions change.</summary>
public interface IPciObserver
{
    /// <summary>
    /// A register of the host bridge, the ISA bridge or the power-management function was written or restored: the
    /// machine looks at what matters to it, such as the memory attributes (<see cref="PciHost.Pam"/>).
    /// </summary>
    void ConfigurationChanged();
}

/// <summary>
/// PCI configuration mechanism 1 (PCI Local Bus Specification, "Configuration Mechanism #1") at 0xcf8 and 0xcfc, with an
/// i440FX host bridge (Intel 82441FX), a PIIX3 ISA bridge (Intel 82371SB) and the PIIX4 power-management function
/// (Intel 82371AB). Absent functions read all ones.
/// </summary>
/// <remarks>
/// The registers are storage with the writable bits of the data sheets; what they do (memory attributes, interrupt
/// routing, base addresses) is the machine's. Subsystem 1af4:1100 tells firmware which virtual platform this is.
/// </remarks>
public sealed class PciHost : Device, IPortDevice
{
    /// <summary>The address register's port; the data register is four ports further.</summary>
    public const ushort FirstPort = 0xCF8;

    /// <summary>Number of the host bridge on bus 0: device * 8 + function.</summary>
    public const int HostBridge = 0;

    /// <summary>Number of the ISA bridge.</summary>
    public const int IsaBridge = 8;

    /// <summary>Number of the power-management function.</summary>
    public const int PowerManagement = 11;

    private const int DataOffset = 4;
    private const uint Enable = 0x8000_0000;

    private static readonly StateMap<PciHost> s_map = new StateMapBuilder<PciHost>()
        .Add(1, "CONFADD", static p => ref p._address)
        .Add(2, "host bridge", PciConfiguration.Size, static p => ref p._host.Bytes)
        .Add(3, "ISA bridge", PciConfiguration.Size, static p => ref p._isa.Bytes)
        .Add(4, "power management", PciConfiguration.Size, static p => ref p._power.Bytes)
        .Build();

    private readonly IPciObserver? _observer;
    private readonly IPciFunction?[] _functions = new IPciFunction?[256];
    private readonly PciConfiguration _host = new(PciTables.HostBridge);
    private readonly PciConfiguration _isa = new(PciTables.IsaBridge);
    private readonly PciConfiguration _power = new(PciTables.PowerManagement);
    private ResetControl? _resetControl;
    private uint _address;

    /// <summary>Makes a host bridge with its two companions.</summary>
    /// <param name="observer">Who is told of changes, or null.</param>
    public PciHost(IPciObserver? observer = null)
        : base(ComponentId.Pci)
    {
        _observer = observer;
        _functions[HostBridge] = _host;
        _functions[IsaBridge] = _isa;
        _functions[PowerManagement] = _power;
        Reset();
    }

    /// <inheritdoc/>
    protected override StateMap Map => s_map;

    /// <inheritdoc/>
    public override void Reset()
    {
        _address = 0;
        _host.Reset();
        _isa.Reset();
        _power.Reset();
        Touch();
        _observer?.ConfigurationChanged();
    }

    /// <summary>Puts the mechanism on a bus.</summary>
    /// <param name="bus">The bus.</param>
    /// <param name="resetControl">Who takes byte accesses to 0xcf9, which lies inside the address register; or null.</param>
    public void Attach(IoBus bus, ResetControl? resetControl = null)
    {
        ArgumentNullException.ThrowIfNull(bus);
        _resetControl = resetControl;
        bus.AddPorts(FirstPort, 8, this, widest: 4);
    }

    /// <summary>Adds a function to bus 0.</summary>
    /// <param name="number">Device * 8 + function, 0 to 255.</param>
    /// <param name="function">The function.</param>
    /// <exception cref="ArgumentException">The number is taken.</exception>
    public void Add(int number, IPciFunction function)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(number);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(number, 255);
        if (_functions[number] is not null)
        {
            throw new ArgumentException($"Function 00:{number / 8:x2}.{number % 8} is taken.", nameof(number));
        }

        _functions[number] = function;
    }

    /// <summary>
    /// How the host bridge treats accesses to a part of the first MiB: bit 0 reads go to memory, bit 1 writes go to
    /// memory (82441FX "PAM"). Part 0 is 0xf0000 to 0xfffff; parts 1 to 12 are the 16 KiB pieces from 0xc0000.
    /// </summary>
    /// <param name="part">0 to 12.</param>
    public int Pam(int part)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(part);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(part, 12);
        int nibble = part == 0 ? 1 : part + 1;
        return (_host.Bytes[0x59 + (nibble / 2)] >> (4 * (nibble % 2))) & 3;
    }

    /// <summary>A byte of a built-in function's configuration space.</summary>
    /// <param name="function"><see cref="HostBridge"/>, <see cref="IsaBridge"/> or <see cref="PowerManagement"/>.</param>
    /// <param name="offset">0 to 255.</param>
    public byte ConfigurationByte(int function, int offset) => ((PciConfiguration)_functions[function]!).Bytes[offset];

    /// <inheritdoc/>
    public uint ReadPort(int offset, int size)
    {
        if (offset < DataOffset)
        {
            if (size == 4)
            {
                return _address;
            }

            return offset == 1 && size == 1 && _resetControl is not null ? _resetControl.ReadPort(1, 1) : uint.MaxValue;
        }

        IPciFunction? function = Selected();
        (function as Device)?.Touch();
        return function?.ReadConfiguration(Register(offset), size) ?? uint.MaxValue;
    }

    /// <inheritdoc/>
    public void WritePort(int offset, int size, uint value)
    {
        if (offset < DataOffset)
        {
            if (size == 4)
            {
                _address = value & 0x80FF_FFFC;
            }
            else if (offset == 1 && size == 1 && _resetControl is not null)
            {
                _resetControl.Touch();
                _resetControl.WritePort(1, 1, value);
            }

            return;
        }

        IPciFunction? function = Selected();
        (function as Device)?.Touch();
        function?.WriteConfiguration(Register(offset), size, value);
        if (function is PciConfiguration)
        {
            _observer?.ConfigurationChanged();
        }
    }

    /// <inheritdoc/>
    protected override void OnStateRestored() => _observer?.ConfigurationChanged();

    private IPciFunction? Selected() =>
        (_address & Enable) != 0 && (_address >> 16 & 0xFF) == 0 ? _functions[_address >> 8 & 0xFF] : null;

    private int Register(int offset) => (int)(_address & 0xFC) | (offset - DataOffset);
}

/// <summary>256 bytes of configuration space: storage, and which bits of it can be written.</summary>
internal sealed class PciConfiguration(PciTable table) : IPciFunction
{
    public const int Size = 256;

    // A field, not a property: the state map refers to it.
    public byte[] Bytes = new byte[Size];

    public void Reset() => table.Values.AsSpan().CopyTo(Bytes);

    public uint ReadConfiguration(int offset, int size) => size switch
    {
        1 => Bytes[offset],
        2 => BinaryPrimitives.ReadUInt16LittleEndian(Bytes.AsSpan(offset)),
        _ => BinaryPrimitives.ReadUInt32LittleEndian(Bytes.AsSpan(offset)),
    };

    public void WriteConfiguration(int offset, int size, uint value)
    {
        for (int i = 0; i < size; i++)
        {
            byte mask = table.Writable[offset + i];
            Bytes[offset + i] = (byte)((Bytes[offset + i] & ~mask) | ((byte)(value >> (8 * i)) & mask));
        }
    }
}
