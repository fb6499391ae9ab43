using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace VmFuzz.Coverage;

/// <summary>What merging counts has brought.</summary>
/// <param name="Probes">Probes hit for the first time.</param>
/// <param name="Buckets">Probes hit before, but never this often or this seldom.</param>
public readonly record struct CoverageNovelty(int Probes, int Buckets)
{
    /// <summary>Whether there is anything new.</summary>
    public bool Any => (Probes | Buckets) != 0;
}

/// <summary>Scans over hit counts. Vectors and scalar code give the same answers on every host.</summary>
public static class CoverageCounts
{
    private const int Chunk = 32;

    // The bucket of a count below 16, by its low half; of a larger one, by its high half.
    private static ReadOnlySpan<byte> Low => [0, 1, 2, 4, 8, 8, 8, 8, 16, 16, 16, 16, 16, 16, 16, 16];

    private static ReadOnlySpan<byte> High => [0, 32, 64, 64, 64, 64, 64, 64, 128, 128, 128, 128, 128, 128, 128, 128];

    /// <summary>The bucket of a count, as AFL has them: 0, 1, 2, 3, 4-7, 8-15, 16-31, 32-127, 128-255, as 0 or one bit each.</summary>
    public static byte Bucket(byte count) => count < 16 ? Low[count] : High[count >> 4];

    /// <summary>Replaces counts by their buckets.</summary>
    /// <param name="counts">Counts.</param>
    /// <param name="buckets">Where the buckets go, at least as long; may be the same memory.</param>
    public static void Classify(ReadOnlySpan<byte> counts, Span<byte> buckets) =>
        Classify(counts, buckets, Vector128.IsHardwareAccelerated);

    /// <summary>How many counts are not 0.</summary>
    public static int CountSet(ReadOnlySpan<byte> counts) => counts.Length - counts.Count((byte)0);

    /// <summary>A hash of the buckets of the counts: the sum modulo 2^64 of a mix of each eight buckets and their place.</summary>
    /// <returns>0 when nothing was hit. Trailing zeros do not count.</returns>
    public static ulong Hash(ReadOnlySpan<byte> counts) => Hash(counts, Vector128.IsHardwareAccelerated);

    /// <summary>Adds the buckets of counts to what has been seen.</summary>
    /// <param name="counts">Counts.</param>
    /// <param name="seen">A set of buckets for each probe, at least as long.</param>
    public static CoverageNovelty Merge(ReadOnlySpan<byte> counts, Span<byte> seen) =>
        Merge(counts, seen, Vector128.IsHardwareAccelerated);

    internal static void Classify(ReadOnlySpan<byte> counts, Span<byte> buckets, bool vectors)
    {
        buckets = buckets[..counts.Length];
        int i = 0;
        if (vectors)
        {
            ref byte from = ref MemoryMarshal.GetReference(counts);
            ref byte to = ref MemoryMarshal.GetReference(buckets);
            for (; i <= counts.Length - Vector128<byte>.Count; i += Vector128<byte>.Count)
            {
                // SAFETY: i + 16 <= length of both spans.
                Buckets(Vector128.LoadUnsafe(ref from, (nuint)i)).StoreUnsafe(ref to, (nuint)i);
            }
        }

        for (; i < counts.Length; i++)
        {
            buckets[i] = Bucket(counts[i]);
        }
    }

    internal static ulong Hash(ReadOnlySpan<byte> counts, bool vectors)
    {
        ulong sum = 0;
        Span<byte> part = stackalloc byte[Chunk];
        for (int i = 0; i < counts.Length; i += Chunk)
        {
            ReadOnlySpan<byte> chunk = counts[i..Math.Min(i + Chunk, counts.Length)];
            if (IsZero(chunk, vectors))
            {
                continue;
            }

            part.Clear();
            Classify(chunk, part, vectors);
            for (int word = 0; word < Chunk; word += 8)
            {
                ulong value = BinaryPrimitives.ReadUInt64LittleEndian(part[word..]);
                if (value != 0)
                {
                    sum += Mix(value ^ Mix((ulong)(i + word) + 0x9E3779B97F4A7C15));
                }
            }
        }

        return sum;
    }

    internal static CoverageNovelty Merge(ReadOnlySpan<byte> counts, Span<byte> seen, bool vectors)
    {
        seen = seen[..counts.Length];
        int probes = 0;
        int buckets = 0;
        for (int i = 0; i < counts.Length; i += Chunk)
        {
            int end = Math.Min(i + Chunk, counts.Length);
            if (!MayAdd(counts[i..end], seen[i..end], vectors))
            {
                continue;
            }

            for (int at = i; at < end; at++)
            {
                byte old = seen[at];
                byte bucket = Bucket(counts[at]);
                if ((bucket & ~old) != 0)
                {
                    probes += old == 0 ? 1 : 0;
                    buckets += old == 0 ? 0 : 1;
                    seen[at] = (byte)(old | bucket);
                }
            }
        }

        return new CoverageNovelty(probes, buckets);
    }

    // Whether one of the counts has a bucket that is not in the sets. May say true for a chunk that has none.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool MayAdd(ReadOnlySpan<byte> counts, ReadOnlySpan<byte> seen, bool vectors)
    {
        if (!vectors || counts.Length != Chunk)
        {
            return true;
        }

        // SAFETY: both spans have 32 bytes, two vectors.
        ref byte from = ref MemoryMarshal.GetReference(counts);
        Vector128<byte> low = Vector128.LoadUnsafe(ref from);
        Vector128<byte> high = Vector128.LoadUnsafe(ref from, 16);
        if ((low | high) == Vector128<byte>.Zero)
        {
            return false;
        }

        ref byte old = ref MemoryMarshal.GetReference(seen);
        Vector128<byte> fresh = Vector128.AndNot(Buckets(low), Vector128.LoadUnsafe(ref old))
            | Vector128.AndNot(Buckets(high), Vector128.LoadUnsafe(ref old, 16));
        return fresh != Vector128<byte>.Zero;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool IsZero(ReadOnlySpan<byte> counts, bool vectors)
    {
        if (vectors && counts.Length == Chunk)
        {
            // SAFETY: 32 bytes, two vectors.
            ref byte from = ref MemoryMarshal.GetReference(counts);
            return (Vector128.LoadUnsafe(ref from) | Vector128.LoadUnsafe(ref from, 16)) == Vector128<byte>.Zero;
        }

        foreach (byte count in counts)
        {
            if (count != 0)
            {
                return false;
            }
        }

        return true;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<byte> Buckets(Vector128<byte> counts)
    {
        Vector128<byte> half = Vector128.Create((byte)0x0F);
        Vector128<byte> upper = Vector128.ShiftRightLogical(counts, 4) & half;
        Vector128<byte> ofLow = Vector128.Shuffle(Vector128.Create(Low), counts & half);
        Vector128<byte> ofHigh = Vector128.Shuffle(Vector128.Create(High), upper);
        return Vector128.ConditionalSelect(Vector128.Equals(upper, Vector128<byte>.Zero), ofLow, ofHigh);
    }

    // The finaliser of SplitMix64.
    private static ulong Mix(ulong value)
    {
        value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
        value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
        return value ^ (value >> 31);
    }
}
