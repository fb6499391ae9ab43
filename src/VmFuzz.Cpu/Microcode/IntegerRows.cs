using System.Collections.Immutable;

namespace VmFuzz.Cpu.Microcode;

/// <summary>User-mode integer instructions.</summary>
internal static class IntegerRows
{
    public static readonly ImmutableArray<InstructionRow> All = [];
}
