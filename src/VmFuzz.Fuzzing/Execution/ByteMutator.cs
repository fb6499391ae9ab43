namespace VmFuzz.Fuzzing;

/// <summary>Structured mutation for fuzzers that keep their corpus as bytes.</summary>
public sealed class ByteMutator
{
    private readonly MutatorScheduler _scheduler;
    private readonly FuzzTarget _target;
    private readonly byte[] _buffer = new byte[FuzzLimits.InputBytes];
    private readonly FuzzInput _mutated = new();
    private FuzzInput _parent = new();
    private FuzzInput _other = new();

    /// <summary>Mutates with the rows of a table, by their start weights.</summary>
    public ByteMutator(MutatorTable table, FuzzTarget target)
    {
        _scheduler = new MutatorScheduler(table, target, 0);
        _target = target;
    }

    /// <summary>Changes an input. The one before serves for splices.</summary>
    /// <param name="data">The bytes, and room for longer ones.</param>
    /// <param name="size">How many of them are the input.</param>
    /// <param name="seed">Where all choices come from.</param>
    /// <returns>The new size; 0 when nothing changed or the result does not fit, and the bytes are as before.</returns>
    public int Mutate(Span<byte> data, int size, ulong seed)
    {
        FuzzCodec.Decode(data[..size], _parent, _target);
        int changes = _scheduler.Mutate(seed, _parent, _other, _mutated);
        (_parent, _other) = (_other, _parent);
        int length = changes == 0 ? 0 : FuzzCodec.Encode(_mutated, _buffer);
        if (length > data.Length)
        {
            return 0;
        }

        _buffer.AsSpan(0, length).CopyTo(data);
        return length;
    }
}
