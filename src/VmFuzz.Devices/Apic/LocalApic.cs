using VmFuzz.Arch;

namespace VmFuzz.Devices.Apic;

/// <summary>
/// A local APIC (SDM "Advanced Programmable Interrupt Controller (APIC)"): xAPIC registers in the page that
/// IA32_APIC_BASE names, x2APIC registers as MSRs, the local vector table, the timer, inter-processor interrupts.
/// </summary>
/// <remarks>
/// Its interrupt line LINT0 is line 0 of the sink, LINT1 is line 1. The registers survive a global disable, which the SDM
/// leaves open; while it is disabled LINT0 is the processor's INTR pin and LINT1 its NMI pin.
/// DEVIATION: a page that is moved onto memory is hidden by the memory.
/// </remarks>
public sealed partial class LocalApic : Device, IMovableMmio, IInterruptController, IInterruptSink, IEventTarget
{
    /// <summary>Address of the registers after reset.</summary>
    public const ulong DefaultAddress = 0xFEE0_0000;

    private const ulong GlobalEnable = 1 << 11;
    private const ulong X2Enable = 1 << 10;
    private const ulong PageMask = 0xFFF;
    private const uint FirstMsr = 0x800;

    private static readonly StateMap<LocalApic> s_map = MakeMap();

    private readonly uint[] _registers = new uint[ApicRegisters.Count];
    private readonly uint _number;
    private readonly IApicProcessor _processor;
    private readonly ApicBus _bus;
    private readonly IInterruptController? _external;
    private readonly IClock _clock;
    private readonly IEventQueue _events;
    private uint _errors;
    private byte _lines;
    private bool _extInt;

    /// <summary>Makes an APIC and joins it to a bus.</summary>
    /// <param name="number">Its number, as the hardware gave it; 0 to 254.</param>
    /// <param name="processor">The processor it belongs to.</param>
    /// <param name="bus">What joins it to others.</param>
    /// <param name="external">The controller behind LINT0 that gives the vectors of ExtINT interrupts; or null.</param>
    /// <param name="clock">Virtual time.</param>
    /// <param name="events">Queue of the timer.</param>
    /// <param name="component">Its component's number.</param>
    public LocalApic(
        uint number,
        IApicProcessor processor,
        ApicBus bus,
        IInterruptController? external,
        IClock clock,
        IEventQueue events,
        ComponentId component = ComponentId.LocalApic)
        : base(component)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(number, 254U);
        ArgumentNullException.ThrowIfNull(processor);
        ArgumentNullException.ThrowIfNull(bus);
        ArgumentNullException.ThrowIfNull(clock);
        ArgumentNullException.ThrowIfNull(events);
        _number = number;
        _processor = processor;
        _bus = bus;
        _external = external;
        _clock = clock;
        _events = events;
        bus.Add(this);
        Reset();
    }

    /// <inheritdoc/>
    public ulong? MmioStart => Mode == GlobalEnable ? _processor.ApicBase & ~PageMask & 0x000F_FFFF_FFFF_FFFF : null;

    /// <inheritdoc/>
    public ulong MmioLength => PageMask + 1;

    /// <inheritdoc/>
    protected override StateMap Map => s_map;

    private ulong Mode => _processor.ApicBase & (GlobalEnable | X2Enable);

    private bool IsEnabled => (_processor.ApicBase & GlobalEnable) != 0;

    private bool IsX2 => Mode == (GlobalEnable | X2Enable);

    private bool IsSoftwareEnabled => (_registers[ApicRegisters.SpuriousVector] & ApicRegisters.SoftwareEnabled) != 0;

    /// <inheritdoc/>
    /// <remarks>The levels of the lines stay: their drivers hold them.</remarks>
    public override void Reset()
    {
        for (int i = 0; i < ApicRegisters.Count; i++)
        {
            _registers[i] = ApicRegisters.ByNumber[i]?.Initial ?? 0;
        }

        _registers[ApicRegisters.Id] = _number << 24;
        _errors = 0;
        _extInt = false;
        Disarm();
        _timerStart = 0;
        _timerCount = 0;
        Touch();
        Plan();
        _processor.InterruptChanged();
    }

    /// <summary>INIT of its processor (SDM "Local APIC State After It Receives an INIT-Reset"): all but the number as after power-on.</summary>
    public void Init()
    {
        uint id = _registers[ApicRegisters.Id];
        Reset();
        _registers[ApicRegisters.Id] = id;
    }

    /// <inheritdoc/>
    /// <remarks>
    /// Bytes behind the first four of a register's sixteen read 0. A register that does not exist is an error
    /// (SDM "Error Handling", illegal register address).
    /// </remarks>
    public ulong ReadMmio(ulong offset, int size)
    {
        ApicRegister? row = Row((int)(offset >> 4), ApicAccess.XRead);
        if (row is null)
        {
            RaiseError(IllegalAddress);
            return 0;
        }

        return (offset & 15) < 4 ? Read(row, (int)(offset >> 4)) >> (8 * (int)(offset & 3)) : 0;
    }

    /// <inheritdoc/>
    /// <remarks>Only aligned accesses of four bytes write; the SDM leaves others undefined.</remarks>
    public void WriteMmio(ulong offset, int size, ulong value)
    {
        if (size != 4 || (offset & 15) != 0)
        {
            return;
        }

        int number = (int)(offset >> 4);
        if (Row(number, ApicAccess.XWrite) is { } row)
        {
            Write(row, number, (uint)value & row.Writable);
        }
        else if (Row(number, ApicAccess.XRead) is null)
        {
            RaiseError(IllegalAddress);
        }
    }

    /// <inheritdoc/>
    public bool TryReadApicMsr(uint msr, out ulong value)
    {
        Touch();
        value = 0;
        if (msr == Msr.TscDeadline)
        {
            value = _deadline;
            return true;
        }

        int number = (int)(msr - FirstMsr);
        if (!IsX2 || Row(number, ApicAccess.X2Read) is not { } row)
        {
            return false;
        }

        value = Read(row, number);
        if (number == ApicRegisters.CommandLow)
        {
            value |= (ulong)_registers[ApicRegisters.CommandHigh] << 32;
        }

        return true;
    }

    /// <inheritdoc/>
    public bool TryWriteApicMsr(uint msr, ulong value)
    {
        Touch();
        if (msr == Msr.TscDeadline)
        {
            WriteDeadline(value);
            return true;
        }

        int number = (int)(msr - FirstMsr);
        bool isCommand = number == ApicRegisters.CommandLow;
        if (!IsX2 || Row(number, ApicAccess.X2Write) is not { } row
            || ((uint)value & ~(row.Writable | row.Fixed)) != 0 || (!isCommand && value >> 32 != 0))
        {
            return false;
        }

        if (isCommand)
        {
            _registers[ApicRegisters.CommandHigh] = (uint)(value >> 32);
        }

        Write(row, number, (uint)value & row.Writable);
        return true;
    }

    /// <inheritdoc/>
    public void ProcessorMsrWritten()
    {
        Touch();
        Settle();
        Plan();
        _processor.InterruptChanged();
    }

    /// <inheritdoc/>
    public void OnEvent(int token, ulong now)
    {
        Settle();
        Plan();
    }

    /// <summary>
    /// Does what firmware does before an operating system starts, for a machine without firmware: the APIC is enabled,
    /// LINT0 is ExtINT and LINT1 is NMI (MultiProcessor Specification, "Virtual Wire Mode").
    /// </summary>
    public void ConnectVirtualWire()
    {
        _registers[ApicRegisters.SpuriousVector] |= ApicRegisters.SoftwareEnabled;
        _registers[ApicRegisters.LvtLint0] = (uint)ApicDelivery.ExtInt << 8;
        _registers[ApicRegisters.LvtLint1] = (uint)ApicDelivery.Nmi << 8;
        Touch();
    }

    internal uint ReadId() => IsX2 ? _number : _registers[ApicRegisters.Id];

    // SDM "Deriving Logical x2APIC ID from the Local x2APIC ID".
    internal uint ReadLogicalDestination() =>
        IsX2 ? ((_number >> 4) << 16) | (1U << (int)(_number & 15)) : _registers[ApicRegisters.LogicalDestination];

    /// <inheritdoc/>
    protected override void OnStateRestored() => Plan();

    private static StateMap<LocalApic> MakeMap()
    {
        var map = new StateMapBuilder<LocalApic>();
        foreach (ApicRegister row in ApicRegisters.Rows)
        {
            if (row.Reads is not null && row.Writable == 0)
            {
                continue;
            }

            for (int i = row.First; i <= row.Last; i++)
            {
                int n = i;
                string name = row.First == row.Last ? row.Name : $"{row.Name}{(char)('0' + n - row.First)}";
                map.Add((ushort)n, name, a => ref a._registers[n]);
            }
        }

        return map.Add(0x40, "detected errors", static a => ref a._errors)
            .Add(0x41, "LINT lines", static a => ref a._lines)
            .Add(0x42, "ExtINT message", static a => ref a._extInt)
            .Add(0x43, "timer runs", static a => ref a._timerRuns)
            .Add(0x44, "timer start", static a => ref a._timerStart)
            .Add(0x45, "count at the start", static a => ref a._timerCount)
            .Add(0x46, "IA32_TSC_DEADLINE", static a => ref a._deadline)
            .Build();
    }

    private static ApicRegister? Row(int number, ApicAccess access) =>
        (uint)number < ApicRegisters.Count && ApicRegisters.ByNumber[number] is { } row && (row.Access & access) != 0 ? row : null;

    private uint Read(ApicRegister row, int number) => row.Reads?.Invoke(this) ?? _registers[number];

    private void Write(ApicRegister row, int number, uint value)
    {
        if (row.Writes is { } writes)
        {
            writes(this, number, value);
        }
        else
        {
            _registers[number] = (_registers[number] & ~row.Writable) | value;
        }
    }
}
