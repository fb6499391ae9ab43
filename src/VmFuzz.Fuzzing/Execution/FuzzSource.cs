using System.Runtime.InteropServices;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Replay;

namespace VmFuzz.Fuzzing;

/// <summary>Plays the events and answers of an input through the door.</summary>
/// <remarks>
/// A blocked guest gets the next event, whatever its point, so that it cannot sleep while something is scheduled. Answers
/// are given in order; behind the last one they are hashes of how many were given.
/// </remarks>
public sealed class FuzzSource : IInputSource
{
    private const int Points = 16;
    private const ulong AnswerSeed = 0x5EED;

    private readonly ScheduledEvent[] _events = new ScheduledEvent[FuzzLimits.Items];
    private readonly bool[] _taken = new bool[FuzzLimits.Items];
    private readonly int[] _left = new int[Points];
    private readonly ulong[] _answers = new ulong[FuzzLimits.Items];
    private int _count;
    private int _answerCount;
    private ulong _given;
    private bool _stopNow;
    private bool _woken;

    /// <summary>Events that nobody has asked for yet.</summary>
    public int Left { get; private set; }

    /// <summary>Ends a run from within, and through the door, so that its trace ends it as well.</summary>
    /// <param name="processor">The processor whose door it is.</param>
    public void Stop(Processor processor)
    {
        ArgumentNullException.ThrowIfNull(processor);
        _stopNow = true;
        processor.Door.SourceMoved();
        processor.RecomputeLimit();
    }

    /// <summary>Goes on where another source stands.</summary>
    public void CopyFrom(FuzzSource other)
    {
        ArgumentNullException.ThrowIfNull(other);
        other._events.CopyTo(_events, 0);
        other._taken.CopyTo(_taken, 0);
        other._left.CopyTo(_left, 0);
        other._answers.CopyTo(_answers, 0);
        (_count, _answerCount, _given, Left, _stopNow, _woken) =
            (other._count, other._answerCount, other._given, other.Left, other._stopNow, other._woken);
    }

    /// <summary>Starts at the beginning of an input.</summary>
    public void Load(FuzzInput input)
    {
        ArgumentNullException.ThrowIfNull(input);
        Array.Clear(_left);
        _stopNow = false;
        _count = 0;
        foreach (ref readonly ScheduledEvent e in CollectionsMarshal.AsSpan(input.Events))
        {
            if (_count < _events.Length && (int)e.Point < Points)
            {
                _taken[_count] = false;
                _events[_count++] = e;
                _left[(int)e.Point]++;
            }
        }

        Left = _count;
        ReadOnlySpan<ulong> answers = CollectionsMarshal.AsSpan(input.Answers);
        _answerCount = Math.Min(answers.Length, _answers.Length);
        answers[.._answerCount].CopyTo(_answers);
        _given = 0;
        _woken = false;
    }

    /// <inheritdoc/>
    public ulong NextDue(int vcpu, ulong retired)
    {
        if (_stopNow)
        {
            return retired;
        }

        if (_left[(int)InputPoint.Boundary] != 0)
        {
            for (int i = 0; i < _count; i++)
            {
                if (!_taken[i] && _events[i].Point == InputPoint.Boundary)
                {
                    return Math.Max(_events[i].At, retired);
                }
            }
        }

        return ulong.MaxValue;
    }

    /// <inheritdoc/>
    public bool TryTake(InputPoint point, in Position at, out Input input)
    {
        switch (point)
        {
            case InputPoint.Random:
                ulong value = Answer();
                input = new Input(InputKind.Random, value, (value & 7) == 0 ? 0UL : 1);
                return true;
            case InputPoint.UserAnswer:
                input = new Input(InputKind.Answer, Answer());
                return true;
            case InputPoint.Blocked when !_stopNow:
                return TryNext(out input);
            default:
                if (_stopNow)
                {
                    _stopNow = false;
                    input = new Input(InputKind.Stop);
                    return true;
                }

                return TryTakeAt(point, at.Retired, out input);
        }
    }

    /// <inheritdoc/>
    public ulong QuietUntil(int vcpu, ulong retired)
    {
        ulong until = ulong.MaxValue;
        for (int i = 0; Left != 0 && i < _count; i++)
        {
            if (!_taken[i] && _events[i].Point is >= InputPoint.Signal and <= InputPoint.BeforeEntry)
            {
                until = Math.Min(until, _events[i].At);
            }
        }

        return until;
    }

    private bool TryTakeAt(InputPoint point, ulong retired, out Input input)
    {
        if (_left[(int)point] != 0)
        {
            for (int i = 0; i < _count && _events[i].At <= retired; i++)
            {
                if (!_taken[i] && _events[i].Point == point)
                {
                    return Take(i, out input);
                }
            }
        }

        input = default;
        return false;
    }

    // One at a time, for the first may wake the guest: which of two simultaneous ones it takes first is up to who is in charge.
    private bool TryNext(out Input input)
    {
        for (int i = 0; !_woken && Left != 0 && i < _count; i++)
        {
            if (!_taken[i])
            {
                _woken = true;
                return Take(i, out input);
            }
        }

        _woken = false;
        input = default;
        return false;
    }

    private bool Take(int index, out Input input)
    {
        ref readonly ScheduledEvent e = ref _events[index];
        _taken[index] = true;
        _left[(int)e.Point]--;
        Left--;
        input = new Input(e.Kind, e.Value);
        return true;
    }

    private ulong Answer()
    {
        ulong number = _given++;
        return number < (ulong)_answerCount ? _answers[number] : StateHash.Step(AnswerSeed, number);
    }
}
