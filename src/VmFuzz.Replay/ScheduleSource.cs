using VmFuzz.Arch;

namespace VmFuzz.Replay;

/// <summary>Another source, and the seed from which the turns of several VCPUs are drawn.</summary>
/// <param name="inner">The source that answers everything else.</param>
/// <param name="seed">The seed; another one gives another interleaving.</param>
public sealed class ScheduleSource(IInputSource inner, ulong seed) : IInputSource
{
    /// <inheritdoc/>
    public ulong NextDue(int vcpu, ulong retired) => inner.NextDue(vcpu, retired);

    /// <inheritdoc/>
    public bool TryTake(InputPoint point, in Position at, out Input input)
    {
        if (point == InputPoint.Schedule)
        {
            input = new Input(InputKind.ScheduleSeed, seed);
            return true;
        }

        return inner.TryTake(point, at, out input);
    }

    /// <inheritdoc/>
    public ulong QuietUntil(int vcpu, ulong retired) => inner.QuietUntil(vcpu, retired);
}
