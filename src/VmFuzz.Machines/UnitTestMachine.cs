using VmFuzz.Arch;

namespace VmFuzz.Machines;

/// <summary>
/// A PC for bare-metal tests of hypervisors: they are kernels without firmware, and use the devices of
/// <see cref="Devices.UnitTest.TestDevice"/> besides.
/// </summary>
public sealed class UnitTestMachine : BoardMachine
{
    internal UnitTestMachine(MachineOptions options, IInputSource inputs, MachineVariants? variants)
        : base(options, inputs, variants, PcParts.UnitTest)
    {
        Board.StartKernel(this);
        Start();
    }

    internal static string? ValidateImages(MachineOptions options) => options.Image(MachineImage.KernelRole) is null
        ? "-machine unit-test needs a kernel: -kernel FILE"
        : BootLoader.TryPlan(options, LowMemory(options), out _);
}
