using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Kvm;
using VmFuzz.Machines;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>The first invariant that a run broke, and where.</summary>
/// <param name="Violation">What is wrong.</param>
/// <param name="Exit">Exits of the run so far.</param>
/// <param name="Retired">Instructions retired.</param>
/// <param name="Rip">The guest's RIP: that of the exit while it is handled, else the present one.</param>
public readonly record struct BrokenInvariant(Violation Violation, ulong Exit, ulong Retired, ulong Rip);

/// <summary>Looks at invariants of a run under the hypervisor at their moments, and keeps the first that is broken. Changes nothing.</summary>
public sealed class InvariantMonitor : IMachineObserver
{
    private readonly InvariantTable _table;
    private readonly IMachineObserver? _next;
    private readonly RunView _view;
    private readonly ulong[] _held = new ulong[InvariantTable.Moments];
    private volatile string _place = "";

    /// <summary>Starts to watch; the caller hands it to <see cref="Machine.Observe"/>.</summary>
    /// <param name="machine">A machine with accelerator kvm.</param>
    /// <param name="table">The invariants.</param>
    /// <param name="next">Who is told everything too, or null.</param>
    public InvariantMonitor(Machine machine, InvariantTable table, IMachineObserver? next = null)
    {
        ArgumentNullException.ThrowIfNull(machine);
        ArgumentNullException.ThrowIfNull(table);
        _table = table;
        _next = next;
        _view = new RunView((machine.Kvm ?? throw new ArgumentException("Only a machine under the hypervisor has exits.", nameof(machine))).Vcpu);
    }

    /// <summary>The first invariant that was broken since <see cref="Begin"/>, or null.</summary>
    public BrokenInvariant? Broken { get; private set; }

    /// <summary>Is called when an invariant breaks, at most once a run.</summary>
    public Action<BrokenInvariant>? Broke { get; set; }

    /// <summary>Id of the row whose handler runs; empty when none does. May be asked from another thread.</summary>
    public string Place => _place;

    /// <summary>A new run begins.</summary>
    public void Begin()
    {
        _place = "";
        Broken = null;
        Array.Clear(_held);
        _view.Begin();
    }

    /// <summary>How often each row held since <see cref="Begin"/>, and all others of its moment with it.</summary>
    public ImmutableArray<KeyValuePair<Invariant, ulong>> Held() =>
        [.. _table.Rows.Select(row => KeyValuePair.Create(row, _held[(int)row.Moment]))];

    /// <inheritdoc/>
    public void OnEntry(Vcpu vcpu, in EntryRecord entry)
    {
        _view.Take(entry);
        Look(InvariantMoment.Entry);
        _view.Entered = true;
        _next?.OnEntry(vcpu, entry);
    }

    /// <inheritdoc/>
    public void OnExit(Vcpu vcpu, in VmExit exit, ulong rip)
    {
        _view.See(exit);
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
        _next?.OnHandled(vcpu, row, exit, outcome);
    }

    /// <inheritdoc/>
    public void OnInjected(Vcpu vcpu, InterruptionInfo info, uint errorCode, bool again) => _next?.OnInjected(vcpu, info, errorCode, again);

    /// <inheritdoc/>
    public void OnUserspaceExit(Vcpu vcpu, KvmExitReason reason, int result)
    {
        Look(InvariantMoment.Userspace);
        _next?.OnUserspaceExit(vcpu, reason, result);
    }

    /// <inheritdoc/>
    public void OnRequest(Vcpu vcpu, Request request, bool served) => _next?.OnRequest(vcpu, request, served);

    /// <inheritdoc/>
    public void OnInput(InputPoint point, in Position at, in Input input) => _next?.OnInput(point, at, input);

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

    private void Look(InvariantMoment moment)
    {
        if (Broken is not null)
        {
            return;
        }

        foreach (Invariant row in _table.At(moment))
        {
            if (row.Check(_view) is { } wrong)
            {
                Break(row, wrong);
                return;
            }
        }

        _held[(int)moment]++;
    }

    private void Break(Invariant row, string wrong)
    {
        bool handler = row.Moment is InvariantMoment.Handling or InvariantMoment.Handled;
        var broken = new BrokenInvariant(
            new Violation(row.Id, handler ? _view.Row.Id : "", wrong),
            _view.Exits,
            _view.Vcpu.Processor.Retired,
            handler ? _view.Rip : _view.Vcpu.Rip);
        Broken = broken;
        Broke?.Invoke(broken);
    }
}
