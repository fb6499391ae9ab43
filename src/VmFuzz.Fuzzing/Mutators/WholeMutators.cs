using System.Buffers.Binary;
using System.Collections.Immutable;

namespace VmFuzz.Fuzzing;

/// <summary>Mutators that know nothing of what an input means.</summary>
internal static class WholeMutators
{
    public static readonly ImmutableArray<Mutator> Rows =
    [
        new("havoc", FuzzTargets.All, 10, FuzzSections.All, Havoc),
        new("crossover", FuzzTargets.All, 12, FuzzSections.All, Crossover),
        new("splice", FuzzTargets.All, 12, FuzzSections.All, Splice),
    ];

    /// <summary>Changes bytes as an outside fuzzer would, which knows nothing of the encoding.</summary>
    /// <param name="c">Where choices come from.</param>
    /// <param name="buffer">Twice <see cref="FuzzLimits.InputBytes"/>.</param>
    /// <param name="length">Bytes in it, at least 1.</param>
    /// <param name="other">The bytes of another input, whose tail may take the place of this one's.</param>
    /// <returns>Bytes in it now, at least 1.</returns>
    public static int MutateBytes(ref MutationContext c, byte[] buffer, int length, ReadOnlySpan<byte> other)
    {
        if (other.Length != 0 && c.OneIn(8))
        {
            int head = c.Pick(length);
            ReadOnlySpan<byte> tail = other[c.Pick(other.Length)..];
            tail.CopyTo(buffer.AsSpan(head));
            length = Math.Min(head + tail.Length, FuzzLimits.InputBytes);
        }

        for (int left = 2 << c.Pick(5); left > 0; left--)
        {
            length = Havoc(ref c, buffer, length);
        }

        return length;
    }

    // On the bytes of the encoding; whatever comes out is an input.
    private static MutationResult Havoc(ref MutationContext c)
    {
        byte[] buffer = c.Tools.Buffer;
        int length = FuzzCodec.Encode(c.Input, buffer);
        for (int left = 1 << c.Pick(4); left > 0; left--)
        {
            length = Havoc(ref c, buffer, length);
        }

        FuzzCodec.Decode(buffer.AsSpan(0, length), c.Input);
        return MutationResult.Mutated;
    }

    private static int Havoc(ref MutationContext c, byte[] buffer, int length)
    {
        int at = c.Pick(length);
        int block = Math.Min(1 + c.Pick(32), length - at);
        switch (c.Pick(8))
        {
            case 0:
            case 1:
                buffer[at] ^= (byte)(1 << c.Pick(8));
                return length;
            case 2:
                buffer[at] = (byte)c.Random.Next();
                return length;
            case 3:
                buffer[at] += (byte)(c.Pick(35) - 17);
                return length;
            case 4:
                Span<byte> word = stackalloc byte[8];
                BinaryPrimitives.WriteUInt64BigEndian(word, c.Word());
                int bytes = Math.Min(1 << c.Pick(4), length - at);
                word[^bytes..].CopyTo(buffer.AsSpan(at));
                return length;
            case 5 when length > block:
                buffer.AsSpan(at + block, length - at - block).CopyTo(buffer.AsSpan(at));
                return length - block;
            case 6 when length + block <= FuzzLimits.InputBytes:
                // The block appears twice.
                buffer.AsSpan(at, length - at).CopyTo(buffer.AsSpan(at + block));
                return length + block;
            default:
                buffer.AsSpan(at, block).CopyTo(buffer.AsSpan(c.Pick(length - block + 1)));
                return length;
        }
    }

    // Each section from one of the two.
    private static MutationResult Crossover(ref MutationContext c)
    {
        if (ReferenceEquals(c.Input, c.Other))
        {
            return MutationResult.Skipped;
        }

        ulong choice = c.Random.Next();
        FuzzSections taken = (FuzzSections)((ushort)choice & (ushort)FuzzSections.All);
        c.Input.CopyFrom(c.Other, taken);
        return MutationResult.Mutated;
    }

    // Some items of a list of the other input, put in at any place.
    private static MutationResult Splice(ref MutationContext c)
    {
        FuzzSectionRow row = c.Pick(FuzzSectionRow.All);
        int count = row.Count(c.Other);
        if (count == 0)
        {
            return MutationResult.Skipped;
        }

        int from = c.Pick(count);
        row.Insert(c.Other, from, 1 + c.Pick(Math.Min(16, count - from)), c.Input, c.Pick(row.Count(c.Input) + 1));
        return MutationResult.Mutated;
    }
}
