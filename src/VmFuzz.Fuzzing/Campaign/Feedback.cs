using VmFuzz.Coverage;

namespace VmFuzz.Fuzzing;

/// <summary>
/// What a campaign has seen, as cells: first the code probes, then the semantic features. Decides what is new, which
/// cells do not count because they differ from run to run, and which entries cover what at the least cost.
/// </summary>
internal sealed class Feedback
{
    private readonly ProbeSource _probes;
    private readonly FeatureMap _features;
    private readonly int _probeCount;
    private readonly byte[] _probesSeen;
    private readonly byte[] _probesSettled;
    private readonly byte[] _probesFirst;
    private readonly byte[] _probesAgain;
    private readonly byte[] _featuresSeen = new byte[FeatureMap.Size];
    private readonly byte[] _featuresFirst = new byte[FeatureMap.Size];
    private readonly List<ushort> _featuresHit = [];
    private readonly List<(ushort Cell, byte Bucket)> _featuresNew = [];
    private readonly List<int> _cells = [];
    private readonly bool[] _unstable;
    private readonly QueueEntry?[] _best;
    private readonly bool[] _covered;
    private int _unstableCells;
    private bool _changed;

    public Feedback(ProbeSource probes, FeatureMap features)
    {
        _probes = probes;
        _features = features;
        _probeCount = probes.Counts.Length;
        _probesSeen = new byte[_probeCount];
        _probesSettled = new byte[_probeCount];
        _probesFirst = new byte[_probeCount];
        _probesAgain = new byte[_probeCount];
        _unstable = new bool[_probeCount + FeatureMap.Size];
        _best = new QueueEntry?[_unstable.Length];
        _covered = new bool[_unstable.Length];
    }

    public int ProbesTotal => _probeCount;

    public int ProbesSeen { get; private set; }

    public int FeaturesSeen { get; private set; }

    /// <summary>Hundredths of a percent.</summary>
    public int Stability
    {
        get
        {
            int seen = ProbesSeen + FeaturesSeen;
            return seen == 0 ? 10_000 : (int)(10_000 - (10_000L * Math.Min(seen, _unstableCells) / seen));
        }
    }

    /// <summary>Before a run.</summary>
    public void Clear() => _probes.Clear();

    /// <summary>After a run: adds what it showed. Allocates nothing when that was nothing new.</summary>
    /// <returns>Whether there was anything new; then the run is to be noted.</returns>
    public bool Merge()
    {
        CoverageNovelty novelty = CoverageCounts.Merge(_probes.Counts, _probesSeen);
        ProbesSeen += novelty.Probes;
        bool any = novelty.Any;
        foreach (ushort cell in _features.Touched)
        {
            byte bucket = Seen(_features[cell]);
            byte seen = _featuresSeen[cell];
            if ((bucket & ~seen) != 0)
            {
                FeaturesSeen += seen == 0 ? 1 : 0;
                _featuresSeen[cell] = (byte)(seen | bucket);
                _featuresNew.Add((cell, seen == 0 ? (byte)0 : bucket));
                any = true;
            }
        }

        return any;
    }

    /// <summary>Remembers the run that was just merged, to compare it with another run of the same input.</summary>
    public void NoteFirst()
    {
        CoverageCounts.Classify(_probes.Counts, _probesFirst);
        _featuresHit.Clear();
        foreach (ushort cell in _features.Touched)
        {
            _featuresHit.Add(cell);
            _featuresFirst[cell] = Seen(_features[cell]);
        }
    }

    /// <summary>After another run of the same input: cells that differ do not count any more.</summary>
    public void NoteAgain()
    {
        CoverageCounts.Classify(_probes.Counts, _probesAgain);
        if (!_probesAgain.AsSpan().SequenceEqual(_probesFirst))
        {
            for (int i = 0; i < _probeCount; i++)
            {
                if (_probesAgain[i] != _probesFirst[i])
                {
                    ProbesSeen += _probesSeen[i] == 0 ? 1 : 0;
                    _probesSeen[i] = byte.MaxValue;
                    Distrust(i);
                }
            }
        }

        foreach (ushort cell in _featuresHit)
        {
            if (Seen(_features[cell]) != _featuresFirst[cell])
            {
                DistrustFeature(cell);
            }
        }

        foreach (ushort cell in _features.Touched)
        {
            if (_featuresFirst[cell] == 0)
            {
                DistrustFeature(cell);
            }
        }
    }

    /// <summary>Ends what <see cref="NoteFirst"/> began: what was new is old from now on.</summary>
    /// <param name="cells">Whether a cell was new, and not only a count.</param>
    /// <returns>Whether anything new was stable.</returns>
    public bool Settle(out bool cells)
    {
        cells = false;
        bool any = false;
        if (!_probesSeen.AsSpan().SequenceEqual(_probesSettled))
        {
            for (int i = 0; i < _probeCount; i++)
            {
                if (_probesSeen[i] != _probesSettled[i] && !_unstable[i])
                {
                    any = true;
                    cells |= _probesSettled[i] == 0;
                }
            }

            _probesSeen.CopyTo(_probesSettled, 0);
        }

        foreach ((ushort cell, byte bucket) in _featuresNew)
        {
            if (!_unstable[_probeCount + cell])
            {
                any = true;
                cells |= bucket == 0;
            }
        }

        _featuresNew.Clear();
        return any;
    }

    /// <summary>Forgets the run noted, after its cells were used.</summary>
    public void EndNote()
    {
        foreach (ushort cell in _featuresHit)
        {
            _featuresFirst[cell] = 0;
        }

        _featuresHit.Clear();
    }

    /// <summary>Makes an entry the best one of every stable cell of the run noted that nobody covers at less cost.</summary>
    public void Rate(QueueEntry entry)
    {
        _cells.Clear();
        for (int i = 0; i < _probeCount; i++)
        {
            if (_probesFirst[i] != 0 && !_unstable[i])
            {
                _cells.Add(i);
            }
        }

        foreach (ushort cell in _featuresHit)
        {
            if (!_unstable[_probeCount + cell])
            {
                _cells.Add(_probeCount + cell);
            }
        }

        foreach (int cell in _cells)
        {
            QueueEntry? best = _best[cell];
            if (best is not null && best.Cost <= entry.Cost)
            {
                continue;
            }

            if (best is not null && --best.BestAt == 0)
            {
                best.Cells = [];
            }

            _best[cell] = entry;
            entry.BestAt++;
        }

        if (entry.BestAt != 0)
        {
            entry.Cells = [.. _cells];
            _changed = true;
        }
    }

    /// <summary>
    /// Marks entries, few of them, that cover every stable cell together: cell by cell the best entry of those that no marked one covers.
    /// </summary>
    /// <returns>False when nothing changed since the last time.</returns>
    public bool TryFavour(List<QueueEntry> queue)
    {
        if (!_changed)
        {
            return false;
        }

        _changed = false;
        foreach (QueueEntry entry in queue)
        {
            entry.Favoured = false;
        }

        Array.Clear(_covered);
        for (int cell = 0; cell < _best.Length; cell++)
        {
            if (_best[cell] is { } best && !_covered[cell] && !_unstable[cell])
            {
                best.Favoured = true;
                foreach (int other in best.Cells)
                {
                    _covered[other] = true;
                }
            }
        }

        return true;
    }

    private void DistrustFeature(ushort cell)
    {
        FeaturesSeen += _featuresSeen[cell] == 0 ? 1 : 0;
        _featuresSeen[cell] = byte.MaxValue;
        Distrust(_probeCount + cell);
    }

    private void Distrust(int cell)
    {
        if (!_unstable[cell])
        {
            _unstable[cell] = true;
            _unstableCells++;
            _changed = true;
        }
    }

    // That a feature was seen counts, not how often: an exit may come twice for no reason of its own.
    private static byte Seen(byte count) => count == 0 ? (byte)0 : (byte)1;
}
