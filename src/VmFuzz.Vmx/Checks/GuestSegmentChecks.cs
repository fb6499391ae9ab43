using System.Collections.Immutable;

namespace VmFuzz.Vmx;

internal static class GuestSegmentChecks
{
    public static readonly ImmutableArray<EntryCheck> Rows = [];
}
