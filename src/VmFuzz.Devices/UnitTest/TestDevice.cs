using VmFuzz.Arch;

namespace VmFuzz.Devices.UnitTest;

/// <summary>
/// What bare-metal tests of hypervisors find at fixed ports (QEMU "pc-testdev"): a latch at 0xe0 that is seen again at 0xe8 a
/// byte at a time, a port 0xe4 that takes the address of a page to flush, interrupt lines at 0x2000, 64 KiB of storage
/// behind memory accesses at 0xff000000, and a port 0x8900 that takes the word "Shutdown".
/// </summary>
public sealed class TestDevice : Device, IPortDevice, IMmioDevice
{
    /// <summary>The latch's first port.</summary>
    public const ushort LatchPort = 0xE0;

    /// <summary>The port of interrupt line 0.</summary>
    public const ushort LinePort = 0x2000;

    /// <summary>Number of interrupt lines.</summary>
    public const int LineCount = 24;

    /// <summary>The port that takes "Shutdown".</summary>
    public const ushort ShutdownPort = 0x8900;

    /// <summary>The storage's address.</summary>
    public const ulong StorageAddress = 0xFF00_0000;

    /// <summary>Bytes of the storage.</summary>
    public const int StorageSize = 64 << 10;

    private const int FlushOffset = 4;
    private const int BytesOffset = 8;
    private const int ShutdownOffset = 12;
    private const int LineOffset = 16;
    private const int PieceSize = 4096;

    private static readonly StateMap<TestDevice> s_map = MakeMap();

    private readonly byte[][] _storage = [.. Enumerable.Range(0, StorageSize / PieceSize).Select(static _ => new byte[PieceSize])];
    private readonly IInterruptSink _lines;
    private readonly IMachineControl _machine;
    private uint _latch;
    private byte _letters;

    /// <summary>Makes the device.</summary>
    /// <param name="lines">Receiver of its interrupt lines.</param>
    /// <param name="machine">Who is switched off.</param>
    public TestDevice(IInterruptSink lines, IMachineControl machine)
        : base(ComponentId.UnitTest)
    {
        ArgumentNullException.ThrowIfNull(lines);
        ArgumentNullException.ThrowIfNull(machine);
        _lines = lines;
        _machine = machine;
    }

    /// <inheritdoc/>
    protected override StateMap Map => s_map;

    private static ReadOnlySpan<byte> Word => "Shutdown"u8;

    /// <inheritdoc/>
    public override void Reset()
    {
        foreach (byte[] piece in _storage)
        {
            piece.AsSpan().Clear();
        }

        _latch = 0;
        _letters = 0;
        Touch();
    }

    /// <summary>Puts ports and storage on a bus.</summary>
    public void Attach(IoBus bus)
    {
        ArgumentNullException.ThrowIfNull(bus);
        bus.AddPorts(LatchPort, BytesOffset, this, widest: 4);
        bus.AddPorts(LatchPort + BytesOffset, 4, this, BytesOffset);
        bus.AddPorts(ShutdownPort, 1, this, ShutdownOffset);
        bus.AddPorts(LinePort, LineCount, this, LineOffset, widest: 4);
        bus.AddMmio(new Gpa(StorageAddress), StorageSize, this, widest: 8);
    }

    /// <inheritdoc/>
    public uint ReadPort(int offset, int size) => offset switch
    {
        < FlushOffset => _latch >> (8 * offset),
        >= BytesOffset and < ShutdownOffset => _latch >> (8 * (offset - BytesOffset)),
        _ => 0,
    };

    /// <inheritdoc/>
    /// <remarks>A page to flush needs nothing: translations of guest memory are never stale here.</remarks>
    public void WritePort(int offset, int size, uint value)
    {
        switch (offset)
        {
            case < FlushOffset or (>= BytesOffset and < ShutdownOffset):
                int shift = 8 * (offset & 3);
                uint mask = uint.MaxValue >> (32 - (8 * size)) << shift;
                _latch = (_latch & ~mask) | (value << shift & mask);
                break;
            case ShutdownOffset:
                Spell((byte)value);
                break;
            case >= LineOffset:
                _lines.SetLine(offset - LineOffset, value != 0);
                break;
            default:
                break;
        }
    }

    /// <inheritdoc/>
    public ulong ReadMmio(ulong offset, int size)
    {
        ulong value = 0;
        for (int i = size - 1; i >= 0; i--)
        {
            value = (value << 8) | At(offset + (ulong)i);
        }

        return value;
    }

    /// <inheritdoc/>
    public void WriteMmio(ulong offset, int size, ulong value)
    {
        for (int i = 0; i < size; i++)
        {
            At(offset + (ulong)i) = (byte)(value >> (8 * i));
        }
    }

    private static StateMap<TestDevice> MakeMap()
    {
        var map = new StateMapBuilder<TestDevice>()
            .Add(1, "latch", static d => ref d._latch)
            .Add(2, "letters of the word", static d => ref d._letters);
        for (int i = 0; i < StorageSize / PieceSize; i++)
        {
            int n = i;
            map.Add((ushort)(0x10 + n), $"storage {(char)('a' + n)}", PieceSize, d => ref d._storage[n]);
        }

        return map.Build();
    }

    private ref byte At(ulong offset) => ref _storage[offset / PieceSize][offset % PieceSize];

    private void Spell(byte letter)
    {
        _letters = _letters < Word.Length && Word[_letters] == letter ? (byte)(_letters + 1) : letter == Word[0] ? (byte)1 : (byte)0;
        if (_letters == Word.Length)
        {
            _letters = 0;
            _machine.RequestPowerOff("port 0x8900");
        }
    }
}
