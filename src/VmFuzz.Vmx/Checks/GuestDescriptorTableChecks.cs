using System.Collections.Immutable;

namespace VmFuzz.Vmx;

internal static class GuestDescriptorTableChecks
{
    public static readonly ImmutableArray<EntryCheck> Rows = [];
}
