using System.Collections.Immutable;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>A guest does not notice kicks, cancelled entries, reschedules, signals, flushes and reloads.</summary>
internal static class PerturbationOracles
{
    public static readonly ImmutableArray<DeepOracleRow> Rows =
    [
        new("perturbation.first", static (m, input) => Compare(m, input, 1)),
        new("perturbation.second", static (m, input) => Compare(m, input, 2)),
    ];

    private static Violation? Compare(GuestMachines machines, FuzzInput input, ulong seed)
    {
        FuzzInput common = ComparableEvents.AtBoundaries(input);
        GuestRunner left = machines.Get(GuestMachineKind.Kvm, input.Mode);
        GuestRunner right = machines.Get(GuestMachineKind.Twin, input.Mode);
        left.Run(common);
        if (left.Judge() is { } already)
        {
            return already;
        }

        Disturb(right, common, seed);
        right.Machine.Run();
        if (right.Judge() is { } wrong)
        {
            return wrong with { Oracle = "perturbation." + wrong.Oracle };
        }

        var pair = new GuestPair(left.Machine, left.Monitor, right.Machine, right.Monitor);
        return machines.Comparison.FirstDifference(pair) is { } difference
            ? new FirstDivergence(machines, common, pair, left, right, r => Disturb(r, common, seed)).Find("perturbation.state", difference)
            : null;
    }

    private static void Disturb(GuestRunner runner, FuzzInput input, ulong seed)
    {
        runner.Load(input);
        var source = new PerturbingSource(runner.Fuzz.Source, seed);
        runner.Machine.Processor.Door.Source = source;
        runner.Monitor.AtEntry = source.AtEntry;
    }
}
