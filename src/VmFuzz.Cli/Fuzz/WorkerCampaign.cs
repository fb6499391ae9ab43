using System.Diagnostics;
using System.Globalization;
using VmFuzz.Arch;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary>The campaign inside a worker: asks the engine for executions, and says how it stands.</summary>
internal sealed class WorkerCampaign
{
    private const double StepSeconds = 0.1;
    private const double StatusSeconds = 0.25;
    private const double StatsSeconds = 5;
    private const int FirstStep = 16;
    private const int MostStep = 1 << 20;

    private readonly WorkerOrder _order;
    private readonly Action<WorkerReport> _tell;
    private readonly Func<bool> _stop;
    private readonly Stopwatch _watch = Stopwatch.StartNew();
    private readonly SortedDictionary<string, string> _findings = new(StringComparer.Ordinal);
    private volatile Func<byte[], byte[]>? _host;
    private FuzzHostResponse _last = new();
    private CampaignStatus _status = new();

    /// <summary>Prepares.</summary>
    /// <param name="order">What to do.</param>
    /// <param name="tell">Takes reports.</param>
    /// <param name="stop">Whether it shall end.</param>
    public WorkerCampaign(WorkerOrder order, Action<WorkerReport> tell, Func<bool> stop) => (_order, _tell, _stop) = (order, tell, stop);

    /// <summary>Seed of a worker: the first has the campaign's own.</summary>
    public static ulong SeedOf(ulong seed, int worker) => worker == 0 ? seed : StateHash.Step(seed, (ulong)worker);

    /// <summary>What the engine of a worker is told.</summary>
    public static FuzzHostConfig ConfigOf(WorkerOrder order) => new()
    {
        Target = order.Target,
        Directory = Path.Combine(order.Root, CampaignFile.WorkerName(order.Worker)),
        Seed = SeedOf(order.Seed, order.Worker),
        // The supervisor has seen to it that nobody else's campaign is there.
        Resume = true,
        Inputs = order.Inputs,
        SyncFrom = order.Sync ? order.Root : null,
        Plugins = order.Plugins,
        Skip = order.Skip,
        Process = (ulong)Environment.ProcessId,
        Clock = Clock(),
        Banner = string.Create(CultureInfo.InvariantCulture, $"{order.Target}-{order.Worker:d2}"),
        CommandLine = order.CommandLine,
    };

    /// <summary>Where the execution stands that runs now; empty when that is not known. May be asked from another thread.</summary>
    public string Place() => _host is { } host
        ? FuzzHostResponse.FromJson(host(new FuzzHostRequest { Op = FuzzHostRequest.Place }.ToJson())).Place ?? ""
        : "";

    /// <summary>Runs until it is told to stop, has done its executions, or has grown too large.</summary>
    /// <exception cref="UserError">The engine refuses what the user gave.</exception>
    public void Run()
    {
        _host = HostLoader.Open(ConfigOf(_order), _order.Coverage);
        FuzzHostResponse opened = Ask(new FuzzHostRequest { Op = FuzzHostRequest.Status });
        if (opened.Refused)
        {
            throw new UserError(opened.Error ?? "the campaign cannot be opened");
        }

        Findings(known: true);
        if (_order.Death is { } death)
        {
            var request = new FuzzHostRequest { Op = FuzzHostRequest.Finding, Index = death.Execution, Oracle = death.Oracle, Where = death.Where, Text = death.Text };
            if (Answer(request).Error is { } error)
            {
                _tell(new WorkerReport { Word = WorkerWord.Log, Text = string.Create(CultureInfo.InvariantCulture, $"the input of execution {death.Execution} cannot be had: {error}") });
            }

            Findings(known: false);
        }

        Tell(WorkerWord.Ready, null);
        ulong began = _status.Executions;
        string reason = Steps();
        if (_status.Executions != began)
        {
            Ask(new FuzzHostRequest { Op = FuzzHostRequest.Stats });
        }

        if (Answer(new FuzzHostRequest { Op = FuzzHostRequest.Stop }).Error is { } lost)
        {
            _tell(new WorkerReport { Word = WorkerWord.Log, Text = string.Create(CultureInfo.InvariantCulture, $"worker {_order.Worker}: {lost}") });
        }

        Findings(known: false);
        Tell(WorkerWord.End, reason);
    }

    private string Steps()
    {
        // Entries that are loaded and imports take a step each, and are no executions.
        ulong last = _order.Executions == 0 ? ulong.MaxValue : _status.Executions + _order.Executions;
        int step = FirstStep;
        double statusAt = 0;
        double statsAt = 0;
        while (!_stop())
        {
            if (_status.Executions >= last)
            {
                return WorkerEnd.Done;
            }

            int count = (int)Math.Min((ulong)step, last - _status.Executions);
            double began = _watch.Elapsed.TotalSeconds;
            Ask(new FuzzHostRequest { Op = FuzzHostRequest.Step, Executions = count });
            double now = _watch.Elapsed.TotalSeconds;
            step = (int)Math.Clamp(step * Math.Clamp(StepSeconds / Math.Max(now - began, 1e-6), 0.25, 4), 1, MostStep);
            Findings(known: false);
            if (now >= statusAt)
            {
                statusAt = now + StatusSeconds;
                Tell(WorkerWord.Status, null);
                if (_order.MemoryMib > 0 && MemoryMib() > _order.MemoryMib && _status.Executions < last)
                {
                    return WorkerEnd.Memory;
                }
            }

            if (now >= statsAt)
            {
                statsAt = now + StatsSeconds;
                Ask(new FuzzHostRequest { Op = FuzzHostRequest.Stats });
            }
        }

        return WorkerEnd.Stopped;
    }

    private FuzzHostResponse Ask(FuzzHostRequest request) => Answer(request) is { Error: { } error, Refused: false }
        ? throw new InvalidOperationException($"the engine answered '{request.Op}' with: {error}")
        : _last;

    private FuzzHostResponse Answer(FuzzHostRequest request)
    {
        request.Time = (ulong)_watch.ElapsedMilliseconds;
        request.Clock = Clock();
        _last = FuzzHostResponse.FromJson(_host!(request.ToJson()));
        _status = _last.Status ?? _status;
        foreach (string line in _last.Log)
        {
            _tell(new WorkerReport { Word = WorkerWord.Log, Text = line });
        }

        return _last;
    }

    // A finding is told when it appears, and again when its file does.
    private void Findings(bool known)
    {
        foreach (FindingStatus finding in _status.Findings)
        {
            if (!_findings.TryGetValue(finding.Key, out string? file) || file != finding.File)
            {
                _findings[finding.Key] = finding.File;
                string? path = finding.File.Length == 0 ? null : Path.Combine(_order.Root, CampaignFile.WorkerName(_order.Worker), finding.File);
                _tell(new WorkerReport
                {
                    Word = WorkerWord.Finding,
                    Finding = new FoundFinding(finding.Key, finding.Text, _order.Worker, finding.Execution, path),
                    Known = known,
                });
            }
        }
    }

    private void Tell(WorkerWord word, string? text) => _tell(new WorkerReport
    {
        Word = word,
        Text = text,
        Status = new WorkerStatus
        {
            Executions = _status.Executions,
            Corpus = (ulong)_status.Corpus,
            Imported = (ulong)_status.Imported,
            ProbesSeen = (ulong)_status.ProbesSeen,
            ProbesTotal = (ulong)_status.ProbesTotal,
            Features = (ulong)_status.Features,
            Stability = _status.Stability / 100.0,
            Exits = _status.Exits,
            LastFind = _status.LastFind,
            Time = _status.Time,
            Findings = _status.Findings.Count,
            Unwritten = _status.Unwritten,
            MemoryMib = MemoryMib(),
            Mutators = [.. _status.Yields.Select(static y => new MutatorFigures(y.Id, y.Tries, y.Finds))],
        },
    });

    private static int MemoryMib() => (int)(Environment.WorkingSet >> 20);

    private static ulong Clock() => (ulong)DateTimeOffset.UtcNow.ToUnixTimeSeconds();
}
