namespace VmFuzz.Coverage;

/// <summary>What a campaign has seen: for each probe, the set of buckets of its counts.</summary>
public sealed class CoverageAccumulator
{
    private readonly byte[] _seen;

    /// <summary>Nothing seen yet.</summary>
    /// <param name="probes">Number of probes, 0 or more.</param>
    public CoverageAccumulator(int probes)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(probes);
        _seen = new byte[probes];
    }

    /// <summary>Continues from sets that were written elsewhere (<see cref="Seen"/>).</summary>
    public CoverageAccumulator(ReadOnlySpan<byte> seen) => (_seen, Probes) = (seen.ToArray(), CoverageCounts.CountSet(seen));

    /// <summary>The set of buckets of each probe, a bit a bucket.</summary>
    public ReadOnlySpan<byte> Seen => _seen;

    /// <summary>Number of probes.</summary>
    public int Length => _seen.Length;

    /// <summary>Probes hit at least once.</summary>
    public int Probes { get; private set; }

    /// <summary>Merges counts; allocates nothing.</summary>
    /// <param name="counts">Counts of one run, at most <see cref="Length"/> of them.</param>
    /// <returns>What was new.</returns>
    public CoverageNovelty Merge(ReadOnlySpan<byte> counts)
    {
        CoverageNovelty novelty = CoverageCounts.Merge(counts, _seen);
        Probes += novelty.Probes;
        return novelty;
    }

    /// <summary>Merges what another campaign or worker has seen.</summary>
    /// <param name="other">At most as many probes.</param>
    /// <returns>What was new.</returns>
    public CoverageNovelty Merge(CoverageAccumulator other)
    {
        int probes = 0;
        int buckets = 0;
        for (int i = 0; i < other._seen.Length; i++)
        {
            byte old = _seen[i];
            if ((other._seen[i] & ~old) != 0)
            {
                probes += old == 0 ? 1 : 0;
                buckets += old == 0 ? 0 : 1;
                _seen[i] = (byte)(old | other._seen[i]);
            }
        }

        Probes += probes;
        return new CoverageNovelty(probes, buckets);
    }

    /// <summary>A hash of the sets; equal for campaigns that saw the same.</summary>
    public ulong Hash()
    {
        ulong sum = 0;
        for (int i = 0; i < _seen.Length; i++)
        {
            if (_seen[i] != 0)
            {
                ulong value = (((ulong)(uint)i << 8) | _seen[i]) * 0x9E3779B97F4A7C15;
                value = (value ^ (value >> 29)) * 0xBF58476D1CE4E5B9;
                sum += value ^ (value >> 32);
            }
        }

        return sum;
    }
}
