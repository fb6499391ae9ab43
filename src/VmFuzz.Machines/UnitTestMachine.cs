using VmFuzz.Arch;

namespace VmFuzz.Machines;

/// <summary>
/// A PC for bare-metal tests of hypervisors: they are kernels without firmware, and use the devices of
/// <see cref="Devices.UnitTest.TestDevice"/> besides.
/// </summary>
public sealed class UnitTestMachine : Machine
{
    private readonly PcBoard _board;

    internal UnitTestMachine(MachineOptions options, IInputSource inputs, MachineVariants? variants)
        : base(options, inputs, variants)
    {
        PcBoard.MapMemory(this);
        _board = new PcBoard(this, PcParts.UnitTest);
        AddComponents([Processor.Door, Clock, Processor.Fields, .. _board.Devices, Clock.Events]);
        _board.StartKernel(this);
        Start();
    }

    /// <inheritdoc/>
    public override IInterruptController InterruptController => _board.Apic;

    /// <inheritdoc/>
    public override void ApplyDeviceInput(in Input input)
    {
        if (!_board.TryApply(input))
        {
            base.ApplyDeviceInput(input);
        }
    }

    internal static string? ValidateImages(MachineOptions options) => options.Image(MachineImage.KernelRole) is null
        ? "-machine unit-test needs a kernel: -kernel FILE"
        : BootLoader.TryPlan(options, LowMemory(options), out _);
}
