namespace VmFuzz.Fuzzing;

/// <summary>The findings of a campaign by their keys. What the sink cannot save is kept and tried again.</summary>
internal sealed class FindingBook
{
    private readonly IFindingSink _sink;
    private readonly Dictionary<string, BookedFinding> _byKey = new(StringComparer.Ordinal);
    private readonly List<BookedFinding> _all = [];

    public FindingBook(IFindingSink sink)
    {
        _sink = sink;
        foreach (KnownFinding known in sink.Known())
        {
            if (!_byKey.ContainsKey(known.Key))
            {
                Enter(new BookedFinding { Key = known.Key, File = known.File, Execution = known.Execution, Text = known.Text });
                Known = known.Execution < EpochRecord.MostIndex ? Math.Max(Known, known.Execution + 1) : Known;
            }
        }
    }

    /// <summary>Findings that are not saved yet.</summary>
    public int Unsaved { get; private set; }

    /// <summary>Findings whose inputs go to a folder. A key begins with its oracle's id.</summary>
    public int CountIn(CorpusFolder folder) => _all.Count(f => OracleFolders.Of(new Violation(f.Key, "", "")) == folder);

    public int Count => _all.Count;

    /// <summary>One more than the largest index of a finding read back.</summary>
    public ulong Known { get; }

    /// <summary>Counts a violation; saves the first of its key.</summary>
    /// <param name="violation">The violation.</param>
    /// <param name="make">Makes what is saved; its input is not kept beyond this call.</param>
    /// <returns>Whether the key is new.</returns>
    public bool Add(Violation violation, Func<FoundInput> make)
    {
        string key = violation.Key;
        if (_byKey.TryGetValue(key, out BookedFinding? known))
        {
            known.Count++;
            return false;
        }

        FoundInput found = make();
        BookedFinding finding = new() { Key = key, Execution = found.Execution, Count = 1, Text = violation.Text };
        Enter(finding);
        string? file = _sink.Add(found);
        finding.File = file ?? "";
        if (file is null)
        {
            finding.Unsaved = found with { Input = found.Input.Clone() };
            Unsaved++;
        }

        return true;
    }

    /// <summary>Tries again to save.</summary>
    public void Retry()
    {
        for (int i = 0; Unsaved != 0 && i < _all.Count; i++)
        {
            if (_all[i].Unsaved is { } found && _sink.Add(found) is { } file)
            {
                _all[i].File = file;
                _all[i].Unsaved = null;
                Unsaved--;
            }
        }
    }

    public FindingStatus[] Status() => [.. _all.Select(static f => new FindingStatus(f.Key, f.File, f.Execution, f.Count, f.Text))];

    private void Enter(BookedFinding finding)
    {
        _byKey.Add(finding.Key, finding);
        _all.Add(finding);
    }

    private sealed class BookedFinding
    {
        public required string Key { get; init; }

        public string File { get; set; } = "";

        public ulong Execution { get; init; }

        public ulong Count { get; set; }

        public string Text { get; init; } = "";

        public FoundInput? Unsaved { get; set; }
    }
}
