namespace VmFuzz.Fuzzing;

/// <summary>
/// Counts of things that a run did and that code coverage does not tell apart: an exit reason with the class of its
/// qualification, its outcome and the event injected next; an entry check that failed; a pair of consecutive exits.
/// </summary>
/// <remarks>Clearing and reading cost what was counted, not the size. Counts stop at 255.</remarks>
public sealed class FeatureMap
{
    /// <summary>Cells; a power of two.</summary>
    public const int Size = 1 << 16;

    private const int MostTouched = 4096;
    private readonly byte[] _counts = new byte[Size];
    private readonly ushort[] _touched = new ushort[MostTouched];
    private int _touchedCount;

    /// <summary>Cells with a count above 0, in the order in which they were first counted; at most 4096 of them.</summary>
    public ReadOnlySpan<ushort> Touched => _touched.AsSpan(0, _touchedCount);

    /// <summary>The count of a cell.</summary>
    public byte this[ushort cell] => _counts[cell];

    /// <summary>Counts a feature.</summary>
    /// <param name="feature">Any number that stands for it; its hash is its cell.</param>
    public void Add(ulong feature)
    {
        ulong mixed = (feature ^ (feature >> 32)) * 0x9E37_79B9_7F4A_7C15;
        int cell = (int)(mixed >> 48);
        ref byte count = ref _counts[cell];
        if (count == 0)
        {
            if (_touchedCount == MostTouched)
            {
                return;
            }

            _touched[_touchedCount++] = (ushort)cell;
        }

        if (count != byte.MaxValue)
        {
            count++;
        }
    }

    /// <summary>Counts a feature that has a name.</summary>
    public void Add(ReadOnlySpan<char> name)
    {
        // FNV-1a: the same in every process.
        ulong hash = 0xCBF2_9CE4_8422_2325;
        foreach (char letter in name)
        {
            hash = (hash ^ letter) * 0x100_0000_01B3;
        }

        Add(hash);
    }

    /// <summary>Sets every count to 0.</summary>
    public void Clear()
    {
        foreach (ushort cell in Touched)
        {
            _counts[cell] = 0;
        }

        _touchedCount = 0;
    }
}
