using VmFuzz.Arch;

namespace VmFuzz.Devices;

/// <summary>A device behind ports.</summary>
public interface IPortDevice
{
    /// <summary>Reads a register.</summary>
    /// <param name="offset">Offset that the port was registered with.</param>
    /// <param name="size">1, 2 or 4 bytes, at most what was registered.</param>
    uint ReadPort(int offset, int size);

    /// <summary>Writes a register.</summary>
    /// <param name="offset">Offset that the port was registered with.</param>
    /// <param name="size">1, 2 or 4 bytes, at most what was registered.</param>
    /// <param name="value">The value; bits above the size are zero.</param>
    void WritePort(int offset, int size, uint value);
}

/// <summary>A device behind memory addresses.</summary>
public interface IMmioDevice
{
    /// <summary>Reads a register.</summary>
    /// <param name="offset">Bytes from the start of the range.</param>
    /// <param name="size">1, 2, 4 or 8 bytes, at most what was registered.</param>
    ulong ReadMmio(ulong offset, int size);

    /// <summary>Writes a register.</summary>
    /// <param name="offset">Bytes from the start of the range.</param>
    /// <param name="size">1, 2, 4 or 8 bytes, at most what was registered.</param>
    /// <param name="value">The value; bits above the size are zero.</param>
    void WriteMmio(ulong offset, int size, ulong value);
}

/// <summary>A device whose range of memory addresses moves, or goes away, by its own registers. It goes before all others.</summary>
public interface IMovableMmio : IMmioDevice
{
    /// <summary>The first address; null while there is no range.</summary>
    ulong? MmioStart { get; }

    /// <summary>Bytes of the range.</summary>
    ulong MmioLength { get; }
}

/// <summary>Watches a bus from outside.</summary>
public interface IBusObserver
{
    /// <summary>The first access to a port, or to a page of memory addresses, behind which there is nothing.</summary>
    /// <param name="isPort">A port; otherwise a memory address.</param>
    /// <param name="address">The port or the address.</param>
    /// <param name="write">Whether it was written.</param>
    void FirstFloatingAccess(bool isPort, ulong address, bool write);
}

/// <summary>Answers a read behind which there is no device.</summary>
/// <param name="isPort">A port; otherwise a memory address.</param>
/// <param name="address">The port or the address.</param>
/// <param name="size">Bytes.</param>
/// <returns>The value; bits above the size do not matter.</returns>
public delegate ulong FloatingAnswer(bool isPort, ulong address, int size);

/// <summary>
/// Ports and memory-mapped registers of a machine. What nobody answers floats: it reads all ones and is counted.
/// </summary>
/// <remarks>The counters and the marks of first accesses are observation and not part of the machine's state.</remarks>
public sealed class IoBus : IBus
{
    private const int PortCount = 0x10000;
    private readonly byte[] _portRange = new byte[PortCount];
    private readonly ulong[] _portSeen = new ulong[PortCount / 64];
    private readonly FloatingPages _pages = new();
    private readonly IBusObserver? _observer;
    private PortRange[] _ports = [default];
    private MmioRange[] _mmio = [];
    private IMovableMmio? _movable;

    /// <summary>Makes an empty bus.</summary>
    /// <param name="observer">Who is told about floating accesses, or null.</param>
    public IoBus(IBusObserver? observer = null) => _observer = observer;

    /// <summary>Answers reads behind which there is no device; null lets them float.</summary>
    public FloatingAnswer? Answers { get; set; }

    /// <summary>Accesses to ports without a device since the last <see cref="ForgetFloating"/>.</summary>
    public ulong FloatingPortAccesses { get; private set; }

    /// <summary>Accesses to memory addresses without a device since the last <see cref="ForgetFloating"/>.</summary>
    public ulong FloatingMmioAccesses { get; private set; }

    /// <summary>Puts a device behind consecutive ports.</summary>
    /// <param name="first">The first port.</param>
    /// <param name="count">How many, at least 1.</param>
    /// <param name="device">The device.</param>
    /// <param name="offset">The offset that the device sees for the first port.</param>
    /// <param name="widest">Bytes of the widest access that the device takes whole: 1, 2 or 4. Wider and unaligned ones are split.</param>
    /// <exception cref="ArgumentException">A port is taken, or there are more than 255 ranges.</exception>
    public void AddPorts(ushort first, int count, IPortDevice device, int offset = 0, int widest = 1)
    {
        ArgumentNullException.ThrowIfNull(device);
        CheckSize(widest, 4);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(first + count, PortCount);
        if (_ports.Length > byte.MaxValue)
        {
            throw new ArgumentException("A bus has at most 255 port ranges.", nameof(device));
        }

        for (int port = first; port < first + count; port++)
        {
            if (_portRange[port] != 0)
            {
                throw new ArgumentException($"Port 0x{port:x} is taken.", nameof(first));
            }
        }

        byte index = (byte)_ports.Length;
        _ports = [.. _ports, new PortRange(device, device as Device, first, offset, widest)];
        _portRange.AsSpan(first, count).Fill(index);
    }

    /// <summary>Puts a device behind a range of memory addresses.</summary>
    /// <param name="start">The first address.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="device">The device.</param>
    /// <param name="widest">Bytes of the widest access that the device takes whole: 1, 2, 4 or 8. Wider and unaligned ones are split.</param>
    /// <exception cref="ArgumentException">The range overlaps another one.</exception>
    public void AddMmio(Gpa start, ulong length, IMmioDevice device, int widest = 4)
    {
        ArgumentNullException.ThrowIfNull(device);
        CheckSize(widest, 8);
        ArgumentOutOfRangeException.ThrowIfZero(length);
        ulong last = checked(start.Value + (length - 1));
        int place = 0;
        foreach (MmioRange range in _mmio)
        {
            if (start.Value <= range.Last && last >= range.First)
            {
                throw new ArgumentException($"Addresses 0x{start.Value:x} to 0x{last:x} overlap others.", nameof(start));
            }

            if (range.First < start.Value)
            {
                place++;
            }
        }

        _mmio = [.. _mmio[..place], new MmioRange(device, device as Device, start.Value, last, widest), .. _mmio[place..]];
    }

    /// <summary>Puts a device behind a range that moves. It takes accesses of up to four bytes whole.</summary>
    /// <param name="device">The device; a bus has one of them.</param>
    public void AddMovable(IMovableMmio device)
    {
        ArgumentNullException.ThrowIfNull(device);
        _movable = _movable is null ? device : throw new ArgumentException("The bus has a device whose range moves.", nameof(device));
    }

    /// <summary>Sets the counters to 0 and forgets which accesses were reported.</summary>
    public void ForgetFloating()
    {
        if (FloatingPortAccesses != 0)
        {
            FloatingPortAccesses = 0;
            Array.Clear(_portSeen);
        }

        if (FloatingMmioAccesses != 0)
        {
            FloatingMmioAccesses = 0;
            _pages.Clear();
        }
    }

    /// <inheritdoc/>
    public uint ReadPort(ushort port, int size)
    {
        CheckSize(size, 4);
        ref readonly PortRange range = ref _ports[_portRange[port]];
        if (range.Takes(port, size) && _portRange[(ushort)(port + size - 1)] == _portRange[port])
        {
            range.Owner?.Touch();
            return range.Device!.ReadPort(range.Offset + (port - range.First), size) & Mask(size);
        }

        if (PortFloats(port, size))
        {
            CountFloatingPort(port, write: false);
            return Answers is { } answers ? (uint)answers(isPort: true, port, size) & Mask(size) : Mask(size);
        }

        int half = size / 2;
        uint low = ReadPort(port, half);
        return low | (ReadPort((ushort)(port + half), half) << (8 * half));
    }

    /// <inheritdoc/>
    public void WritePort(ushort port, int size, uint value)
    {
        CheckSize(size, 4);
        ref readonly PortRange range = ref _ports[_portRange[port]];
        if (range.Takes(port, size) && _portRange[(ushort)(port + size - 1)] == _portRange[port])
        {
            range.Owner?.Touch();
            range.Device!.WritePort(range.Offset + (port - range.First), size, value & Mask(size));
            return;
        }

        if (PortFloats(port, size))
        {
            CountFloatingPort(port, write: true);
            return;
        }

        int half = size / 2;
        WritePort(port, half, value);
        WritePort((ushort)(port + half), half, value >> (8 * half));
    }

    /// <inheritdoc/>
    public ulong ReadMmio(Gpa address, int size)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(size);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(size, 8);
        if (!TryFindMmio(address.Value, out MmioRange range))
        {
            if (size > 1 && !MmioFloats(address.Value, size))
            {
                return ReadMmioSplit(address, size);
            }

            CountFloatingMmio(address.Value, write: false);
            return Answers is { } answers ? answers(isPort: false, address.Value, size) & WideMask(size) : WideMask(size);
        }

        if (!range.Takes(address.Value, size))
        {
            return ReadMmioSplit(address, size);
        }

        range.Owner?.Touch();
        return range.Device.ReadMmio(address.Value - range.First, size) & WideMask(size);
    }

    /// <inheritdoc/>
    public void WriteMmio(Gpa address, int size, ulong value)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(size);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(size, 8);
        if (!TryFindMmio(address.Value, out MmioRange range))
        {
            if (size > 1 && !MmioFloats(address.Value, size))
            {
                WriteMmioSplit(address, size, value);
                return;
            }

            CountFloatingMmio(address.Value, write: true);
            return;
        }

        if (!range.Takes(address.Value, size))
        {
            WriteMmioSplit(address, size, value);
            return;
        }

        range.Owner?.Touch();
        range.Device.WriteMmio(address.Value - range.First, size, value & WideMask(size));
    }

    /// <summary>The first part of a split access: the largest power of two below the size.</summary>
    private static int FirstPart(int size) => size > 4 ? 4 : size > 2 ? 2 : 1;

    private static uint Mask(int size) => uint.MaxValue >> (32 - (8 * size));

    private static ulong WideMask(int size) => ulong.MaxValue >> (64 - (8 * size));

    private static void CheckSize(int size, int widest)
    {
        if (size is not (1 or 2 or 4 or 8) || size > widest)
        {
            throw new ArgumentOutOfRangeException(nameof(size), size, "An access has 1, 2 or 4 bytes (8 in memory).");
        }
    }

    private ulong ReadMmioSplit(Gpa address, int size)
    {
        int first = FirstPart(size);
        ulong low = ReadMmio(address, first);
        return low | (ReadMmio(address.Plus((ulong)first), size - first) << (8 * first));
    }

    private void WriteMmioSplit(Gpa address, int size, ulong value)
    {
        int first = FirstPart(size);
        WriteMmio(address, first, value);
        WriteMmio(address.Plus((ulong)first), size - first, value >> (8 * first));
    }

    private bool PortFloats(ushort port, int size)
    {
        for (int i = 0; i < size; i++)
        {
            if (_portRange[(ushort)(port + i)] != 0)
            {
                return false;
            }
        }

        return true;
    }

    private bool MmioFloats(ulong address, int size)
    {
        for (int i = 0; i < size; i++)
        {
            if (TryFindMmio(unchecked(address + (ulong)i), out _))
            {
                return false;
            }
        }

        return true;
    }

    private bool TryFindMmio(ulong address, out MmioRange range)
    {
        if (_movable is { } movable && movable.MmioStart is { } start && address - start < movable.MmioLength && address >= start)
        {
            range = new MmioRange(movable, movable as Device, start, start + (movable.MmioLength - 1), 4);
            return true;
        }

        int low = 0;
        int high = _mmio.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            range = _mmio[middle];
            if (address < range.First)
            {
                high = middle - 1;
            }
            else if (address > range.Last)
            {
                low = middle + 1;
            }
            else
            {
                return true;
            }
        }

        range = default;
        return false;
    }

    private void CountFloatingPort(ushort port, bool write)
    {
        FloatingPortAccesses++;
        ref ulong word = ref _portSeen[port / 64];
        ulong bit = 1UL << (port % 64);
        if ((word & bit) == 0)
        {
            word |= bit;
            _observer?.FirstFloatingAccess(isPort: true, port, write);
        }
    }

    private void CountFloatingMmio(ulong address, bool write)
    {
        FloatingMmioAccesses++;
        if (_pages.Add(address >> 12))
        {
            _observer?.FirstFloatingAccess(isPort: false, address, write);
        }
    }

    private readonly struct PortRange(IPortDevice device, Device? owner, ushort first, int offset, int widest)
    {
        public readonly IPortDevice? Device = device;
        public readonly Device? Owner = owner;
        public readonly ushort First = first;
        public readonly int Offset = offset;
        private readonly int _widest = widest;

        // Entry 0 stands for "nobody": its widest access is 0 bytes. Two ranges of one device are not one:
        // an access that leaves the range is split, and each part finds its own.
        public bool Takes(ushort port, int size) => size <= _widest && (port & (size - 1)) == 0;
    }

    private readonly struct MmioRange(IMmioDevice device, Device? owner, ulong first, ulong last, int widest)
    {
        public readonly IMmioDevice Device = device;
        public readonly Device? Owner = owner;
        public readonly ulong First = first;
        public readonly ulong Last = last;
        private readonly int _widest = widest;

        public bool Takes(ulong address, int size) =>
            size <= _widest && (size & (size - 1)) == 0 && (address & (ulong)(size - 1)) == 0 && Last - address >= (ulong)(size - 1);
    }

    /// <summary>A bounded set of page numbers; when it is full, further pages are taken as known.</summary>
    private sealed class FloatingPages
    {
        private const int Capacity = 1024;
        private readonly ulong[] _slots = new ulong[Capacity];
        private int _count;

        public bool Add(ulong page)
        {
            ulong key = page + 1;
            int slot = (int)((key * 0x9E37_79B9_7F4A_7C15UL) >> 54);
            while (_slots[slot] != 0)
            {
                if (_slots[slot] == key)
                {
                    return false;
                }

                slot = (slot + 1) % Capacity;
            }

            if (_count == Capacity * 3 / 4)
            {
                return false;
            }

            _count++;
            _slots[slot] = key;
            return true;
        }

        public void Clear()
        {
            Array.Clear(_slots);
            _count = 0;
        }
    }
}
