using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Devices;
using VmFuzz.Devices.Acpi;
using VmFuzz.Devices.Apic;
using VmFuzz.Devices.UnitTest;

namespace VmFuzz.Machines;

/// <summary>What a PC has besides its usual devices.</summary>
internal enum PcParts
{
    /// <summary>Tables for firmware.</summary>
    Firmware,
    /// <summary>The devices of hypervisor unit tests. They take the debug output's port.</summary>
    UnitTest,
}

/// <summary>The devices of a PC with a 440FX board, joined to each other and to a machine's bus.</summary>
internal sealed class PcBoard
{
    // Keys of the configuration device: processors, the highest APIC number and 1 (16 bits each), bytes of memory (64 bits),
    // the kernel's image.
    private const ushort ProcessorsKey = 5;
    private const ushort MaxProcessorsKey = 0xF;
    private const ushort MemoryKey = 3;
    private const ushort KernelKey = 0x11;

    // Where the ACPI tables lie when no firmware places them.
    private const uint TablesAddress = 0xE_0000;
    private const int PciTestNumber = 4 << 3;

    private readonly Pic8259Pair _pic = new();
    private readonly PciHost _pci = new();
    private readonly Serial16550 _serial;
    private readonly AcpiTables _acpi;

    /// <summary>Makes the devices and puts them on the machine's bus.</summary>
    /// <param name="machine">The machine, with its processor, clock and bus.</param>
    /// <param name="parts">What it has besides.</param>
    public PcBoard(Machine machine, PcParts parts)
    {
        IoBus bus = machine.Bus;
        VirtualClock clock = machine.Clock;
        EventQueue events = clock.Events;
        ulong memory = machine.Options.Memory;
        ulong low = Machine.LowMemory(machine.Options);

        var interrupts = new ApicBus();
        var ioApic = new IoApic(interrupts);
        Apics = [.. machine.Processors.Select(processor => new LocalApic(
            (uint)processor.Index,
            new ApicProcessor(machine, processor),
            interrupts,
            _pic,
            clock,
            events,
            ComponentIds.Of(processor.Index, ComponentId.LocalApic, ComponentId.VcpuLocalApic)))];
        _pic.Output = new InterruptLine(Apics[0], 0);
        var lines = new IsaLines(_pic, ioApic);
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
        _acpi = new AcpiTables(Apics.Length, low);
        ushort processors = (ushort)Apics.Length;
        FwCfgTable table = FwCfgTable.Empty.With(ProcessorsKey, processors).With(MaxProcessorsKey, processors).With(MemoryKey, memory);
        if (machine.Options.Image(MachineImage.KernelRole) is { } kernel)
        {
            table = table.With(KernelKey, kernel.Bytes.Span);
        }

        var firmware = new FwCfg(parts == PcParts.Firmware ? _acpi.AddTo(table) : table);
        rtc.SetMemorySize(low, memory - low);

        bus.AddPorts(Serial16550.FirstPort, Serial16550.PortCount, _serial);
        bus.AddPorts(Rtc.FirstPort, 2, rtc);
        pit.Attach(bus);
        keyboard.Attach(bus);
        _pci.Attach(bus, reset);
        reset.Attach(bus, withResetPort: false);
        debug.Attach(bus, withOutput: parts != PcParts.UnitTest);
        firmware.Attach(bus);
        power.Attach(bus);
        timer.Attach(bus);
        _pic.Attach(bus);
        ioApic.Attach(bus);
        hpet.Attach(bus);
        bus.AddMovable(Apics.Length == 1 ? Apics[0] : new ApicPage(() => Apics[machine.Current.Index]));
        Device[] tests = parts == PcParts.UnitTest ? MakeTestDevices(machine, lines) : [];
        Devices = [_serial, pit, rtc, _pci, _pic, keyboard, debug, reset, firmware, timer, power, hpet, ioApic, .. Apics, .. tests];
    }

    /// <summary>The devices, in the order in which digests cover them.</summary>
    public ImmutableArray<Device> Devices { get; }

    /// <summary>The local APICs, one for each processor.</summary>
    public ImmutableArray<LocalApic> Apics { get; }

    /// <summary>Puts a machine's memory in its places: below 640 KiB, from 768 KiB to the devices, and from 4 GiB.</summary>
    public static void MapMemory(Machine machine)
    {
        ulong low = Machine.LowMemory(machine.Options);
        machine.Memory.AddSlot(new Gpa(0), 0xA0000);
        machine.Memory.AddSlot(new Gpa(0xC0000), (1 << 20) - 0xC0000);
        if (low > 1 << 20)
        {
            machine.Memory.AddSlot(new Gpa(1 << 20), low - (1 << 20));
        }

        machine.MapHighMemory();
    }

    /// <summary>Does what firmware would have done, and puts the kernel and the processor into their start state.</summary>
    public void StartKernel(Machine machine)
    {
        machine.Memory.TryLoad(new Gpa(TablesAddress), _acpi.Place(TablesAddress));
        BiosData.Place(machine.Memory);
        Apics[0].ConnectVirtualWire();

        // Nobody set up the vectors of the 8259A pair: its lines wait, masked, for a driver.
        machine.Bus.WritePort(0x21, 1, 0xFF);
        machine.Bus.WritePort(0xA1, 1, 0xFF);
        if (BootLoader.TryPlan(machine.Options, Machine.LowMemory(machine.Options), out BootPlan plan) is null)
        {
            plan.Apply(machine);
        }
    }

    /// <summary>Gives an input to the device that takes it.</summary>
    /// <returns>Whether there is one.</returns>
    public bool TryApply(in Input input)
    {
        switch (input.Kind)
        {
            case InputKind.Interrupt:
                _pic.RaiseSpurious();
                return true;
            case InputKind.ConsoleByte:
                _serial.Receive((byte)input.Value);
                return true;
            default:
                return false;
        }
    }

    private Device[] MakeTestDevices(Machine machine, IsaLines lines)
    {
        var test = new TestDevice(lines, machine);
        var function = new PciTestFunction();
        test.Attach(machine.Bus);
        function.Attach(machine.Bus, _pci, PciTestNumber);
        return [test, function];
    }
}
