using System.Collections.Immutable;

namespace VmFuzz.Vmx;

internal static class EntryControlChecks
{
    public static readonly ImmutableArray<EntryCheck> Rows = [];
}
