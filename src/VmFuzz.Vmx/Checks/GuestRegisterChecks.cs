using System.Collections.Immutable;

namespace VmFuzz.Vmx;

internal static class GuestRegisterChecks
{
    public static readonly ImmutableArray<EntryCheck> Rows = [];
}
