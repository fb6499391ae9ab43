using VmFuzz.Arch;

namespace VmFuzz.Cpu;

/// <summary>Where a TSS format keeps its fields (SDM "32-Bit Task-State Segment", "16-Bit Task-State Segment").</summary>
/// <param name="Size">Bytes of a register's field, and of what is pushed in the task: 4 or 2.</param>
/// <param name="Rip">Offset of EIP or IP.</param>
/// <param name="Flags">Offset of EFLAGS or FLAGS.</param>
/// <param name="Registers">Offset of the eight general registers, in encoding order.</param>
/// <param name="Segments">Offset of the segment selectors, in encoding order.</param>
/// <param name="SegmentCount">How many: the 16-bit format has no FS and GS.</param>
/// <param name="Ldt">Offset of the LDT selector.</param>
/// <param name="LastByte">The least limit of the segment.</param>
internal sealed record TssLayout(
    int Size, uint Rip, uint Flags, uint Registers, uint Segments, int SegmentCount, uint Ldt, uint LastByte)
{
    /// <summary>Offset of CR3 in the 32-bit format.</summary>
    public const uint Cr3 = 28;

    /// <summary>Offset of the word whose bit 0 is the debug trap flag in the 32-bit format.</summary>
    public const uint Trap = 100;

    /// <summary>Offset of the offset of the I/O permission bit map in the 32-bit format.</summary>
    public const uint IoMap = 102;

    private static readonly TssLayout Wide = new(4, 32, 36, 40, 72, 6, 96, 103);
    private static readonly TssLayout Narrow = new(2, 14, 16, 18, 34, 4, 42, 43);

    /// <summary>The format by the attributes of a TSS descriptor.</summary>
    public static TssLayout Of(uint attributes) => (attributes & 8) != 0 ? Wide : Narrow;

    /// <summary>Whether the format has CR3 and the debug trap flag.</summary>
    public bool IsWide => Size == 4;

    /// <summary>Bytes from EIP on that a task's state is saved to.</summary>
    public uint SavedBytes => Segments + (uint)(SegmentCount * Size) - Rip;
}

/// <summary>What a TSS says about a task that is to run.</summary>
internal unsafe struct TaskState
{
    /// <summary>CR3, EIP, EFLAGS.</summary>
    public ulong Cr3, Rip, Flags;

    /// <summary>General registers in encoding order.</summary>
    public fixed ulong Registers[8];

    /// <summary>Selectors in the order of <see cref="SegmentRegister"/>; those that the format lacks are null.</summary>
    public fixed ushort Segments[6];

    /// <summary>LDT selector.</summary>
    public ushort Ldt;

    /// <summary>A debug exception comes before the first instruction.</summary>
    public bool Trap;
}
