using VmFuzz.Arch;

namespace VmFuzz.Devices;

/// <summary>
/// Real-time clock with 128 bytes of CMOS memory (Motorola MC146818), at ports 0x70 and 0x71, interrupt line 8.
/// It starts at a configured time and goes with virtual time.
/// </summary>
/// <remarks>
/// The registers of the time hold what was written until the next update. Daylight saving and the square wave are not
/// modelled; every divider setting but reset counts as the 32 kHz one. The century is byte 0x32, as firmware expects.
/// </remarks>
public sealed class Rtc : Device, IPortDevice, IEventTarget
{
    /// <summary>2000-01-01 00:00:00 in seconds since 1970-01-01.</summary>
    public const long DefaultStart = 946_684_800;

    /// <summary>First of the two ports.</summary>
    public const ushort FirstPort = 0x70;

    private const int Size = 128;
    private const int RegisterA = 10;
    private const int RegisterB = 11;
    private const int RegisterC = 12;
    private const int RegisterD = 13;
    private const int Century = 0x32;
    private const byte Set = 0x80;
    private const byte Periodic = 0x40;
    private const byte Alarm = 0x20;
    private const byte Updated = 0x10;
    private const byte Requested = 0x80;
    private const ulong UpdateCycle = 244_000 + 1_984_000;

    private static readonly StateMap<Rtc> s_map = new StateMapBuilder<Rtc>()
        .Add(1, "CMOS", Size, static r => ref r._cmos)
        .Add(2, "index", static r => ref r._index)
        .Add(3, "NMI masked", static r => ref r._nmiMasked)
        .Add(4, "time of the next update", static r => ref r._nextUpdate)
        .Add(5, "start of the divider", static r => ref r._dividerStart)
        .Add(6, "last tick seen", static r => ref r._lastTick)
        .Build();

    private readonly IClock _clock;
    private readonly IEventQueue _events;
    private readonly InterruptLine _line;
    private readonly long _start;
    private readonly Oscillator _oscillator = new(32768);
    private byte[] _cmos = new byte[Size];
    private byte _index;
    private bool _nmiMasked;
    private ulong _nextUpdate;
    private ulong _dividerStart;
    private ulong _lastTick;

    /// <summary>Makes a clock.</summary>
    /// <param name="clock">Virtual time.</param>
    /// <param name="events">Queue for its interrupts.</param>
    /// <param name="line">Its interrupt line, 8 on a PC.</param>
    /// <param name="start">What it shows at virtual time 0, in seconds since 1970-01-01.</param>
    public Rtc(IClock clock, IEventQueue events, InterruptLine line, long start = DefaultStart)
        : base(ComponentId.Rtc)
    {
        ArgumentNullException.ThrowIfNull(clock);
        ArgumentNullException.ThrowIfNull(events);
        _clock = clock;
        _events = events;
        _line = line;
        _start = start;
        Reset();
    }

    /// <summary>Bit 7 of port 0x70: non-maskable interrupts are masked.</summary>
    public bool NmiMasked => _nmiMasked;

    /// <inheritdoc/>
    protected override StateMap Map => s_map;

    private bool DividerHeld => (_cmos[RegisterA] & 0x60) == 0x60;

    private bool Binary => (_cmos[RegisterB] & 4) != 0;

    private bool Hours24 => (_cmos[RegisterB] & 2) != 0;

    /// <summary>32 kHz ticks of one period of the periodic interrupt, 0 for none ("Periodic Interrupt Rate").</summary>
    private ulong PeriodTicks
    {
        get
        {
            int rate = _cmos[RegisterA] & 15;
            return rate == 0 ? 0 : 1UL << ((rate <= 2 ? rate + 7 : rate) - 1);
        }
    }

    /// <inheritdoc/>
    /// <remarks>CMOS memory is cleared as well; a machine writes its own bytes afterwards.</remarks>
    public override void Reset()
    {
        _cmos.AsSpan().Clear();
        _cmos[RegisterA] = 0x26;
        _cmos[RegisterB] = 0x02;
        _cmos[RegisterD] = 0x80;
        _index = 0;
        _nmiMasked = false;
        ulong now = _clock.Now;
        Encode(CivilTime.FromSeconds(_start + (long)(now / Oscillator.Second)));
        _cmos[6] = (byte)(1 + ((CivilTime.FromSeconds(_start + (long)(now / Oscillator.Second)).DayNumber + 4) % 7));
        _nextUpdate = ((now / Oscillator.Second) + 1) * Oscillator.Second;
        _dividerStart = 0;
        _lastTick = Tick(now);
        Touch();
        DriveAndPlan();
    }

    /// <summary>Puts a byte of CMOS memory in place, as firmware or a battery would have.</summary>
    /// <param name="index">14 to 127.</param>
    /// <param name="value">The byte.</param>
    public void SetCmos(int index, byte value)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(index, 14);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, Size);
        _cmos[index] = value;
        Touch();
    }

    /// <summary>
    /// Writes the memory sizes where firmware looks for them: base memory in KiB at 0x15, extended in KiB at 0x17 and
    /// 0x30, above 16 MiB in units of 64 KiB at 0x34, above 4 GiB in units of 64 KiB at 0x5b.
    /// </summary>
    /// <param name="below4G">Bytes of memory below 4 GiB, from address 0.</param>
    /// <param name="above4G">Bytes of memory from 4 GiB.</param>
    public void SetMemorySize(ulong below4G, ulong above4G)
    {
        const ulong Mi = 1 << 20;
        ulong extended = Math.Min(below4G > Mi ? (below4G - Mi) >> 10 : 0, 0xFFFF);
        ulong high = Math.Min(below4G > 16 * Mi ? (below4G - (16 * Mi)) >> 16 : 0, 0xFFFF);
        ulong above = above4G >> 16;
        SetWord(0x15, Math.Min(below4G >> 10, 640));
        SetWord(0x17, extended);
        SetWord(0x30, extended);
        SetWord(0x34, high);
        SetWord(0x5B, above);
        SetCmos(0x5D, (byte)(above >> 16));
    }

    /// <inheritdoc/>
    public uint ReadPort(int offset, int size)
    {
        if (offset == 0)
        {
            return 0xFF; // The index cannot be read.
        }

        ulong now = _clock.Now;
        CatchUp(now);
        byte value = _cmos[_index];
        switch (_index)
        {
            case RegisterA:
                bool updating = !DividerHeld && (_cmos[RegisterB] & Set) == 0 && _nextUpdate - now <= UpdateCycle;
                value = (byte)((value & 0x7F) | (updating ? 0x80 : 0));
                break;
            case RegisterC:
                _cmos[RegisterC] = 0;
                break;
            default:
                break;
        }

        DriveAndPlan();
        return value;
    }

    /// <inheritdoc/>
    public void WritePort(int offset, int size, uint value)
    {
        byte data = (byte)value;
        if (offset == 0)
        {
            _index = (byte)(data & 0x7F);
            _nmiMasked = (data & 0x80) != 0;
            return;
        }

        ulong now = _clock.Now;
        CatchUp(now);
        switch (_index)
        {
            case RegisterA:
                WriteDivider((byte)(data & 0x7F), now);
                break;
            case RegisterB:
                // SET clears the update-ended interrupt ("Register B").
                _cmos[RegisterB] = (byte)((data & Set) != 0 ? data & ~Updated : data);
                break;
            case RegisterC or RegisterD:
                break;
            default:
                _cmos[_index] = data;
                break;
        }

        DriveAndPlan();
    }

    /// <inheritdoc/>
    public void OnEvent(int token, ulong now)
    {
        CatchUp(now);
        DriveAndPlan();
    }

    /// <inheritdoc/>
    protected override void OnStateRestored()
    {
        _index &= 0x7F;
        Plan();
    }

    private ulong Tick(ulong now) => _oscillator.Ticks(now >= _dividerStart ? now - _dividerStart : 0);

    private void SetWord(int index, ulong value)
    {
        SetCmos(index, (byte)value);
        SetCmos(index + 1, (byte)(value >> 8));
    }

    private void WriteDivider(byte value, ulong now)
    {
        bool held = DividerHeld;
        _cmos[RegisterA] = value;
        if (DividerHeld)
        {
            _nextUpdate = ulong.MaxValue;
        }
        else if (held)
        {
            // The first update comes half a second after the divider starts ("Divider Control").
            _nextUpdate = now + (Oscillator.Second / 2);
            _dividerStart = now;
            _lastTick = 0;
        }
    }

    /// <summary>Does what has become due since the last call: updates of the time, and the three flags.</summary>
    private void CatchUp(ulong now)
    {
        if (DividerHeld)
        {
            return;
        }

        ulong tick = Tick(now);
        ulong period = PeriodTicks;
        if (period != 0 && tick / period > _lastTick / period)
        {
            _cmos[RegisterC] |= Periodic;
        }

        _lastTick = tick;
        if (now < _nextUpdate)
        {
            return;
        }

        ulong updates = ((now - _nextUpdate) / Oscillator.Second) + 1;
        _nextUpdate += updates * Oscillator.Second;
        if ((_cmos[RegisterB] & Set) == 0)
        {
            Advance(updates);
        }
    }

    private void Advance(ulong updates)
    {
        CivilTime time = Decode();
        long seconds = time.Seconds;
        long checks = (long)Math.Min(updates, 86400);
        bool alarm = (_cmos[RegisterC] & Alarm) != 0;
        for (long i = 1; i <= checks && !alarm; i++)
        {
            alarm = AlarmMatches(seconds + i);
        }

        // Ten thousand years are enough for any run; the calendar's arithmetic stays in range.
        long after = seconds + (long)Math.Min(updates, 315_360_000_000);
        CivilTime next = CivilTime.FromSeconds(after);
        long days = next.DayNumber - time.DayNumber;
        _cmos[6] = (byte)(1 + ((((_cmos[6] & 7) + 6 + days) % 7 + 7) % 7));
        Encode(next);
        _cmos[RegisterC] |= (byte)(Updated | (alarm ? Alarm : 0));
    }

    private bool AlarmMatches(long seconds)
    {
        int ofDay = (int)(seconds % 86400);
        return Matches(1, ToRegister(ofDay % 60)) && Matches(3, ToRegister(ofDay / 60 % 60)) && Matches(5, ToHours(ofDay / 3600));
    }

    /// <summary>An alarm byte with both upper bits set matches everything.</summary>
    private bool Matches(int index, byte value) => _cmos[index] >= 0xC0 || _cmos[index] == value;

    private byte ToRegister(int value) => (byte)(Binary ? value : ((value / 10) << 4) | (value % 10));

    private int FromRegister(int index, int mask = 0xFF)
    {
        int value = _cmos[index] & mask;
        return Binary ? value : ((value >> 4) * 10) + (value & 15);
    }

    private byte ToHours(int hour) =>
        Hours24 ? ToRegister(hour) : (byte)(ToRegister(((hour + 11) % 12) + 1) | (hour >= 12 ? 0x80 : 0));

    private CivilTime Decode()
    {
        int hour = Hours24 ? FromRegister(4) : (FromRegister(4, 0x7F) % 12) + ((_cmos[4] & 0x80) != 0 ? 12 : 0);
        int century = (_cmos[Century] >> 4) * 10 + (_cmos[Century] & 15);
        int year = (century is >= 16 and <= 99 ? century * 100 : 2000) + (FromRegister(9) % 100);
        int month = Math.Clamp(FromRegister(8), 1, 12);
        int day = Math.Clamp(FromRegister(7), 1, 31);
        return new CivilTime(year, month, day, hour % 24, FromRegister(2) % 60, FromRegister(0) % 60);
    }

    private void Encode(in CivilTime time)
    {
        _cmos[0] = ToRegister(time.Second);
        _cmos[2] = ToRegister(time.Minute);
        _cmos[4] = ToHours(time.Hour);
        _cmos[7] = ToRegister(time.Day);
        _cmos[8] = ToRegister(time.Month);
        _cmos[9] = ToRegister(time.Year % 100);
        int century = time.Year / 100 % 100;
        _cmos[Century] = (byte)(((century / 10) << 4) | (century % 10));
    }

    private void DriveAndPlan()
    {
        byte flags = (byte)(_cmos[RegisterC] & (Periodic | Alarm | Updated));
        bool request = (flags & _cmos[RegisterB]) != 0;
        _cmos[RegisterC] = (byte)(flags | (request ? Requested : 0));
        _line.Set(request);
        Plan();
    }

    /// <summary>An interrupt that waits to be read needs no event; otherwise the next update or period that can raise one.</summary>
    private void Plan()
    {
        ulong deadline = ulong.MaxValue;
        byte enabled = _cmos[RegisterB];
        if (!DividerHeld && (_cmos[RegisterC] & Requested) == 0)
        {
            if ((enabled & (Updated | Alarm)) != 0 && (enabled & Set) == 0)
            {
                deadline = _nextUpdate;
            }

            ulong period = PeriodTicks;
            if ((enabled & Periodic) != 0 && period != 0)
            {
                ulong next = _oscillator.Nanoseconds(((_lastTick / period) + 1) * period);
                deadline = Math.Min(deadline, next > ulong.MaxValue - _dividerStart ? ulong.MaxValue : next + _dividerStart);
            }
        }

        if (deadline == ulong.MaxValue)
        {
            _events.Cancel(this, 0);
        }
        else
        {
            _events.Schedule(this, 0, deadline);
        }
    }
}
