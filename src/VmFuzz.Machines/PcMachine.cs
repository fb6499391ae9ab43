using VmFuzz.Arch;
using VmFuzz.Devices;

namespace VmFuzz.Machines;

/// <summary>A PC as firmware expects it: ROM at the top of 4 GiB and below 1 MiB, and the devices of a 440FX board.</summary>
public sealed class PcMachine : Machine
{
    private const int LegacyRom = 128 << 10;

    private readonly Pic8259Pair _pic = new();
    private readonly PicLines _lines;
    private readonly Serial16550 _serial;
    private readonly KeyboardController _keyboard;

    internal PcMachine(MachineOptions options, IInputSource inputs, MachineVariants? variants)
        : base(options, inputs, variants)
    {
        MapMemory(options);
        _lines = new PicLines(_pic, Processor.Look);
        _serial = new Serial16550(this, new InterruptLine(_lines, 4));
        var pit = new Pit8254(Clock, Clock.Events, new InterruptLine(_lines, 0));
        var rtc = new Rtc(Clock, Clock.Events, new InterruptLine(_lines, 8), options.RtcBase);
        _keyboard = new KeyboardController(this, new InterruptLine(_lines, 1));
        var reset = new ResetControl(this);
        var pci = new PciHost();
        var debug = new DebugPorts(this);
        var firmware = new FwCfg(FwCfgTable.Empty.With(5, (ushort)1).With(3, options.Memory));
        var timer = new PmTimer(Clock);
        var apic = new LocalApicStub();
        Bus.AddPorts(Serial16550.FirstPort, Serial16550.PortCount, _serial);
        Bus.AddPorts(Rtc.FirstPort, 2, rtc);
        pit.Attach(Bus);
        _keyboard.Attach(Bus);
        pci.Attach(Bus, reset);
        reset.Attach(Bus, withResetPort: false);
        debug.Attach(Bus);
        firmware.Attach(Bus);
        timer.Attach(Bus);
        apic.Attach(Bus);
        _pic.Attach(Bus);
        ulong low = LowMemory(options);
        rtc.SetMemorySize(low, options.Memory - low);
        AddComponents(Processor.Door, Clock, Processor.Fields, _serial, pit, rtc, pci, _pic, _keyboard, debug, reset, firmware, timer, apic, Clock.Events);
        LoadKernel(options);
        Start();
    }

    /// <inheritdoc/>
    public override IInterruptController InterruptController => _pic;

    /// <inheritdoc/>
    public override void ApplyDeviceInput(in Input input)
    {
        switch (input.Kind)
        {
            case InputKind.Interrupt:
                _lines.Spurious();
                break;
            case InputKind.ConsoleByte:
                _serial.Receive((byte)input.Value);
                break;
            default:
                base.ApplyDeviceInput(input);
                break;
        }
    }

    internal static string? ValidateImages(MachineOptions options)
    {
        if (options.Image(MachineImage.BiosRole) is not { } bios)
        {
            return options.Image(MachineImage.KernelRole) is null
                ? "-machine pc needs firmware or a kernel: -bios FILE or -kernel FILE"
                : BootLoader.TryPlan(options, LowMemory(options), out _);
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
        ulong low = LowMemory(options);
        Memory.AddSlot(new Gpa(0), 0xA0000);
        Memory.AddSlot(new Gpa(0xC0000), (1 << 20) - 0xC0000);
        if (low > 1 << 20)
        {
            Memory.AddSlot(new Gpa(1 << 20), low - (1 << 20));
        }

        if (options.Memory > low)
        {
            Memory.AddSlot(new Gpa(HighMemory), options.Memory - low);
        }

        if (options.Image(MachineImage.BiosRole) is not { } bios)
        {
            return;
        }

        // DEVIATION: below 1 MiB lies a copy of the ROM that can be written to from the start. A 440FX board drops writes until
        // firmware sets its programmable attribute registers, which all firmware does before it writes.
        ReadOnlySpan<byte> rom = bios.Bytes.Span;
        ulong size = (ulong)rom.Length;
        int legacy = Math.Min(rom.Length, LegacyRom);
        Memory.AddSlot(new Gpa(HighMemory - size), size, readOnly: true);
        Memory.TryLoad(new Gpa(HighMemory - size), rom);
        Memory.TryLoad(new Gpa((1 << 20) - (ulong)legacy), rom[^legacy..]);
    }

    private void LoadKernel(MachineOptions options)
    {
        if (options.Image(MachineImage.BiosRole) is null && BootLoader.TryPlan(options, LowMemory(options), out BootPlan plan) is null)
        {
            plan.Apply(this);
        }
    }
}
