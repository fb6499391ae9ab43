using VmFuzz.Arch;

namespace VmFuzz.Devices;

/// <summary>
/// Interval timer (Intel 8254) and system control port B (port 0x61: gate and output of counter 2, speaker, refresh).
/// Counter 0 drives interrupt line 0. Counts are computed from virtual time; nothing ticks.
/// </summary>
/// <remarks>The refresh bit of port 0x61 toggles every 15085 ns.</remarks>
public sealed class Pit8254 : Device, IPortDevice, IEventTarget
{
    /// <summary>First of the timer's four ports.</summary>
    public const ushort FirstPort = 0x40;

    /// <summary>System control port B.</summary>
    public const ushort ControlPortB = 0x61;

    /// <summary>Ticks of the timer in a second.</summary>
    public const ulong Frequency = 1_193_182;

    private const int ControlOffset = 3;
    private const int PortBOffset = 4;
    private const ulong RefreshPeriod = 15085;

    private static readonly StateMap<Pit8254> s_map = MakeMap();

    private readonly IClock _clock;
    private readonly IEventQueue _events;
    private readonly InterruptLine _line;
    private readonly Oscillator _oscillator = new(Frequency);
    private readonly PitChannel[] _channels = [new(), new(), new()];
    private ulong _nextEvent;
    private byte _portB;

    /// <summary>Makes a timer.</summary>
    /// <param name="clock">Virtual time.</param>
    /// <param name="events">Queue for counter 0.</param>
    /// <param name="line">Output of counter 0.</param>
    public Pit8254(IClock clock, IEventQueue events, InterruptLine line)
        : base(ComponentId.Pit)
    {
        ArgumentNullException.ThrowIfNull(clock);
        ArgumentNullException.ThrowIfNull(events);
        _clock = clock;
        _events = events;
        _line = line;
        Reset();
    }

    /// <inheritdoc/>
    protected override StateMap Map => s_map;

    private ulong Tick => _oscillator.Ticks(_clock.Now);

    /// <inheritdoc/>
    public override void Reset()
    {
        for (int i = 0; i < 3; i++)
        {
            _channels[i].Reset(gate: i != 2);
        }

        _portB = 0;
        Touch();
        _line.Set(false);
        Plan(ulong.MaxValue);
    }

    /// <summary>Puts the timer and port 0x61 on a bus.</summary>
    public void Attach(IoBus bus)
    {
        ArgumentNullException.ThrowIfNull(bus);
        bus.AddPorts(FirstPort, 4, this);
        bus.AddPorts(ControlPortB, 1, this, PortBOffset);
    }

    /// <inheritdoc/>
    public uint ReadPort(int offset, int size)
    {
        ulong tick = Tick;
        switch (offset)
        {
            case < ControlOffset:
                _channels[offset].Settle(tick);
                return _channels[offset].Read(tick);
            case ControlOffset:
                return 0xFF; // The control word register cannot be read.
            default:
                _channels[2].Settle(tick);
                bool refresh = (_clock.Now / RefreshPeriod & 1) != 0;
                return (uint)(_portB | (refresh ? 0x10 : 0) | (_channels[2].Output(tick) ? 0x20 : 0));
        }
    }

    /// <inheritdoc/>
    public void WritePort(int offset, int size, uint value)
    {
        ulong tick = Tick;
        byte data = (byte)value;
        switch (offset)
        {
            case < ControlOffset:
                _channels[offset].Write(data, tick);
                break;
            case ControlOffset:
                WriteControl(data, tick);
                break;
            default:
                _portB = (byte)(data & 0x0F);
                _channels[2].SetGate((data & 1) != 0, tick);
                return;
        }

        if (offset is 0 or ControlOffset)
        {
            DriveAndPlan(tick);
        }
    }

    /// <inheritdoc/>
    public void OnEvent(int token, ulong now)
    {
        if (_nextEvent == ulong.MaxValue)
        {
            return;
        }

        PitChannel channel = _channels[0];
        ulong tick = Math.Max(_oscillator.Ticks(now), _nextEvent);
        bool pulse = channel.Mode != 0 && (channel.Mode != 3 || tick != _nextEvent || channel.Output(tick));
        channel.Settle(tick);
        if (pulse)
        {
            _line.Set(false); // The low tick of modes 2 and 4, and whole rounds that a late call skips.
            _line.Set(true);
        }

        _line.Set(channel.Mode == 2 || channel.Output(tick));
        Plan(channel.NextChange(tick));
    }

    /// <inheritdoc/>
    protected override void OnStateRestored()
    {
        foreach (PitChannel channel in _channels)
        {
            channel.Mode = (byte)(channel.Mode % 6);
            channel.Access = (byte)Math.Max(channel.Access & 3, 1);
        }

        Plan(_nextEvent);
    }

    private static StateMap<Pit8254> MakeMap()
    {
        var map = new StateMapBuilder<Pit8254>()
            .Add(1, "port B", static p => ref p._portB)
            .Add(2, "next change of counter 0", static p => ref p._nextEvent);
        for (int i = 0; i < 3; i++)
        {
            int n = i;
            ushort id = (ushort)(0x20 * (n + 1));
            string name = $"counter {(char)('0' + n)} ";
            map.Add(id, name + "mode", p => ref p._channels[n].Mode)
                .Add((ushort)(id + 1), name + "access", p => ref p._channels[n].Access)
                .Add((ushort)(id + 2), name + "BCD", p => ref p._channels[n].Bcd)
                .Add((ushort)(id + 3), name + "loaded", p => ref p._channels[n].Loaded)
                .Add((ushort)(id + 4), name + "initial count", p => ref p._channels[n].Initial)
                .Add((ushort)(id + 5), name + "next count", p => ref p._channels[n].Next)
                .Add((ushort)(id + 6), name + "next count pending", p => ref p._channels[n].NextPending)
                .Add((ushort)(id + 7), name + "gate", p => ref p._channels[n].Gate)
                .Add((ushort)(id + 8), name + "paused", p => ref p._channels[n].Paused)
                .Add((ushort)(id + 9), name + "triggered", p => ref p._channels[n].Triggered)
                .Add((ushort)(id + 10), name + "start tick", p => ref p._channels[n].Start)
                .Add((ushort)(id + 11), name + "ticks before the pause", p => ref p._channels[n].Frozen)
                .Add((ushort)(id + 12), name + "written low byte", p => ref p._channels[n].WriteLow)
                .Add((ushort)(id + 13), name + "high byte is written next", p => ref p._channels[n].WriteHighNext)
                .Add((ushort)(id + 14), name + "high byte is read next", p => ref p._channels[n].ReadHighNext)
                .Add((ushort)(id + 15), name + "latch", p => ref p._channels[n].Latch)
                .Add((ushort)(id + 16), name + "latched bytes", p => ref p._channels[n].LatchedBytes)
                .Add((ushort)(id + 17), name + "status", p => ref p._channels[n].Status)
                .Add((ushort)(id + 18), name + "status latched", p => ref p._channels[n].StatusLatched);
        }

        return map.Build();
    }

    private void WriteControl(byte control, ulong tick)
    {
        int select = control >> 6;
        if (select == 3)
        {
            ReadBack(control, tick);
        }
        else if ((control & 0x30) == 0)
        {
            _channels[select].Settle(tick);
            _channels[select].LatchCount(tick);
        }
        else
        {
            _channels[select].WriteControl(control);
        }
    }

    private void ReadBack(byte control, ulong tick)
    {
        for (int i = 0; i < 3; i++)
        {
            if ((control & (2 << i)) == 0)
            {
                continue;
            }

            _channels[i].Settle(tick);
            if ((control & 0x20) == 0)
            {
                _channels[i].LatchCount(tick);
            }

            if ((control & 0x10) == 0)
            {
                _channels[i].LatchStatus(tick);
            }
        }
    }

    private void DriveAndPlan(ulong tick)
    {
        PitChannel channel = _channels[0];
        channel.Settle(tick);
        _line.Set(channel.Mode is 2 or 4 || channel.Output(tick));
        Plan(channel.NextChange(tick));
    }

    private void Plan(ulong tick)
    {
        _nextEvent = tick;
        if (tick == ulong.MaxValue)
        {
            _events.Cancel(this, 0);
        }
        else
        {
            _events.Schedule(this, 0, _oscillator.Nanoseconds(tick));
        }
    }
}
