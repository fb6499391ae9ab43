using System.Collections.Immutable;

namespace VmFuzz.Cpu;

/// <summary>CPUID look-up.</summary>
internal static class CpuidTable
{
    private const uint TopologyLeaf = 0xB;

    /// <summary>
    /// The row of a leaf (SDM "CPUID - CPU Identification"). A basic or extended leaf above its range gives the highest
    /// basic leaf; a leaf inside its range without a row gives zeros, and so does the range from 0x4000_0000 that
    /// software owns.
    /// </summary>
    public static CpuidLeaf Lookup(ImmutableArray<CpuidLeaf> leaves, uint leaf, uint subleaf)
    {
        ReadOnlySpan<CpuidLeaf> rows = leaves.AsSpan();
        uint range = leaf & 0xC000_0000;
        if (range != 0x4000_0000)
        {
            // An absent extended range (no 0x8000_0000 row) is above its range as a whole.
            int basic = IndexOf(rows, 0, 0);
            int first = range == 0x8000_0000 ? IndexOf(rows, 0x8000_0000, 0) : basic;
            if (first < 0 || leaf > rows[first].Eax)
            {
                leaf = basic < 0 ? 0 : rows[basic].Eax;
            }
        }

        int index = IndexOf(rows, leaf, subleaf);
        if (index >= 0)
        {
            return rows[index];
        }

        // SDM leaf 0BH: an invalid level echoes the sub-leaf in ECX bits 7 to 0.
        uint ecx = leaf == TopologyLeaf && IndexOf(rows, leaf, 0) >= 0 ? subleaf & 0xFF : 0;
        return new CpuidLeaf(leaf, subleaf, false, 0, 0, ecx, 0);
    }

    private static int IndexOf(ReadOnlySpan<CpuidLeaf> rows, uint leaf, uint subleaf)
    {
        for (int i = 0; i < rows.Length; i++)
        {
            ref readonly CpuidLeaf row = ref rows[i];
            if (row.Leaf == leaf && (!row.HasSubleaf || row.Subleaf == subleaf))
            {
                return i;
            }
        }

        return -1;
    }
}
