namespace VmFuzz.Coverage;

/// <summary>What the IL of a probe names. Nobody else needs it: use <see cref="CoverageMap"/>.</summary>
public static unsafe class CoverageProbe
{
    // SAFETY (both fields): written once by the initialiser, which settles the map, so that the JIT may use the address
    // as a constant. A probe writes at Map + id; the loader gives a probe only ids below CoverageMap.Used, which is at
    // most the capacity of the memory behind Map, and that memory is never freed. Previous points at an int that lives as
    // long as the process; what a probe computes from it is cut to the range of pairs before it is used.

    /// <summary>The first count.</summary>
    public static readonly byte* Map;

    /// <summary>The place of the last probe, in pair mode.</summary>
    public static readonly int* Previous;

    // An explicit static constructor runs at first access and not before: UseExternal comes first.
#pragma warning disable CA1810
    static CoverageProbe()
    {
        Map = CoverageMap.Settle();
        Previous = CoverageMap.PreviousLocation;
    }
#pragma warning restore CA1810
}
