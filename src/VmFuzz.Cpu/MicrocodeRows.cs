using System.Collections.Immutable;

namespace VmFuzz.Cpu;

/// <summary>All rows, put together from the families.</summary>
internal static class MicrocodeRows
{
    public static readonly ImmutableArray<InstructionRow> All =
    [
        .. Microcode.IntegerRows.All,
        .. Microcode.SystemRows.All,
        .. Microcode.Vectors.VectorRows.All,
    ];
}
