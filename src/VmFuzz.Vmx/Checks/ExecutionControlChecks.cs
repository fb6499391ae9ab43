using System.Collections.Immutable;

namespace VmFuzz.Vmx;

internal static class ExecutionControlChecks
{
    public static readonly ImmutableArray<EntryCheck> Rows = [];
}
