using System.Collections.Immutable;

namespace VmFuzz.Cpu.Microcode;

/// <summary>System instructions, segment loads, far transfers and interrupts.</summary>
internal static class SystemRows
{
    public static readonly ImmutableArray<InstructionRow> All =
    [
        .. Segments.Rows,
        .. FarTransfers.Rows,
        .. FlagsStack.Rows,
        .. Interrupts.Rows,
        .. PortIo.Rows,
        .. Halt.Rows,
        .. DescriptorTables.Rows,
        .. ControlRegisters.Rows,
        .. Msrs.Rows,
        .. Timestamps.Rows,
        .. FpuControl.Rows,
        .. ExtendedState.Rows,
        .. FastCalls.Rows,
        .. VmxGates.Rows,
    ];
}
