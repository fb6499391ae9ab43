using VmFuzz.Arch;

namespace VmFuzz.Devices.Acpi;

/// <summary>
/// Power-management event and control registers (ACPI Specification, "PM1 Event Grouping", "PM1 Control Grouping"): 0x600
/// status, 0x602 enable, 0x604 control. The platform is always in ACPI mode; sleeping is soft-off or nothing.
/// </summary>
/// <remarks>The only event that the platform raises itself is the carry of the power-management timer.</remarks>
public sealed class PowerControl : Device, IPortDevice, IEventTarget
{
    /// <summary>The event block's first port; the control block follows behind its four.</summary>
    public const ushort FirstPort = 0x600;

    /// <summary>The control block's port.</summary>
    public const ushort ControlPort = FirstPort + ControlOffset;

    /// <summary>The type of sleep that is soft-off (Intel 82371AB, "Power Management Control Register").</summary>
    public const int SoftOff = 0;

    private const int EnableOffset = 2;
    private const int ControlOffset = 4;
    private const ushort TimerEvent = 1;
    private const ushort EventBits = TimerEvent | (1 << 5) | (1 << 8) | (1 << 9) | (1 << 10);
    private const ushort WakeStatus = 1 << 15;
    private const ushort SciEnable = 1;
    private const ushort ControlBits = (1 << 1) | (7 << 10);
    private const ushort SleepEnable = 1 << 13;

    // The timer's highest bit changes after so many ticks.
    private const ulong Carry = 1 << 23;

    private static readonly StateMap<PowerControl> s_map = new StateMapBuilder<PowerControl>()
        .Add(1, "PM1 status", static p => ref p._status)
        .Add(2, "PM1 enable", static p => ref p._enable)
        .Add(3, "PM1 control", static p => ref p._control)
        .Add(4, "carries seen", static p => ref p._carries)
        .Build();

    private readonly IClock _clock;
    private readonly IEventQueue _events;
    private readonly IMachineControl _machine;
    private readonly InterruptLine _line;
    private readonly Oscillator _oscillator = new(PmTimer.Frequency);
    private ushort _status;
    private ushort _enable;
    private ushort _control;
    private ulong _carries;

    /// <summary>Makes the registers.</summary>
    /// <param name="clock">Virtual time.</param>
    /// <param name="events">Queue of the timer's carry.</param>
    /// <param name="line">The system control interrupt.</param>
    /// <param name="machine">Who is switched off.</param>
    public PowerControl(IClock clock, IEventQueue events, InterruptLine line, IMachineControl machine)
        : base(ComponentId.PowerControl)
    {
        ArgumentNullException.ThrowIfNull(clock);
        ArgumentNullException.ThrowIfNull(events);
        ArgumentNullException.ThrowIfNull(machine);
        _clock = clock;
        _events = events;
        _line = line;
        _machine = machine;
        Reset();
    }

    /// <inheritdoc/>
    protected override StateMap Map => s_map;

    private ulong Carries => _oscillator.Ticks(_clock.Now) / Carry;

    /// <inheritdoc/>
    public override void Reset()
    {
        _status = 0;
        _enable = 0;
        _control = SciEnable;
        _carries = Carries;
        Touch();
        DriveAndPlan();
    }

    /// <summary>Puts the registers on a bus.</summary>
    public void Attach(IoBus bus)
    {
        ArgumentNullException.ThrowIfNull(bus);
        bus.AddPorts(FirstPort, ControlOffset + 2, this, widest: 2);
    }

    /// <inheritdoc/>
    public uint ReadPort(int offset, int size)
    {
        CatchUp();
        uint value = (offset & ~1) switch
        {
            0 => _status,
            EnableOffset => _enable,
            _ => _control,
        };
        DriveAndPlan();
        return value >> (8 * (offset & 1));
    }

    /// <inheritdoc/>
    public void WritePort(int offset, int size, uint value)
    {
        CatchUp();
        int shift = 8 * (offset & 1);
        ushort mask = (ushort)((size == 2 ? 0xFFFF : 0xFF) << shift);
        ushort written = (ushort)(value << shift);
        switch (offset & ~1)
        {
            case 0:
                // A written one clears.
                _status &= (ushort)~(written & (EventBits | WakeStatus));
                break;
            case EnableOffset:
                _enable = (ushort)((_enable & ~mask) | (written & EventBits));
                break;
            default:
                _control = (ushort)((_control & ~(mask & ControlBits)) | (written & ControlBits));
                if ((written & SleepEnable) != 0 && ((_control >> 10) & 7) == SoftOff)
                {
                    _machine.RequestPowerOff("ACPI soft-off");
                }

                break;
        }

        DriveAndPlan();
    }

    /// <inheritdoc/>
    public void OnEvent(int token, ulong now)
    {
        CatchUp();
        DriveAndPlan();
    }

    /// <inheritdoc/>
    protected override void OnStateRestored() => Plan();

    private void CatchUp()
    {
        ulong carries = Carries;
        if (carries > _carries)
        {
            _status |= TimerEvent;
        }

        _carries = carries;
    }

    private void DriveAndPlan()
    {
        _line.Set((_status & _enable & EventBits) != 0);
        Plan();
    }

    // Only an enabled carry that is not shown yet interrupts.
    private void Plan()
    {
        if ((_enable & ~_status & TimerEvent) == 0 || _carries >= ulong.MaxValue / Carry)
        {
            _events.Cancel(this, 0);
        }
        else
        {
            _events.Schedule(this, 0, _oscillator.Nanoseconds((_carries + 1) * Carry));
        }
    }
}
