using System.Collections.Immutable;

namespace VmFuzz.Vmx;

internal static class PdpteChecks
{
    public static readonly ImmutableArray<EntryCheck> Rows = [];
}
