using VmFuzz.Arch;
using VmFuzz.Devices;
using VmFuzz.Devices.Apic;

namespace VmFuzz.Machines;

/// <summary>A PC as firmware expects it: ROM at the top of 4 GiB and below 1 MiB, and the devices of a 440FX board.</summary>
public sealed class PcMachine : Machine
{
    private const ulong HighMemory = 1UL << 32;
    private const ulong LowLimit = 0xC000_0000;
    private const ulong LegacyRom = 128 << 10;

    private readonly Pic8259Pair _pic = new();
    private readonly Serial16550 _serial;
    private readonly KeyboardController _keyboard;
    private readonly LocalApic _apic;

    internal PcMachine(MachineOptions options, IInputSource inputs, MachineVariants? variants)
        : base(options, inputs, variants)
    {
        MapMemory(options);
        var interrupts = new ApicBus();
        var ioApic = new IoApic(interrupts);
        var lines = new IsaLines(_pic, ioApic);
        _apic = new LocalApic(0, new ApicProcessor(this), interrupts, _pic, Clock, Clock.Events);
        _pic.Output = new InterruptLine(_apic, 0);
        _serial = new Serial16550(this, new InterruptLine(lines, 4));
        var pit = new Pit8254(Clock, Clock.Events, new InterruptLine(lines, 0));
        var rtc = new Rtc(Clock, Clock.Events, new InterruptLine(lines, 8), options.RtcBase);
        _keyboard = new KeyboardController(this, new InterruptLine(lines, 1));
        var reset = new ResetControl(this);
        var pci = new PciHost();
        var debug = new DebugPorts(this);
        var firmware = new FwCfg(FwCfgTable.Empty.With(5, (ushort)1).With(3, options.Memory));
        var timer = new PmTimer(Clock);
        Bus.AddPorts(Serial16550.FirstPort, Serial16550.PortCount, _serial);
        Bus.AddPorts(Rtc.FirstPort, 2, rtc);
        pit.Attach(Bus);
        _keyboard.Attach(Bus);
        pci.Attach(Bus, reset);
        reset.Attach(Bus, withResetPort: false);
        debug.Attach(Bus);
        firmware.Attach(Bus);
        timer.Attach(Bus);
        ioApic.Attach(Bus);
        Bus.AddMovable(_apic);
        _pic.Attach(Bus);
        ulong low = Math.Min(options.Memory, LowLimit);
        rtc.SetMemorySize(low, options.Memory - low);
        AddComponents(Processor.Door, Clock, Processor.Fields, _serial, pit, rtc, pci, _pic, _keyboard, debug, reset, firmware, timer, ioApic, _apic, Clock.Events);
        Start();
    }

    /// <summary>Receives what firmware writes to its debug port 0x402; for people, not part of the run.</summary>
    public Action<byte>? FirmwareOutput { get; set; }

    /// <inheritdoc/>
    public override IInterruptController InterruptController => _apic;

    /// <inheritdoc/>
    public override void ApplyDeviceInput(in Input input)
    {
        switch (input.Kind)
        {
            case InputKind.Interrupt:
                // A line that falls before the processor acknowledges: the controllers answer with their spurious vector.
                _pic.SetLine(7, true);
                _pic.SetLine(7, false);
                break;
            case InputKind.ConsoleByte:
                _serial.Receive((byte)input.Value);
                break;
            default:
                base.ApplyDeviceInput(input);
                break;
        }
    }

    /// <inheritdoc/>
    public override void DebugByte(ushort port, byte value)
    {
        if (port == DebugPorts.OutputPort)
        {
            Write(value);
        }
        else
        {
            FirmwareOutput?.Invoke(value);
        }
    }

    internal static string? ValidateImages(MachineOptions options)
    {
        if (options.Image("bios") is not { } bios)
        {
            return "-machine pc needs firmware: -bios FILE";
        }

        int length = bios.Bytes.Length;
        if (length is < 4096 or > (16 << 20) || (length & 0xFFF) != 0)
        {
            return $"{bios.Name}: {length} bytes is not a ROM image; a whole number of 4 KiB pages up to 16 MiB is needed";
        }

        return null;
    }

    private void MapMemory(MachineOptions options)
    {
        ReadOnlySpan<byte> rom = options.Image("bios")!.Bytes.Span;
        ulong size = (ulong)rom.Length;
        ulong low = Math.Min(options.Memory, LowLimit);
        ulong legacy = Math.Min(size, LegacyRom);
        Memory.AddSlot(new Gpa(HighMemory - size), size, readOnly: true);
        Memory.AddSlot(new Gpa(0), 0xA0000);

        // DEVIATION: the host bridge's memory attributes (82441FX "PAM") do not move: firmware below 1 MiB is a copy in
        // memory, as it is after they let reads and writes through.
        Memory.AddSlot(new Gpa(0xC0000), (1 << 20) - 0xC0000);
        if (low > 1 << 20)
        {
            Memory.AddSlot(new Gpa(1 << 20), low - (1 << 20));
        }

        if (options.Memory > low)
        {
            Memory.AddSlot(new Gpa(HighMemory), options.Memory - low);
        }

        Memory.TryLoad(new Gpa(HighMemory - size), rom);
        Memory.TryLoad(new Gpa((1 << 20) - legacy), rom[^(int)legacy..]);
    }
}
