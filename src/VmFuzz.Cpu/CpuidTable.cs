using System.Collections.Immutable;

namespace VmFuzz.Cpu;

/// <summary>CPUID look-up.</summary>
internal static class CpuidTable
{
    public static CpuidLeaf Lookup(ImmutableArray<CpuidLeaf> leaves, uint leaf, uint subleaf)
    {
        foreach (CpuidLeaf row in leaves)
        {
            if (row.Leaf == leaf && (!row.HasSubleaf || row.Subleaf == subleaf))
            {
                return row;
            }
        }

        return new CpuidLeaf(leaf, subleaf, false, 0, 0, 0, 0);
    }
}
