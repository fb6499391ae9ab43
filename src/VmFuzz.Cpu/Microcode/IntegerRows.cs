using System.Collections.Immutable;

namespace VmFuzz.Cpu.Microcode;

/// <summary>User-mode integer instructions.</summary>
internal static class IntegerRows
{
    public static readonly ImmutableArray<InstructionRow> All =
    [
        .. DataMovement.Rows,
        .. Arithmetic.Rows,
        .. MultiplyDivide.Rows,
        .. Logic.Rows,
        .. ShiftRotate.Rows,
        .. BitManipulation.Rows,
        .. Bmi.Rows,
        .. Exchange.Rows,
        .. Stack.Rows,
        .. ControlFlow.Rows,
        .. StringOps.Rows,
        .. Flags.Rows,
        .. Bcd.Rows,
        .. Misc.Rows,
    ];
}
