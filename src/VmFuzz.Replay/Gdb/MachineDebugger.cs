using VmFuzz.Cpu;
using VmFuzz.Machines;

namespace VmFuzz.Replay.Gdb;

/// <summary>
/// Puts gdb at a machine. The guest stops between two instructions inside the run, so that nothing of the run changes while
/// gdb only looks.
/// </summary>
public sealed class MachineDebugger : IInstructionWatch, IGdbTarget, IDisposable
{
    private readonly Machine _machine;
    private readonly IGdbLink _link;
    private readonly bool _writable;
    private readonly GdbServer _server;
    private readonly GdbDescription _description;
    private readonly BreakpointList _breakpoints = new();
    private readonly byte[] _buffer = new byte[4096];
    private bool _stepping;
    private bool _stopped;
    private bool _interrupted;
    private bool _changed;
    private ulong _resumedAt = ulong.MaxValue;
    private ulong _resumedFrom;

    /// <summary>Attaches to a machine.</summary>
    /// <param name="machine">The machine, before its run.</param>
    /// <param name="link">The way to gdb.</param>
    /// <param name="writable">Whether gdb may change registers and memory: not in a run that is recorded or replayed.</param>
    /// <param name="startStopped">Whether the first instruction waits for gdb.</param>
    /// <param name="architecture">What gdb takes the processor for.</param>
    public MachineDebugger(Machine machine, IGdbLink link, bool writable, bool startStopped, GdbArchitecture architecture = GdbArchitecture.OfMachine)
    {
        _machine = machine;
        _link = link;
        _writable = writable;
        _interrupted = startStopped;
        _description = GdbDescription.Of(machine, architecture);
        _server = new GdbServer(this);
        machine.Processor.Watch = this;
    }

    /// <summary>Called when gdb wants the run to end.</summary>
    public Action? Killed { get; set; }

    /// <summary>Tells gdb that the run is over.</summary>
    /// <param name="status">Exit status of the guest.</param>
    public void Finish(int status)
    {
        _server.ReportExit(status);
        Flush();
    }

    /// <inheritdoc/>
    public void Dispose() => _machine.Processor.Watch = null;

    /// <inheritdoc/>
    public bool ShowsCode(ulong linear) =>
        _stepping || _interrupted || _link.Available || _breakpoints.HasData || _breakpoints.CodeInPage(linear);

    /// <inheritdoc/>
    public bool ShowsData(ulong linear) => _breakpoints.DataInPage(linear);

    /// <inheritdoc/>
    public void OnAccess(ulong linear, int size, bool write) => _breakpoints.Note(linear, size, write);

    /// <inheritdoc/>
    public void BeforeInstruction(Processor processor)
    {
        while (_link.Available)
        {
            Pump();
        }

        if (ReasonToStop(processor) is not { } stop)
        {
            return;
        }

        (_stopped, _stepping, _interrupted) = (true, false, false);
        _server.ReportStop(stop);
        Flush();
        while (_stopped)
        {
            Pump();
        }

        _breakpoints.ForgetHit();
        (_resumedAt, _resumedFrom) = (processor.Retired, processor.NextInstruction);
        if (_changed)
        {
            _changed = false;
            processor.WatchChanged();
        }
    }

    ReadOnlySpan<byte> IGdbTarget.Description => _description.Xml.AsSpan();

    int IGdbTarget.RegisterCount => _description.Registers.Length;

    int IGdbTarget.ProgramCounter => _description.ProgramCounter;

    int IGdbTarget.WidthOf(int register) => _description.Registers[register].Bytes;

    void IGdbTarget.ReadRegister(int register, Span<byte> destination) => _description.Registers[register].Read(_machine, destination);

    GdbResult IGdbTarget.WriteRegister(int register, ReadOnlySpan<byte> source)
    {
        if (!_writable)
        {
            return GdbResult.Refused;
        }

        if (!_description.Registers[register].Writable)
        {
            return GdbResult.Failed;
        }

        _description.Registers[register].Write(_machine, source);
        return GdbResult.Done;
    }

    int IGdbTarget.ReadMemory(ulong address, Span<byte> destination) => _machine.Processor.Peek(address, destination);

    GdbResult IGdbTarget.WriteMemory(ulong address, ReadOnlySpan<byte> source) =>
        !_writable ? GdbResult.Refused
        : _machine.Processor.TryPoke(address, source) ? GdbResult.Done
        : GdbResult.Failed;

    GdbResult IGdbTarget.Insert(GdbBreakpointKind kind, ulong address, ulong length)
    {
        _changed = true;
        return _breakpoints.TryAdd(kind, address, length) ? GdbResult.Done : GdbResult.Failed;
    }

    void IGdbTarget.Remove(GdbBreakpointKind kind, ulong address, ulong length)
    {
        _changed = true;
        _breakpoints.Remove(kind, address, length);
    }

    void IGdbTarget.Resume(bool step) => (_stopped, _stepping) = (false, step);

    void IGdbTarget.Interrupt() => _interrupted = true;

    void IGdbTarget.Detach() => LetGo();

    void IGdbTarget.Kill()
    {
        LetGo();
        Killed?.Invoke();
    }

    string IGdbTarget.Monitor(string command) => MonitorCommands.Run(_machine, command);

    private GdbStop? ReasonToStop(Processor processor)
    {
        if (_interrupted)
        {
            return new GdbStop(GdbStopKind.Interrupted);
        }

        if (_breakpoints.Hit is { } hit)
        {
            return hit;
        }

        // Where the guest was let go it is let go again when only an event was looked for.
        if (processor.Retired == _resumedAt && processor.NextInstruction == _resumedFrom)
        {
            return null;
        }

        if (_breakpoints.CodeAt(processor.NextInstruction) is { } met)
        {
            // gdb looks for the breakpoint at RIP. Where a segment's base lies between, it would find none and go on.
            return processor.Rip == processor.NextInstruction ? met : new GdbStop(GdbStopKind.Stepped);
        }

        return _stepping ? new GdbStop(GdbStopKind.Stepped) : null;
    }

    private void Pump()
    {
        switch (_link.Receive(_buffer, out int count))
        {
            case GdbLinkEvent.Bytes:
                _server.Receive(_buffer.AsSpan(0, count));
                Flush();
                break;
            case GdbLinkEvent.Connected:
                _server.Reset();
                _interrupted = !_stopped;
                break;
            default:
                _server.Reset();
                LetGo();
                break;
        }
    }

    // Without gdb nothing is stopped at and the run goes on.
    private void LetGo()
    {
        _breakpoints.Clear();
        (_stopped, _stepping, _interrupted, _changed) = (false, false, false, true);
    }

    private void Flush()
    {
        if (!_server.Output.IsEmpty)
        {
            _link.Send(_server.Output);
            _server.Sent();
        }
    }
}
