using System.Security.Cryptography;
using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Replay;

namespace VmFuzz.Cli;

/// <summary>
/// The world outside as a source: typed bytes, the user's wish to stop, and randomness of the operating system; or
/// those of another source, with the wish to stop added.
/// </summary>
/// <remarks>
/// What arrives from other threads becomes visible at most once for each retired count of a VCPU, at the first question, so
/// that a replay (which announces an input from the start of its position) meets it at the same consultation.
/// </remarks>
internal sealed class LiveSource(IInputSource? inner) : IInputSource
{
    /// <summary>Instructions after which a running guest is asked to look at the world.</summary>
    public const ulong PollDistance = 1 << 18;

    /// <summary>Instructions between two typed bytes.</summary>
    public const ulong ByteDistance = ScriptSource.ByteDistance;

    private readonly object _gate = new();
    private readonly Queue<byte> _bytes = new();
    private volatile bool _waiting;
    private volatile bool _stop;
    private bool _stopTaken;
    private bool _attached;
    private readonly Decision[] _decisions = Decisions();
    private int _byteVcpu;
    private ulong _nextByte;
    private ulong _wokenAt = ulong.MaxValue;

    /// <summary>How long to wait for a byte when the guest idles, in milliseconds; <see cref="Timeout.Infinite"/> for ever; null never.</summary>
    public Func<int>? Patience { get; set; }

    /// <summary>Called when the guest idles or was asked to look at the world: a moment to show what it printed.</summary>
    public Action? Polled { get; set; }

    /// <summary>Whether the user asked to stop.</summary>
    public bool StopRequested => _stop;

    /// <summary>Asks the run to end at its next poll. From any thread.</summary>
    public void RequestStop()
    {
        lock (_gate)
        {
            _stop = true;
            _waiting = true;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>A byte was typed. From any thread.</summary>
    public void Type(byte value)
    {
        lock (_gate)
        {
            _bytes.Enqueue(value);
            _waiting = true;
            Monitor.PulseAll(_gate);
        }
    }

    /// <summary>A console is there from now on, or not any more. From any thread.</summary>
    public void Attach(bool attached)
    {
        lock (_gate)
        {
            _attached = attached;
            Monitor.PulseAll(_gate);
        }
    }

    /// <inheritdoc/>
    public ulong NextDue(int vcpu, ulong retired)
    {
        ref Decision decision = ref _decisions[vcpu];
        if (retired != decision.At)
        {
            decision = new Decision(retired, _waiting && Due(vcpu, retired));
            Polled?.Invoke();
        }

        ulong due = decision.Due ? retired : retired + PollDistance;
        if (_waiting && !decision.Due)
        {
            due = Math.Min(due, Math.Max(NextByte(vcpu), retired + 1));
        }

        return inner is null ? due : Math.Min(due, inner.NextDue(vcpu, retired));
    }

    /// <inheritdoc/>
    public bool TryTake(InputPoint point, in Position at, out Input input)
    {
        switch (point)
        {
            case InputPoint.Boundary:
                ref Decision decision = ref _decisions[at.Vcpu];
                if (decision.Due && at.Retired == decision.At)
                {
                    if (TakeLive(at.Vcpu, at.Retired, out input))
                    {
                        return true;
                    }

                    decision = decision with { Due = false };
                }

                break;
            case InputPoint.Random:
                if (inner is not null && inner.TryTake(point, at, out input))
                {
                    return true;
                }

                Span<byte> value = stackalloc byte[8];
                RandomNumberGenerator.Fill(value);
                input = new Input(InputKind.Random, BitConverter.ToUInt64(value), 1);
                return true;
            case InputPoint.Blocked:
                // One byte wakes the guest; more at once would overrun its receiver.
                bool fresh = at.Retired != _wokenAt;
                input = default;
                if ((fresh && TakeLive(at.Vcpu, ulong.MaxValue, out input)) || (inner is not null && inner.TryTake(point, at, out input))
                    || (fresh && Wait() && TakeLive(at.Vcpu, ulong.MaxValue, out input)))
                {
                    _wokenAt = at.Retired;
                    return true;
                }

                return false;
            default:
                break;
        }

        input = default;
        return inner?.TryTake(point, at, out input) ?? false;
    }

    /// <inheritdoc/>
    public ulong QuietUntil(int vcpu, ulong retired) => inner is null ? ulong.MaxValue : inner.QuietUntil(vcpu, retired);

    private bool Due(int vcpu, ulong retired)
    {
        if (_stop && !_stopTaken)
        {
            return true;
        }

        lock (_gate)
        {
            _waiting = _bytes.Count != 0;
            return _waiting && retired >= NextByte(vcpu);
        }
    }

    // The distance between two bytes is counted by the VCPU that took the first.
    private ulong NextByte(int vcpu) => vcpu == _byteVcpu ? _nextByte : 0;

    private bool TakeLive(int vcpu, ulong retired, out Input input)
    {
        input = default;
        if (_stop && !_stopTaken)
        {
            _stopTaken = true;
            input = new Input(InputKind.Stop);
            return true;
        }

        lock (_gate)
        {
            if (retired < NextByte(vcpu) || !_bytes.TryDequeue(out byte value))
            {
                return false;
            }

            _waiting = _bytes.Count != 0;
            input = new Input(InputKind.ConsoleByte, value);
        }

        if (retired != ulong.MaxValue)
        {
            _byteVcpu = vcpu;
            _nextByte = retired + ByteDistance;
        }

        return true;
    }

    // The guest idles: nothing happens until a byte comes, or for as long as the caller has patience.
    private bool Wait()
    {
        Polled?.Invoke();
        int patience = Patience?.Invoke() ?? 0;
        if (patience == 0)
        {
            return false;
        }

        lock (_gate)
        {
            bool more = true;
            while (more && _attached && !_waiting)
            {
                more = Monitor.Wait(_gate, patience);
            }

            return _waiting;
        }
    }

    private static Decision[] Decisions()
    {
        var decisions = new Decision[MachineOptions.MaxProcessors];
        Array.Fill(decisions, new Decision(ulong.MaxValue, false));
        return decisions;
    }

    /// <summary>Whether a VCPU takes something at the count at which it was asked last.</summary>
    private readonly record struct Decision(ulong At, bool Due);
}
