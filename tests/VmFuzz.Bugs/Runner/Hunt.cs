using System.Diagnostics;
using System.Text.Json;
using VmFuzz.Coverage;
using VmFuzz.Fuzzing;
using VmFuzz.Replay;

namespace VmFuzz.Bugs.Runner;

/// <summary>
/// One hunt: from an empty corpus, one core, until an oracle fires that does not fire on the product without the fault.
/// Runs inside the instrumented load context; only bytes cross.
/// </summary>
internal sealed class Hunt : IDisposable
{
    private const ulong DeepEvery = 64;
    private const int LookEvery = 32;

    private readonly HuntOrder _order;
    private readonly FuzzTargetRow _plantedRow;
    private readonly FuzzTargetRow _productRow;
    private readonly IFuzzExecutor _planted;
    private readonly HuntInputs _inputs;
    private readonly CoverageAccumulator _edges;
    private readonly byte[] _features = new byte[FeatureMap.Size];
    private readonly SortedSet<string> _noise = new(StringComparer.Ordinal);
    private readonly Stopwatch _watch = new();
    private ulong _executions;

    private Hunt(HuntOrder order, PlantedBug bug)
    {
        _order = order;
        FuzzTarget target = order.Target ?? bug.Target;
        _plantedRow = bug.Row with { Kind = target };
        _productRow = FuzzTargetRow.BuiltIn.First(row => row.Kind == target);
        _planted = _plantedRow.CreateExecutor();
        _inputs = new HuntInputs(order.Mode, target, order.Seed);
        _edges = new CoverageAccumulator(order.Cells);
    }

    /// <summary>Runs a hunt.</summary>
    /// <param name="order">A <see cref="HuntOrder"/> as UTF-8 JSON.</param>
    /// <returns>A <see cref="HuntRecord"/> as UTF-8 JSON.</returns>
    public static byte[] Run(byte[] order)
    {
        HuntOrder read = JsonSerializer.Deserialize(order, HuntJson.Default.HuntOrder)!;
        using Hunt hunt = new(read, PlantedBugs.Find(read.Bug)!);
        return JsonSerializer.SerializeToUtf8Bytes(hunt.Run(), HuntJson.Default.HuntRecord);
    }

    /// <inheritdoc/>
    public void Dispose() => _planted.Dispose();

    private HuntRecord Run()
    {
        _watch.Start();
        bool feedback = _order.Mode is HuntMode.Full or HuntMode.Coverage;
        while (!IsOver())
        {
            FuzzInput input = _inputs.Next(_executions);
            if (_order.Cells != 0)
            {
                CoverageMap.Clear();
            }

            Execution ran = _planted.Run(input);
            _executions++;
            bool kept = feedback && IsNew();
            _inputs.Report(kept);
            if (ran.Violation is not null && Confirm(input, deep: false) is { } violation)
            {
                return Found(violation, input, ran.Exits);
            }

            if (_executions % (kept ? DeepEvery / 8UL : DeepEvery) == 0 && ran.Violation is null
                && _planted.RunDeep(input) is not null && Confirm(input, deep: true) is { } second)
            {
                return Found(second, input, ran.Exits);
            }
        }

        return Record(false, null, 0);
    }

    private bool IsOver() => (_order.Executions != 0 && _executions >= _order.Executions)
        || (_executions % LookEvery == 0 && _watch.Elapsed.TotalSeconds >= _order.Seconds);

    private bool IsNew()
    {
        bool any = _order.Cells != 0 && _edges.Merge(CoverageMap.Counts.Slice(_order.FirstProbe, _order.Cells)).Any;
        foreach (ushort cell in _planted.Features.Touched)
        {
            if (_features[cell] == 0)
            {
                _features[cell] = 1;
                any = true;
            }
        }

        return any;
    }

    // On fresh machines, so that nothing of an earlier run counts. What the product does too is a finding of the product,
    // or a weakness of an oracle, but not this fault.
    private Violation? Confirm(FuzzInput input, bool deep)
    {
        Violation? faulty = Fresh(_plantedRow, input, deep);
        if (faulty is null || faulty.Key == Fresh(_productRow, input, deep)?.Key)
        {
            _noise.Add(faulty?.Key ?? "not repeatable");
            return null;
        }

        return faulty;
    }

    private static Violation? Fresh(FuzzTargetRow row, FuzzInput input, bool deep)
    {
        using IFuzzExecutor executor = row.CreateExecutor();
        return deep ? executor.RunDeep(input) : executor.Run(input).Violation;
    }

    private HuntRecord Found(Violation violation, FuzzInput input, ulong exits) =>
        Record(true, violation, exits) with { Input = Convert.ToBase64String(FuzzCodec.Encode(input)) };

    private HuntRecord Record(bool found, Violation? violation, ulong exits) => new(
        _order.Bug, _order.Mode, _order.Seed, _order.Seconds, found, _executions, Math.Round(_watch.Elapsed.TotalSeconds, 3),
        violation?.Oracle ?? "", violation?.Where ?? "", violation?.Text ?? "", exits, [.. _noise]);
}
