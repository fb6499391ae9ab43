using System.Collections.Immutable;

namespace VmFuzz.Cpu.Microcode.Vectors;

/// <summary>Instructions on vector registers.</summary>
internal static class VectorRows
{
    public static readonly ImmutableArray<InstructionRow> All =
    [
        .. VectorMoves.Rows,
        .. PackedRows.All,
        .. VectorExtracts.Rows,
        .. PackedTests.Rows,
        .. MaskedMoves.Rows,
        .. MmxState.Rows,
        .. VexPacked.Rows,
        .. VexMoves.Rows,
    ];
}
