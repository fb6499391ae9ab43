using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Replay;

namespace VmFuzz.Fuzzing;

/// <summary>What an execution's input was made from.</summary>
/// <param name="Parent">Position in the queue, or -1.</param>
/// <param name="Other">Position of the second input, or -1.</param>
internal readonly record struct Parents(int Parent, int Other);

/// <summary>
/// Makes the input of an execution: a function of the seed, the index, the epoch's record and the entries of the queue
/// that were there, and of nothing else.
/// </summary>
internal sealed class InputMaker
{
    private const int Newest = 64;
    private const int Attempts = 8;
    private const int MostRandomBits = 11;

    private readonly FuzzMode _mode;
    private readonly FuzzTarget _target;
    private readonly ulong _seed;
    private readonly SplitMix _random = new(0);
    private readonly FuzzInput _empty;
    private readonly MutationTools _tools = new();
    private readonly byte[] _bytes = new byte[1 << MostRandomBits];
    private int[] _favoured = [];

    public InputMaker(FuzzMode mode, FuzzTarget target, ulong seed)
    {
        _mode = mode;
        _target = target;
        _seed = seed;
        _empty = new FuzzInput { Target = target };
        Scheduler = new MutatorScheduler(MutatorTable.Default, target, seed, epoch: 0);
    }

    public MutatorScheduler Scheduler { get; }

    /// <summary>What made the last input, for the names of files.</summary>
    public string Operation => _mode switch
    {
        FuzzMode.Random => "random",
        FuzzMode.Coverage => "havoc",
        _ => string.Join('+', Scheduler.Applied),
    };

    /// <summary>Takes over what an epoch's choices depend on.</summary>
    /// <param name="record">The epoch.</param>
    /// <param name="queue">The queue, by number.</param>
    /// <returns>False when the weights are not those of these mutators.</returns>
    public bool Begin(EpochRecord record, IReadOnlyList<QueueEntry> queue)
    {
        var favoured = new List<int>(record.Favoured.Length);
        int at = 0;
        foreach (uint id in record.Favoured)
        {
            while (at < queue.Count && queue[at].Id < id)
            {
                at++;
            }

            if (at < queue.Count && queue[at].Id == id)
            {
                favoured.Add(at);
            }
        }

        _favoured = [.. favoured];
        foreach (QueueEntry entry in queue)
        {
            entry.Skipped = record.Skipped.BinarySearch(entry.Id) >= 0;
        }

        return Scheduler.TrySetWeights(record.Weights.AsSpan());
    }

    /// <summary>Makes an input.</summary>
    /// <param name="execution">Index of the execution.</param>
    /// <param name="queue">The queue, by number.</param>
    /// <param name="available">How many of its entries were there before the execution.</param>
    /// <param name="into">Becomes the input, in canonical form.</param>
    public Parents Make(ulong execution, IReadOnlyList<QueueEntry> queue, int available, FuzzInput into)
    {
        // Another stream than the mutators': how many numbers are drawn here does not matter there.
        _random.Restart(StateHash.Step(StateHash.Step(_seed ^ 0x7061_7265_6E74_0000, execution), _seed));
        if (_mode == FuzzMode.Random)
        {
            FillRandom(into);
            return new(-1, -1);
        }

        int parent = Choose(queue, available);
        int other = available < 2 ? parent : (int)_random.Below((ulong)available);
        if (_mode == FuzzMode.Coverage)
        {
            MutateBytes(execution, parent < 0 ? [] : queue[parent].Bytes.AsSpan(), other < 0 || other == parent ? [] : queue[other].Bytes.AsSpan(), into);
            return new(parent, other);
        }

        FuzzInput from = parent < 0 ? _empty : queue[parent].Input;
        Scheduler.Mutate(execution, from, other < 0 || other == parent ? null : queue[other].Input, into);
        return new(parent, other);
    }

    // Half of the time a favoured one, then mostly one of the newest, now and then any.
    private int Choose(IReadOnlyList<QueueEntry> queue, int available)
    {
        for (int attempt = 0; attempt < Attempts && available > 0; attempt++)
        {
            ulong kind = _random.Below(16);
            int chosen;
            if (kind < 8 && _favoured.Length != 0)
            {
                chosen = _favoured[(int)_random.Below((ulong)_favoured.Length)];
            }
            else if (kind < 13)
            {
                ulong window = (ulong)Math.Min(available, Newest);
                chosen = available - 1 - (int)Math.Min(_random.Below(window), _random.Below(window));
            }
            else
            {
                chosen = (int)_random.Below((ulong)available);
            }

            if (!queue[chosen].Skipped)
            {
                return chosen;
            }
        }

        return -1;
    }

    private void MutateBytes(ulong execution, ReadOnlySpan<byte> from, ReadOnlySpan<byte> other, FuzzInput into)
    {
        _random.Restart(MutatorScheduler.SeedOf(_seed, execution));
        MutationContext context = new(_tools, into, into, _random);
        from.CopyTo(_tools.Buffer);
        int length = from.Length;
        if (length == 0)
        {
            _tools.Buffer[length++] = (byte)_target;
        }

        length = WholeMutators.MutateBytes(ref context, _tools.Buffer, length, other);
        FuzzCodec.Decode(_tools.Buffer.AsSpan(0, length), into);
        into.Target = _target;
    }

    // Lengths spread over orders of magnitude. The first byte says the target and is no map, so that all that follows is
    // raw material of the target's main section.
    private void FillRandom(FuzzInput into)
    {
        int length = 1 + (int)_random.Below(1UL << (int)(1 + _random.Below(MostRandomBits)));
        Span<byte> bytes = _bytes.AsSpan(0, Math.Min(length, _bytes.Length));
        for (int i = 0; i < bytes.Length; i++)
        {
            bytes[i] = (byte)_random.Next();
        }

        bytes[0] = (byte)_target;
        FuzzCodec.Decode(bytes, into);
        into.Target = _target;
    }
}
