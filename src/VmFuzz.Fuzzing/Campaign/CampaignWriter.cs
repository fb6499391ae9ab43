namespace VmFuzz.Fuzzing;

/// <summary>
/// Writes in order: what cannot be written now is kept, with all that comes after it, and tried again. So the directory
/// is at any time what it was at some earlier moment, and numbers of files do not change.
/// </summary>
internal sealed class CampaignWriter
{
    private readonly Queue<Func<bool>> _waiting = new();

    public int Waiting => _waiting.Count;

    /// <summary>Does something now, or after what waits.</summary>
    public void Do(Func<bool> write)
    {
        if (_waiting.Count != 0 || !write())
        {
            _waiting.Enqueue(write);
        }
    }

    /// <summary>Tries again, as far as it goes.</summary>
    public void Retry()
    {
        while (_waiting.TryPeek(out Func<bool>? write) && write())
        {
            _waiting.Dequeue();
        }
    }
}

/// <summary>A file of lines to which lines are added. A line that got only half of its bytes is ended before the next one.</summary>
internal sealed class LineFile(Corpus corpus, string name, bool endsWell)
{
    private bool _half = !endsWell;

    public bool TryAppend(string line)
    {
        bool done = corpus.TryAppend(name, _half ? "\n" + line : line);
        _half = !done;
        return done;
    }
}
