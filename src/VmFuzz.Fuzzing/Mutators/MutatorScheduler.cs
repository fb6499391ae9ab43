using System.Numerics;
using VmFuzz.Arch;
using VmFuzz.Replay;
using VmFuzz.Trace;

namespace VmFuzz.Fuzzing;

/// <summary>What a mutator has brought so far.</summary>
/// <param name="Id">The mutator.</param>
/// <param name="Weight">Its weight now.</param>
/// <param name="Tries">Executions that it had a part in.</param>
/// <param name="Finds">Those among them that were worth keeping.</param>
public readonly record struct MutatorYield(string Id, int Weight, ulong Tries, ulong Finds);

/// <summary>
/// Chooses mutators by weight, counts their yield, and adapts the weights at the ends of epochs. Integers only: the same
/// seed, executions and reports give the same inputs everywhere.
/// </summary>
public sealed class MutatorScheduler
{
    /// <summary>Executions of an epoch, unless told otherwise.</summary>
    public const int DefaultEpoch = 4096;

    /// <summary>Weights are kept in this many parts of one, so that small steps are not lost.</summary>
    public const int WeightScale = 64;

    private const int MostStacked = 8;
    private const int MostAttempts = 32;
    private const int StateVersion = 1;

    private readonly MutatorTable _table;
    private readonly FuzzTarget _target;
    private readonly ulong _seed;
    private readonly int _epoch;
    private readonly SplitMix _random = new(0);
    private readonly MutationTools _tools = new();
    private readonly int[] _rows;
    private readonly long[] _weights;
    private readonly long[] _sums;
    private readonly Counter[] _now;
    private readonly Counter[] _all;
    private readonly int[] _applied = new int[MostStacked];
    private int _appliedCount;
    private ulong _reports;

    /// <summary>Starts with the weights of the table.</summary>
    /// <param name="table">The mutators; those for other targets are left out.</param>
    /// <param name="target">The target.</param>
    /// <param name="seed">Where all choices come from.</param>
    /// <param name="epoch">Executions between adaptations; 0 adapts only when told to.</param>
    public MutatorScheduler(MutatorTable table, FuzzTarget target, ulong seed, int epoch = DefaultEpoch)
    {
        ArgumentNullException.ThrowIfNull(table);
        ArgumentOutOfRangeException.ThrowIfNegative(epoch);
        _table = table;
        _target = target;
        _seed = seed;
        _epoch = epoch;
        FuzzTargets mask = (FuzzTargets)(1 << (int)target);
        _rows = [.. Enumerable.Range(0, table.Rows.Length).Where(i => (table.Rows[i].Targets & mask) != 0)];
        _weights = new long[_rows.Length];
        _sums = new long[_rows.Length];
        _now = new Counter[_rows.Length];
        _all = new Counter[_rows.Length];
        for (int i = 0; i < _rows.Length; i++)
        {
            _weights[i] = (long)Math.Clamp(table.Rows[_rows[i]].Weight, 1, 1000) * WeightScale;
        }

        Sum();
    }

    /// <summary>Ids of the mutators that made the last input, in order, for the names of corpus files.</summary>
    public IEnumerable<string> Applied => _applied.Take(_appliedCount).Select(i => _table.Rows[_rows[i]].Id);

    /// <summary>The weights now, in parts of <see cref="WeightScale"/>, one for each mutator of the target, in the table's order.</summary>
    public ReadOnlySpan<long> Weights => _weights;

    /// <summary>The randomness of one execution, by its index.</summary>
    public static SplitMix RandomOf(ulong seed, ulong execution) => new(SeedOf(seed, execution));

    /// <summary>Sets the weights.</summary>
    /// <param name="weights">As <see cref="Weights"/> gives them.</param>
    /// <returns>False when they are not weights of as many mutators; then nothing changed.</returns>
    public bool TrySetWeights(ReadOnlySpan<long> weights)
    {
        if (weights.Length != _weights.Length || weights.ContainsAnyExceptInRange(1, 4L * 1000 * WeightScale))
        {
            return false;
        }

        weights.CopyTo(_weights);
        Sum();
        return true;
    }

    /// <summary>Ends an epoch: adapts the weights to what the mutators brought since the last one.</summary>
    public void Adapt()
    {
        ulong tries = 0;
        ulong finds = 0;
        foreach (ref readonly Counter counter in _now.AsSpan())
        {
            tries += counter.Tries;
            finds += counter.Finds;
        }

        for (int i = 0; i < _rows.Length; i++)
        {
            long start = (long)Math.Clamp(_table.Rows[_rows[i]].Weight, 1, 1000) * WeightScale;
            _weights[i] = Adapted(start, _weights[i], _now[i].Tries, _now[i].Finds, tries, finds);
        }

        Array.Clear(_now);
        Sum();
    }

    /// <summary>Makes the input of an execution.</summary>
    /// <param name="execution">Index of the execution.</param>
    /// <param name="parent">An input of the corpus; not changed.</param>
    /// <param name="other">Another one for splices, or null.</param>
    /// <param name="into">Becomes the new input, canonical; another object than both.</param>
    /// <returns>How many mutators changed it; 0 only when none could.</returns>
    public int Mutate(ulong execution, FuzzInput parent, FuzzInput? other, FuzzInput into)
    {
        ArgumentNullException.ThrowIfNull(parent);
        ArgumentNullException.ThrowIfNull(into);
        SplitMix random = _random;
        random.Restart(SeedOf(_seed, execution));
        into.CopyFrom(parent);
        into.Target = _target;
        _appliedCount = 0;
        MutationContext context = new(_tools, into, other ?? parent, random);
        // One for half of the executions, eight for one in eight.
        int wanted = 1 << BitOperations.TrailingZeroCount(random.Next() | MostStacked);
        for (int attempt = 0; attempt < MostAttempts && _appliedCount < wanted && _rows.Length != 0; attempt++)
        {
            int chosen = Choose(random.Below((ulong)_sums[^1]));
            if (_table.Rows[_rows[chosen]].Run(ref context) == MutationResult.Mutated)
            {
                _applied[_appliedCount++] = chosen;
            }
        }

        return _appliedCount;
    }

    /// <summary>Says what the last input was worth. To be called once after each execution.</summary>
    /// <param name="kept">Whether it showed something new.</param>
    public void Report(bool kept)
    {
        for (int i = 0; i < _appliedCount; i++)
        {
            ref Counter counter = ref _now[_applied[i]];
            counter.Tries++;
            counter.Finds += kept ? 1UL : 0;
            ref Counter total = ref _all[_applied[i]];
            total.Tries++;
            total.Finds += kept ? 1UL : 0;
        }

        _appliedCount = 0;
        if (++_reports % (ulong)Math.Max(1, _epoch) == 0 && _epoch != 0)
        {
            Adapt();
        }
    }

    /// <summary>The yield of each mutator of the target, in the table's order.</summary>
    public IReadOnlyList<MutatorYield> Yields()
    {
        var yields = new MutatorYield[_rows.Length];
        for (int i = 0; i < yields.Length; i++)
        {
            yields[i] = new(_table.Rows[_rows[i]].Id, (int)(_weights[i] / WeightScale), _all[i].Tries, _all[i].Finds);
        }

        return yields;
    }

    /// <summary>
    /// The weight after an epoch: half way to the start weight times the mutator's yield over the average yield, the
    /// latter between a quarter and four. Without finds it moves half way back to the start weight.
    /// </summary>
    /// <param name="start">Start weight, in parts of <see cref="WeightScale"/>.</param>
    /// <param name="weight">Weight now, in the same unit.</param>
    /// <param name="tries">Tries of the mutator in this epoch.</param>
    /// <param name="finds">Finds of the mutator in this epoch.</param>
    /// <param name="allTries">Tries of all mutators.</param>
    /// <param name="allFinds">Finds of all mutators.</param>
    public static long Adapted(long start, long weight, ulong tries, ulong finds, ulong allTries, ulong allFinds)
    {
        if (tries == 0 || allFinds == 0)
        {
            return Math.Max(1, (weight + start) / 2);
        }

        // One find more on both sides, so that a short epoch does not decide.
        UInt128 own = (UInt128)((finds * 16) + 1) * allTries;
        UInt128 average = (UInt128)tries * allFinds * 16;
        UInt128 wanted = (UInt128)start * own / average;
        long most = start * 4;
        long goal = wanted > (UInt128)most ? most : (long)wanted;
        return Math.Max(1, (weight + Math.Max(goal, start / 4)) / 2);
    }

    /// <summary>Everything that changes, as bytes: to go on later, or elsewhere.</summary>
    public byte[] Save()
    {
        byte[] buffer = new byte[64 + (_rows.Length * 45)];
        MsgPackWriter writer = new(buffer);
        writer.WriteArrayHeader(3 + (5 * _rows.Length));
        writer.WriteUInt(StateVersion);
        writer.WriteUInt((ulong)_rows.Length);
        writer.WriteUInt(_reports);
        for (int i = 0; i < _rows.Length; i++)
        {
            writer.WriteUInt((ulong)_weights[i]);
            writer.WriteUInt(_now[i].Tries);
            writer.WriteUInt(_now[i].Finds);
            writer.WriteUInt(_all[i].Tries);
            writer.WriteUInt(_all[i].Finds);
        }

        return writer.Written.ToArray();
    }

    /// <summary>Takes over what <see cref="Save"/> gave.</summary>
    /// <returns>False when the bytes are not from a scheduler with as many mutators; then nothing changed.</returns>
    public bool TryRestore(ReadOnlySpan<byte> saved)
    {
        MsgPackReader reader = new(saved);
        if (!reader.TryReadArrayHeader(int.MaxValue, out int count) || count != 3 + (5 * _rows.Length)
            || !reader.TryReadUInt(out ulong version) || version != StateVersion
            || !reader.TryReadUInt(out ulong rows) || rows != (ulong)_rows.Length
            || !reader.TryReadUInt(out ulong reports))
        {
            return false;
        }

        ulong[] words = new ulong[5 * _rows.Length];
        for (int i = 0; i < words.Length; i++)
        {
            ulong most = i % 5 == 0 ? 4UL * 1000 * WeightScale : ulong.MaxValue;
            if (!reader.TryReadUInt(most, out words[i]) || (i % 5 == 0 && words[i] == 0))
            {
                return false;
            }
        }

        if (!reader.Finished)
        {
            return false;
        }

        _reports = reports;
        for (int i = 0; i < _rows.Length; i++)
        {
            _weights[i] = (long)words[5 * i];
            _now[i] = new Counter { Tries = words[(5 * i) + 1], Finds = words[(5 * i) + 2] };
            _all[i] = new Counter { Tries = words[(5 * i) + 3], Finds = words[(5 * i) + 4] };
        }

        Sum();
        return true;
    }

    internal static ulong SeedOf(ulong seed, ulong execution) => StateHash.Step(StateHash.Step(0, seed), execution);

    private void Sum()
    {
        long sum = 0;
        for (int i = 0; i < _weights.Length; i++)
        {
            sum += _weights[i];
            _sums[i] = sum;
        }
    }

    private int Choose(ulong point)
    {
        int low = 0;
        int high = _sums.Length - 1;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if ((ulong)_sums[middle] > point)
            {
                high = middle;
            }
            else
            {
                low = middle + 1;
            }
        }

        return low;
    }

    private struct Counter
    {
        public ulong Tries;
        public ulong Finds;
    }
}
