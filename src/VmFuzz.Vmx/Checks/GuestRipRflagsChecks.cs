using System.Collections.Immutable;

namespace VmFuzz.Vmx;

internal static class GuestRipRflagsChecks
{
    public static readonly ImmutableArray<EntryCheck> Rows = [];
}
