using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Kvm;
using VmFuzz.Machines;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>Watches a fuzzer's run under the hypervisor: counts features of its exits, and ends runs that do not go on.</summary>
internal sealed class ExitMonitor : IMachineObserver
{
    // Each event and each made exit of an input may cost a few passes without progress; this many are a loop.
    private const int MostStill = 4 * FuzzLimits.Items;

    // Requests without an entry in between: far more than a run path that goes on can see.
    private const int MostRequests = 1 << 14;

    private readonly Machine _machine;
    private readonly FuzzSource _source;
    private readonly FeatureMap _features;
    private readonly IMachineObserver? _next;
    private uint _previous;
    private ulong _stillAt;
    private bool _injected;
    private int _still;
    private int _requests;

    /// <summary>Starts to watch; the caller hands it to <see cref="Machine.Observe"/>.</summary>
    /// <param name="machine">A machine with accelerator kvm.</param>
    /// <param name="source">Its door.</param>
    /// <param name="features">Where features are counted.</param>
    /// <param name="next">Who is told everything too, or null.</param>
    public ExitMonitor(Machine machine, FuzzSource source, FeatureMap features, IMachineObserver? next = null)
    {
        _machine = machine;
        _source = source;
        _features = features;
        _next = next;
    }

    /// <summary>Exits since <see cref="Begin"/>.</summary>
    public ulong Exits { get; private set; }

    /// <summary>The loop without progress that ended the run, or null.</summary>
    public Violation? Stuck { get; private set; }

    /// <summary>A new run begins.</summary>
    public void Begin()
    {
        Exits = 0;
        Stuck = null;
        _previous = 0;
        _stillAt = ulong.MaxValue;
        _injected = false;
        _still = 0;
        _requests = 0;
    }

    public void OnEntry(Vcpu vcpu, in EntryRecord entry)
    {
        _requests = 0;
        InterruptionInfo injected = entry.Injected;
        _injected = injected.Valid;
        if (_injected)
        {
            // Exceptions are told apart; one interrupt is as good as another.
            _features.Add(Feature(1, (ulong)injected.Type, injected.Vector < 32 ? injected.Vector : 32UL));
        }

        _next?.OnEntry(vcpu, entry);
    }

    public void OnExit(Vcpu vcpu, in VmExit exit, ulong rip)
    {
        Exits++;
        NoteProgress(exit, rip);
        _next?.OnExit(vcpu, exit, rip);
    }

    public void OnHandling(Vcpu vcpu, ExitRow row, in VmExit exit) => _next?.OnHandling(vcpu, row, exit);

    public void OnHandled(Vcpu vcpu, ExitRow row, in VmExit exit, ExitOutcome outcome)
    {
        uint reason = exit.Reason & 0xFFFF;
        ulong kind = QualificationClass.Of(exit, vcpu);
        _features.Add(Feature(2, reason, (kind << 8) | ((ulong)outcome.Verdict << 4) | (vcpu.Events.Exception.Pending ? vcpu.Events.Exception.Vector + 8UL : 0)));
        _features.Add(Feature(3, reason, _previous));
        _previous = reason + 1;
        _next?.OnHandled(vcpu, row, exit, outcome);
    }

    public void OnInjected(Vcpu vcpu, InterruptionInfo info, uint errorCode, bool again) => _next?.OnInjected(vcpu, info, errorCode, again);

    public void OnUserspaceExit(Vcpu vcpu, KvmExitReason reason, int result)
    {
        _features.Add(Feature(4, (ulong)reason, (uint)result));
        _next?.OnUserspaceExit(vcpu, reason, result);
    }

    public void OnRequest(Vcpu vcpu, Request request, bool served)
    {
        if (++_requests > MostRequests)
        {
            throw new NoProgressException($"request {request} comes again and again and the guest is not entered");
        }

        if (served)
        {
            _features.Add(Feature(5, (ulong)request, 0));
        }

        _next?.OnRequest(vcpu, request, served);
    }

    public void OnInput(InputPoint point, in Position at, in Input input)
    {
        _features.Add(Feature(6, (ulong)point, (ulong)input.Kind));
        _next?.OnInput(point, at, input);
    }

    public void OnDelivered(in GuestEvent delivered, ulong returnRip) => _next?.OnDelivered(delivered, returnRip);

    public void OnConsole(byte value) => _next?.OnConsole(value);

    public void OnFirstAccess(bool isPort, ulong address, bool write) => _next?.OnFirstAccess(isPort, address, write);

    public void OnSync() => _next?.OnSync();

    public void OnEnd(in MachineStop stop) => _next?.OnEnd(stop);

    private static ulong Feature(ulong space, ulong major, ulong minor) => (space << 60) ^ (major << 40) ^ minor;

    // An event that got into the guest is progress, and so is an instruction; everything else can be repeated for ever.
    private void NoteProgress(in VmExit exit, ulong rip)
    {
        ulong retired = _machine.Processor.Retired;
        bool delivered = _injected && !exit.IdtVectoringInfo.Valid;
        if (retired != _stillAt || delivered)
        {
            (_stillAt, _still) = (retired, 0);
        }
        else if (++_still >= MostStill && Stuck is null)
        {
            string reason = exit.Basic.ToString();
            Stuck = new Violation(GuestKill.NoProgress, reason, $"{MostStill} exits in a row, the last of them {reason} at RIP 0x{rip:x}, retired and delivered nothing");
            _source.Stop(_machine.Processor);
        }
    }
}
