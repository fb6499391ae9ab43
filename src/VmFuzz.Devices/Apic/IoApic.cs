using VmFuzz.Arch;

namespace VmFuzz.Devices.Apic;

/// <summary>
/// An IO APIC of 24 pins (Intel 82093AA), version 0x20 with a directed end of interrupt (I/O Controller Hub family,
/// "EOI Register"), behind an index and a data register.
/// </summary>
/// <remarks>
/// A line's level says asserted or not, whatever the polarity that an entry names. An edge on a masked pin is lost.
/// No message waits, so the delivery status reads 0.
/// </remarks>
public sealed class IoApic : Device, IMmioDevice, IInterruptSink
{
    /// <summary>The usual address of the registers.</summary>
    public const ulong DefaultAddress = 0xFEC0_0000;

    /// <summary>Number of interrupt lines.</summary>
    public const int PinCount = 24;

    private const int IndexOffset = 0x00;
    private const int DataOffset = 0x10;
    private const int EndOffset = 0x40;
    private const int FirstEntry = 0x10;
    private const uint VersionValue = 0x20 | ((PinCount - 1) << 16);

    private const ulong Writable = 0xFF00_0000_0001_AFFF;
    private const ulong Masked = 1 << 16;
    private const ulong LevelTriggered = 1 << 15;
    private const ulong RemoteIrr = 1 << 14;
    private const ulong Logical = 1 << 11;

    private static readonly StateMap<IoApic> s_map = MakeMap();

    private readonly ApicBus _bus;
    private readonly ulong[] _entries = new ulong[PinCount];
    private uint _lines;
    private byte _id;
    private byte _index;

    /// <summary>Makes an IO APIC and joins it to a bus.</summary>
    public IoApic(ApicBus bus)
        : base(ComponentId.IoApic)
    {
        ArgumentNullException.ThrowIfNull(bus);
        _bus = bus;
        bus.Add(this);
        Reset();
    }

    /// <inheritdoc/>
    protected override StateMap Map => s_map;

    /// <inheritdoc/>
    /// <remarks>The levels of the lines stay: their drivers hold them.</remarks>
    public override void Reset()
    {
        _entries.AsSpan().Fill(Masked);
        _id = 0;
        _index = 0;
        Touch();
    }

    /// <summary>Puts the registers on a memory bus.</summary>
    public void Attach(IoBus bus)
    {
        ArgumentNullException.ThrowIfNull(bus);
        bus.AddMmio(new Gpa(DefaultAddress), 0x1000, this);
    }

    /// <inheritdoc/>
    /// <param name="line">0 to 23.</param>
    /// <param name="level">True for asserted.</param>
    public void SetLine(int line, bool level)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(line);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(line, PinCount);
        uint bit = 1U << line;
        if (((_lines & bit) != 0) == level)
        {
            return;
        }

        Touch();
        _lines ^= bit;
        if (level)
        {
            Deliver(line);
        }
    }

    /// <summary>An interrupt has ended: level-triggered entries of its vector are free again.</summary>
    public void EndOfInterrupt(byte vector)
    {
        Touch();
        for (int pin = 0; pin < PinCount; pin++)
        {
            ref ulong entry = ref _entries[pin];
            if ((byte)entry == vector && (entry & RemoteIrr) != 0)
            {
                entry &= ~RemoteIrr;
                DeliverLevel(pin);
            }
        }
    }

    /// <inheritdoc/>
    public ulong ReadMmio(ulong offset, int size)
    {
        uint value = (offset & ~3UL) switch
        {
            IndexOffset => _index,
            DataOffset => ReadRegister(),
            _ => 0,
        };
        return value >> (8 * (int)(offset & 3));
    }

    /// <inheritdoc/>
    /// <remarks>The index and the end of interrupt take one byte, the data four.</remarks>
    public void WriteMmio(ulong offset, int size, ulong value)
    {
        switch (offset)
        {
            case IndexOffset:
                _index = (byte)value;
                break;
            case DataOffset when size == 4:
                WriteRegister((uint)value);
                break;
            case EndOffset:
                EndOfInterrupt((byte)value);
                break;
            default:
                break;
        }
    }

    private static StateMap<IoApic> MakeMap()
    {
        var map = new StateMapBuilder<IoApic>()
            .Add(1, "ID", static a => ref a._id)
            .Add(2, "index", static a => ref a._index)
            .Add(3, "lines", static a => ref a._lines);
        for (int i = 0; i < PinCount; i++)
        {
            int n = i;
            map.Add((ushort)(FirstEntry + n), $"entry {(char)('0' + (n / 10))}{(char)('0' + (n % 10))}", a => ref a._entries[n]);
        }

        return map.Build();
    }

    private uint ReadRegister()
    {
        int half = _index - FirstEntry;
        return _index switch
        {
            // The arbitration number follows the number.
            0 or 2 => (uint)_id << 24,
            1 => VersionValue,
            _ when half >= 0 && half < 2 * PinCount => (uint)(_entries[half / 2] >> (32 * (half & 1))),
            _ => 0,
        };
    }

    private void WriteRegister(uint value)
    {
        int half = _index - FirstEntry;
        if (_index == 0)
        {
            _id = (byte)((value >> 24) & 0xF);
        }
        else if (half >= 0 && half < 2 * PinCount)
        {
            int shift = 32 * (half & 1);
            ulong mask = Writable & (0xFFFF_FFFFUL << shift);
            ref ulong entry = ref _entries[half / 2];
            entry = (entry & ~mask) | (((ulong)value << shift) & mask);
            if ((entry & LevelTriggered) == 0)
            {
                entry &= ~RemoteIrr;
            }

            DeliverLevel(half / 2);
        }
    }

    private void DeliverLevel(int pin)
    {
        if ((_lines & (1U << pin)) != 0 && (_entries[pin] & LevelTriggered) != 0)
        {
            Deliver(pin);
        }
    }

    private void Deliver(int pin)
    {
        ref ulong entry = ref _entries[pin];
        var delivery = (ApicDelivery)((entry >> 8) & 7);
        if ((entry & (Masked | RemoteIrr)) != 0 || delivery is ApicDelivery.StartUp or ApicDelivery.Reserved)
        {
            return;
        }

        // Only interrupts with a vector of their own are level-triggered.
        bool level = (entry & LevelTriggered) != 0 && delivery is ApicDelivery.Fixed or ApicDelivery.LowestPriority;
        if (level)
        {
            entry |= RemoteIrr;
        }

        _bus.Send(new ApicMessage(delivery, (byte)entry, ApicBus.Widen((uint)(entry >> 56)), (entry & Logical) != 0, level));
    }
}
