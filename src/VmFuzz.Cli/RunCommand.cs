using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using VmFuzz.Arch;
using VmFuzz.Cli.Gdb;
using VmFuzz.Cli.Terminal;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Replay.Snapshots;
using VmFuzz.Trace;

namespace VmFuzz.Cli;

/// <summary><c>vmfuzz run</c> and <c>vmfuzz record</c>.</summary>
internal static class RunCommand
{
    /// <summary>Runs a machine, and records it when there is an output.</summary>
    public static int Execute(Host host, RunArguments arguments, string? output, bool force)
    {
        if (output is not null)
        {
            CheckOutput(arguments, output, force);
        }

        ChaosSource? chaos = ChaosOf(arguments);
        ScriptSource? script = arguments.Script is null ? null : new ScriptSource(arguments.Script, chaos);
        var live = new LiveSource(script ?? (IInputSource?)chaos);
        using Machine machine = Machine.Create(arguments.Options, new ScheduleSource(live, arguments.ScheduleSeed), Snapshot.Variants(arguments.Options));
        using TraceWriter? writer = output is null
            ? null
            : TraceWriter.Create(output, TraceHeaders.Of(arguments.Options, SourceName(arguments)), force);
        using Screen screen = OpenScreen(host, arguments);
        using TextWriter? logFile = arguments.LogPath.Length == 0
            ? null
            : new StreamWriter(InputFiles.Create(arguments.LogPath, "--log-file"));
        ulong first = machine.Retired;
        arguments.Snapshot?.Pause(machine);
        machine.ConsoleOutput = ConsoleOf(machine, screen, script);
        live.Polled = screen.Flush;

        var end = new TraceEvent();
        Func<RunCounts> counts = Observe(machine, arguments, writer, logFile ?? host.Err, end, out Recorder? recorder);
        using Recorder? recording = recorder;
        InvariantCheck? invariants = arguments.Check ? new InvariantCheck(machine, writer is null ? null : () => writer.Count) : null;
        if (invariants?.Observer is { } observer)
        {
            machine.Observe(new ObserverPair(machine.Observer!, observer));
        }

        using GdbSession? gdb = GdbSession.Open(host, arguments.Gdb, machine, writable: writer is null, live);
        using Keyboard? keyboard = Keyboard.Open(host, arguments, live);
        using SignalTrap? trap = host.OwnsProcess ? new SignalTrap(live, keyboard) : null;
        live.Patience = () => Patience(machine, keyboard is { IsTerminal: true });
        var watch = Stopwatch.StartNew();
        if (host.ErrorIsTerminal && keyboard is not { IsTerminal: true })
        {
            screen.StartProgress(() => ProgressLine(machine.Retired - first, writer, watch.Elapsed.TotalSeconds));
        }

        MachineStop stop;
        try
        {
            stop = machine.Run();
            gdb?.Finish(stop.GuestStatus);
        }
        finally
        {
            screen.StopProgress();
            screen.EndLine();
            keyboard?.Restore();
        }

        double seconds = watch.Elapsed.TotalSeconds;
        bool broken = recorder?.DigestBroken ?? false;
        var report = new RunReport
        {
            Command = arguments.Snapshot is not null ? "snapshot" : output is null ? "run" : "record",
            Stop = stop,
            Counts = counts(),
            Before = first,
            Retired = machine.Retired,
            VirtualTime = machine.Clock.Now,
            ConsoleLength = machine.ConsoleLength,
            Seconds = seconds,
            TracePath = output,
            TraceEvents = writer is null ? 0 : writer.Count + 1,
            TraceBytes = writer?.Length ?? 0,
            Digest = end.Digest,
            MemoryDigest = end.MemoryDigest,
            State = arguments.DumpState ? StateDump.Of(machine) : null,
            Invariants = invariants,
            Waits = script?.Current,
            Snapshot = arguments.Snapshot is null ? null : SnapshotCommand.Save(machine, arguments.Snapshot),
            Status = broken ? ExitStatus.EngineBug
                : invariants is { Broken: true } ? ExitStatus.Finding
                : StatusOf(stop, arguments, script),
        };
        report.Write(host, arguments.Json);
        if (broken)
        {
            host.Err.WriteLine("vmfuzz: engine bug: a digest kept incrementally differed from one worked out from nothing: please report it with the trace");
        }

        return report.Status;
    }

    /// <summary>The status of a run by why it ended.</summary>
    private static int StatusOf(in MachineStop stop, RunArguments arguments, ScriptSource? script) => stop.Kind switch
    {
        MachineStopKind.Unimplemented => ExitStatus.EngineBug,
        MachineStopKind.HypervisorError or MachineStopKind.NotHeld => ExitStatus.Finding,
        _ when arguments.Snapshot is not null => stop.Kind == MachineStopKind.Paused ? ExitStatus.Fine : ExitStatus.Finding,
        _ when script?.Current is not null => ExitStatus.Finding,
        MachineStopKind.SerialMatch => ExitStatus.Fine,
        MachineStopKind.DebugExit when arguments.ExitWithGuest => stop.GuestStatus,
        _ => arguments.Options.UntilSerial.Length == 0 ? ExitStatus.Fine : ExitStatus.Finding,
    };

    private static void CheckOutput(RunArguments arguments, string output, bool force)
    {
        var used = new List<string>(arguments.InputPaths);
        if (arguments.Serial == SerialTarget.File)
        {
            used.Add(arguments.SerialPath);
        }

        if (arguments.LogPath.Length != 0)
        {
            used.Add(arguments.LogPath);
        }

        InputFiles.MustBeWritable(output, "-o", used, force);
    }

    private static ChaosSource? ChaosOf(RunArguments arguments)
    {
        if (arguments.Chaos.Length == 0)
        {
            return null;
        }

        if (arguments.Chaos == "entropy")
        {
            return new ChaosSource(arguments.ChaosOptions, static () =>
            {
                Span<byte> bytes = stackalloc byte[8];
                System.Security.Cryptography.RandomNumberGenerator.Fill(bytes);
                return BitConverter.ToUInt64(bytes);
            });
        }

        Quantities.TryNumber(arguments.Chaos, out ulong seed);
        return new ChaosSource(arguments.ChaosOptions, new SplitMix(seed).Next);
    }

    private static string SourceName(RunArguments arguments) => arguments.Chaos switch
    {
        "" => "live",
        "entropy" => "chaos entropy",
        _ => $"chaos {arguments.Chaos}",
    };

    private static Screen OpenScreen(Host host, RunArguments arguments) => arguments.Serial switch
    {
        SerialTarget.File => new Screen(InputFiles.Create(arguments.SerialPath, "-serial"), null, host.Err, owned: true),
        SerialTarget.None => new Screen(null, null, host.Err, owned: false),
        _ when arguments.Json => new Screen(null, host.Err, host.Err, owned: false),
        _ => new Screen(host.RawOut, host.Out, host.Err, owned: false),
    };

    private static Func<RunCounts> Observe(Machine machine, RunArguments arguments, TraceWriter? writer, TextWriter logTo, TraceEvent end, out Recorder? recorder)
    {
        recorder = null;
        EventLog? log = arguments.Log == LogKinds.None ? null : new EventLog(arguments.Log, logTo);
        log?.WatchInstructions(machine);
        if (writer is not null)
        {
            recorder = new Recorder(machine, writer)
            {
                Written = made =>
                {
                    log?.Show(made);
                    if (made.Kind == TraceEventKind.End)
                    {
                        end.CopyFrom(made);
                    }
                },
            };
            RunCounts recorded = recorder.Counts;
            return () => recorded;
        }

        if ((arguments.Log & ~LogKinds.Instructions) != 0)
        {
            RunCounts logged = log!.Watch(machine).Counts;
            return () => logged;
        }

        var counter = new RunCounter();
        machine.Observe(counter);
        return () => counter.Counts;
    }

    // What the guest prints is shown, and read by the script.
    private static Action<byte> ConsoleOf(Machine machine, Screen screen, ScriptSource? script) => script is null
        ? screen.Write
        : value =>
        {
            screen.Write(value);
            if (script.Shown(value, machine.Processor.Retired))
            {
                machine.Processor.RecomputeLimit();
            }
        };

    // How long waiting for a key makes sense: for ever when the guest would take an interrupt and no timer will bring one;
    // before a person's eyes also until the next timer, so that a guest that waits neither hurries through time nor keeps the
    // host busy. Unit: milliseconds.
    private static int Patience(Machine machine, bool watched)
    {
        bool takes = machine.Kvm is { } kvm
            ? (kvm.Vmx.Current[VmcsField.GuestRflags] & RFlags.If) != 0
            : machine.Processors.Any(static processor => processor.CanBeWoken);
        if (!takes)
        {
            return 0;
        }

        ulong deadline = machine.Clock.Events.NextDeadline;
        ulong now = machine.Clock.Now;
        return deadline == ulong.MaxValue ? Timeout.Infinite
            : watched && deadline > now ? (int)Math.Min((deadline - now) / 1_000_000, int.MaxValue)
            : 0;
    }

    private static string ProgressLine(ulong retired, TraceWriter? writer, double seconds)
    {
        string line = string.Create(CultureInfo.InvariantCulture, $"{Quantities.Grouped(retired)} instructions, {Quantities.Mips(retired, seconds)} MIPS");
        return writer is null
            ? line
            : string.Create(CultureInfo.InvariantCulture, $"{line}, {Quantities.Grouped(writer.Count)} events, {Quantities.Grouped((ulong)writer.Length)} bytes");
    }

    /// <summary>The first Ctrl-C or SIGTERM ends the run through the door; the second kills, with the terminal put back.</summary>
    private sealed class SignalTrap : IDisposable
    {
        private readonly PosixSignalRegistration _interrupt;
        private readonly PosixSignalRegistration _terminate;

        public SignalTrap(LiveSource live, Keyboard? keyboard)
        {
            _interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Handle);
            _terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Handle);

            void Handle(PosixSignalContext context)
            {
                context.Cancel = !live.StopRequested;
                live.RequestStop();
                if (!context.Cancel)
                {
                    keyboard?.Restore();
                }
            }
        }

        public void Dispose()
        {
            _interrupt.Dispose();
            _terminate.Dispose();
        }
    }
}
