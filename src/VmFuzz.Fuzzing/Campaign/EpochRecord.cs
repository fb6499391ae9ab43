using System.Collections.Immutable;
using System.Globalization;
using System.Text;

namespace VmFuzz.Fuzzing;

/// <summary>Digest of an execution, noted so that a later run can be compared.</summary>
/// <param name="Execution">Index of the execution.</param>
/// <param name="Digest">Digest of everything that it left.</param>
public readonly record struct ExecutionSample(ulong Execution, ulong Digest);

/// <summary>
/// Everything that the choices of an epoch depend on besides the seed and the queue. Written before the first execution
/// of the epoch; a line of <c>epochs.log</c>.
/// </summary>
public sealed record EpochRecord
{
    /// <summary>Name of the log.</summary>
    public const string FileName = "epochs.log";

    /// <summary>Executions of a session's first epoch; a power of two.</summary>
    public const ulong Shortest = 4096;

    /// <summary>Executions of the longest epoch; a power of two. Epochs never lie across its multiples.</summary>
    public const ulong Longest = 65536;

    /// <summary>Largest index that is believed.</summary>
    public const ulong MostIndex = 1UL << 60;

    // A line in this many says everything; the others may refer to the line before.
    private const ulong Whole = 64;
    private const string Kind = "epoch";
    private const string Same = "same";

    /// <summary>Number of the line, counting over all sessions.</summary>
    public ulong Number { get; init; }

    /// <summary>Index of the first execution.</summary>
    public ulong First { get; init; }

    /// <summary>Index after the last one.</summary>
    public ulong End { get; init; }

    /// <summary>Whether the executions are those of seeds, which are found in the queue under their index.</summary>
    public bool Seeds { get; init; }

    /// <summary>Executions before this epoch, over all sessions.</summary>
    public ulong Executed { get; init; }

    /// <summary>Entries of the queue at the start. An entry after those is there for executions after its own.</summary>
    public int Queue { get; init; }

    /// <summary>Weights of the mutators (<see cref="MutatorScheduler.Weights"/>).</summary>
    public ImmutableArray<long> Weights { get; init; } = [];

    /// <summary>Numbers of the favoured entries, ascending.</summary>
    public ImmutableArray<uint> Favoured { get; init; } = [];

    /// <summary>Numbers of entries that are not mutated, ascending.</summary>
    public ImmutableArray<uint> Skipped { get; init; } = [];

    /// <summary>For each other worker the number after the last of its entries that was looked at; by name.</summary>
    public ImmutableSortedDictionary<string, uint> Synced { get; init; } = ImmutableSortedDictionary.Create<string, uint>(StringComparer.Ordinal);

    /// <summary>Samples of the epoch before.</summary>
    public ImmutableArray<ExecutionSample> Samples { get; init; } = [];

    /// <summary>Index after the epoch that begins at an index, in a session that began at another.</summary>
    public static ulong EndOf(ulong index, ulong session)
    {
        ulong offset = index - session;
        ulong end = offset < Shortest
            ? Shortest
            : offset < Longest ? System.Numerics.BitOperations.RoundUpToPowerOf2(offset + 1) : ((offset / Longest) + 1) * Longest;
        return session + end;
    }

    /// <summary>Where a session may begin when nothing at or above an index was executed: a multiple of <see cref="Longest"/>.</summary>
    public static ulong StartAfter(ulong index) => (index + Longest - 1) / Longest * Longest;

    /// <summary>A line, without its end.</summary>
    /// <param name="previous">The record written before in the same session, or null.</param>
    public string Format(EpochRecord? previous)
    {
        previous = Number % Whole == 0 ? null : previous;
        var text = new StringBuilder(512);
        text.Append(CultureInfo.InvariantCulture, $"{Kind} number={Number} first={First} end={End} seeds={(Seeds ? 1 : 0)} executed={Executed} queue={Queue}");
        text.Append(" weights=");
        if (previous is not null && previous.Weights.AsSpan().SequenceEqual(Weights.AsSpan()))
        {
            text.Append(Same);
        }
        else
        {
            text.AppendJoin(',', Weights.Select(static w => w.ToString(CultureInfo.InvariantCulture)));
        }

        text.Append(" favoured=");
        if (previous is not null && previous.Favoured.AsSpan().SequenceEqual(Favoured.AsSpan()))
        {
            text.Append(Same);
        }
        else
        {
            Ids(text, Favoured);
        }

        text.Append(" skipped=");
        Ids(text, Skipped);
        text.Append(" synced=").AppendJoin(
            ',', Synced.Select(static s => string.Create(CultureInfo.InvariantCulture, $"{Uri.EscapeDataString(s.Key)}:{s.Value}")));
        text.Append(" samples=").AppendJoin(
            ',', Samples.Select(static s => string.Create(CultureInfo.InvariantCulture, $"{s.Execution}:{s.Digest:x16}")));
        return Seal(text.ToString());
    }

    /// <summary>Reads a line.</summary>
    /// <param name="line">The line.</param>
    /// <param name="previous">What the epoch line before was read as, or null.</param>
    /// <returns>Null when it is not a whole line of this kind. Weights are none when they stood in a line that is missing.</returns>
    public static EpochRecord? Parse(string line, EpochRecord? previous)
    {
        ArgumentNullException.ThrowIfNull(line);
        if (Unseal(line) is not { } text || !text.StartsWith(Kind + " ", StringComparison.Ordinal))
        {
            return null;
        }

        EpochRecord record = new();
        bool lost = false;
        foreach (string part in text.Split(' ').Skip(1))
        {
            int equals = part.IndexOf('=', StringComparison.Ordinal);
            string value = part[(equals + 1)..];
            bool same = value == Same;
            if (same && (previous is null || previous.Number + 1 != record.Number || previous.Weights.IsEmpty))
            {
                lost = true;
                continue;
            }

            try
            {
                record = (equals < 0 ? "" : part[..equals]) switch
                {
                    "number" => record with { Number = Read(value, MostIndex) },
                    "first" => record with { First = Read(value, MostIndex) },
                    "end" => record with { End = Read(value, MostIndex + Longest) },
                    "seeds" => record with { Seeds = value == "1" },
                    "executed" => record with { Executed = Read(value, MostIndex) },
                    "queue" => record with { Queue = (int)Read(value, int.MaxValue) },
                    "weights" when same => record with { Weights = previous!.Weights },
                    "weights" => record with { Weights = [.. Items(value).Select(static w => (long)Read(w, long.MaxValue))] },
                    "favoured" when same => record with { Favoured = previous!.Favoured },
                    "favoured" => record with { Favoured = Ids(value) },
                    "skipped" => record with { Skipped = Ids(value) },
                    "synced" => record with { Synced = record.Synced.SetItems(Items(value).Select(static s => Pair(s))) },
                    "samples" => record with { Samples = [.. Items(value).Select(Sample)] },
                    _ => record,
                };
            }
            catch (FormatException)
            {
                return null;
            }
        }

        return record.End <= record.First ? null : lost ? record with { Weights = [] } : record;
    }

    /// <summary>A line with a hash at its end, by which a half-written one is known.</summary>
    internal static string Seal(string text) =>
        string.Create(CultureInfo.InvariantCulture, $"{text} #{TextHash.Of(0, text):x16}");

    internal static string? Unseal(string line)
    {
        int at = line.LastIndexOf(" #", StringComparison.Ordinal);
        return at >= 0 && string.Equals(Seal(line[..at]), line, StringComparison.Ordinal) ? line[..at] : null;
    }

    // Ascending numbers; runs as first-last.
    private static void Ids(StringBuilder text, ImmutableArray<uint> ids)
    {
        for (int i = 0; i < ids.Length;)
        {
            int last = i;
            while (last + 1 < ids.Length && ids[last + 1] == ids[last] + 1)
            {
                last++;
            }

            text.Append(i == 0 ? "" : ",").Append(CultureInfo.InvariantCulture, $"{ids[i]}");
            if (last > i)
            {
                text.Append(CultureInfo.InvariantCulture, $"-{ids[last]}");
            }

            i = last + 1;
        }
    }

    private static ImmutableArray<uint> Ids(string value)
    {
        var ids = ImmutableArray.CreateBuilder<uint>();
        foreach (string item in Items(value))
        {
            int dash = item.IndexOf('-', StringComparison.Ordinal);
            ulong first = Read(dash < 0 ? item : item[..dash], uint.MaxValue);
            ulong last = dash < 0 ? first : Read(item[(dash + 1)..], uint.MaxValue);
            if (last < first || last - first > 1 << 24)
            {
                throw new FormatException();
            }

            for (ulong id = first; id <= last; id++)
            {
                ids.Add((uint)id);
            }
        }

        return ids.ToImmutable();
    }

    private static IEnumerable<string> Items(string value) => value.Length == 0 ? [] : value.Split(',');

    private static ulong Read(string text, ulong most) =>
        ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out ulong value) && value <= most ? value : throw new FormatException();

    private static KeyValuePair<string, uint> Pair(string item)
    {
        int colon = item.LastIndexOf(':');
        return colon < 0 ? throw new FormatException() : new(Uri.UnescapeDataString(item[..colon]), (uint)Read(item[(colon + 1)..], uint.MaxValue));
    }

    private static ExecutionSample Sample(string item)
    {
        int colon = item.IndexOf(':', StringComparison.Ordinal);
        return colon > 0 && ulong.TryParse(item.AsSpan(colon + 1), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong digest)
            ? new(Read(item[..colon], MostIndex), digest)
            : throw new FormatException();
    }
}
