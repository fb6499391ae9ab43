using VmFuzz.Arch;
using VmFuzz.Kvm;
using VmFuzz.Replay;

namespace VmFuzz.Fuzzing;

/// <summary>
/// A door with something more behind it: kicks, reschedules, signals and host interrupts at the named places of the run
/// path, which a guest must not notice. Everything else is the input's.
/// </summary>
internal sealed class PerturbingSource : IInputSource
{
    // One question in so many is answered with a perturbation.
    private const ulong Rarity = 6;

    private readonly IInputSource _inner;
    private SplitMix _random;

    /// <summary>Perturbs from a seed.</summary>
    public PerturbingSource(IInputSource inner, ulong seed)
    {
        _inner = inner;
        _random = new SplitMix(seed);
    }

    /// <summary>Perturbations so far.</summary>
    public int Count { get; private set; }

    /// <inheritdoc/>
    public ulong NextDue(int vcpu, ulong retired) => _inner.NextDue(vcpu, retired);

    /// <inheritdoc/>
    public bool TryTake(InputPoint point, in Position at, out Input input)
    {
        if (_inner.TryTake(point, at, out input))
        {
            return true;
        }

        if (point is InputPoint.Boundary or InputPoint.Blocked or InputPoint.Random or InputPoint.UserAnswer || _random.Below(Rarity) != 0)
        {
            return false;
        }

        Count++;
        input = Made(point);
        return true;
    }

    /// <summary>Requests that change nothing but the hypervisor's caches, raised at a pass.</summary>
    public void AtEntry(Vcpu vcpu)
    {
        switch (_random.Below(24))
        {
            case 0:
                vcpu.Raise(Request.TlbFlush);
                Count++;
                break;
            case 1:
                vcpu.Raise(Request.MmuReload);
                Count++;
                break;
            case 2:
                vcpu.Raise(Request.DeactivateFpu);
                Count++;
                break;
            case 3:
                vcpu.Raise(Request.ClockUpdate);
                Count++;
                break;
        }
    }

    private Input Made(InputPoint point) => _random.Below(4) switch
    {
        0 => new Input(InputKind.Kick),
        1 => new Input(InputKind.Reschedule),
        // A signal before each entry would keep the guest from ever being entered, so it is rare.
        2 when point == InputPoint.BeforeLastCheck => new Input(InputKind.Signal),
        _ => new Input(InputKind.HostVector, HostCpu.TimerVector),
    };
}
