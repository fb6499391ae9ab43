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
        uint range = leaf & 0xC000_0000;
        if (range != 0x4000_0000)
        {
            // An absent extended range (no 0x8000_0000 row) is above its range as a whole.
            bool extended = range == 0x8000_0000;
            bool known = TryFind(leaves, extended ? 0x8000_0000 : 0, 0, out CpuidLeaf first);
            uint highestBasic = TryFind(leaves, 0, 0, out CpuidLeaf basic) ? basic.Eax : 0;
            if (!known || leaf > first.Eax)
            {
                leaf = highestBasic;
            }
        }

        if (TryFind(leaves, leaf, subleaf, out CpuidLeaf row))
        {
            return row;
        }

        // SDM leaf 0BH: an invalid level echoes the sub-leaf in ECX bits 7 to 0.
        uint ecx = leaf == TopologyLeaf && TryFind(leaves, leaf, 0, out _) ? subleaf & 0xFF : 0;
        return new CpuidLeaf(leaf, subleaf, false, 0, 0, ecx, 0);
    }

    private static bool TryFind(ImmutableArray<CpuidLeaf> leaves, uint leaf, uint subleaf, out CpuidLeaf found)
    {
        foreach (CpuidLeaf row in leaves)
        {
            if (row.Leaf == leaf && (!row.HasSubleaf || row.Subleaf == subleaf))
            {
                found = row;
                return true;
            }
        }

        found = default;
        return false;
    }
}
