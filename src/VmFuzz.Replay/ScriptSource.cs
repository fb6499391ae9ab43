using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Replay;

/// <summary>
/// Types what a script says when the guest has printed what it says: a source whose inputs follow from the guest's own
/// output, so the same run meets them at the same positions. What else comes is another source's.
/// </summary>
/// <remarks>
/// A text is looked for in everything that was printed behind the text found before it, also in what came while the script
/// was typing.
/// </remarks>
/// <param name="script">The script.</param>
/// <param name="inner">Where everything else comes from; null for nowhere.</param>
public sealed class ScriptSource(ConsoleScript script, IInputSource? inner) : IInputSource
{
    /// <summary>Instructions between two typed bytes: a byte at 115200 baud.</summary>
    public const ulong ByteDistance = 86_806;

    // Of what is printed while the script types, so much is kept.
    private const int MostUnread = 1 << 20;

    private readonly Queue<byte> _unread = new();
    private ConsoleMatch? _match;
    private int _step;
    private int _sent;
    private ulong _wokenAt = ulong.MaxValue;
    private ulong _due = script.Steps[0].Kind == ConsoleStepKind.Expect ? ulong.MaxValue : ByteDistance;

    /// <summary>The step that is not done yet; null when all are.</summary>
    public ConsoleStep? Current => _step < script.Steps.Length ? script.Steps[_step] : null;

    /// <summary>The guest printed a byte.</summary>
    /// <param name="value">The byte.</param>
    /// <param name="retired">Instructions retired.</param>
    /// <returns>Whether the next input comes at another position than announced (<see cref="NextDue"/>).</returns>
    public bool Shown(byte value, ulong retired)
    {
        if (Current is null)
        {
            return false;
        }

        if (_unread.Count == MostUnread)
        {
            _unread.Dequeue();
        }

        _unread.Enqueue(value);
        return Read(retired);
    }

    /// <inheritdoc/>
    public ulong NextDue(int vcpu, ulong retired)
    {
        ulong own = vcpu == 0 && _due != ulong.MaxValue ? Math.Max(_due, retired) : ulong.MaxValue;
        return inner is null ? own : Math.Min(own, inner.NextDue(vcpu, retired));
    }

    /// <inheritdoc/>
    public bool TryTake(InputPoint point, in Position at, out Input input)
    {
        bool due = _due != ulong.MaxValue && at.Vcpu == 0 && point switch
        {
            InputPoint.Boundary => at.Retired >= _due,
            // One byte wakes the guest; more at once would overrun its receiver.
            InputPoint.Blocked => at.Retired != _wokenAt,
            _ => false,
        };
        if (due)
        {
            _wokenAt = at.Retired;
            input = Next(at.Retired);
            return true;
        }

        input = default;
        return inner?.TryTake(point, at, out input) ?? false;
    }

    /// <inheritdoc/>
    public ulong QuietUntil(int vcpu, ulong retired) => inner is null ? ulong.MaxValue : inner.QuietUntil(vcpu, retired);

    private Input Next(ulong retired)
    {
        ConsoleStep step = script.Steps[_step];
        if (step.Kind == ConsoleStepKind.Stop)
        {
            // What follows a stop is not reached.
            _step = script.Steps.Length;
            _due = ulong.MaxValue;
            return new Input(InputKind.Stop);
        }

        byte value = step.Text[_sent++];
        _due = retired + ByteDistance;
        if (_sent == step.Text.Length)
        {
            _sent = 0;
            Advance(retired);
            Read(retired);
        }

        return new Input(InputKind.ConsoleByte, value);
    }

    // Looks for the awaited texts in what was printed and not looked at yet.
    private bool Read(ulong retired)
    {
        while (Current is { Kind: ConsoleStepKind.Expect } step && _unread.TryDequeue(out byte value))
        {
            _match ??= new ConsoleMatch(step.Text.AsSpan());
            if (_match.Add(value))
            {
                _match = null;
                Advance(retired);
                if (_due != ulong.MaxValue)
                {
                    return true;
                }
            }
        }

        return false;
    }

    private void Advance(ulong retired)
    {
        _step++;
        _due = Current is null or { Kind: ConsoleStepKind.Expect } ? ulong.MaxValue : retired + ByteDistance;
    }
}
