using VmFuzz.Arch;
using VmFuzz.Trace;

namespace VmFuzz.Replay;

/// <summary>Feeds the recorded inputs back, at the positions at which they were recorded and nowhere else.</summary>
public sealed class ReplayInputSource : IInputSource
{
    private readonly InputCursor _next;
    private readonly InputCursor _announced;

    /// <summary>Reads the inputs of a trace.</summary>
    public ReplayInputSource(TraceReader reader)
    {
        _next = new InputCursor(reader.Events());
        _announced = new InputCursor(reader.Events());
        _next.MoveNext();
        _announced.MoveToBoundary();
    }

    /// <summary>Inputs fed back so far.</summary>
    public ulong Consumed { get; private set; }

    /// <summary>Whether recorded inputs are left over, and the first of them.</summary>
    public bool TryPeek(out Position at, out InputPoint point)
    {
        TraceEvent e = _next.Event;
        at = new Position(e.Vcpu, e.Retired, e.Ordinal);
        point = e.InputPoint;
        return !_next.Ended;
    }

    /// <inheritdoc/>
    public ulong NextDue(int vcpu, ulong retired)
    {
        while (!_announced.Ended && _announced.Index < _next.Index)
        {
            _announced.MoveToBoundary();
        }

        // What comes first is another VCPU's: this one is asked again in its next turn.
        return _announced.Ended || _announced.Event.Vcpu != vcpu ? ulong.MaxValue : Math.Max(_announced.Event.Retired, retired);
    }

    /// <inheritdoc/>
    public bool TryTake(InputPoint point, in Position at, out Input input)
    {
        TraceEvent e = _next.Event;
        if (_next.Ended || e.InputPoint != point || e.Retired != at.Retired || e.Ordinal != at.Ordinal || e.Vcpu != at.Vcpu)
        {
            input = default;
            return false;
        }

        input = new Input(e.InputKind, e.Value, e.Auxiliary);
        Consumed++;
        _next.MoveNext();
        return true;
    }

    /// <inheritdoc/>
    public ulong QuietUntil(int vcpu, ulong retired) => _next.Ended ? ulong.MaxValue : _next.Event.Vcpu == vcpu ? _next.Event.Retired : retired;

    private sealed class InputCursor(TraceCursor cursor)
    {
        public TraceEvent Event { get; } = new();

        public bool Ended { get; private set; }

        public long Index { get; private set; } = -1;

        public void MoveNext()
        {
            while (!Ended)
            {
                if (!cursor.MoveNext(Event))
                {
                    Ended = true;
                    Index = long.MaxValue;
                    return;
                }

                if (Event.Kind == TraceEventKind.Input)
                {
                    Index++;
                    return;
                }
            }
        }

        public void MoveToBoundary()
        {
            do
            {
                MoveNext();
            }
            while (!Ended && Event.InputPoint != InputPoint.Boundary);
        }
    }
}
