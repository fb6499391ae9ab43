using System.Text;

namespace VmFuzz.Fuzzing;

/// <summary>Bounds of triage.</summary>
/// <param name="MinimizerExecutions">Most executions that minimising one finding may take.</param>
/// <param name="Findings">Most findings of one worker; more keys than these say that an oracle is broken.</param>
public sealed record TriageOptions(int MinimizerExecutions = 2000, int Findings = 1000);

/// <summary>
/// Makes findings of what executions broke: kept before anything else, run again twice on fresh executors, minimised, run
/// again, saved with trace and report. One finding a key.
/// </summary>
/// <remarks>
/// Deterministic: its bounds are executions. A kill at any moment loses nothing: <see cref="Resume"/> takes up what was
/// begun, and a finding that was looked at twice to no end is saved without being run again.
/// </remarks>
public sealed class FindingTriage
{
    private const int MostAttempts = 2;

    private readonly FindingFiles _files;
    private readonly Func<IFuzzExecutor> _create;
    private readonly CampaignFacts _facts;
    private readonly TriageOptions _options;
    private readonly Action<string> _log;
    private readonly SortedDictionary<string, string> _slugs = new(StringComparer.Ordinal);
    private bool _full;

    /// <summary>Triage for one worker.</summary>
    /// <param name="corpus">The worker's directory.</param>
    /// <param name="create">Makes a fresh executor of the target.</param>
    /// <param name="facts">What all findings of the worker have in common.</param>
    /// <param name="log">Takes lines for people.</param>
    /// <param name="options">Bounds; null for the usual ones.</param>
    public FindingTriage(Corpus corpus, Func<IFuzzExecutor> create, CampaignFacts facts, Action<string> log, TriageOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(corpus);
        ArgumentNullException.ThrowIfNull(create);
        ArgumentNullException.ThrowIfNull(facts);
        ArgumentNullException.ThrowIfNull(log);
        _files = new FindingFiles(corpus, log);
        _create = create;
        _facts = facts;
        _log = log;
        _options = options ?? new TriageOptions();
        foreach (FindingEntry entry in _files.List())
        {
            if (entry.Finding is { } known)
            {
                _slugs.TryAdd(known.Violation.Key, entry.Slug);
            }
        }
    }

    /// <summary>Called before each look and each question of the minimiser, so that a watcher sees that it goes on.</summary>
    public Action Pulse { get; set; } = static () => { };

    /// <summary>Findings of the worker, those of earlier runs included.</summary>
    public int Count => _slugs.Count;

    /// <summary>Every finding, by name of its folder.</summary>
    public IReadOnlyList<FindingEntry> List() => _files.List();

    /// <summary>Takes up a violation.</summary>
    /// <param name="bytes">The input: any bytes.</param>
    /// <param name="violation">What it broke.</param>
    /// <param name="execution">Index of the execution.</param>
    /// <param name="name">What the file's name in <c>crashes</c> or <c>hangs</c> shall say; its number is set here.</param>
    /// <param name="fatal">Whether running it may end the process that does it: it is never run here.</param>
    /// <returns>
    /// Name of the finding's folder, new or not; empty when there are too many; null when it could not be written.
    /// </returns>
    public string? Take(ReadOnlySpan<byte> bytes, Violation violation, ulong execution, CorpusName name, bool fatal = false)
    {
        ArgumentNullException.ThrowIfNull(violation);
        ArgumentNullException.ThrowIfNull(name);
        if (_slugs.TryGetValue(violation.Key, out string? known))
        {
            return known;
        }

        if (_slugs.Count >= _options.Findings)
        {
            if (!_full)
            {
                _full = true;
                _log($"there are {_slugs.Count} findings: further ones are not kept; an oracle may be at fault");
            }

            return "";
        }

        var pending = new PendingFinding(
            new Finding { Violation = violation, State = FindingState.Unconfirmed, Campaign = _facts, Execution = execution, Bytes = bytes.Length, OriginalBytes = bytes.Length },
            fatal || FindingNames.EndsProcess(violation),
            Attempts: 0,
            [.. bytes[..Math.Min(bytes.Length, FuzzLimits.InputBytes)]]);
        if (_files.Begin(pending, name) is not { } entry)
        {
            return null;
        }

        _slugs.Add(violation.Key, entry.Slug);
        Finish(entry);
        return entry.Slug;
    }

    /// <summary>Takes up findings whose triage was interrupted.</summary>
    /// <returns>How many.</returns>
    public int Resume()
    {
        int count = 0;
        foreach (FindingEntry entry in _files.List())
        {
            if (entry.Pending is not null)
            {
                Finish(entry);
                count++;
            }
        }

        return count;
    }

    private void Finish(FindingEntry entry)
    {
        PendingFinding pending = entry.Pending!;
        if (pending.Fatal)
        {
            Give(entry, "it ends the process that runs it, so it was not run again");
            return;
        }

        if (pending.Attempts >= MostAttempts)
        {
            Give(entry, "twice, looking at it did not come to an end, so it was not run again");
            return;
        }

        // Written first: a look that kills the process is counted.
        entry = _files.Update(entry, pending with { Attempts = pending.Attempts + 1 });
#pragma warning disable CA1031 // An executor that throws is a bug of its own; the finding is kept all the same.
        try
        {
            Look(entry);
        }
        catch (Exception error)
        {
            Give(entry, $"looking at it again threw {error.GetType().Name}: {error.Message.ReplaceLineEndings(" ")}");
        }
#pragma warning restore CA1031
    }

    // As it came.
    private void Give(FindingEntry entry, string note, FindingState state = FindingState.Unconfirmed)
    {
        byte[] bytes = [.. entry.Pending!.Input];
        Save(entry, entry.Pending.Finding with { State = state, Note = note }, bytes, input: null);
    }

    private void Look(FindingEntry entry)
    {
        Finding start = entry.Pending!.Finding;
        byte[] original = [.. entry.Pending.Input];
        FuzzInput input = FuzzCodec.Decode(original);
        string key = start.Violation.Key;
        (InputProbe first, string? unstable) = Twice(input, key);
        if (unstable is not null)
        {
            Finding shaky = start with { State = FindingState.Unstable, Note = unstable, Digest = first.Digest, OriginalDigest = first.Digest };
            Save(entry, shaky, original, input: null);
            return;
        }

        MinimizedInput small = Minimise(input, key, first.Deep);
        (InputProbe probe, string? lost) = Twice(small.Input, key);
        bool kept = lost is null;
        probe = kept ? probe : first;
        byte[] bytes = kept ? FuzzCodec.Encode(small.Input) : original;
        Finding finding = start with
        {
            // The text of the input that is saved, not of the one that was found.
            Violation = probe.Violation!,
            State = FindingState.Confirmed,
            Note = kept ? "" : "the minimised input did not show it twice, so the original was kept: " + lost,
            Deep = probe.Deep,
            Digest = probe.Digest,
            OriginalDigest = first.Digest,
            Exits = probe.Exits,
            Instructions = probe.Instructions,
            Bytes = bytes.Length,
            MinimizerExecutions = small.Executions,
            Minimal = kept && small.Complete,
        };
        Save(entry, finding, bytes, kept ? small.Input : input);
    }

    /// <summary>Two looks on fresh executors, and in what they do not show the same thing.</summary>
    private (InputProbe First, string? Unstable) Twice(FuzzInput input, string key)
    {
        Pulse();
        InputProbe first = InputProbe.Look(_create, input, key);
        Pulse();
        InputProbe second = InputProbe.Look(_create, input, key);
        string? unstable = null;
        if (first.Violation?.Key != key || second.Violation?.Key != key)
        {
            Violation? other = first.Violation?.Key != key ? first.Violation : second.Violation;
            unstable = $"a fresh executor showed {(other is null ? "nothing" : other.Key)}";
        }
        else if (first.Digest != second.Digest)
        {
            unstable = "two fresh executors left different digests";
        }

        return (first, unstable);
    }

    private MinimizedInput Minimise(FuzzInput input, string key, bool deep)
    {
        using IFuzzExecutor executor = _create();
        return InputMinimizer.Minimize(
            input,
            candidate =>
            {
                Pulse();
                return (executor.Run(candidate).Violation ?? (deep ? executor.RunDeep(candidate) : null))?.Key == key;
            },
            _options.MinimizerExecutions);
    }

    private void Save(FindingEntry entry, Finding finding, byte[] bytes, FuzzInput? input)
    {
        if (input is not null)
        {
            string? lacking = _files.Trace(entry, path =>
            {
                using IFuzzExecutor executor = _create();
                executor.Record(input, path, new FuzzOrigin(_facts.Target, _facts.Engine.Plugins));
            });
            finding = finding with
            {
                Trace = lacking is null,
                Note = lacking is null ? finding.Note : (finding.Note.Length == 0 ? "" : finding.Note + "; ") + lacking,
            };
        }

        var report = new StringWriter { NewLine = "\n" };
        FindingReport.Write(report, finding, FuzzCodec.Decode(bytes), ".");
        _files.End(entry, finding, bytes, Encoding.UTF8.GetBytes(report.ToString()));
    }
}
