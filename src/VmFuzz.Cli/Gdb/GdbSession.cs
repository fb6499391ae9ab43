using VmFuzz.Machines;
using VmFuzz.Replay.Gdb;

namespace VmFuzz.Cli.Gdb;

/// <summary>gdb at one run of a command: listens, says where, attaches.</summary>
internal sealed class GdbSession : IDisposable
{
    private readonly GdbListener _listener;
    private readonly MachineDebugger _debugger;

    private GdbSession(GdbListener listener, MachineDebugger debugger)
    {
        _listener = listener;
        _debugger = debugger;
    }

    /// <summary>Attaches when it was asked for.</summary>
    /// <param name="host">Where the address is shown.</param>
    /// <param name="arguments">What was asked for; null for nothing.</param>
    /// <param name="machine">The machine, before its run.</param>
    /// <param name="writable">Whether gdb may change the guest.</param>
    /// <param name="live">Through which gdb's wish to end the run goes; null when it cannot be ended.</param>
    public static GdbSession? Open(Host host, GdbArguments? arguments, Machine machine, bool writable, LiveSource? live)
    {
        if (arguments is null)
        {
            return null;
        }

        GdbListener listener = GdbListener.Open(arguments.Address);
        listener.Cancelled = () => live?.StopRequested == true;
        var debugger = new MachineDebugger(machine, listener, writable, arguments.StartStopped, arguments.Architecture) { Killed = () => live?.RequestStop() };
        host.Err.WriteLine($"vmfuzz: gdb can connect: target remote {listener.Address}");
        return new GdbSession(listener, debugger);
    }

    /// <summary>Tells gdb how the run ended.</summary>
    public void Finish(int status) => _debugger.Finish(status);

    /// <inheritdoc/>
    public void Dispose()
    {
        _debugger.Dispose();
        _listener.Dispose();
    }
}
