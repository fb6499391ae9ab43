namespace VmFuzz.Fuzzing;

/// <summary>Takes the findings of a campaign and triages each as it comes.</summary>
public sealed class FindingSink : IFindingSink
{
    private readonly FindingTriage _triage;
    private readonly Corpus? _watched;
    private readonly Action<string> _log = static _ => { };

    /// <summary>A sink of one worker.</summary>
    /// <param name="triage">What it hands findings to.</param>
    public FindingSink(FindingTriage triage)
    {
        ArgumentNullException.ThrowIfNull(triage);
        _triage = triage;
    }

    /// <summary>A sink of one worker that a supervisor may watch: while it looks at a finding, <c>.current</c> moves.</summary>
    /// <param name="corpus">The worker's directory.</param>
    /// <param name="create">Makes a fresh executor of the target.</param>
    /// <param name="facts">What all findings of the worker have in common.</param>
    /// <param name="log">Takes lines for people.</param>
    public FindingSink(Corpus corpus, Func<IFuzzExecutor> create, CampaignFacts facts, Action<string> log)
        : this(new FindingTriage(corpus, create, facts, log))
    {
        _watched = corpus;
        _log = log;
    }

    /// <inheritdoc/>
    /// <remarks>First takes up what an earlier session was looking at when it ended.</remarks>
    public IReadOnlyList<KnownFinding> Known()
    {
        Watched(() => _triage.Resume());
        return
        [
            .. _triage.List()
                .Where(static e => e.Finding is not null)
                .OrderBy(static e => e.Finding!.Execution)
                .ThenBy(static e => e.Slug, StringComparer.Ordinal)
                .Select(static e => new KnownFinding(e.Finding!.Violation.Key, PathOf(e.Slug), e.Finding.Execution, e.Finding.Violation.Text)),
        ];
    }

    /// <inheritdoc/>
    public string? Add(FoundInput found)
    {
        ArgumentNullException.ThrowIfNull(found);
        var name = new CorpusName { Source = found.Source, Time = found.Time, Executions = found.Execution, Operation = found.Operation };
        string? slug = null;
        Watched(() => slug = _triage.Take(FuzzCodec.Encode(found.Input.Clone()), found.Violation, found.Execution, name, found.Fatal));
        return slug is null ? null : PathOf(slug);
    }

    private static string PathOf(string slug) => slug.Length == 0 ? "" : FindingNames.Folder + "/" + slug;

    // Whoever sees the phase knows that no execution of the campaign is at fault when the process ends here.
    private void Watched(Action work)
    {
        if (_watched is not { } corpus)
        {
            work();
            return;
        }

        // A new directory has nothing behind it: a file of zeros would say that execution 0 has begun.
        CurrentExecution before = CurrentExecution.TryRead(corpus.Root) ?? new(CampaignPhase.Idle, 0, 0);
        using CurrentFile current = CurrentFile.Open(corpus.Root, _log);
        ulong beats = 0;
        _triage.Pulse = () => current.Set(CampaignPhase.Idle, ++beats, before.Executions);
        try
        {
            work();
        }
        finally
        {
            _triage.Pulse = static () => { };
            current.Set(before.Phase, before.Index, before.Executions);
        }
    }
}
