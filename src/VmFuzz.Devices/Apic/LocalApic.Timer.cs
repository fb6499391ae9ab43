using VmFuzz.Arch;

namespace VmFuzz.Devices.Apic;

// The timer (SDM "APIC Timer"). It counts the core crystal clock of CPUID leaf 15H, one tick a nanosecond, divided.
public sealed partial class LocalApic
{
    private const uint TimerModes = 3 << 17;
    private const uint Periodic = 1 << 17;
    private const uint TscDeadline = 2 << 17;

    private ulong _timerStart;
    private ulong _deadline;
    private uint _timerCount;
    private bool _timerRuns;

    /// <summary>The current count; 0 when the timer does not count.</summary>
    internal uint CurrentCount
    {
        get
        {
            if (!_timerRuns || TimerMode == TscDeadline)
            {
                return 0;
            }

            ulong ticks = Elapsed >> DivideShift;
            uint initial = _registers[ApicRegisters.InitialCount];
            return ticks < _timerCount ? (uint)(_timerCount - ticks)
                : TimerMode == Periodic && initial != 0 ? (uint)(initial - ((ticks - _timerCount) % initial))
                : 0;
        }
    }

    private uint TimerMode => _registers[ApicRegisters.LvtTimer] & TimerModes;

    private ulong Elapsed => _clock.Now >= _timerStart ? _clock.Now - _timerStart : 0;

    // Bits 3, 1 and 0: 000 divides by 2, 110 by 128, 111 by 1.
    private int DivideShift
    {
        get
        {
            uint divide = _registers[ApicRegisters.Divide];
            return (int)(((divide & 3) | ((divide >> 1) & 4)) + 1) & 7;
        }
    }

    // An expiry whose interrupt waits already changes nothing, so nobody need be woken by it.
    private bool ExpiryMatters
    {
        get
        {
            uint entry = _registers[ApicRegisters.LvtTimer];
            byte vector = (byte)entry;
            return (entry & ApicRegisters.Masked) == 0 && IsEnabled && IsSoftwareEnabled
                && (vector < 16 ? (_errors & ReceivedIllegalVector) == 0 : !Has(ApicRegisters.Requests, vector));
        }
    }

    internal void WriteLvtTimer(uint value)
    {
        Settle();
        uint before = TimerMode;
        _registers[ApicRegisters.LvtTimer] = value | LvtMask;
        if (before != TimerMode && (before == TscDeadline || TimerMode == TscDeadline))
        {
            Disarm();
        }

        Plan();
    }

    internal void WriteInitialCount(uint value)
    {
        if (TimerMode == TscDeadline)
        {
            return;
        }

        Settle();
        _registers[ApicRegisters.InitialCount] = value;
        _timerStart = _clock.Now;
        _timerCount = value;
        _timerRuns = value != 0;
        Plan();
    }

    internal void WriteDivide(uint value)
    {
        Settle();
        _timerCount = CurrentCount;
        _timerStart = _clock.Now;
        _registers[ApicRegisters.Divide] = value;
        Plan();
    }

    // SDM "TSC-Deadline Mode": without it the register reads 0 and ignores writes.
    private void WriteDeadline(ulong value)
    {
        if (TimerMode != TscDeadline)
        {
            return;
        }

        Settle();
        _deadline = value;
        _timerRuns = value != 0;
        Settle();
        Plan();
    }

    private void Disarm()
    {
        _timerRuns = false;
        _deadline = 0;
    }

    /// <summary>Makes up for what was due since the last call: one interrupt, however many periods passed.</summary>
    private void Settle()
    {
        if (!_timerRuns)
        {
            return;
        }

        if (TimerMode == TscDeadline)
        {
            if (_processor.Tsc < _deadline)
            {
                return;
            }

            Disarm();
        }
        else
        {
            ulong elapsed = Elapsed;
            ulong ticks = elapsed >> DivideShift;
            if (ticks < _timerCount)
            {
                return;
            }

            uint initial = _registers[ApicRegisters.InitialCount];
            ulong part = elapsed - (ticks << DivideShift);
            ticks -= _timerCount;
            _timerRuns = TimerMode == Periodic && initial != 0;
            _timerCount = initial;
            _timerStart = _timerRuns ? _clock.Now - (((ticks % initial) << DivideShift) + part) : 0;
        }

        AcceptLocal(ApicRegisters.LvtTimer);
    }

    private void Plan()
    {
        ulong due = _timerRuns && ExpiryMatters ? NextExpiry() : ulong.MaxValue;
        if (due == ulong.MaxValue)
        {
            _events.Cancel(this, 0);
        }
        else
        {
            _events.Schedule(this, 0, due);
        }
    }

    private ulong NextExpiry()
    {
        ulong from = _timerStart;
        ulong distance = (ulong)_timerCount << DivideShift;
        if (TimerMode == TscDeadline)
        {
            ulong tsc = _processor.Tsc;
            from = _clock.Now;
            distance = _deadline > tsc ? _deadline - tsc : 0;
        }

        return distance > ulong.MaxValue - from ? ulong.MaxValue : from + distance;
    }
}
