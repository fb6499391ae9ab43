using System.Collections.Immutable;

namespace VmFuzz.Cpu.Microcode;

/// <summary>x87 instructions but those that control it alone, which are with <see cref="FpuControl"/>.</summary>
internal static class X87Rows
{
    public static readonly ImmutableArray<InstructionRow> All =
    [
        .. X87Loads.Rows,
        .. X87Stores.Rows,
        .. X87Moves.Rows,
        .. X87Arithmetics.Rows,
        .. X87Compares.Rows,
        .. X87Environment.Rows,
    ];
}
