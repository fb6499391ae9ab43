using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Devices;
using VmFuzz.Devices.Acpi;
using VmFuzz.Devices.Apic;

namespace VmFuzz.Machines;

/// <summary>The devices of a PC with a 440FX board, joined to each other and to a machine's bus.</summary>
internal sealed class PcBoard
{
    /// <summary>Memory below 4 GiB ends here at the latest; the addresses behind it are the devices'.</summary>
    public const ulong LowMemoryLimit = 0xC000_0000;

    // Keys of the configuration device: processors, the highest APIC number and 1 (16 bits each), bytes of memory (64 bits).
    private const ushort ProcessorsKey = 5;
    private const ushort MaxProcessorsKey = 0xF;
    private const ushort MemoryKey = 3;

    private readonly Serial16550 _serial;

    /// <summary>Makes the devices and puts them on the machine's bus.</summary>
    /// <param name="machine">The machine, with its processor, clock and bus.</param>
    /// <param name="withAcpi">Whether firmware finds ACPI tables in the configuration device.</param>
    public PcBoard(Machine machine, bool withAcpi)
    {
        IoBus bus = machine.Bus;
        VirtualClock clock = machine.Clock;
        EventQueue events = clock.Events;
        ulong memory = machine.Options.Memory;
        ulong low = Math.Min(memory, LowMemoryLimit);

        var interrupts = new ApicBus();
        IoApic = new IoApic(interrupts);
        Pic = new Pic8259Pair();
        Apic = new LocalApic(0, new ApicProcessor(machine), interrupts, Pic, clock, events);
        Pic.Output = new InterruptLine(Apic, 0);
        var lines = new IsaLines(Pic, IoApic);
        var hpet = new Hpet(clock, events, lines.OfHpet);
        lines.Hpet = hpet;

        _serial = new Serial16550(machine, new InterruptLine(lines, 4));
        var pit = new Pit8254(clock, events, new InterruptLine(lines, 0));
        var rtc = new Rtc(clock, events, new InterruptLine(lines, 8), machine.Options.RtcBase);
        var keyboard = new KeyboardController(machine, new InterruptLine(lines, 1));
        var power = new PowerControl(clock, events, new InterruptLine(lines, AcpiTables.SciLine), machine);
        var timer = new PmTimer(clock);
        var reset = new ResetControl(machine);
        var debug = new DebugPorts(machine);
        Acpi = new AcpiTables(processors: 1, low);
        FwCfgTable table = FwCfgTable.Empty.With(ProcessorsKey, (ushort)1).With(MaxProcessorsKey, (ushort)1).With(MemoryKey, memory);
        var firmware = new FwCfg(withAcpi ? Acpi.AddTo(table) : table);
        rtc.SetMemorySize(low, memory - low);

        bus.AddPorts(Serial16550.FirstPort, Serial16550.PortCount, _serial);
        bus.AddPorts(Rtc.FirstPort, 2, rtc);
        pit.Attach(bus);
        keyboard.Attach(bus);
        Pci.Attach(bus, reset);
        reset.Attach(bus, withResetPort: false);
        debug.Attach(bus);
        firmware.Attach(bus);
        power.Attach(bus);
        timer.Attach(bus);
        Pic.Attach(bus);
        IoApic.Attach(bus);
        hpet.Attach(bus);
        bus.AddMovable(Apic);
        Devices = [_serial, pit, rtc, Pci, Pic, keyboard, debug, reset, firmware, timer, power, hpet, IoApic, Apic];
    }

    /// <summary>The devices, in the order in which digests cover them.</summary>
    public ImmutableArray<Device> Devices { get; }

    /// <summary>The local APIC.</summary>
    public LocalApic Apic { get; }

    /// <summary>The IO APIC.</summary>
    public IoApic IoApic { get; }

    /// <summary>The interrupt controllers of the PC/AT.</summary>
    public Pic8259Pair Pic { get; }

    /// <summary>The PCI host.</summary>
    public PciHost Pci { get; } = new();

    /// <summary>Tables that describe all this.</summary>
    public AcpiTables Acpi { get; }

    /// <summary>Gives an input to the device that takes it.</summary>
    /// <returns>Whether there is one.</returns>
    public bool TryApply(in Input input)
    {
        switch (input.Kind)
        {
            case InputKind.Interrupt:
                // A line that falls before the processor acknowledges: the controllers answer with their spurious vector.
                Pic.SetLine(7, true);
                Pic.SetLine(7, false);
                return true;
            case InputKind.ConsoleByte:
                _serial.Receive((byte)input.Value);
                return true;
            default:
                return false;
        }
    }
}
