using System.Buffers.Binary;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Memory;

namespace VmFuzz.Machines;

/// <summary>Mode in which a guest that does not come from the reset vector starts.</summary>
internal enum StartMode : byte
{
    /// <summary>32-bit protected mode without paging.</summary>
    Protected32,
    /// <summary>64-bit mode, the first 4 GiB mapped to themselves.</summary>
    Long64,
}

/// <summary>Selectors of the flat segments that a guest starts with; the descriptor table has room for four.</summary>
/// <param name="Code">The code segment's.</param>
/// <param name="Data">The data segments'.</param>
internal readonly record struct StartSelectors(ushort Code, ushort Data)
{
    /// <summary>Those of raw guests and of multiboot kernels.</summary>
    public static readonly StartSelectors Plain = new(8, 16);

    /// <summary>Those that the Linux boot protocol names, __BOOT_CS and __BOOT_DS.</summary>
    public static readonly StartSelectors Linux = new(16, 24);
}

/// <summary>
/// The least state that a mode needs (SDM "Processor State"): flat segments with their descriptors in memory, and page tables
/// for 64-bit mode.
/// </summary>
internal static unsafe class StartState
{
    /// <summary>Where the descriptor table lies.</summary>
    public const ulong DescriptorTable = 0x800;

    /// <summary>Where the six pages of page tables lie.</summary>
    public const ulong PageTables = 0x1000;

    /// <summary>First address that belongs to the start state.</summary>
    public const ulong First = DescriptorTable;

    /// <summary>First address behind it.</summary>
    public const ulong End = PageTables + 0x6000;

    private const ulong Code32 = 0x00CF_9B00_0000_FFFF;
    private const ulong Code64 = 0x00AF_9B00_0000_FFFF;
    private const ulong Data = 0x00CF_9300_0000_FFFF;

    /// <summary>Puts a processor that was reset into a mode, at an address.</summary>
    public static void Enter(Processor processor, GuestMemory memory, StartMode mode, ulong rip, StartSelectors selectors)
    {
        CpuState* s = processor.State;
        bool wide = mode == StartMode.Long64;
        Span<byte> table = stackalloc byte[32];
        table.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(table[selectors.Code..], wide ? Code64 : Code32);
        BinaryPrimitives.WriteUInt64LittleEndian(table[selectors.Data..], Data);
        memory.TryLoad(new Gpa(DescriptorTable), table);
        s->Gdtr = new TableState { Base = DescriptorTable, Limit = (uint)table.Length - 1 };
        s->Cs = new SegmentState { Selector = selectors.Code, Limit = uint.MaxValue, Attributes = wide ? 0xA09Bu : 0xC09Bu };
        for (int i = 0; i < 6; i++)
        {
            if (i != (int)SegmentRegister.Cs)
            {
                (&s->Es)[i] = new SegmentState { Selector = selectors.Data, Limit = uint.MaxValue, Attributes = 0xC093 };
            }
        }

        s->Cr0 = Cr0.Pe | Cr0.Et | Cr0.Ne;
        if (wide)
        {
            WritePageTables(memory);
            s->Cr3 = PageTables;
            s->Cr4 = Cr4.Pae;
            s->Efer = Efer.Lme | Efer.Lma;
            s->Cr0 |= Cr0.Pg | Cr0.Wp;
        }

        s->Gpr[(int)Gpr.Rdx] = 0;
        s->Gpr[CpuState.RipSlot] = rip;
        processor.FlushTlb();
        processor.StateChanged();
    }

    /// <summary>Sets a general register.</summary>
    public static void Set(Processor processor, Gpr register, ulong value) => processor.State->Gpr[(int)register] = value;

    // The first 4 GiB identity-mapped with 2 MiB pages.
    private static void WritePageTables(GuestMemory memory)
    {
        Span<byte> page = new byte[4096];
        Put(page, 0, PageTables + 0x1000 + 3);
        memory.TryLoad(new Gpa(PageTables), page);
        page.Clear();
        for (int i = 0; i < 4; i++)
        {
            Put(page, i, PageTables + 0x2000 + ((ulong)i * 0x1000) + 3);
        }

        memory.TryLoad(new Gpa(PageTables + 0x1000), page);
        for (int directory = 0; directory < 4; directory++)
        {
            page.Clear();
            for (int i = 0; i < 512; i++)
            {
                Put(page, i, ((ulong)((directory * 512) + i) << 21) | 0x83);
            }

            memory.TryLoad(new Gpa(PageTables + 0x2000 + ((ulong)directory * 0x1000)), page);
        }

        static void Put(Span<byte> page, int index, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(page[(index * 8)..], value);
    }
}
