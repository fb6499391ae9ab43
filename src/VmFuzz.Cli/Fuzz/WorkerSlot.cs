using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary>What becomes of one worker: started, watched, started again. All times are seconds since the supervisor began.</summary>
internal sealed class WorkerSlot : IDisposable
{
    /// <summary>Deaths in a row, without an execution in between, after which a worker is given up.</summary>
    public const int MostDeaths = 10;

    private const double LoadSeconds = 60;
    private const double StopSeconds = 5;
    private const double LookSeconds = 0.25;

    // A worker whose execution hangs can still say where.
    private const double PlaceSeconds = 2;

    // A process that got no processor time is slow, not hung; after so many times the limit it is hung all the same.
    private const double Patience = 6;

    private readonly SlotSetup _setup;
    private readonly List<uint> _skip = [];
    private WorkerProcess? _process;
    private WorkerDeath? _death;
    private CurrentExecution? _current;
    private CurrentExecution? _currentAtStart;
    private TimeSpan _processorTime;
    private string? _end;
    private double _movedAt;
    private double _lookAt;
    private double _killAt = double.PositiveInfinity;
    private double _rateAt;
    private ulong _rateFrom;
    private ulong? _before;
    private int _deaths;
    private bool _hung;
    private string _place = "";
    private bool _stopping;
    private bool _progressed;

    /// <summary>Makes a slot; nothing is started yet.</summary>
    public WorkerSlot(SlotSetup setup) => _setup = setup;

    /// <summary>Whether nothing will come of it any more.</summary>
    public bool Ended { get; private set; }

    /// <summary>Why it was given up; null when it was not.</summary>
    public string? GivenUp { get; private set; }

    /// <summary>Whether that is the user's to mend.</summary>
    public bool Refused { get; private set; }

    /// <summary>How it stands.</summary>
    public WorkerLine Line { get; private set; } = new(0, "", 0, 0, new WorkerStatus());

    /// <summary>Executions of this run.</summary>
    public ulong Fresh => _before is { } before && Line.Status.Executions > before ? Line.Status.Executions - before : 0;

    /// <summary>The process, while there is one.</summary>
    public WorkerProcess? Process => _process;

    private string Folder => Path.Combine(_setup.Order.Root, CampaignFile.WorkerName(_setup.Order.Worker));

    /// <summary>Starts the process.</summary>
    public void Start(double now)
    {
        ulong left = _setup.Order.Executions;
        if (left != 0 && _before is not null)
        {
            if (Fresh >= left)
            {
                Finish("done");
                return;
            }

            left -= Fresh;
        }

        _current = _currentAtStart = CurrentExecution.TryRead(Folder);
        _processorTime = TimeSpan.Zero;
        _killAt = double.PositiveInfinity;
        (_end, _hung, _progressed, _place) = (null, false, false, "");
        _movedAt = now;
        _process = WorkerProcess.Start(_setup.Recipe(), _setup.Order with { Executions = left, Skip = [.. _skip], Death = _death }, _setup.News);
        Show("starting");
    }

    /// <summary>Takes what its process said.</summary>
    public void Take(WorkerNews news, double now)
    {
        if (news.From != _process)
        {
            return;
        }

        if (news.Report is not { } report)
        {
            Left(now);
            return;
        }

        _movedAt = now;
        if (report.Status is { } status)
        {
            Figures(status, now);
        }

        switch (report.Word)
        {
            case WorkerWord.Ready:
                _death = null;
                _before ??= report.Status?.Executions;
                _processorTime = _process.ProcessorTime();
                Show("fuzzing");
                break;
            case WorkerWord.Finding when report.Finding is { } finding:
                _setup.Found(finding, report.Known);
                break;
            case WorkerWord.Place when _hung:
                _place = report.Text ?? "";
                _process.Kill();
                break;
            case WorkerWord.Log:
                _setup.Say(report.Text ?? "");
                break;
            case WorkerWord.Refused:
                (GivenUp, Refused) = (report.Text, true);
                break;
            case WorkerWord.End:
                _end = report.Text;
                break;
            default:
                break;
        }
    }

    /// <summary>Looks whether it still moves.</summary>
    /// <param name="now">The time.</param>
    /// <param name="asleep">Whether this program itself was stopped or starved just now.</param>
    public void Watch(double now, bool asleep)
    {
        if (_process is null || now < _lookAt)
        {
            return;
        }

        _lookAt = now + LookSeconds;
        if (now >= _killAt)
        {
            _setup.Say(_hung ? "" : Text($"worker {_setup.Order.Worker} did not end in time and was killed"));
            _killAt = double.PositiveInfinity;
            _process.Kill();
            return;
        }

        CurrentExecution? seen = CurrentExecution.TryRead(Folder);
        if (seen != _current || asleep || _movedAt == now)
        {
            _current = seen;
            _movedAt = now;
            _processorTime = _process.ProcessorTime();
            return;
        }

        bool moved = _current != _currentAtStart;
        double limit = moved ? _setup.HangSeconds : Math.Max(LoadSeconds, _setup.HangSeconds * Patience);
        double still = now - _movedAt;
        if (still > limit && !_hung && ((_process.ProcessorTime() - _processorTime).TotalSeconds > limit / 2 || still > limit * Patience))
        {
            _hung = true;
            _killAt = Math.Min(_killAt, now + PlaceSeconds);
            _process.Tell(new WorkerOrder { Place = true });
        }
    }

    /// <summary>Lets it end: what it has found is written first.</summary>
    public void Stop(double now)
    {
        _stopping = true;
        if (_process is null)
        {
            Ended = true;
            return;
        }

        _killAt = Math.Min(_killAt, now + _setup.HangSeconds + StopSeconds);
        _process.Tell(new WorkerOrder { Stop = true });
        Show("ending");
    }

    /// <summary>Ends the process at once.</summary>
    public void Kill() => _process?.Kill();

    /// <inheritdoc/>
    public void Dispose()
    {
        _process?.Dispose();
        _process = null;
    }

    private void Left(double now)
    {
        WorkerProcess process = _process!;
        _process = null;
        using (process)
        {
            if (_end is not null || Refused)
            {
                Line = Line with { PerSecond = 0 };
                if (_end == WorkerEnd.Memory && !_stopping)
                {
                    Again(now);
                    return;
                }

                Finish(Refused ? "refused" : "done");
                return;
            }

            Died(process, now);
        }
    }

    private void Died(WorkerProcess process, double now)
    {
        CurrentExecution? last = CurrentExecution.TryRead(Folder);
        DeathPlace place = _hung ? new(_place.Length == 0 ? "worker" : _place, Text($"the execution did not end in {_setup.HangSeconds} s")) : DeathPlace.Of(process.Signal, process.ExitCode, process.Error);
        _progressed = last is { } reached && last != _currentAtStart
            && (reached.Phase is CampaignPhase.Fuzzing or CampaignPhase.Loading || reached.Executions > (_currentAtStart?.Executions ?? 0));
        _deaths = _progressed ? 1 : _deaths + 1;
        Log(process, last, place);
        if (_death is { } told)
        {
            // Not even making its input again ends well.
            _setup.Found(new FoundFinding(new Violation(told.Oracle, told.Where, told.Text).Key, told.Text, _setup.Order.Worker, told.Execution, null), false);
            _death = null;
        }

        bool outside = !_hung && process.Signal is 1 or 2 or 9 or 15;
        if (outside)
        {
            _setup.Say(_stopping ? "" : Text($"worker {_setup.Order.Worker} was killed from outside (signal {process.Signal}); it is started again"));
        }
        else if (_progressed && last is { Phase: CampaignPhase.Fuzzing } fuzzing)
        {
            _death = new WorkerDeath(fuzzing.Index, _hung ? OracleFolders.Hang : OracleFolders.Death, place.Where, place.Text);
        }
        else if (_progressed && last is { Phase: CampaignPhase.Loading } loading)
        {
            _skip.Add((uint)loading.Index);
            _setup.Say(Text($"worker {_setup.Order.Worker}: queue entry {loading.Index} is left out from now on: {place.Text}"));
        }
        else
        {
            _setup.Say(Text($"worker {_setup.Order.Worker} died ({place.Where}): {place.Text}"));
        }

        if (_deaths >= MostDeaths)
        {
            GivenUp = Text($"worker {_setup.Order.Worker} died {_deaths} times in a row before its first execution: {place.Text}: see {Path.Combine(Folder, "deaths.log")}");
            Finish("given up");
        }
        else if (_stopping && _death is null)
        {
            Finish("done");
        }
        else
        {
            Again(now);
            if (_stopping)
            {
                // Only to save the input that it died of.
                Stop(now);
            }
        }
    }

    private void Again(double now)
    {
        Line = Line with { Restarts = Line.Restarts + 1 };
        Start(now);
    }

    private void Finish(string state)
    {
        Ended = true;
        Show(state);
    }

    private void Figures(WorkerStatus status, double now)
    {
        double rate = Line.PerSecond;
        if (now - _rateAt >= 1)
        {
            double fresh = _rateAt > 0 && status.Executions > _rateFrom ? (status.Executions - _rateFrom) / (now - _rateAt) : 0;
            rate = rate == 0 ? fresh : (rate + fresh) / 2;
            (_rateAt, _rateFrom) = (now, status.Executions);
        }

        // A worker that begins again has yet to run its queue once more.
        status = status with { ProbesSeen = Math.Max(status.ProbesSeen, Line.Status.ProbesSeen), Features = Math.Max(status.Features, Line.Status.Features) };
        Line = Line with { Status = status, PerSecond = rate };
    }

    private void Show(string state) => Line = Line with { Worker = _setup.Order.Worker, State = state, PerSecond = Ended ? 0 : Line.PerSecond };

    private void Log(WorkerProcess process, CurrentExecution? last, DeathPlace place)
    {
        try
        {
            Directory.CreateDirectory(Folder);
            File.AppendAllText(Path.Combine(Folder, "deaths.log"), Text($"== {DateTimeOffset.UtcNow:u} {place.Where}: {place.Text}; {last?.Phase} {last?.Index}\n{process.Error}\n"));
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            _setup.Say(Text($"worker {_setup.Order.Worker}: deaths.log cannot be written: {error.Message}"));
        }
    }

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}

/// <summary>What a slot is made of.</summary>
/// <param name="Order">How its worker begins; the executions are those of the whole run.</param>
/// <param name="HangSeconds">Seconds without a new execution.</param>
/// <param name="Recipe">How a worker process is started.</param>
/// <param name="News">Where what workers say waits.</param>
/// <param name="Found">Takes findings, and whether they were known before.</param>
/// <param name="Say">Takes lines for people.</param>
internal sealed record SlotSetup(
    WorkerOrder Order,
    double HangSeconds,
    Func<ProcessStartInfo> Recipe,
    BlockingCollection<WorkerNews> News,
    Action<FoundFinding, bool> Found,
    Action<string> Say);
