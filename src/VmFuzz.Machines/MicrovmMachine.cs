using VmFuzz.Arch;
using VmFuzz.Devices;

namespace VmFuzz.Machines;

/// <summary>
/// What a kernel needs that is loaded without firmware: memory, a serial port, interrupt controllers, timer and clock, and the
/// port that ends the run. No PCI, no ACPI.
/// </summary>
public sealed class MicrovmMachine : Machine
{
    private readonly Pic8259Pair _pic = new();
    private readonly PicLines _lines;
    private readonly Serial16550 _serial;

    internal MicrovmMachine(MachineOptions options, IInputSource inputs, MachineVariants? variants)
        : base(options, inputs, variants)
    {
        ulong low = LowMemory(options);
        Memory.AddSlot(new Gpa(0), low);
        MapHighMemory();

        _lines = new PicLines(_pic, Processor.Look);
        _serial = new Serial16550(this, new InterruptLine(_lines, 4));
        var pit = new Pit8254(Clock, Clock.Events, new InterruptLine(_lines, 0));
        var rtc = new Rtc(Clock, Clock.Events, new InterruptLine(_lines, 8), options.RtcBase);
        var debug = new DebugPorts(this);
        Bus.AddPorts(Serial16550.FirstPort, Serial16550.PortCount, _serial);
        Bus.AddPorts(Rtc.FirstPort, 2, rtc);
        pit.Attach(Bus);
        debug.Attach(Bus);
        _pic.Attach(Bus);
        rtc.SetMemorySize(low, options.Memory - low);
        AddComponents(Processor.Door, Clock, Processor.Fields, _serial, pit, rtc, _pic, debug, Clock.Events);
        if (BootLoader.TryPlan(options, low, out BootPlan plan) is null)
        {
            plan.Apply(this);
        }

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
        if (options.Image(MachineImage.KernelRole) is null)
        {
            return "-machine microvm needs a kernel: -kernel FILE";
        }

        return BootLoader.TryPlan(options, LowMemory(options), out _);
    }
}
