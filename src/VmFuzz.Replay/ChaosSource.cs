using VmFuzz.Arch;

namespace VmFuzz.Replay;

/// <summary>What a chaos source throws at a machine.</summary>
public sealed record ChaosOptions
{
    /// <summary>NMIs.</summary>
    public int Nmis { get; init; } = 100;

    /// <summary>Spurious interrupts.</summary>
    public int Interrupts { get; init; } = 100;

    /// <summary>Kicks.</summary>
    public int Kicks { get; init; } = 100;

    /// <summary>Typed bytes.</summary>
    public int TypedBytes { get; init; } = 100;

    /// <summary>The first position; a guest that has no handlers yet does not survive an NMI. Unit: retired instructions.</summary>
    public ulong From { get; init; }

    /// <summary>Positions are spread over this many retired instructions.</summary>
    public ulong Span { get; init; } = 2_000_000;
}

/// <summary>
/// A source of random events at random positions: NMIs, interrupts, kicks, typed bytes, and random values on request.
/// </summary>
/// <remarks>Where the randomness comes from is the caller's choice: a seed, or the operating system.</remarks>
public sealed class ChaosSource : IInputSource
{
    private readonly Func<ulong> _random;
    private readonly Planned[] _plan;
    private int _next;
    private ulong _kicks;

    /// <summary>Plans the events.</summary>
    /// <param name="options">How many of each.</param>
    /// <param name="random">64 random bits a call.</param>
    public ChaosSource(ChaosOptions options, Func<ulong> random)
    {
        _random = random;
        var plan = new List<Planned>();
        Plan(InputKind.Nmi, options.Nmis, static _ => 0);
        Plan(InputKind.Interrupt, options.Interrupts, static r => 0x20 + (r % 0xE0));
        Plan(InputKind.Kick, options.Kicks, static _ => 0);
        Plan(InputKind.ConsoleByte, options.TypedBytes, static r => 0x20 + (r % 0x5F));
        // Several events may share a position; the order among them is that of the plan.
        plan.Sort(static (a, b) => a.At != b.At ? a.At.CompareTo(b.At) : a.Order.CompareTo(b.Order));
        _plan = [.. plan];

        void Plan(InputKind kind, int count, Func<ulong, ulong> value)
        {
            for (int i = 0; i < count; i++)
            {
                ulong at = options.From + Math.BigMul(_random(), options.Span, out _);
                plan.Add(new Planned(at, plan.Count, new Input(kind, value(_random()))));
            }
        }
    }

    /// <inheritdoc/>
    public ulong NextDue(int vcpu, ulong retired) =>
        _next < _plan.Length ? Math.Max(_plan[_next].At, retired) : ulong.MaxValue;

    /// <inheritdoc/>
    public bool TryTake(InputPoint point, in Position at, out Input input)
    {
        input = default;
        switch (point)
        {
            case InputPoint.Random:
                ulong value = _random();
                // Now and then the unit has no value.
                input = new Input(InputKind.Random, value, (value & 0xFF) == 0 ? 0UL : 1);
                return true;
            case InputPoint.Boundary:
                return Take(at.Retired, out input);
            case InputPoint.Blocked:
                return Take(ulong.MaxValue, out input);
            case InputPoint.AfterRequests:
            case InputPoint.AfterInjection:
            case InputPoint.AfterPrepare:
            case InputPoint.BeforeLastCheck:
            case InputPoint.BeforeEntry:
                // A kick at the named places of an entry, rarely, and never without end.
                if (_kicks < 1000 && (_random() & 0x3FF) == 0)
                {
                    _kicks++;
                    input = new Input(InputKind.Kick);
                    return true;
                }

                return false;
            default:
                return false;
        }
    }

    private bool Take(ulong until, out Input input)
    {
        if (_next < _plan.Length && _plan[_next].At <= until)
        {
            input = _plan[_next++].Input;
            return true;
        }

        input = default;
        return false;
    }

    private readonly record struct Planned(ulong At, int Order, Input Input);
}
