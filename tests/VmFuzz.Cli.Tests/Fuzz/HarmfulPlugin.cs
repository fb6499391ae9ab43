using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Fuzzing;
using VmFuzz.Kvm;
using VmFuzz.Machines;
using VmFuzz.Vmx;

namespace VmFuzz.Cli.Tests;

/// <summary>Targets whose CPUID handler harms the process that runs it.</summary>
public sealed class HarmfulPlugin : IFuzzPlugin
{
    public const string Loops = "harmful-loop";
    public const string Overflows = "harmful-overflow";
    public const string Throws = "harmful-throw";

    public string Identity => "harmful 1";

    public ImmutableArray<FuzzTargetRow> Targets =>
    [
        Row(Loops, static (Vcpu _, in VmExit _) => Loop()),
        Row(Overflows, static (Vcpu _, in VmExit _) => Overflow(1) > 0 ? ExitOutcome.RetireInstruction : ExitOutcome.Resume),
        Row(Throws, static (Vcpu _, in VmExit _) => throw new InvalidOperationException("no leaves")),
    ];

    private static FuzzTargetRow Row(string name, ExitHandler handler) =>
        new(name, FuzzTarget.ExitHandlers, "for tests", new MachineVariants { Kvm = options => options with { Exits = options.Exits.With(ExitReason.Cpuid, handler) } });

    private static ExitOutcome Loop()
    {
        for (ulong i = 0; ; i++)
        {
            if (i == ulong.MaxValue)
            {
                return ExitOutcome.RetireInstruction;
            }
        }
    }

    private static int Overflow(int depth) => depth == int.MaxValue ? depth : Overflow(depth + 1) + 1;
}
