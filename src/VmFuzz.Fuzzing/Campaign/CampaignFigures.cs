using System.Collections.Immutable;
using System.Globalization;
using System.Text;

namespace VmFuzz.Fuzzing;

public sealed partial class Campaign
{
    private const string StatsName = "fuzzer_stats";
    private const string PlotName = "plot_data";
    private const int MostYields = 10;

    private readonly ulong _timeBase;
    private ulong _time;
    private ulong _lastFind;
    private ulong _lastFinding;
    private ulong _exits;
    private ulong _instructions;
    private ulong _deepRuns;
    private ulong _epochCount;
    private ulong _cycles;
    private int _sinceCycle;
    private int _favoured;
    private int _lastParent;

    /// <summary>Figures as of now.</summary>
    public CampaignStatus Status()
    {
        int pending = 0;
        int pendingFavoured = 0;
        foreach (QueueEntry entry in _queue.Entries)
        {
            pending += entry.Mutated ? 0 : 1;
            pendingFavoured += entry.Favoured && !entry.Mutated ? 1 : 0;
        }

        return new CampaignStatus
        {
            Executions = _executed,
            Next = _next,
            Epochs = _epochCount,
            Corpus = _queue.Entries.Count,
            Favoured = _favoured,
            Found = _queue.Found,
            Imported = _queue.Imported,
            Pending = pending,
            PendingFavoured = pendingFavoured,
            CurrentEntry = _lastParent < _queue.Entries.Count ? _queue.Entries[_lastParent].Id : 0,
            Cycles = _cycles,
            ProbesSeen = _feedback?.ProbesSeen ?? 0,
            ProbesTotal = _feedback?.ProbesTotal ?? 0,
            Features = _feedback?.FeaturesSeen ?? 0,
            Deepest = _queue.Deepest,
            Stability = _feedback?.Stability ?? 10_000,
            Exits = _exits,
            Instructions = _instructions,
            DeepRuns = _deepRuns,
            LastFind = _lastFind,
            LastFinding = _lastFinding,
            Time = _time,
            Findings = _findings.Status(),
            Yields = [.. _maker.Scheduler.Yields().Where(static y => y.Tries != 0).OrderByDescending(static y => y.Finds).Take(MostYields)],
            Unwritten = _writer.Waiting + _findings.Unsaved,
        };
    }

    /// <summary>Writes <c>fuzzer_stats</c> and adds a line to <c>plot_data</c>, so that AFL++'s tools work on the directory.</summary>
    /// <param name="timeMilliseconds">Milliseconds since the campaign was opened.</param>
    /// <param name="start">Seconds since 1970 when it was opened.</param>
    /// <param name="clock">Seconds since 1970.</param>
    /// <param name="process">Process id.</param>
    /// <param name="banner">Banner; empty for the target's name.</param>
    /// <param name="commandLine">Command line.</param>
    public void WriteStats(ulong timeMilliseconds, ulong start, ulong clock, ulong process, string banner, string commandLine)
    {
        _time = _timeBase + timeMilliseconds;
        Flush();
        CampaignStatus status = Status();
        int hangs = _findings.CountIn(CorpusFolder.Hangs);
        FuzzerStats stats = new()
        {
            StartTime = start,
            LastUpdate = clock,
            RunTime = _time / 1000,
            Process = process,
            CyclesDone = status.Cycles,
            Executions = status.Executions,
            CorpusCount = (ulong)status.Corpus,
            CorpusFavoured = (ulong)status.Favoured,
            CorpusFound = (ulong)status.Found,
            CorpusImported = (ulong)status.Imported,
            MaxDepth = (ulong)status.Deepest,
            CurrentItem = status.CurrentEntry,
            PendingFavoured = (ulong)status.PendingFavoured,
            PendingTotal = (ulong)status.Pending,
            EdgesFound = (ulong)status.ProbesSeen,
            EdgesTotal = (ulong)status.ProbesTotal,
            SavedCrashes = (ulong)(_findings.Count - hangs),
            SavedHangs = (ulong)hangs,
            LastFind = ClockOf(status.LastFind, clock),
            LastCrash = ClockOf(status.LastFinding, clock),
            More =
            [
                new("stability", string.Create(CultureInfo.InvariantCulture, $"{status.Stability / 100}.{status.Stability % 100:d2}%")),
                new("afl_banner", Plain(banner.Length == 0 ? _options.Identity.Target : banner)),
                new("afl_version", Plain("vmfuzz " + Machines.Engine.Version)),
                new("target_mode", Plain($"{_options.Identity.Target} {_options.Identity.Mode}")),
                new("features_found", status.Features.ToString(CultureInfo.InvariantCulture)),
                new("seed", _options.Identity.Seed.ToString(CultureInfo.InvariantCulture)),
                new("command_line", Plain(commandLine)),
            ],
        };
        _corpus.TryReplace(StatsName, Encoding.UTF8.GetBytes(stats.Format()));
        if (_corpus.TryRead(PlotName) is null or { Length: 0 })
        {
            _corpus.TryAppend(PlotName, FuzzerStats.PlotHeader);
        }

        _corpus.TryAppend(PlotName, stats.PlotLine());
    }

    // afl-whatsup hands the lines to a shell.
    private static string Plain(string text) => string.Concat(text.Select(static c => char.IsControl(c) || c is '"' or '$' or '`' or '\\' ? '_' : c));

    private ulong ClockOf(ulong time, ulong clock)
    {
        ulong ago = (_time - Math.Min(time, _time)) / 1000;
        return time == 0 || ago > clock ? 0 : clock - ago;
    }

    private ulong TimeOfStats() =>
        _corpus.TryRead(StatsName) is { } bytes ? Math.Min(FuzzerStats.Parse(Encoding.UTF8.GetString(bytes)).RunTime, 1UL << 40) * 1000 : 0;

    private void CountCycle()
    {
        if (++_sinceCycle >= _queue.Entries.Count)
        {
            _sinceCycle = 0;
            _cycles++;
        }
    }
}
