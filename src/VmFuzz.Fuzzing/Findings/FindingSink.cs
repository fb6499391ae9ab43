namespace VmFuzz.Fuzzing;

/// <summary>Takes the findings of a campaign and triages each as it comes.</summary>
public sealed class FindingSink : IFindingSink
{
    private readonly FindingTriage _triage;

    /// <summary>A sink of one worker.</summary>
    /// <param name="triage">What it hands findings to.</param>
    public FindingSink(FindingTriage triage)
    {
        ArgumentNullException.ThrowIfNull(triage);
        _triage = triage;
    }

    /// <summary>A sink of one worker that makes executors of its target.</summary>
    /// <param name="corpus">The worker's directory.</param>
    /// <param name="target">The target.</param>
    /// <param name="facts">What all findings of the worker have in common.</param>
    /// <param name="log">Takes lines for people.</param>
    public FindingSink(Corpus corpus, FuzzTargetRow target, CampaignFacts facts, Action<string> log)
        : this(new FindingTriage(corpus, Creator(target), facts, log))
    {
    }

    /// <inheritdoc/>
    /// <remarks>First takes up what an earlier session was looking at when it ended.</remarks>
    public IReadOnlyList<KnownFinding> Known()
    {
        _triage.Resume();
        return
        [
            .. _triage.List()
                .Where(static e => e.Finding is not null)
                .OrderBy(static e => e.Finding!.Execution)
                .ThenBy(static e => e.Slug, StringComparer.Ordinal)
                .Select(static e => new KnownFinding(e.Finding!.Violation.Key, PathOf(e.Slug), e.Finding.Execution)),
        ];
    }

    /// <inheritdoc/>
    public string? Add(FoundInput found)
    {
        ArgumentNullException.ThrowIfNull(found);
        var name = new CorpusName { Source = found.Source, Time = found.Time, Executions = found.Execution, Operation = found.Operation };
        return _triage.Take(FuzzCodec.Encode(found.Input.Clone()), found.Violation, found.Execution, name, found.Fatal) is { } slug ? PathOf(slug) : null;
    }

    private static string PathOf(string slug) => slug.Length == 0 ? "" : FindingNames.Folder + "/" + slug;

    private static Func<IFuzzExecutor> Creator(FuzzTargetRow target)
    {
        ArgumentNullException.ThrowIfNull(target);
        return target.CreateExecutor;
    }
}
