using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Replay;

namespace VmFuzz.Fuzzing;

/// <summary>
/// A campaign of one worker: chooses inputs, runs them, keeps what shows something new, and saves what breaks something.
/// The input of every execution can be made again from its index (<see cref="CampaignHistory"/>).
/// </summary>
/// <remarks>
/// Knows no time but what it is told, and that only goes into names and figures. Executions are counted by index; epochs
/// of them share one record of everything that choices depend on (<see cref="EpochRecord"/>). A session that goes on with
/// a directory begins at an index behind everything that may have run.
/// </remarks>
public sealed partial class Campaign : IDisposable
{
    private const string LockName = ".lock";
    private const ulong SamplesOfEpoch = 8;

    private readonly CampaignOptions _options;
    private readonly IFuzzExecutor _executor;
    private readonly Corpus _corpus;
    private readonly FileStream _lock;
    private readonly CurrentFile _current;
    private readonly CampaignWriter _writer = new();
    private readonly LineFile _epochs;
    private readonly FindingBook _findings;
    private readonly InputQueue _queue;
    private readonly InputMaker _maker;
    private readonly Feedback? _feedback;
    private readonly WorkerSync? _sync;
    private readonly Queue<Seed> _seeds = new();
    private readonly SortedSet<uint> _skipped;
    private readonly List<ExecutionSample> _samples = [];
    private readonly FuzzInput _input = new();
    private readonly ulong _session;
    private readonly int _loaded;

    private Stage _stage = Stage.Load;
    private Queue<WorkerFile> _imports = new();
    private EpochRecord _epoch = new();
    private bool _recorded;
    private bool _disposed;
    private int _loading;
    private ulong _number;
    private ulong _next;
    private ulong _executed;

    private Campaign(CampaignOptions options, Corpus corpus, FileStream held)
    {
        _options = options;
        _executor = options.Executor;
        _corpus = corpus;
        _lock = held;
        _maker = new InputMaker(options.Identity.Mode, _executor.Target, options.Identity.Seed);
        _feedback = options.Identity.Mode is FuzzMode.Full or FuzzMode.Coverage ? new Feedback(options.Probes, _executor.Features) : null;
        // Before the sink, which may use the file while it takes up what was left.
        CurrentExecution? before = CurrentExecution.TryRead(corpus.Root);
        _findings = new FindingBook(options.Sink?.Invoke(corpus) ?? new CrashFolderSink(corpus));
        _queue = InputQueue.Read(corpus, _executor.Target);
        _loaded = _queue.Entries.Count;

        CampaignLog log = CampaignLog.Read(corpus, EpochRecord.MostIndex);
        _epochs = new LineFile(corpus, EpochRecord.FileName, log.EndsWell);
        _skipped = [.. log.Last?.Skipped ?? [], .. options.Skip];
        _number = log.Last is { } last ? last.Number + 1 : 0;
        _executed = log.ExecutedUntil(before);
        _session = EpochRecord.StartAfter(new[] { log.End, _queue.Known, _findings.Known, KnownOf(before) }.Max());
        _next = _session;
        _timeBase = Math.Max(_queue.Time, TimeOfStats());
        if (log.Last is { } weights)
        {
            _maker.Scheduler.TrySetWeights(weights.Weights.AsSpan());
        }

        if (options.SyncFrom is { } folder && _feedback is not null)
        {
            _sync = new WorkerSync(folder, corpus.Root, options.Log) { Synced = log.Last?.Synced ?? ImmutableSortedDictionary.Create<string, uint>(StringComparer.Ordinal) };
        }

        CollectSeeds();
        _current = CurrentFile.Open(corpus.Root, options.Log);
        _current.Set(CampaignPhase.Idle, _next, _executed);
    }

    private enum Stage
    {
        Load,
        Import,
        Run,
    }

    /// <summary>Index of the next execution.</summary>
    public ulong Next => _next;

    /// <summary>Opens a directory: begins a campaign in it, or goes on with the one that is there.</summary>
    /// <param name="options">What the campaign is made with.</param>
    /// <param name="campaign">The campaign, when the result is null.</param>
    /// <returns>Why it cannot be done, in one line that says what to do; the directory is as it was then. Or null.</returns>
    public static string? TryOpen(CampaignOptions options, out Campaign? campaign)
    {
        ArgumentNullException.ThrowIfNull(options);
        campaign = null;
        if (options.Identity.Check(options.Directory, out bool exists) is { } other)
        {
            return other;
        }

        if (exists && !options.Resume)
        {
            return $"{options.Directory} holds a campaign; resume it, or use another directory";
        }

        if (Corpus.TryOpen(options.Directory, options.Log, out Corpus? corpus) is { } bad)
        {
            return bad;
        }

        FileStream held;
        try
        {
            held = new FileStream(Path.Combine(corpus!.Root, LockName), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return $"{options.Directory} is in use by another campaign, or cannot be written: {e.Message}";
        }

        if (!exists && !corpus.TryReplace(CampaignIdentity.FileName, options.Identity.Format()))
        {
            held.Dispose();
            return $"{options.Directory} cannot be written; use another directory";
        }

        campaign = new Campaign(options, corpus, held);
        return null;
    }

    /// <summary>Goes on: each execution, each queue entry loaded and each import counts as one.</summary>
    /// <param name="executions">How many at most. Has no influence on what they do.</param>
    /// <param name="timeMilliseconds">Milliseconds since the campaign was opened, for names and figures.</param>
    /// <returns>Figures.</returns>
    public CampaignStatus Step(int executions, ulong timeMilliseconds)
    {
        _time = _timeBase + timeMilliseconds;
        while (executions > 0)
        {
            executions -= Advance() ? 1 : 0;
        }

        _current.Set(CampaignPhase.Idle, _next, _executed);
        return Status();
    }

    /// <summary>Makes the input of an execution of this campaign, of any session; runs nothing.</summary>
    /// <param name="execution">Its index.</param>
    /// <param name="made">The input, when the result is null.</param>
    /// <returns>Why there is none, or null.</returns>
    public string? TryInputOf(ulong execution, out MadeInput? made)
    {
        _writer.Retry();
        return CampaignHistory.TryInputOf(_corpus, _options.Identity, _executor.Target, execution, out made);
    }

    /// <summary>Makes the input of an execution and runs it, deeply too. The campaign does not notice.</summary>
    /// <param name="execution">Its index.</param>
    /// <param name="again">The input and what it did, when the result is null.</param>
    /// <returns>Why it cannot be done, or null.</returns>
    public string? TryRerun(ulong execution, out RerunResult? again)
    {
        again = null;
        if (TryInputOf(execution, out MadeInput? made) is { } bad)
        {
            return bad;
        }

        Execution run = Run(made!.Input);
        ulong digest = _executor.Digest();
        again = new RerunResult(made, digest, run.Violation ?? _executor.RunDeep(made.Input));
        return null;
    }

    /// <summary>Adds a finding that only a supervisor sees: an execution that did not end, or that ended the process.</summary>
    /// <param name="execution">Its index.</param>
    /// <param name="violation">What to call it.</param>
    /// <param name="timeMilliseconds">Milliseconds since the campaign was opened.</param>
    /// <returns>Why it cannot be done, or null.</returns>
    public string? TryAddFatal(ulong execution, Violation violation, ulong timeMilliseconds)
    {
        ArgumentNullException.ThrowIfNull(violation);
        _time = _timeBase + timeMilliseconds;
        if (TryInputOf(execution, out MadeInput? made) is { } bad)
        {
            return bad;
        }

        if (_findings.Add(violation, () => new FoundInput(made!.Input, violation, execution, _time, made.Source, made.Operation, Fatal: true)))
        {
            _lastFinding = _time;
        }

        return null;
    }

    /// <summary>Writes what is left to write.</summary>
    /// <returns>How many things could still not be written.</returns>
    public int Flush()
    {
        _writer.Retry();
        _findings.Retry();
        return _writer.Waiting + _findings.Unsaved;
    }

    /// <summary>Writes what is left to write and gives the directory back. The executor stays.</summary>
    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }

        _disposed = true;
        Flush();
        _current.Set(CampaignPhase.Idle, _next, _executed);
        _current.Dispose();
        _lock.Dispose();
    }

    // One more than the index of the last execution that may have begun.
    private static ulong KnownOf(CurrentExecution? before) => before switch
    {
        { Phase: CampaignPhase.Fuzzing, Index: < EpochRecord.MostIndex } current => current.Index + 1,
        { Phase: CampaignPhase.Idle, Index: < EpochRecord.MostIndex } current => current.Index,
        _ => 0,
    };

    // One thing to do; false when it was only a change of stage.
    private bool Advance()
    {
        switch (_stage)
        {
            case Stage.Load when _loading < _loaded:
                Load(_queue.Entries[_loading++]);
                return true;
            case Stage.Load:
                BeginImport();
                return false;
            case Stage.Import when _imports.TryDequeue(out WorkerFile file):
                Import(file);
                return true;
            case Stage.Import:
                BeginEpoch();
                return false;
            case Stage.Run when _next < _epoch.End:
                Execute();
                return true;
            default:
                if (_feedback is not null)
                {
                    _maker.Scheduler.Adapt();
                }

                BeginImport();
                return false;
        }
    }

    private void BeginImport()
    {
        _stage = Stage.Import;
        _imports = _sync?.Look() ?? _imports;
    }

    private void BeginEpoch()
    {
        _stage = Stage.Run;
        Flush();
        _feedback?.TryFavour(_queue.Entries);
        bool seeds = _seeds.Count != 0;
        EpochRecord record = new()
        {
            Number = _number++,
            First = _next,
            End = seeds ? _next + (ulong)_seeds.Count : EpochRecord.EndOf(_next, _session),
            Seeds = seeds,
            Executed = _executed,
            Queue = _queue.Entries.Count,
            Weights = [.. _maker.Scheduler.Weights],
            Favoured = [.. _queue.Entries.Where(static e => e.Favoured).Select(static e => e.Id)],
            Skipped = [.. _skipped],
            Synced = _sync?.Synced ?? new EpochRecord().Synced,
            Samples = [.. _samples],
        };
        _samples.Clear();
        string line = record.Format(_recorded ? _epoch : null);
        _recorded = true;
        _epoch = record;
        _writer.Do(() => _epochs.TryAppend(line));
        _maker.Begin(record, _queue.Entries);
        _favoured = record.Favoured.Length;
        _epochCount++;
    }

    private void CollectSeeds()
    {
        if (_options.Identity.Mode == FuzzMode.Random)
        {
            return;
        }

        var contents = new HashSet<ulong>();
        Offer(_queue.Foreign, contents);
        foreach (string folder in _options.Inputs)
        {
            Offer(Corpus.ReadFolder(folder, _options.Log), contents);
        }

        if (_seeds.Count != 0 || _loaded != 0)
        {
            return;
        }

        ImmutableArray<FuzzInput> builtIn = _options.Empty ? [new FuzzInput { Target = _executor.Target }] : SeedInputs.Of(_executor.Target);
        foreach (FuzzInput input in builtIn)
        {
            _seeds.Enqueue(new Seed(input, "built-in"));
        }
    }

    private void Offer(IEnumerable<CorpusFile> files, HashSet<ulong> contents)
    {
        foreach (CorpusFile file in files)
        {
            FuzzInput input = _queue.Decode(file.Bytes.AsSpan());
            if (!_queue.Has(input) && contents.Add(TextHash.Of(FuzzCodec.Encode(input))))
            {
                _seeds.Enqueue(new Seed(input, file.FileName));
            }
        }
    }

    private bool IsDeep(ulong execution) =>
        _options.DeepEvery > 0 && StateHash.Step(StateHash.Step(_options.Identity.Seed, 0x6465_6570), execution) % (ulong)_options.DeepEvery == 0;

    // An input to start with, and what it is called.
    private sealed record Seed(FuzzInput Input, string FileName);
}
