using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Fuzzing;
using VmFuzz.Kvm;
using VmFuzz.Machines;

namespace VmFuzz.Fuzz.SampleHandlers;

/// <summary>
/// What <c>vmfuzz fuzz --plugin VmFuzz.Fuzz.SampleHandlers.dll</c> finds in this assembly: the targets. The command looks for
/// public classes that implement <see cref="IFuzzPlugin"/> and have a constructor without parameters.
/// </summary>
public sealed class SamplePlugin : IFuzzPlugin
{
    private const ExitWrites Writes = ExitWrites.Gprs | ExitWrites.Flow | ExitWrites.System;

    // A name and a version: traces and campaigns hold them, so that nobody replays them on other handlers unknowingly.
    /// <inheritdoc/>
    public string Identity => "sample-handlers 1.0";

    // A target is a name for the command line, the kind of inputs that it eats, a line for people, and what is replaced.
    /// <inheritdoc/>
    public ImmutableArray<FuzzTargetRow> Targets =>
    [
        new("sample", FuzzTarget.ExitHandlers, "hypercalls and a device of a user's own", With(AddressHypercalls.Handle)),
        new("sample-bug", FuzzTarget.ExitHandlers, "the same with a check forgotten", With(AddressHypercalls.HandleWithoutCheck)),
    ];

    // The machine under test is the product's own but for what is said here.
    private static MachineVariants With(ExitHandler hypercall) => new()
    {
        // The handler of VMCALL exits, and what it may write: general registers, segments (which count as flow of control),
        // system registers. An oracle takes it at its word: a handler that changes anything else is a finding.
        Kvm = options => options with { Exits = options.Exits.With(ExitReason.Vmcall, hypercall, Writes) },

        // A device: put on the bus, and made known to the machine, which then saves, restores and compares its state.
        Prepare = static machine =>
        {
            var memory = new BatteryMemory();
            machine.AddDevice(memory);
            machine.Bus.AddPorts(BatteryMemory.IndexPort, 2, memory);
        },
    };
}
