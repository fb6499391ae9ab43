using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Kvm;
using VmFuzz.Machines;
using VmFuzz.Trace;
using VmFuzz.Vmx;

namespace VmFuzz.Replay;

/// <summary>
/// Turns what a machine does into trace events. The recorder writes them, the replayer compares them; both see the
/// same events because both are made here.
/// </summary>
public abstract class EventBuilder : IMachineObserver
{
    private readonly TraceEvent _event = new();
    private readonly TraceEvent _consoleEvent = new();
    private readonly byte[] _console = new byte[4096];
    private readonly ControlTracker? _controls;
    private int _consoleCount;
    private ulong _digests;

    /// <summary>Starts to watch a machine.</summary>
    protected EventBuilder(Machine machine)
    {
        Machine = machine;
        Tracker = new StateTracker(machine.Components);
        _controls = machine.Kvm is { } kvm ? new ControlTracker(kvm.Vmx.Current) : null;
    }

    /// <summary>The machine.</summary>
    public Machine Machine { get; }

    /// <summary>Its state as last seen.</summary>
    public StateTracker Tracker { get; }

    /// <summary>Whether a digest kept incrementally ever differed from one worked out from nothing; an engine bug.</summary>
    public bool DigestBroken { get; private set; }

    /// <summary>Inputs, and other counts of this run.</summary>
    public RunCounts Counts { get; } = new();

    /// <inheritdoc/>
    public void OnInput(InputPoint point, in Position at, in Input input)
    {
        TraceEvent e = Begin(TraceEventKind.Input, at.Vcpu, at.Retired);
        e.InputPoint = point;
        e.Ordinal = at.Ordinal;
        e.InputKind = input.Kind;
        e.Value = input.Value;
        e.Auxiliary = input.Auxiliary;
        e.Digest = TakeDigest();
        Counts.Inputs++;
        Emit(e);
    }

    /// <inheritdoc/>
    public void OnDelivered(in GuestEvent delivered, ulong returnRip)
    {
        TraceEvent e = Begin(TraceEventKind.Delivered);
        e.InterruptionInfo = delivered.Information;
        e.ErrorCode = delivered.HasErrorCode ? delivered.ErrorCode : 0;
        e.Rip = returnRip;
        e.Digest = TakeDigest();
        Counts.Delivered++;
        Emit(e);
    }

    /// <inheritdoc/>
    public void OnEntry(Vcpu vcpu, in EntryRecord entry)
    {
        TraceEvent e = Begin(TraceEventKind.Entry);
        e.EntryFlags = entry.Emulates ? TraceEntryFlags.Emulated : 0;
        if (entry.Injected.Valid)
        {
            e.InterruptionInfo = entry.Injected.Value;
            e.ErrorCode = entry.Injected.ErrorCodeValid ? entry.ErrorCode : 0;
            e.InstructionLength = entry.InstructionLength;
        }

        _controls?.AddChanges(e);
        Counts.Entries++;
        Emit(e);
    }

    /// <inheritdoc/>
    public void OnExit(Vcpu vcpu, in VmExit exit, ulong rip)
    {
        TraceEvent e = Begin(TraceEventKind.Exit);
        e.Rip = rip;
        e.ExitReason = exit.Reason;
        e.Qualification = exit.Qualification;
        e.InstructionLength = exit.InstructionLength;
        e.InterruptionInfo = exit.InterruptionInfo.Value;
        e.ErrorCode = exit.InterruptionError;
        e.GuestLinear = exit.GuestLinear;
        e.GuestPhysical = exit.GuestPhysical;
        e.IdtVectoringInfo = exit.IdtVectoringInfo.Value;
        e.IdtErrorCode = exit.IdtVectoringError;
        e.InstructionInfo = exit.InstructionInfo;
        e.Digest = TakeDigest();
        foreach (ref readonly StateChange change in Tracker.Changes)
        {
            // RIP and the retired count stand in fields of their own.
            if (change.Field is not (ProcessorState.Rip or ProcessorState.Retired))
            {
                e.AddDelta((ushort)change.Component, change.Field, change.Value);
            }
        }

        Counts.Exits++;
        Emit(e);
    }

    /// <inheritdoc/>
    public void OnInjected(Vcpu vcpu, InterruptionInfo info, uint errorCode, bool again)
    {
        TraceEvent e = Begin(TraceEventKind.Injected);
        e.InterruptionInfo = info.Value;
        e.ErrorCode = info.ErrorCodeValid ? errorCode : 0;
        e.Rip = vcpu.Rip;
        e.Digest = TakeDigest();
        Counts.Injected++;
        Emit(e);
    }

    /// <inheritdoc/>
    public void OnUserspaceExit(Vcpu vcpu, KvmExitReason reason, int result)
    {
        TraceEvent e = Begin(TraceEventKind.UserspaceExit);
        e.UserspaceReason = (uint)reason;
        e.Errno = result;
        AddData(e, vcpu.KvmRun, reason);
        Emit(e);
    }

    // What the exit before it does not tell already; port and data of an I/O exit stand there.
    private static void AddData(TraceEvent e, KvmRun run, KvmExitReason reason)
    {
        switch (reason)
        {
            case KvmExitReason.Mmio:
                e.Data0 = run.Mmio.Address.Value;
                e.Data1 = (uint)run.Mmio.Length | (run.Mmio.IsWrite ? 0x100UL : 0);
                break;
            case KvmExitReason.FailEntry:
                e.Data0 = run.HardwareReason;
                break;
            case KvmExitReason.InternalError:
                e.Data0 = (ulong)run.InternalError;
                break;
        }
    }

    /// <inheritdoc/>
    public void OnRequest(Vcpu vcpu, Request request, bool served)
    {
        TraceEvent e = Begin(TraceEventKind.Request);
        e.RequestNumber = (uint)request;
        e.RequestPhase = served ? TraceRequestPhase.Served : TraceRequestPhase.Raised;
        Emit(e);
    }

    /// <inheritdoc/>
    public void OnConsole(byte value)
    {
        _console[_consoleCount++] = value;
        if (_consoleCount == _console.Length)
        {
            FlushConsole();
        }
    }

    /// <inheritdoc/>
    public void OnFirstAccess(bool isPort, ulong address, bool write)
    {
        TraceEvent e = Begin(TraceEventKind.FirstAccess);
        e.Rip = Machine.Current.Rip;
        e.Space = isPort ? TraceSpace.Port : TraceSpace.Mmio;
        e.Address = address;
        e.IsWrite = write;
        Emit(e);
    }

    /// <inheritdoc/>
    public void OnSync()
    {
        TraceEvent e = Begin(TraceEventKind.Sync);
        e.Digest = TakeDigest();
        Emit(e);
    }

    /// <inheritdoc/>
    /// <remarks>Where each of the other VCPUs stands comes before the end.</remarks>
    public void OnEnd(in MachineStop stop)
    {
        foreach (Processor other in Machine.Processors)
        {
            if (other != Machine.Current)
            {
                TraceEvent place = Begin(TraceEventKind.Sync, other.Index, other.Retired);
                place.Digest = TakeDigest();
                Emit(place);
            }
        }

        TraceEvent e = Begin(TraceEventKind.End);
        e.Digest = TakeDigest() + new StateTracker(Machine.InnerComponents).Digest;
        Machine.Processor.FlushWriteTlb();
        e.MemoryDigest = Machine.Memory.Digest();
        e.InputsHash = Machine.InputsHash;
        e.Entries = Counts.Entries;
        e.Exits = Counts.Exits;
        e.InjectedEvents = Counts.Injected;
        e.DeliveredEvents = Counts.Delivered;
        e.Inputs = Counts.Inputs;
        e.ConsoleLength = Machine.ConsoleLength;
        e.ConsoleHash = Machine.ConsoleHash;
        e.SetText($"{stop.Kind}: {stop.Text}");
        Emit(e);
    }

    /// <summary>Takes the next event. The object is reused.</summary>
    protected abstract void Emit(TraceEvent made);

    /// <summary>Digest of everything now; every 4096 times it is checked against a full computation.</summary>
    private ulong TakeDigest()
    {
        Machine.DigestTaken();
        Tracker.Update();
        if ((++_digests & 4095) == 0 && Tracker.Digest != Tracker.FullDigest())
        {
            DigestBroken = true;
        }

        return Tracker.Digest;
    }

    // What the guest printed before an event stands before it.
    private TraceEvent Begin(TraceEventKind kind) =>
        Begin(kind, Machine.Current.Index, Machine.Current.Retired);

    private TraceEvent Begin(TraceEventKind kind, int vcpu, ulong retired)
    {
        FlushConsole();
        TraceEvent e = _event.Clear(kind);
        e.Vcpu = vcpu;
        e.Retired = retired;
        return e;
    }

    private void FlushConsole()
    {
        if (_consoleCount == 0)
        {
            return;
        }

        TraceEvent e = _consoleEvent.Clear(TraceEventKind.Console);
        e.Vcpu = Machine.Current.Index;
        e.Retired = Machine.Current.Retired;
        e.Direction = TraceDirection.Output;
        e.SetBytes(_console.AsSpan(0, _consoleCount));
        _consoleCount = 0;
        Emit(e);
    }
}

/// <summary>Counts of a run.</summary>
public sealed class RunCounts
{
    /// <summary>Passes into the guest.</summary>
    public ulong Entries { get; set; }

    /// <summary>VM exits.</summary>
    public ulong Exits { get; set; }

    /// <summary>Events injected on entry.</summary>
    public ulong Injected { get; set; }

    /// <summary>Events delivered through the guest's IDT by the processor.</summary>
    public ulong Delivered { get; set; }

    /// <summary>Inputs taken through the door.</summary>
    public ulong Inputs { get; set; }
}
