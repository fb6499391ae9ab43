using VmFuzz.Arch;

namespace VmFuzz.Machines;

/// <summary>
/// Memory and registers that came from elsewhere: another emulator's dump. There are no devices, since nobody brought their
/// state; the first access to memory, or read of a port, that nobody brought either ends the run and says so, before the
/// guest goes on with made-up values.
/// </summary>
public sealed class ImportedMachine : Machine
{
    private readonly InterruptLatch _latch = new();

    internal ImportedMachine(MachineOptions options, IInputSource inputs, MachineVariants? variants)
        : base(options, inputs, variants)
    {
        MemoryMap.TryRead(options.Image(MachineImage.MapRole)!.Bytes.Span, out var runs);
        foreach ((ulong address, ulong bytes) in runs)
        {
            Memory.AddSlot(new Gpa(address), bytes);
        }

        _latch.Changed = Processor.Look;
        Memory.Absent = address => NotHeld($"memory at 0x{address:x}");
        Bus.Answers = (isPort, address, _) =>
        {
            NotHeld(isPort ? $"port 0x{address:x}" : $"memory at 0x{address:x}");
            return ulong.MaxValue;
        };
        AddComponents(Processor.Door, Clock, Processor.Fields, _latch, Clock.Events);
        Start();
    }

    /// <inheritdoc/>
    public override IInterruptController InterruptController => _latch;

    /// <inheritdoc/>
    public override void ApplyDeviceInput(in Input input)
    {
        if (input.Kind == InputKind.Interrupt)
        {
            _latch.Raise((byte)input.Value);
        }
        else
        {
            base.ApplyDeviceInput(input);
        }
    }

    internal static string? ValidateImages(MachineOptions options) =>
        options.Image(MachineImage.MapRole) is not { } map ? "an imported machine needs the map of its memory"
        : options.Accelerator != Accelerator.Bare ? "an imported machine runs on -accel bare"
        : MemoryMap.TryRead(map.Bytes.Span, out _);

    private void NotHeld(string what) => RequestStop(new MachineStop(
        MachineStopKind.NotHeld,
        $"the guest reached {what}, which the snapshot does not hold, at RIP 0x{Processor.Rip:x}: import more, or stop before with --max-instructions"));
}
