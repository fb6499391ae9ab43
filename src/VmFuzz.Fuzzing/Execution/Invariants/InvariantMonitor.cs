using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Kvm;
using VmFuzz.Machines;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>Watches a run under the hypervisor: looks at invariants at their moments, keeps the first that is broken, and counts features.</summary>
public sealed class InvariantMonitor : IMachineObserver
{
    private readonly InvariantTable _table;
    private readonly FeatureMap _features;
    private readonly IMachineObserver? _next;
    private readonly RunView _view;
    private uint _previous;
    private ulong _lastRetired;
    private ulong _lastRip;
    private int _still;
    private int _requests;
    private volatile string _place = "";

    // Requests without an entry in between: far more than a run path that goes on can see.
    private const int MostRequests = 1 << 14;

    /// <summary>Passes into the guest without any progress after which <see cref="Stuck"/> is true.</summary>
    public const int MostStill = 512;

    /// <summary>Starts to watch; the caller hands it to <see cref="Machine.Observe"/>.</summary>
    /// <param name="machine">A machine with accelerator kvm.</param>
    /// <param name="table">The invariants.</param>
    /// <param name="features">Where features are counted.</param>
    /// <param name="next">Who is told everything too, or null.</param>
    public InvariantMonitor(Machine machine, InvariantTable table, FeatureMap features, IMachineObserver? next = null)
    {
        ArgumentNullException.ThrowIfNull(machine);
        Machine = machine;
        _table = table;
        _features = features;
        _next = next;
        _view = new RunView((machine.Kvm ?? throw new ArgumentException("Only a machine under the hypervisor has exits.", nameof(machine))).Vcpu);
    }

    /// <summary>The machine.</summary>
    public Machine Machine { get; }

    /// <summary>The first invariant that was broken since <see cref="Begin"/>, or null.</summary>
    public Violation? Violation { get; private set; }

    /// <summary>Exits since <see cref="Begin"/>.</summary>
    public ulong Exits { get; private set; }

    /// <summary>Whether the guest was entered again and again without going on. The machine was asked to stop.</summary>
    public bool Stuck => _still >= MostStill;

    /// <summary>Id of the row whose handler runs; empty when none does. May be asked from another thread.</summary>
    public string Place => _place;

    /// <summary>A new run begins.</summary>
    public void Begin()
    {
        _place = "";
        Violation = null;
        Exits = 0;
        _previous = 0;
        _still = 0;
        _requests = 0;
        _lastRetired = ulong.MaxValue;
        _view.Entered = false;
    }

    /// <inheritdoc/>
    public void OnEntry(Vcpu vcpu, in EntryRecord entry)
    {
        _requests = 0;
        _view.Entry = entry;
        Look(InvariantMoment.Entry);
        _view.Entered = true;
        ulong retired = vcpu.Processor.Retired;
        if (retired == _lastRetired && entry.Rip == _lastRip)
        {
            if (++_still == MostStill)
            {
                Machine.RequestStop(new MachineStop(MachineStopKind.Observer, "the guest is entered again and again and does not go on"));
            }
        }
        else
        {
            _still = 0;
            _lastRetired = retired;
            _lastRip = entry.Rip;
        }

        if (entry.Injected.Valid)
        {
            // Exceptions are told apart; one interrupt is as good as another.
            InterruptionInfo injected = entry.Injected;
            _features.Add(Feature(1, (ulong)injected.Type, injected.Vector < 32 ? injected.Vector : 32UL));
        }

        _next?.OnEntry(vcpu, entry);
    }

    /// <inheritdoc/>
    public void OnExit(Vcpu vcpu, in VmExit exit, ulong rip)
    {
        Exits++;
        if (_view.Entry.Injected.Valid && !exit.IdtVectoringInfo.Valid)
        {
            // An event got into the guest, which is progress: a handler may cause its own event again for ever.
            _still = 0;
        }

        _next?.OnExit(vcpu, exit, rip);
    }

    /// <inheritdoc/>
    public void OnHandling(Vcpu vcpu, ExitRow row, in VmExit exit)
    {
        _place = row.Id;
        _view.Take(row, exit);
        Look(InvariantMoment.Handling);
        _next?.OnHandling(vcpu, row, exit);
    }

    /// <inheritdoc/>
    public void OnHandled(Vcpu vcpu, ExitRow row, in VmExit exit, ExitOutcome outcome)
    {
        _place = "";
        _view.Outcome = outcome;
        Look(InvariantMoment.Handled);
        uint reason = exit.Reason & 0xFFFF;
        ulong kind = QualificationClass.Of(exit, vcpu);
        _features.Add(Feature(2, reason, (kind << 8) | ((ulong)outcome.Verdict << 4) | (vcpu.Events.Exception.Pending ? vcpu.Events.Exception.Vector + 8UL : 0)));
        _features.Add(Feature(3, reason, _previous));
        _previous = reason + 1;
        _next?.OnHandled(vcpu, row, exit, outcome);
    }

    /// <inheritdoc/>
    public void OnInjected(Vcpu vcpu, InterruptionInfo info, uint errorCode, bool again) => _next?.OnInjected(vcpu, info, errorCode, again);

    /// <inheritdoc/>
    public void OnUserspaceExit(Vcpu vcpu, KvmExitReason reason, int result)
    {
        Look(InvariantMoment.Userspace);
        _features.Add(Feature(4, (ulong)reason, (uint)result));
        _next?.OnUserspaceExit(vcpu, reason, result);
    }

    /// <inheritdoc/>
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

    /// <inheritdoc/>
    public void OnInput(InputPoint point, in Position at, in Input input)
    {
        _features.Add(Feature(6, (ulong)point, (ulong)input.Kind));
        _next?.OnInput(point, at, input);
    }

    /// <inheritdoc/>
    public void OnDelivered(in GuestEvent delivered, ulong returnRip) => _next?.OnDelivered(delivered, returnRip);

    /// <inheritdoc/>
    public void OnConsole(byte value) => _next?.OnConsole(value);

    /// <inheritdoc/>
    public void OnFirstAccess(bool isPort, ulong address, bool write) => _next?.OnFirstAccess(isPort, address, write);

    /// <inheritdoc/>
    public void OnSync() => _next?.OnSync();

    /// <inheritdoc/>
    public void OnEnd(in MachineStop stop) => _next?.OnEnd(stop);

    private static ulong Feature(ulong space, ulong major, ulong minor) => (space << 60) ^ (major << 40) ^ minor;

    private void Look(InvariantMoment moment)
    {
        if (Violation is not null)
        {
            return;
        }

        foreach (Invariant row in _table.At(moment))
        {
            if (row.Check(_view) is { } wrong)
            {
                Violation = new Violation(row.Id, moment is InvariantMoment.Handling or InvariantMoment.Handled ? _view.Row.Id : "", wrong);
                return;
            }
        }
    }
}
