using System.Diagnostics;
using System.Text.Json;
using VmFuzz.Fuzzing;

namespace VmFuzz.Bugs.Runner;

/// <summary>
/// One hunt: a campaign of one worker from one empty input, until an oracle fires that does not fire on the product
/// without the fault. Runs inside the instrumented load context; only bytes cross.
/// </summary>
internal sealed class Hunt : IFindingSink, IDisposable
{
    private const int LookEvery = 32;

    private readonly HuntOrder _order;
    private readonly FuzzTargetRow _plantedRow;
    private readonly FuzzTargetRow _productRow;
    private readonly IFuzzExecutor _planted;
    private readonly string _folder = Directory.CreateTempSubdirectory("vmfuzz-hunt-").FullName;
    private readonly SortedSet<string> _noise = new(StringComparer.Ordinal);
    private readonly Stopwatch _watch = new();
    private HuntRecord? _found;

    private Hunt(HuntOrder order, PlantedBug bug)
    {
        _order = order;
        FuzzTarget target = order.Target ?? bug.Target;
        _plantedRow = bug.Row with { Kind = target };
        _productRow = FuzzTargetRow.BuiltIn.First(row => row.Kind == target);
        _planted = _plantedRow.CreateExecutor();
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
    public void Dispose()
    {
        _planted.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    /// <inheritdoc/>
    public IReadOnlyList<KnownFinding> Known() => [];

    /// <summary>
    /// Judges on fresh machines, so that nothing of an earlier run counts. What the product does too is a finding of the
    /// product, or a weakness of an oracle, but not this fault.
    /// </summary>
    public string? Add(FoundInput found)
    {
        Violation? faulty = Fresh(_plantedRow, found.Input, out ulong exits);
        if (faulty is null || faulty.Key == Fresh(_productRow, found.Input, out _)?.Key)
        {
            _noise.Add(faulty?.Key ?? "not repeatable");
            return "";
        }

        _found ??= Record(faulty, found.Execution + 1, exits) with { Input = Convert.ToBase64String(FuzzCodec.Encode(found.Input)) };
        return "";
    }

    private HuntRecord Run()
    {
        _watch.Start();
        CampaignOptions options = new()
        {
            Directory = Path.Combine(_folder, "worker"),
            Identity = new CampaignIdentity(_plantedRow.Name, _order.Mode, _order.Seed, CampaignIdentity.EngineOf(MutatorTable.Default, [])),
            Executor = _planted,
            Probes = ProbeSource.Map(_order.FirstProbe, _order.Cells),
            Empty = true,
            Sink = _ => this,
        };
        if (Campaign.TryOpen(options, out Campaign? campaign) is { } refused)
        {
            throw new IOException(refused);
        }

        using (campaign)
        {
            ulong executions = 0;
            while (_found is null && _watch.Elapsed.TotalSeconds < _order.Seconds && (_order.Executions == 0 || executions < _order.Executions))
            {
                executions = campaign!.Step(LookEvery, (ulong)_watch.ElapsedMilliseconds).Executions;
            }

            return _found ?? Record(null, executions, 0);
        }
    }

    private static Violation? Fresh(FuzzTargetRow row, FuzzInput input, out ulong exits)
    {
        using IFuzzExecutor executor = row.CreateExecutor();
        Execution run = executor.Run(input);
        exits = run.Exits;
        return run.Violation ?? executor.RunDeep(input);
    }

    private HuntRecord Record(Violation? violation, ulong executions, ulong exits) => new(
        _order.Bug, _order.Mode, _order.Seed, _order.Seconds, violation is not null, executions, Math.Round(_watch.Elapsed.TotalSeconds, 3),
        violation?.Oracle ?? "", violation?.Where ?? "", violation?.Text ?? "", exits, [.. _noise]);
}
