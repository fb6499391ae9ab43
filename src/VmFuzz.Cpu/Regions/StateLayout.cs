using System.Runtime.InteropServices;
using Iced.Intel;
using VmFuzz.Cpu.Blocks;

namespace VmFuzz.Cpu.Regions;

/// <summary>Byte offsets of what compiled code reaches in the state and in ops.</summary>
internal static class StateLayout
{
    public static readonly int Rip = CpuState.RipSlot * sizeof(ulong);
    public static readonly int Budget = At(nameof(CpuState.Budget));
    public static readonly int Lazy = At(nameof(CpuState.Lazy));
    public static readonly int LazyResult = At(nameof(CpuState.LazyResult));
    public static readonly int LazyLeft = At(nameof(CpuState.LazyLeft));
    public static readonly int LazyRight = At(nameof(CpuState.LazyRight));
    public static readonly int LazyCarry = At(nameof(CpuState.LazyCarry));
    public static readonly int TlbContext = At(nameof(CpuState.TlbContext));
    public static readonly int ReadTlb = At(nameof(CpuState.ReadTlb));
    public static readonly int WriteTlb = At(nameof(CpuState.WriteTlb));

    /// <summary>Where the number of a head's entry stands in its op.</summary>
    public static readonly int Entry = (int)Marshal.OffsetOf<Op>(nameof(Op.Displacement));

    private static readonly int Segments = At(nameof(CpuState.Es));
    private static readonly int SegmentBase = (int)Marshal.OffsetOf<SegmentState>(nameof(SegmentState.Base));

    /// <summary>The base of a segment register.</summary>
    public static int BaseOf(Register segment) => Segments + ((int)Processor.ToSegment(segment) * Marshal.SizeOf<SegmentState>()) + SegmentBase;

    private static int At(string field) => (int)Marshal.OffsetOf<CpuState>(field);
}
