using System.Collections.Immutable;

namespace VmFuzz.Vmx;

internal static class GuestNonRegisterChecks
{
    public static readonly ImmutableArray<EntryCheck> Rows = [];
}
