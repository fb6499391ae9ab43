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
    internal TraceCounts With(TraceEventKind kind) => new(
        Events + 1,
        Entries + (kind == TraceEventKind.Entry ? 1UL : 0),
        Exits + (kind == TraceEventKind.Exit ? 1UL : 0),
        Injected + (kind == TraceEventKind.Injected ? 1UL : 0),
        Delivered + (kind == TraceEventKind.Delivered ? 1UL : 0),
        Inputs + (kind == TraceEventKind.Input ? 1UL : 0));

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
