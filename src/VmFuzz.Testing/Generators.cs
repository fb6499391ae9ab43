using System.Collections.Immutable;
using FsCheck;
using FsCheck.Fluent;
using VmFuzz.Replay;

namespace VmFuzz.Testing;

/// <summary>
/// Generators and shrinkers of what machines run on and produce, by theme: <c>Generators.*.cs</c>. Those that need no
/// arguments stand in <see cref="VmFuzzArbitraries"/> too.
/// </summary>
/// <remarks>What is generated is a function of the seed of the run alone. Every shrinker gives only smaller cases, so shrinking ends.</remarks>
public static partial class Generators
{
    /// <summary>Any 64 bits.</summary>
    public static Gen<ulong> Word64 { get; } =
        Gen.Choose(0, int.MaxValue).Three().Select(static p => ((ulong)p.Item1 << 33) ^ ((ulong)p.Item2 << 16) ^ (ulong)p.Item3);

    /// <summary>64 bits, often small, a power of two or all ones.</summary>
    public static Gen<ulong> Interesting { get; } = Word64.Select(static seed => AtomMaker.Value(new SplitMix(seed)));

    // Whatever is drawn from one seed, and as much of it as the size asks for.
    private static Gen<T> Drawn<T>(Func<SplitMix, int, T> draw) =>
        from size in Gen.Sized(static s => Gen.Choose(0, s))
        from seed in Word64
        select draw(new SplitMix(seed), size);

    // Halves first, then single elements.
    private static IEnumerable<ImmutableArray<T>> Without<T>(ImmutableArray<T> items)
    {
        for (int size = (items.Length + 1) / 2; size >= 1; size /= 2)
        {
            for (int start = 0; start + size <= items.Length; start += size)
            {
                yield return items.RemoveRange(start, size);
            }
        }
    }

    // One word at a time becomes 0.
    private static IEnumerable<ImmutableArray<ulong>> Zeroed(ImmutableArray<ulong> words)
    {
        for (int i = 0; i < words.Length; i++)
        {
            if (words[i] != 0)
            {
                yield return words.SetItem(i, 0);
            }
        }
    }
}
