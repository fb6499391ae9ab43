namespace VmFuzz.Fuzzing;

/// <summary>One folder below <c>findings</c>.</summary>
/// <param name="Slug">Its name.</param>
/// <param name="Finding">What is known; null when neither file of facts can be read.</param>
/// <param name="Pending">Set when its triage has not ended.</param>
/// <param name="Wrong">Why nothing is known of it, in one line; null otherwise.</param>
public sealed record FindingEntry(string Slug, Finding? Finding, PendingFinding? Pending, string? Wrong);

/// <summary>
/// The files of findings in a worker's directory, in an order in which a kill at any moment leaves either everything that
/// triage needs to begin again, or the finished finding.
/// </summary>
public sealed class FindingFiles
{
    private const int MostNames = 100;
    private readonly Corpus _corpus;
    private readonly Action<string> _log;

    /// <summary>The findings of a directory.</summary>
    /// <param name="corpus">The worker's directory.</param>
    /// <param name="log">Takes lines for people.</param>
    public FindingFiles(Corpus corpus, Action<string> log)
    {
        ArgumentNullException.ThrowIfNull(corpus);
        ArgumentNullException.ThrowIfNull(log);
        _corpus = corpus;
        _log = log;
    }

    /// <summary>Every finding, by name of its folder.</summary>
    public IReadOnlyList<FindingEntry> List() => [.. _corpus.Folders(FindingNames.Folder).Select(Read)];

    /// <summary>Reads one folder.</summary>
    public FindingEntry Read(string slug)
    {
        string? wrong = null;
        if (_corpus.TryRead(PathOf(slug, FindingNames.Facts), FindingJson.MostBytes) is { } facts)
        {
            wrong = FindingJson.TryRead(facts, out Finding? finding);
            if (wrong is null)
            {
                return new(slug, finding, null, null);
            }

            wrong = $"{PathOf(slug, FindingNames.Facts)} cannot be used: {wrong}";
        }

        if (_corpus.TryRead(PathOf(slug, FindingNames.Pending), FindingJson.MostBytes) is { } begun)
        {
            string? broken = FindingJson.TryRead(begun, out PendingFinding? pending);
            if (broken is null)
            {
                return new(slug, pending!.Finding, pending, null);
            }

            wrong ??= $"{PathOf(slug, FindingNames.Pending)} cannot be used: {broken}";
        }

        return new(slug, null, null, wrong ?? $"{Path.Combine(FindingNames.Folder, slug)} holds no finding");
    }

    /// <summary>Keeps a finding before it is looked at: its facts with the input, then the input where fuzzers look for it.</summary>
    /// <returns>Null when it cannot be written; the log has a line.</returns>
    internal FindingEntry? Begin(PendingFinding pending, CorpusName name)
    {
        string? slug = FreeName(pending.Finding.Violation.Key);
        if (slug is null || !_corpus.TryMakeFolder(Path.Combine(FindingNames.Folder, slug))
            || !_corpus.TryReplace(PathOf(slug, FindingNames.Pending), FindingJson.Write(pending)))
        {
            _log($"{pending.Finding.Violation.Key} could not be kept as a finding");
            AddToCorpus(pending, name);
            return null;
        }

        return Settle(new(slug, pending.Finding, pending, null), name);
    }

    /// <summary>Writes the facts of a finding that is being looked at, and what a kill left out before.</summary>
    internal FindingEntry Update(FindingEntry entry, PendingFinding pending)
    {
        _corpus.TryReplace(PathOf(entry.Slug, FindingNames.Pending), FindingJson.Write(pending));
        entry = entry with { Finding = pending.Finding, Pending = pending };
        return pending.Finding.CorpusFile.Length != 0 ? entry : Settle(entry, new CorpusName { Executions = pending.Finding.Execution, Signal = Signal });
    }

    /// <summary>Has the trace written.</summary>
    /// <returns>Why there is none; or null.</returns>
    internal string? Trace(FindingEntry entry, Action<string> record)
    {
        string? wrong = null;
        bool tried = false;
        bool made = _corpus.TryProduce(PathOf(entry.Slug, FindingNames.Trace), path =>
        {
#pragma warning disable CA1031 // A recorder that throws costs the trace, not the finding.
            try
            {
                record(path);
                tried = File.Exists(path);
            }
            catch (Exception error) when (error is not IOException)
            {
                wrong = $"recording its trace threw {error.GetType().Name}";
                throw new IOException(wrong, error);
            }
#pragma warning restore CA1031
        });
        return made ? null : wrong ?? (tried ? "its trace could not be written" : "its target records no trace");
    }

    /// <summary>Saves a finding that was looked at. Its facts are last: where they stand, everything stands.</summary>
    internal void End(FindingEntry entry, Finding finding, ReadOnlySpan<byte> input, ReadOnlySpan<byte> report)
    {
        entry = entry.Finding!.CorpusFile.Length != 0
            ? entry
            : Settle(entry, new CorpusName { Executions = finding.Execution, Signal = Signal });
        finding = finding with { CorpusFile = entry.Finding!.CorpusFile };
        bool all = _corpus.TryReplace(PathOf(entry.Slug, FindingNames.Original), entry.Pending!.Input.AsSpan());
        all &= _corpus.TryReplace(PathOf(entry.Slug, FindingNames.Input), input);
        all &= _corpus.TryReplace(PathOf(entry.Slug, FindingNames.Report), report);
        all &= finding.CorpusFile.Length == 0 || _corpus.TryReplace(finding.CorpusFile, input);
        if (all && _corpus.TryReplace(PathOf(entry.Slug, FindingNames.Facts), FindingJson.Write(finding)))
        {
            _corpus.TryDelete(PathOf(entry.Slug, FindingNames.Pending));
        }
    }

    // SIGABRT, which tools of AFL++ expect in names of crashes.
    private const byte Signal = 6;

    private FindingEntry Settle(FindingEntry entry, CorpusName name)
    {
        PendingFinding pending = entry.Pending!;
        string file = AddToCorpus(pending, name);
        pending = pending with { Finding = pending.Finding with { CorpusFile = file } };
        _corpus.TryReplace(PathOf(entry.Slug, FindingNames.Pending), FindingJson.Write(pending));
        return entry with { Finding = pending.Finding, Pending = pending };
    }

    // A kill may have come between the file and the note of its name.
    private string AddToCorpus(PendingFinding pending, CorpusName name)
    {
        CorpusFolder folder = OracleFolders.Of(pending.Finding.Violation);
        foreach (CorpusFile file in _corpus.Read(folder))
        {
            if (file.Bytes.AsSpan().SequenceEqual(pending.Input.AsSpan()))
            {
                return Corpus.RelativeOf(folder, file.FileName);
            }
        }

        CorpusName signed = folder == CorpusFolder.Crashes ? name with { Signal = name.Signal ?? Signal } : name;
        return _corpus.Add(folder, signed, pending.Input.AsSpan()) is { } written ? Corpus.RelativeOf(folder, written.Format()) : "";
    }

    private string? FreeName(string key)
    {
        for (int attempt = 0; attempt < MostNames; attempt++)
        {
            string slug = FindingNames.Slug(key, attempt);
            FindingEntry there = Read(slug);
            if (there.Finding is { } other ? other.Violation.Key == key : IsEmpty(slug))
            {
                return slug;
            }
        }

        return null;
    }

    // A kill may have come between the folder and its first file; what cannot be read is left alone.
    private bool IsEmpty(string slug) =>
        _corpus.TryRead(PathOf(slug, FindingNames.Facts), 1) is null && _corpus.TryRead(PathOf(slug, FindingNames.Pending), 1) is null;

    private static string PathOf(string slug, string file) => Path.Combine(FindingNames.Folder, slug, file);
}
