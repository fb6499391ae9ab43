using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace VmFuzz.Cli;

/// <summary>The built-in driver: starts workers, holds the wall clock, shows how it stands, and sums up.</summary>
internal sealed class Supervisor : IDisposable
{
    private const int TickMilliseconds = 50;
    private const double AsleepSeconds = 2;

    private readonly FuzzArguments _arguments;
    private readonly CampaignDirectory _directory;
    private readonly IFuzzView _view;
    private readonly ImmutableArray<WorkerSlot> _slots;
    private readonly BlockingCollection<WorkerNews> _news = [];
    private readonly List<FoundFinding> _findings = [];
    private readonly HashSet<string> _said = new(StringComparer.Ordinal);
    private readonly Stopwatch _watch = Stopwatch.StartNew();
    private volatile bool _stop;
    private double _newAt = -1;
    private ulong _corpus;

    /// <summary>Prepares.</summary>
    /// <param name="arguments">What was asked for.</param>
    /// <param name="directory">The directory, locked.</param>
    /// <param name="view">Where people watch.</param>
    /// <param name="recipe">How a worker process is started.</param>
    public Supervisor(FuzzArguments arguments, CampaignDirectory directory, IFuzzView view, Func<ProcessStartInfo> recipe)
    {
        (_arguments, _directory, _view) = (arguments, directory, view);
        _slots = [.. Enumerable.Range(0, arguments.Jobs).Select(worker => new WorkerSlot(new SlotSetup(OrderOf(worker), arguments.HangSeconds, recipe, _news, Found, Say)))];
    }

    /// <summary>Whether the user asked to end.</summary>
    public bool StopRequested => _stop;

    /// <summary>Ids of the worker processes that run.</summary>
    public IEnumerable<int> Processes => _slots.Select(static s => s.Process).OfType<WorkerProcess>().Select(static p => p.Id);

    /// <summary>How the campaign stands.</summary>
    public CampaignView View => new()
    {
        Target = _directory.File.Target,
        Seed = _directory.File.Seed,
        Directory = _directory.Shown,
        Elapsed = _watch.Elapsed.TotalSeconds,
        Limit = _arguments.Seconds,
        Fresh = (ulong)_slots.Sum(static s => (long)s.Fresh),
        PerSecond = _slots.Sum(static s => s.Line.PerSecond),
        SinceNew = _newAt < 0 ? -1 : _watch.Elapsed.TotalSeconds - _newAt,
        Workers = [.. _slots.Select(static s => s.Line)],
        Findings = [.. _findings],
    };

    /// <summary>Runs a campaign: the row of the built-in driver.</summary>
    public static int Execute(Host host, FuzzArguments arguments)
    {
        using CampaignDirectory directory = CampaignDirectory.Open(arguments, static () => BitConverter.ToUInt32(RandomNumberGenerator.GetBytes(4)));
        CampaignView end;
        string? problem;
        using (IFuzzView view = host.ErrorIsTerminal ? LiveView.OfTerminal(host.Err) : new LineView(host.Err))
        {
            using var supervisor = new Supervisor(arguments, directory, view, () => WorkerProcess.Recipe(arguments.Memory));
            using SignalTrap? trap = host.OwnsProcess ? new SignalTrap(supervisor) : null;
            problem = supervisor.Run();
            end = supervisor.View;
        }

        return FuzzReport.Write(host, arguments, end, problem);
    }

    /// <summary>Asks the campaign to end. From any thread.</summary>
    public void Stop() => _stop = true;

    /// <summary>Ends all workers at once. From any thread.</summary>
    public void Kill()
    {
        foreach (WorkerSlot slot in _slots)
        {
            slot.Kill();
        }
    }

    /// <summary>Runs until the limits, the user, or the loss of all workers end it.</summary>
    /// <returns>What went wrong with all workers, in one line; null when something ran.</returns>
    /// <exception cref="UserError">No worker could begin with what the user gave.</exception>
    public string? Run()
    {
        foreach (WorkerSlot slot in _slots)
        {
            slot.Start(Now());
        }

        bool stopping = false;
        double last = Now();
        while (!_slots.All(static s => s.Ended))
        {
            if (_news.TryTake(out WorkerNews news, TickMilliseconds))
            {
                Take(news);
            }

            double now = Now();
            bool asleep = now - last > AsleepSeconds;
            last = now;
            foreach (WorkerSlot slot in _slots)
            {
                slot.Watch(now, asleep);
            }

            if (!stopping && (_stop || (_arguments.Seconds > 0 && now >= _arguments.Seconds)))
            {
                stopping = true;
                foreach (WorkerSlot slot in _slots)
                {
                    slot.Stop(now);
                }
            }

            _view.Show(View);
        }

        return Problem();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (WorkerSlot slot in _slots)
        {
            slot.Dispose();
        }
    }

    private double Now() => _watch.Elapsed.TotalSeconds;

    private void Take(WorkerNews news)
    {
        // All that waits, or many workers would fall behind.
        do
        {
            foreach (WorkerSlot slot in _slots)
            {
                slot.Take(news, Now());
            }
        }
        while (_news.TryTake(out news));
        ulong corpus = (ulong)_slots.Sum(static s => (long)s.Line.Status.Corpus);
        if (corpus > _corpus)
        {
            _newAt = _corpus == 0 ? _newAt : Now();
            _corpus = corpus;
        }
    }

    private string? Problem()
    {
        if (!_slots.All(static s => s.GivenUp is not null))
        {
            return null;
        }

        WorkerSlot first = _slots[0];
        if (!first.Refused)
        {
            return first.GivenUp;
        }

        _directory.Withdraw();
        throw new UserError(first.GivenUp!);
    }

    private void Found(FoundFinding finding, bool known)
    {
        int at = _findings.FindIndex(f => f.Key == finding.Key);
        if (at >= 0)
        {
            FoundFinding held = _findings[at];
            if (held.File is null && finding.File is not null)
            {
                _findings[at] = finding with { Text = finding.Text.Length == 0 ? held.Text : finding.Text };
            }

            return;
        }

        _findings.Add(finding);
        if (!known)
        {
            _view.Found(finding);
        }
    }

    // What every worker says on every try is said once.
    private void Say(string line)
    {
        if (line.Length != 0 && _said.Count < 10_000 && _said.Add(line))
        {
            _view.Say(line);
        }
    }

    private WorkerOrder OrderOf(int worker) => new()
    {
        Worker = worker,
        Target = _directory.File.Target,
        Root = _directory.Root,
        Seed = _directory.File.Seed,
        Executions = ShareOf(_arguments.Executions, worker, _arguments.Jobs),
        Sync = _directory.File.Jobs > 1,
        Plugins = [.. _arguments.Plugins],
        Inputs = [.. _arguments.Inputs],
        Coverage = _directory.File.Coverage,
        MemoryMib = _arguments.Memory,
        HangSeconds = _arguments.HangSeconds,
        CommandLine = Environment.CommandLine,
    };

    private static ulong ShareOf(ulong executions, int worker, int jobs) =>
        executions == 0 ? 0 : Math.Max(1, (executions / (ulong)jobs) + ((ulong)worker < executions % (ulong)jobs ? 1UL : 0));

    /// <summary>The first Ctrl-C ends the campaign and keeps everything; the second kills.</summary>
    private sealed class SignalTrap : IDisposable
    {
        private readonly ImmutableArray<PosixSignalRegistration> _registrations;

        public SignalTrap(Supervisor supervisor) =>
            _registrations = [.. ((PosixSignal[])[PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP]).Select(signal => PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = !supervisor.StopRequested;
                if (supervisor.StopRequested)
                {
                    supervisor.Kill();
                }

                supervisor.Stop();
            }))];

        public void Dispose()
        {
            foreach (PosixSignalRegistration registration in _registrations)
            {
                registration.Dispose();
            }
        }
    }
}
