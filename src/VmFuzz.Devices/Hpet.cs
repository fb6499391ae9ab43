using VmFuzz.Arch;

namespace VmFuzz.Devices;

/// <summary>
/// High-precision event timers (IA-PC HPET Specification 1.0a): a 64-bit counter at 100 MHz and three timers, all periodic
/// and 64 bits wide, at 0xfed00000. No FSB delivery.
/// </summary>
/// <remarks>
/// With legacy replacement timers 0 and 1 take lines 0 and 8 of the interval timer and the clock, which
/// <see cref="LegacyReplacement"/> tells the machine. Nothing ticks: the counter is computed from virtual time.
/// </remarks>
public sealed class Hpet : Device, IMmioDevice, IEventTarget
{
    /// <summary>The usual address of the registers.</summary>
    public const ulong DefaultAddress = 0xFED0_0000;

    /// <summary>Number of timers.</summary>
    public const int TimerCount = 3;

    /// <summary>Event-timer block: revision 1, vendor Intel, legacy replacement, 64 bits. The low half of the capabilities.</summary>
    public const uint BlockId = 0x8086_8001 | (1 << 13) | ((TimerCount - 1) << 8);

    /// <summary>Nanoseconds of one tick.</summary>
    public const ulong Period = 10;

    private const ulong Capabilities = (Period * 1_000_000 << 32) | BlockId;

    // General configuration.
    private const ulong Enable = 1;
    private const ulong Legacy = 2;

    // Timer configuration.
    private const ulong LevelTriggered = 1 << 1;
    private const ulong InterruptEnable = 1 << 2;
    private const ulong Periodic = 1 << 3;
    private const ulong SetValue = 1 << 6;
    private const ulong Only32 = 1 << 8;
    private const ulong Route = 0x1F << 9;
    private const ulong WritableBits = LevelTriggered | InterruptEnable | Periodic | Only32 | Route;

    // Periodic, 64 bits, and the IO APIC pins 16 to 23 that no ISA device has.
    private const ulong TimerCapabilities = (0x00FF_0000UL << 32) | (1 << 4) | (1 << 5);

    private static readonly StateMap<Hpet> s_map = MakeMap();

    private readonly IClock _clock;
    private readonly IEventQueue _events;
    private readonly IInterruptSink _lines;
    private readonly Timer[] _timers = [new(), new(), new()];
    private ulong _configuration;
    private ulong _status;
    private ulong _counter;
    private ulong _since;

    /// <summary>Makes the block.</summary>
    /// <param name="clock">Virtual time.</param>
    /// <param name="events">Queue of the timers.</param>
    /// <param name="lines">Receiver of interrupts, by the number of an IO APIC's pin; legacy lines are 2 and 8.</param>
    public Hpet(IClock clock, IEventQueue events, IInterruptSink lines)
        : base(ComponentId.Hpet)
    {
        ArgumentNullException.ThrowIfNull(clock);
        ArgumentNullException.ThrowIfNull(events);
        ArgumentNullException.ThrowIfNull(lines);
        _clock = clock;
        _events = events;
        _lines = lines;
        Reset();
    }

    /// <summary>Timers 0 and 1 stand in the place of the interval timer and the clock.</summary>
    public bool LegacyReplacement => (_configuration & Legacy) != 0;

    /// <inheritdoc/>
    protected override StateMap Map => s_map;

    private bool IsEnabled => (_configuration & Enable) != 0;

    // Whole ticks since the counter was last set or started.
    private ulong Counter => IsEnabled && _clock.Now >= _since ? _counter + ((_clock.Now - _since) / Period) : _counter;

    /// <inheritdoc/>
    public override void Reset()
    {
        for (int i = 0; i < TimerCount; i++)
        {
            _timers[i].Configuration = 0;
            _timers[i].Comparator = ulong.MaxValue;
            _timers[i].Increment = 0;
            _timers[i].Seen = 0;
        }

        _configuration = 0;
        _counter = 0;
        _since = 0;
        ClearStatus(_status);
        Touch();
        Plan();
    }

    /// <summary>Puts the registers on a memory bus.</summary>
    public void Attach(IoBus bus)
    {
        ArgumentNullException.ThrowIfNull(bus);
        bus.AddMmio(new Gpa(DefaultAddress), 0x400, this, widest: 8);
    }

    /// <inheritdoc/>
    public ulong ReadMmio(ulong offset, int size)
    {
        ulong value = ReadRegister(offset & ~7UL);
        return value >> (8 * (int)(offset & 7));
    }

    /// <inheritdoc/>
    /// <remarks>Accesses of four and eight bytes write; the specification leaves others open.</remarks>
    public void WriteMmio(ulong offset, int size, ulong value)
    {
        if (size < 4)
        {
            return;
        }

        int shift = 8 * (int)(offset & 4);
        ulong mask = size == 8 ? ulong.MaxValue : 0xFFFF_FFFFUL << shift;
        Settle();
        WriteRegister(offset & ~7UL, value << shift, mask);
        Plan();
    }

    /// <inheritdoc/>
    public void OnEvent(int token, ulong now)
    {
        Settle();
        Plan();
    }

    /// <inheritdoc/>
    protected override void OnStateRestored() => Plan();

    private static StateMap<Hpet> MakeMap()
    {
        var map = new StateMapBuilder<Hpet>()
            .Add(1, "general configuration", static h => ref h._configuration)
            .Add(2, "interrupt status", static h => ref h._status)
            .Add(3, "main counter", static h => ref h._counter)
            .Add(4, "time of the main counter", static h => ref h._since);
        for (int i = 0; i < TimerCount; i++)
        {
            int n = i;
            ushort id = (ushort)(0x10 * (n + 1));
            string name = $"timer {(char)('0' + n)} ";
            map.Add(id, name + "configuration", h => ref h._timers[n].Configuration)
                .Add((ushort)(id + 1), name + "comparator", h => ref h._timers[n].Comparator)
                .Add((ushort)(id + 2), name + "period", h => ref h._timers[n].Increment)
                .Add((ushort)(id + 3), name + "counter seen", h => ref h._timers[n].Seen);
        }

        return map.Build();
    }

    private static ulong Merge(ulong old, ulong value, ulong mask) => (old & ~mask) | (value & mask);

    private ulong ReadRegister(ulong offset)
    {
        int timer = (int)(offset >> 5) - 8;
        if (timer is >= 0 and < TimerCount)
        {
            return (offset & 0x18) switch
            {
                0x00 => _timers[timer].Configuration | TimerCapabilities,
                0x08 => Narrow(_timers[timer], _timers[timer].Comparator),
                _ => 0,
            };
        }

        return offset switch
        {
            0x00 => Capabilities,
            0x10 => _configuration,
            0x20 => _status,
            0xF0 => Counter,
            _ => 0,
        };
    }

    private void WriteRegister(ulong offset, ulong value, ulong mask)
    {
        int timer = (int)(offset >> 5) - 8;
        if (timer is >= 0 and < TimerCount)
        {
            WriteTimer(timer, (offset & 0x18) == 0, (offset & 0x18) == 8, value, mask);
            return;
        }

        switch (offset)
        {
            case 0x10:
                WriteConfiguration(Merge(_configuration, value, mask) & (Enable | Legacy));
                break;
            case 0x20:
                ClearStatus(value & mask);
                break;
            case 0xF0 when !IsEnabled:
                _counter = Merge(_counter, value, mask);
                foreach (Timer each in _timers)
                {
                    each.Seen = _counter;
                }

                break;
            default:
                break;
        }
    }

    private void WriteConfiguration(ulong value)
    {
        _counter = Counter;
        _since = _clock.Now;
        _configuration = value;
        if (!IsEnabled)
        {
            ClearStatus(ulong.MaxValue);
        }
    }

    private void WriteTimer(int number, bool isConfiguration, bool isComparator, ulong value, ulong mask)
    {
        Timer timer = _timers[number];
        if (isConfiguration)
        {
            ulong written = Merge(timer.Configuration, value, mask);
            timer.Configuration = (written & WritableBits) | (written & mask & SetValue);
            if (!timer.Has(InterruptEnable) || !timer.Has(LevelTriggered))
            {
                ClearStatus(1UL << number);
            }
        }
        else if (isComparator)
        {
            // "Timer n Comparator Register": in periodic mode a write sets the period, and with the set-value bit the
            // comparator too.
            if (!timer.Has(Periodic) || timer.Has(SetValue))
            {
                timer.Comparator = Narrow(timer, Merge(timer.Comparator, value, mask));
            }

            if (timer.Has(Periodic))
            {
                timer.Increment = Narrow(timer, Merge(timer.Increment, value, mask));
            }

            timer.Configuration &= ~SetValue;
            timer.Seen = Counter;
        }
    }

    /// <summary>Raises what the counter has passed since the last call, one interrupt a timer, and moves periods on.</summary>
    private void Settle()
    {
        ulong counter = Counter;
        for (int i = 0; i < TimerCount; i++)
        {
            Timer timer = _timers[i];
            ulong distance = Distance(timer, timer.Seen);
            ulong passed = counter - timer.Seen;
            timer.Seen = counter;
            if (passed < distance)
            {
                continue;
            }

            if (timer.Has(Periodic) && timer.Increment != 0)
            {
                ulong periods = ((passed - distance) / timer.Increment) + 1;
                timer.Comparator = Narrow(timer, timer.Comparator + (periods * timer.Increment));
            }

            Raise(i);
        }
    }

    private void Raise(int number)
    {
        Timer timer = _timers[number];
        if (!timer.Has(InterruptEnable))
        {
            if (timer.Has(LevelTriggered))
            {
                _status |= 1UL << number;
            }

            return;
        }

        int line = Line(number);
        if (timer.Has(LevelTriggered))
        {
            _status |= 1UL << number;
            _lines.SetLine(line, true);
        }
        else
        {
            _lines.SetLine(line, true);
            _lines.SetLine(line, false);
        }
    }

    private void ClearStatus(ulong bits)
    {
        for (int i = 0; i < TimerCount; i++)
        {
            if ((_status & bits & (1UL << i)) != 0)
            {
                _lines.SetLine(Line(i), false);
            }
        }

        _status &= ~bits;
    }

    private int Line(int number) => LegacyReplacement && number < 2
        ? (number == 0 ? 2 : 8)
        : (int)((_timers[number].Configuration & Route) >> 9) % 24;

    private void Plan()
    {
        ulong due = ulong.MaxValue;
        if (IsEnabled)
        {
            ulong counter = Counter;
            foreach (Timer timer in _timers)
            {
                if (timer.Has(InterruptEnable))
                {
                    due = Math.Min(due, TimeOf(counter, Distance(timer, counter)));
                }
            }
        }

        if (due == ulong.MaxValue)
        {
            _events.Cancel(this, 0);
        }
        else
        {
            _events.Schedule(this, 0, due);
        }
    }

    private ulong TimeOf(ulong counter, ulong distance)
    {
        ulong elapsed = counter - _counter;
        ulong most = (ulong.MaxValue - _since) / Period;
        return distance > ulong.MaxValue - elapsed || elapsed + distance > most ? ulong.MaxValue : _since + ((elapsed + distance) * Period);
    }

    // Ticks to the next match. At the comparator itself that is once around: 64 bits take longer than any run.
    private static ulong Distance(Timer timer, ulong from) => Narrow(timer, timer.Comparator - from) switch
    {
        0 => timer.Has(Only32) ? 1UL << 32 : ulong.MaxValue,
        ulong distance => distance,
    };

    private static ulong Narrow(Timer timer, ulong value) => timer.Has(Only32) ? (uint)value : value;

    private sealed class Timer
    {
        // Fields, not properties: the state map refers to them.
        public ulong Configuration;
        public ulong Comparator;
        public ulong Increment;
        public ulong Seen;

        public bool Has(ulong bit) => (Configuration & bit) != 0;
    }
}
