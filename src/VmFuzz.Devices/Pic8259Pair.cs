using VmFuzz.Arch;

namespace VmFuzz.Devices;

/// <summary>
/// Two cascaded interrupt controllers (Intel 8259A) with the edge/level registers of the PIIX (0x4d0, 0x4d1).
/// Lines 0 to 7 end at the master, 8 to 15 at the slave, whose output is the master's input 2.
/// </summary>
/// <remarks>
/// A request in edge mode is withdrawn when its line falls before it is acknowledged, as the data sheet says. An
/// acknowledge without a request gives the spurious vector 7 of the master, or of the slave. LTIM of ICW1 and the
/// 8080 mode are ignored, as the PIIX does.
/// </remarks>
public sealed class Pic8259Pair : Device, IPortDevice, IInterruptController, IInterruptSink
{
    private const int Cascade = 2;
    private const int EdgeLevelOffset = 4;

    private static readonly StateMap<Pic8259Pair> s_map = MakeMap();

    private readonly PicChip _master = new();
    private readonly PicChip _slave = new();
    private byte _taskPriority;
    private bool _pending;

    /// <summary>Makes a pair after power-on: nothing masked, vectors from 0.</summary>
    public Pic8259Pair()
        : base(ComponentId.Pic)
    {
        Reset();
    }

    /// <inheritdoc/>
    public bool InterruptPending => _pending;

    /// <summary>The line that the pair's INTR output drives, for a controller behind it.</summary>
    public InterruptLine Output { get; set; }

    /// <inheritdoc/>
    public byte TaskPriority
    {
        get => _taskPriority;
        set
        {
            _taskPriority = (byte)(value & 15);
            Touch();
        }
    }

    /// <inheritdoc/>
    protected override StateMap Map => s_map;

    /// <inheritdoc/>
    /// <remarks>The levels of the lines stay: their drivers hold them.</remarks>
    public override void Reset()
    {
        _master.Reset();
        _slave.Reset();
        _taskPriority = 0;
        Touch();
        Update();
    }

    /// <summary>Puts the controllers on a bus: 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1.</summary>
    public void Attach(IoBus bus)
    {
        ArgumentNullException.ThrowIfNull(bus);
        bus.AddPorts(0x20, 2, this);
        bus.AddPorts(0xA0, 2, this, 2);
        bus.AddPorts(0x4D0, 2, this, EdgeLevelOffset);
    }

    /// <summary>Raises a line that falls before the processor acknowledges it: the answer is the spurious vector.</summary>
    public void RaiseSpurious()
    {
        const int SpuriousLine = 7;
        SetLine(SpuriousLine, true);
        SetLine(SpuriousLine, false);
    }

    /// <inheritdoc/>
    /// <param name="line">0 to 15; line 2 does not exist and is ignored.</param>
    /// <param name="level">True for asserted.</param>
    public void SetLine(int line, bool level)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(line);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(line, 15);
        PicChip chip = line < 8 ? _master : _slave;
        if (line != Cascade && chip.SetLine(line & 7, level))
        {
            Touch();
            Update();
        }
    }

    /// <inheritdoc/>
    public byte Acknowledge()
    {
        Touch();
        int input = _master.Pending(Cascade);
        byte vector = _master.Acknowledge(input);
        if (input == Cascade)
        {
            vector = _slave.Acknowledge(_slave.Pending(-1));
        }

        Update();
        return vector;
    }

    /// <inheritdoc/>
    public bool TryReadApicMsr(uint msr, out ulong value)
    {
        value = 0;
        return false;
    }

    /// <inheritdoc/>
    public bool TryWriteApicMsr(uint msr, ulong value) => false;

    /// <inheritdoc/>
    public uint ReadPort(int offset, int size)
    {
        PicChip chip = Chip(offset);
        if (offset >= EdgeLevelOffset)
        {
            return chip.LevelMode;
        }

        byte value = chip.Read((offset & 1) != 0, chip == _master ? Cascade : -1);
        Update();
        return value;
    }

    /// <inheritdoc/>
    public void WritePort(int offset, int size, uint value)
    {
        PicChip chip = Chip(offset);
        if (offset >= EdgeLevelOffset)
        {
            // Lines 0, 1, 2, 8 and 13 are always edge-triggered.
            chip.SetLevelMode((byte)(value & (chip == _master ? 0xF8u : 0xDEu)));
        }
        else if ((offset & 1) != 0)
        {
            chip.WriteData((byte)value);
        }
        else
        {
            chip.WriteCommand((byte)value);
        }

        Update();
    }

    /// <inheritdoc/>
    protected override void OnStateRestored()
    {
        _master.Normalise();
        _slave.Normalise();
        _pending = _master.Pending(Cascade) >= 0;
    }

    private static StateMap<Pic8259Pair> MakeMap()
    {
        var map = new StateMapBuilder<Pic8259Pair>().Add(1, "task priority", static p => ref p._taskPriority);
        AddChip(map, 0x10, "master ", static p => p._master);
        AddChip(map, 0x30, "slave ", static p => p._slave);
        return map.Build();
    }

    private static void AddChip(StateMapBuilder<Pic8259Pair> map, ushort id, string name, Func<Pic8259Pair, PicChip> chip) =>
        map.Add(id, name + "lines", p => ref chip(p).Lines)
            .Add((ushort)(id + 1), name + "edges", p => ref chip(p).Edges)
            .Add((ushort)(id + 2), name + "ISR", p => ref chip(p).InService)
            .Add((ushort)(id + 3), name + "IMR", p => ref chip(p).Mask)
            .Add((ushort)(id + 4), name + "ELCR", p => ref chip(p).LevelMode)
            .Add((ushort)(id + 5), name + "vector base", p => ref chip(p).Base)
            .Add((ushort)(id + 6), name + "lowest priority", p => ref chip(p).Lowest)
            .Add((ushort)(id + 7), name + "expected word", p => ref chip(p).Expected)
            .Add((ushort)(id + 8), name + "ICW1", p => ref chip(p).Icw1)
            .Add((ushort)(id + 9), name + "ICW4", p => ref chip(p).Icw4)
            .Add((ushort)(id + 10), name + "rotate in AEOI", p => ref chip(p).RotateAutomatic)
            .Add((ushort)(id + 11), name + "special mask", p => ref chip(p).SpecialMask)
            .Add((ushort)(id + 12), name + "poll", p => ref chip(p).Poll)
            .Add((ushort)(id + 13), name + "read ISR", p => ref chip(p).ReadInService);

    private PicChip Chip(int offset) =>
        offset >= EdgeLevelOffset ? (offset == EdgeLevelOffset ? _master : _slave) : (offset < 2 ? _master : _slave);

    private void Update()
    {
        _master.SetCascade(Cascade, _slave.Pending(-1) >= 0);
        _pending = _master.Pending(Cascade) >= 0;
        Output.Set(_pending);
    }
}
