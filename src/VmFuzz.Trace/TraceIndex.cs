namespace VmFuzz.Trace;

/// <summary>Where a chunk of events is and what comes before it: a row of the index.</summary>
/// <param name="Chunk">The chunk's number.</param>
/// <param name="Offset">Where the chunk starts. Unit: bytes.</param>
/// <param name="First">Sequence number of its first event.</param>
/// <param name="Count">Events in it, at least 1.</param>
/// <param name="EntriesBefore">Entry events before it; so the number of its first entry.</param>
/// <param name="ExitsBefore">Exit events before it; so the number of its first exit.</param>
/// <param name="Retired">Retired count of its first event.</param>
public readonly record struct TraceIndexRow(
    ulong Chunk, long Offset, ulong First, ulong Count, ulong EntriesBefore, ulong ExitsBefore, ulong Retired);

/// <summary>Events counted by kind.</summary>
/// <param name="Events">All events but the end.</param>
/// <param name="Entries">Entry events.</param>
/// <param name="Exits">Exit events.</param>
/// <param name="Injected">Injected events.</param>
/// <param name="Delivered">Delivered events.</param>
/// <param name="Inputs">Input events.</param>
public readonly record struct TraceCounts(ulong Events, ulong Entries, ulong Exits, ulong Injected, ulong Delivered, ulong Inputs)
{
    internal void CopyTo(TraceEvent end)
    {
        end.Entries = Entries;
        end.Exits = Exits;
        end.InjectedEvents = Injected;
        end.DeliveredEvents = Delivered;
        end.Inputs = Inputs;
    }

    internal bool Agrees(TraceEvent end) => end.Entries == Entries && end.Exits == Exits
        && end.InjectedEvents == Injected && end.DeliveredEvents == Delivered && end.Inputs == Inputs;
}

/// <summary>Counts events while they pass; one increment each.</summary>
internal sealed class TraceCounter
{
    private readonly ulong[] _kinds = new ulong[TraceSchema.Rows.Length + 1];

    public ulong Events { get; private set; }

    public ulong Entries => _kinds[(int)TraceEventKind.Entry];

    public ulong Exits => _kinds[(int)TraceEventKind.Exit];

    public TraceCounts Counts => new(
        Events,
        Entries,
        Exits,
        _kinds[(int)TraceEventKind.Injected],
        _kinds[(int)TraceEventKind.Delivered],
        _kinds[(int)TraceEventKind.Input]);

    public void Add(TraceEventKind kind)
    {
        Events++;
        _kinds[(int)kind]++;
    }

    public TraceCounter Copy()
    {
        TraceCounter copy = new() { Events = Events };
        _kinds.CopyTo(copy._kinds, 0);
        return copy;
    }
}

/// <summary>The payload of the index chunk: <c>[events, rows]</c>, then an array for every row.</summary>
internal static class TraceIndex
{
    private const int MaxRow = 1 + (7 * 9);

    public static byte[] Encode(ulong events, List<TraceIndexRow> rows)
    {
        byte[] buffer = new byte[32 + ((long)rows.Count * MaxRow)];
        MsgPackWriter writer = new(buffer);
        writer.WriteArrayHeader(2);
        writer.WriteUInt(events);
        writer.WriteUInt((ulong)rows.Count);
        foreach (TraceIndexRow row in rows)
        {
            writer.WriteArrayHeader(7);
            writer.WriteUInt(row.Chunk);
            writer.WriteUInt((ulong)row.Offset);
            writer.WriteUInt(row.First);
            writer.WriteUInt(row.Count);
            writer.WriteUInt(row.EntriesBefore);
            writer.WriteUInt(row.ExitsBefore);
            writer.WriteUInt(row.Retired);
        }

        return writer.Written.ToArray();
    }
}
