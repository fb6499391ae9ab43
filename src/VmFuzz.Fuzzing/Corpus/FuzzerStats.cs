using System.Collections.Immutable;
using System.Globalization;
using System.Text;

namespace VmFuzz.Fuzzing;

/// <summary>The figures of <c>fuzzer_stats</c> and <c>plot_data</c>, under AFL++'s names. All times are the caller's.</summary>
public sealed record FuzzerStats
{
    private const int KeyWidth = 18;

    private static readonly ImmutableArray<Row> Rows =
    [
        new("start_time", static s => s.StartTime, static (s, v) => s with { StartTime = v }),
        new("last_update", static s => s.LastUpdate, static (s, v) => s with { LastUpdate = v }),
        new("run_time", static s => s.RunTime, static (s, v) => s with { RunTime = v }),
        new("fuzzer_pid", static s => s.Process, static (s, v) => s with { Process = v }),
        new("cycles_done", static s => s.CyclesDone, static (s, v) => s with { CyclesDone = v }),
        new("execs_done", static s => s.Executions, static (s, v) => s with { Executions = v }),
        new("corpus_count", static s => s.CorpusCount, static (s, v) => s with { CorpusCount = v }),
        new("corpus_favored", static s => s.CorpusFavoured, static (s, v) => s with { CorpusFavoured = v }),
        new("corpus_found", static s => s.CorpusFound, static (s, v) => s with { CorpusFound = v }),
        new("corpus_imported", static s => s.CorpusImported, static (s, v) => s with { CorpusImported = v }),
        new("max_depth", static s => s.MaxDepth, static (s, v) => s with { MaxDepth = v }),
        new("cur_item", static s => s.CurrentItem, static (s, v) => s with { CurrentItem = v }),
        new("pending_favs", static s => s.PendingFavoured, static (s, v) => s with { PendingFavoured = v }),
        new("pending_total", static s => s.PendingTotal, static (s, v) => s with { PendingTotal = v }),
        new("edges_found", static s => s.EdgesFound, static (s, v) => s with { EdgesFound = v }),
        new("total_edges", static s => s.EdgesTotal, static (s, v) => s with { EdgesTotal = v }),
        new("saved_crashes", static s => s.SavedCrashes, static (s, v) => s with { SavedCrashes = v }),
        new("saved_hangs", static s => s.SavedHangs, static (s, v) => s with { SavedHangs = v }),
        new("last_find", static s => s.LastFind, static (s, v) => s with { LastFind = v }),
        new("last_crash", static s => s.LastCrash, static (s, v) => s with { LastCrash = v }),
        new("last_hang", static s => s.LastHang, static (s, v) => s with { LastHang = v }),
    ];

    /// <summary>First line of <c>plot_data</c>.</summary>
    public const string PlotHeader =
        "# relative_time, cycles_done, cur_item, corpus_count, pending_total, pending_favs, map_size, saved_crashes, saved_hangs, max_depth, execs_per_sec, total_execs, edges_found";

    /// <summary>Seconds since 1970.</summary>
    public ulong StartTime { get; init; }

    /// <summary>Seconds since 1970.</summary>
    public ulong LastUpdate { get; init; }

    /// <summary>Seconds.</summary>
    public ulong RunTime { get; init; }

    /// <summary>Process id.</summary>
    public ulong Process { get; init; }

    /// <summary>Passes over the queue.</summary>
    public ulong CyclesDone { get; init; }

    /// <summary>Executions.</summary>
    public ulong Executions { get; init; }

    /// <summary>Inputs in the queue.</summary>
    public ulong CorpusCount { get; init; }

    /// <summary>Favoured inputs.</summary>
    public ulong CorpusFavoured { get; init; }

    /// <summary>Inputs found by this worker.</summary>
    public ulong CorpusFound { get; init; }

    /// <summary>Inputs taken from other workers.</summary>
    public ulong CorpusImported { get; init; }

    /// <summary>Longest line of descent.</summary>
    public ulong MaxDepth { get; init; }

    /// <summary>Number of the input being worked on.</summary>
    public ulong CurrentItem { get; init; }

    /// <summary>Favoured inputs not yet worked on.</summary>
    public ulong PendingFavoured { get; init; }

    /// <summary>Inputs not yet worked on.</summary>
    public ulong PendingTotal { get; init; }

    /// <summary>Probes seen.</summary>
    public ulong EdgesFound { get; init; }

    /// <summary>Probes there are.</summary>
    public ulong EdgesTotal { get; init; }

    /// <summary>Findings.</summary>
    public ulong SavedCrashes { get; init; }

    /// <summary>Hangs.</summary>
    public ulong SavedHangs { get; init; }

    /// <summary>Seconds since 1970; 0 for never.</summary>
    public ulong LastFind { get; init; }

    /// <summary>Seconds since 1970; 0 for never.</summary>
    public ulong LastCrash { get; init; }

    /// <summary>Seconds since 1970; 0 for never.</summary>
    public ulong LastHang { get; init; }

    /// <summary>Further lines, for instance <c>afl_banner</c>, <c>command_line</c> and the seed; kept in order.</summary>
    public ImmutableArray<KeyValuePair<string, string>> More { get; init; } = [];

    /// <summary>The content of <c>fuzzer_stats</c>.</summary>
    public string Format()
    {
        var text = new StringBuilder(1024);
        foreach (Row row in Rows)
        {
            Line(text, row.Key, row.Get(this).ToString(CultureInfo.InvariantCulture));
        }

        Line(text, "execs_per_sec", PerSecond());
        Line(text, "bitmap_cvg", Coverage());
        foreach (KeyValuePair<string, string> line in More)
        {
            Line(text, line.Key, line.Value);
        }

        return text.ToString();
    }

    /// <summary>Reads <c>fuzzer_stats</c>, of AFL++ too. Lines that make no sense are passed over.</summary>
    public static FuzzerStats Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        FuzzerStats stats = new();
        var more = ImmutableArray.CreateBuilder<KeyValuePair<string, string>>();
        foreach (string line in text.Split('\n'))
        {
            int colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon <= 0)
            {
                continue;
            }

            string key = line[..colon].Trim();
            string value = line[(colon + 1)..].Trim();
            int row = -1;
            for (int i = 0; i < Rows.Length; i++)
            {
                row = string.Equals(Rows[i].Key, key, StringComparison.Ordinal) ? i : row;
            }

            if (row >= 0)
            {
                stats = ulong.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out ulong number) ? Rows[row].With(stats, number) : stats;
            }
            else if (key is not ("execs_per_sec" or "bitmap_cvg"))
            {
                more.Add(new(key, value));
            }
        }

        return stats with { More = more.ToImmutable() };
    }

    /// <summary>A line of <c>plot_data</c>.</summary>
    public string PlotLine() => string.Create(
        CultureInfo.InvariantCulture,
        $"{RunTime}, {CyclesDone}, {CurrentItem}, {CorpusCount}, {PendingTotal}, {PendingFavoured}, {Coverage()}, {SavedCrashes}, {SavedHangs}, {MaxDepth}, {PerSecond()}, {Executions}, {EdgesFound}");

    private static void Line(StringBuilder text, string key, string value) =>
        text.Append(OneLine(key).PadRight(KeyWidth)).Append(": ").Append(OneLine(value)).Append('\n');

    private static string OneLine(string text) => text.ReplaceLineEndings(" ").Replace('\r', ' ');

    // Hundredths, in integers.
    private string PerSecond() => Hundredths(RunTime == 0 ? 0 : (UInt128)Executions * 100 / RunTime);

    private string Coverage() => Hundredths(EdgesTotal == 0 ? 0 : (UInt128)EdgesFound * 10_000 / EdgesTotal) + "%";

    private static string Hundredths(UInt128 value) =>
        string.Create(CultureInfo.InvariantCulture, $"{value / 100}.{(int)(value % 100):d2}");

    private sealed record Row(string Key, Func<FuzzerStats, ulong> Get, Func<FuzzerStats, ulong, FuzzerStats> With);
}
