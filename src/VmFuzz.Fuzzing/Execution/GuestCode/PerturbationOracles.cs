using System.Collections.Immutable;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>A guest does not notice kicks, cancelled entries, reschedules, signals, flushes and reloads.</summary>
internal static class PerturbationOracles
{
    public static readonly ImmutableArray<DeepOracleRow> Rows =
    [
        new("perturbation.first", static (m, input) => Compare(m, input.AtBoundaries, 1)),
        new("perturbation.second", static (m, input) => Compare(m, input.AtBoundaries, 2)),
    ];

    private static Violation? Compare(GuestMachines machines, FuzzInput input, ulong seed)
    {
        GuestRunner left = machines.Base(GuestMachineKind.Kvm, input);
        GuestRunner right = machines.Get(GuestMachineKind.Twin, input.Mode);
        if (left.Judge() is { } already)
        {
            return already;
        }

        Disturb(right, input, seed);
        right.Machine.Run();
        if (right.Judge() is { } wrong)
        {
            return wrong with { Oracle = "perturbation." + wrong.Oracle };
        }

        var pair = new GuestPair(left.Machine, left.Monitor, right.Machine, right.Monitor);
        return machines.Comparison.FirstDifference(pair) is { } difference
            ? new FirstDivergence(machines, input, pair, left, right, r => Disturb(r, input, seed)).Find("perturbation.state", difference)
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
