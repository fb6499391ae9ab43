using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Fuzzing;
using VmFuzz.Kvm;
using VmFuzz.Machines;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzz.Tests;

/// <summary>A plug-in as a user would write it: the exit handlers, and one of them with a fault.</summary>
public sealed class PlantedPlugin : IFuzzPlugin
{
    /// <summary>Name of its target.</summary>
    public const string Name = "planted-handler";

    /// <inheritdoc/>
    public string Identity => "planted 1";

    /// <inheritdoc/>
    public ImmutableArray<FuzzTargetRow> Targets { get; } =
    [
        new(Name, FuzzTarget.ExitHandlers, "exit handlers with a fault in that of CPUID", MachineVariants.None with
        {
            Kvm = static options => options with { Exits = options.Exits.With(ExitReason.Cpuid, Handle) },
        }),
    ];

    private static ExitOutcome Handle(Vcpu vcpu, in VmExit exit) => throw new InvalidOperationException("planted");
}
