using System.Collections.Immutable;
using System.Text;
using VmFuzz.Arch;
using VmFuzz.Replay;

namespace VmFuzz.Testing;

/// <summary>One input of a schedule.</summary>
/// <param name="At">Retired count from which it is due.</param>
/// <param name="Point">Where it is taken: a boundary, or a named place of the run path at or after <paramref name="At"/>.</param>
/// <param name="Input">The input.</param>
public readonly record struct ScheduledInput(ulong At, InputPoint Point, Input Input)
{
    /// <inheritdoc/>
    public override string ToString() => $"{At}/{Point}:{Input.Kind}" + (Input.Value != 0 ? $"(0x{Input.Value:x})" : "");
}

/// <summary>A list of inputs with their positions. A value; <see cref="ScheduledSource"/> plays it.</summary>
/// <param name="Inputs">The inputs, sorted by position.</param>
/// <param name="RandomSeed">Where the answers to RDRAND and RDSEED come from.</param>
public sealed record InputSchedule(ImmutableArray<ScheduledInput> Inputs, ulong RandomSeed)
{
    /// <summary>Nothing comes from outside; random values are those of seed 0.</summary>
    public static InputSchedule Empty { get; } = new([], 0);

    /// <summary>A schedule from inputs in any order; inputs at one position keep their order.</summary>
    public static InputSchedule Of(IEnumerable<ScheduledInput> inputs, ulong randomSeed = 0) =>
        new([.. inputs.OrderBy(static i => i.At)], randomSeed);

    /// <inheritdoc/>
    public override string ToString()
    {
        var text = new StringBuilder("[");
        foreach (ScheduledInput input in Inputs)
        {
            text.Append(text.Length > 1 ? " " : "").Append(input);
        }

        return text.Append($"] random {RandomSeed}").ToString();
    }
}

/// <summary>Plays an <see cref="InputSchedule"/>: the same answers to the same questions, every time.</summary>
/// <remarks>
/// A blocked guest gets the inputs of the next position, whatever their point, so that it cannot sleep while something
/// is scheduled. Inputs for a point that is never consulted stay.
/// </remarks>
public sealed class ScheduledSource : IInputSource
{
    private readonly InputSchedule _schedule;
    private readonly List<ScheduledInput> _left;
    private readonly SplitMix _random;
    private readonly List<ScheduledInput> _taken = [];
    private ulong _blockedAt = ulong.MaxValue;

    /// <summary>Starts at the beginning of a schedule.</summary>
    public ScheduledSource(InputSchedule schedule)
    {
        _schedule = schedule;
        _left = [.. schedule.Inputs];
        _random = new SplitMix(schedule.RandomSeed);
    }

    private ScheduledSource(ScheduledSource other)
        : this(other._schedule)
    {
        _left = [.. other._left];
        _taken.AddRange(other._taken);
        _blockedAt = other._blockedAt;
        for (ulong i = 0; i < other.RandomValues; i++)
        {
            _random.Next();
        }

        RandomValues = other.RandomValues;
    }

    /// <summary>Inputs taken so far, random values apart, in the order in which they were taken.</summary>
    public IReadOnlyList<ScheduledInput> Taken => _taken;

    /// <summary>Inputs that nobody has asked for yet.</summary>
    public IReadOnlyList<ScheduledInput> Left => _left;

    /// <summary>Random values given so far.</summary>
    public ulong RandomValues { get; private set; }

    /// <summary>A source that goes on where this one stands.</summary>
    public ScheduledSource Fork() => new(this);

    /// <inheritdoc/>
    public ulong NextDue(int vcpu, ulong retired)
    {
        foreach (ScheduledInput input in _left)
        {
            if (input.Point == InputPoint.Boundary)
            {
                return Math.Max(input.At, retired);
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
                ulong value = _random.Next();
                RandomValues++;
                input = new Input(InputKind.Random, value, (value & 7) == 0 ? 0UL : 1);
                return true;
            case InputPoint.Blocked:
                return TryWake(out input);
            default:
                return TryTakeAt(point, at.Retired, out input);
        }
    }

    /// <inheritdoc/>
    public ulong QuietUntil(int vcpu, ulong retired)
    {
        ulong until = ulong.MaxValue;
        foreach (ScheduledInput input in _left)
        {
            until = input.Point is >= InputPoint.Signal and <= InputPoint.BeforeEntry ? Math.Min(until, input.At) : until;
        }

        return until;
    }

    private bool TryTakeAt(InputPoint point, ulong retired, out Input input)
    {
        for (int i = 0; i < _left.Count && _left[i].At <= retired; i++)
        {
            if (_left[i].Point == point)
            {
                return Take(i, out input);
            }
        }

        input = default;
        return false;
    }

    private bool TryWake(out Input input)
    {
        input = default;
        if (_left.Count == 0 || (_blockedAt != ulong.MaxValue && _left[0].At != _blockedAt))
        {
            _blockedAt = ulong.MaxValue;
            return false;
        }

        _blockedAt = _left[0].At;
        return Take(0, out input);
    }

    private bool Take(int index, out Input input)
    {
        input = _left[index].Input;
        _taken.Add(_left[index]);
        _left.RemoveAt(index);
        return true;
    }
}
