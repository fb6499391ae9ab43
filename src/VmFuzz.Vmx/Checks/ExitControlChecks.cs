using System.Collections.Immutable;

namespace VmFuzz.Vmx;

internal static class ExitControlChecks
{
    public static readonly ImmutableArray<EntryCheck> Rows = [];
}
