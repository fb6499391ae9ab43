using System.Collections.Immutable;

namespace VmFuzz.Vmx;

internal static class HostStateChecks
{
    public static readonly ImmutableArray<EntryCheck> Rows = [];
}
