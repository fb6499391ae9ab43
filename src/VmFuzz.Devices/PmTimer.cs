using VmFuzz.Arch;

namespace VmFuzz.Devices;

/// <summary>
/// Power-management timer (ACPI Specification, "Power Management Timer"): 24 bits at 3.579545 MHz, read only. It is a
/// function of virtual time and has no state; its overflow is an event of <see cref="Acpi.PowerControl"/>.
/// </summary>
public sealed class PmTimer : Device, IPortDevice
{
    /// <summary>The usual port of this platform.</summary>
    public const ushort DefaultPort = 0x608;

    /// <summary>Ticks in a second.</summary>
    public const ulong Frequency = 3_579_545;

    private static readonly StateMap<PmTimer> s_map = new StateMapBuilder<PmTimer>().Build();

    private readonly IClock _clock;
    private readonly Oscillator _oscillator = new(Frequency);

    /// <summary>Makes a timer.</summary>
    /// <param name="clock">Virtual time.</param>
    public PmTimer(IClock clock)
        : base(ComponentId.PmTimer)
    {
        ArgumentNullException.ThrowIfNull(clock);
        _clock = clock;
    }

    /// <inheritdoc/>
    protected override StateMap Map => s_map;

    /// <inheritdoc/>
    public override void Reset() => Touch();

    /// <summary>Puts the timer's four ports on a bus.</summary>
    public void Attach(IoBus bus, ushort port = DefaultPort)
    {
        ArgumentNullException.ThrowIfNull(bus);
        bus.AddPorts(port, 4, this, widest: 4);
    }

    /// <inheritdoc/>
    public uint ReadPort(int offset, int size) => (uint)(_oscillator.Ticks(_clock.Now) & 0xFF_FFFF) >> (8 * offset);

    /// <inheritdoc/>
    public void WritePort(int offset, int size, uint value)
    {
    }
}
