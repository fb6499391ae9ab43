using System.Collections.Immutable;

namespace VmFuzz.Trace;

/// <summary>A place between two events of a trace. Moving forward allocates nothing but the buffers of a chunk.</summary>
public sealed class TraceCursor
{
    private readonly TraceSource _source;
    private readonly ImmutableArray<TraceIndexRow> _rows;
    private readonly TraceChunkReader _chunks;
    private readonly ulong[] _retired = new ulong[TraceSchema.MaxVcpus];
    private readonly TraceEvent _skipped = new();
    private int _row = -1;
    private int _position;
    private ulong _next;
    private ulong _rowEnd;

    internal TraceCursor(TraceSource source, ImmutableArray<TraceIndexRow> rows)
    {
        _source = source;
        _rows = rows;
        _chunks = new(source);
    }

    /// <summary>Sequence number of the event that <see cref="MoveNext"/> reads next.</summary>
    public ulong Next => _next;

    /// <summary>Reads the next event.</summary>
    /// <param name="into">Gets the event, with its sequence number.</param>
    /// <returns>False at the end; then <paramref name="into"/> is as it was.</returns>
    /// <exception cref="TraceFileException">The file changed since it was opened.</exception>
    public bool MoveNext(TraceEvent into)
    {
        ArgumentNullException.ThrowIfNull(into);
        if (_next == _rowEnd && !Load(_row + 1))
        {
            return false;
        }

        MsgPackReader reader = new(_chunks.Raw[_position..]);
        if (TraceEventCodec.Decode(ref reader, into) is not null)
        {
            throw Changed();
        }

        ref ulong retired = ref _retired[into.Vcpu];
        retired = unchecked(retired + into.Retired);
        into.Retired = retired;
        into.Sequence = _next++;
        _position += reader.Position;
        return true;
    }

    /// <summary>Moves so that the next event is the one with this sequence number, forwards or backwards.</summary>
    /// <param name="sequence">0 up to the number of events; the latter is behind the last.</param>
    /// <returns>False when there is no such place; then the cursor stays where it was.</returns>
    public bool Seek(ulong sequence)
    {
        int row = Last(static (in TraceIndexRow candidate) => candidate.First, sequence);
        if (row < 0)
        {
            return sequence == 0;
        }

        if (sequence - _rows[row].First > _rows[row].Count)
        {
            return false;
        }

        if (row != _row || sequence < _next)
        {
            Load(row);
        }

        while (_next < sequence)
        {
            MoveNext(_skipped);
        }

        return true;
    }

    /// <summary>Moves so that the next event is the exit with this number, from 0.</summary>
    /// <returns>False when there is none; then the cursor is anywhere.</returns>
    public bool SeekExit(ulong number) => SeekKind(TraceEventKind.Exit, number, static (in TraceIndexRow row) => row.ExitsBefore);

    /// <summary>Moves so that the next event is the entry with this number, from 0.</summary>
    /// <returns>False when there is none; then the cursor is anywhere.</returns>
    public bool SeekEntry(ulong number) => SeekKind(TraceEventKind.Entry, number, static (in TraceIndexRow row) => row.EntriesBefore);

    private bool SeekKind(TraceEventKind kind, ulong number, Before before)
    {
        int row = Last(before, number);
        if (row < 0)
        {
            return false;
        }

        Load(row);
        ulong seen = before(_rows[row]);
        while (MoveNext(_skipped))
        {
            if (_skipped.Kind == kind && seen++ == number)
            {
                return Seek(_skipped.Sequence);
            }
        }

        return false;
    }

    /// <summary>The last row that has at most <paramref name="wanted"/> before it, or -1.</summary>
    private int Last(Before before, ulong wanted)
    {
        int low = 0;
        int high = _rows.Length;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (before(_rows[middle]) <= wanted)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }

        return low - 1;
    }

    private bool Load(int row)
    {
        if (row >= _rows.Length)
        {
            return false;
        }

        if (row != _row)
        {
            _row = -1;
            if (_chunks.Read(_rows[row].Offset, out TraceChunkHead head, out _) is not null || head.Sequence != _rows[row].Chunk)
            {
                throw Changed();
            }
        }

        _row = row;
        _position = 0;
        _next = _rows[row].First;
        _rowEnd = _next + _rows[row].Count;
        Array.Clear(_retired);
        return true;
    }

    private TraceFileException Changed() => new($"{_source.Name} changed while it was read");

    private delegate ulong Before(in TraceIndexRow row);
}
