using System.Buffers.Binary;
using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Fuzzing;

/// <summary>Whether a guest wrote to the page tables that it may be running on.</summary>
internal static class PageTables
{
    private const ulong First = FlatMachine.PageTables >> 12;
    private const ulong Last = First + 5;
    private const ulong Accessed = 0x20;
    private const ulong Dirty = 0x40;

    /// <summary>
    /// True when pages of the start's tables hold something else than accessed and dirty bits on top of it, or when the
    /// guest runs on tables that it made itself.
    /// </summary>
    public static bool Changed(Machine machine)
    {
        if ((GuestFields.Word(machine, GuestFields.Cr0) & Cr0.Pg) == 0)
        {
            return false;
        }

        if (machine.Options.FlatMode != FlatMode.Long64 || GuestFields.Word(machine, GuestFields.Cr3) != FlatMachine.PageTables)
        {
            return true;
        }

        foreach (int page in machine.Memory.DirtyPages)
        {
            ulong number = machine.Memory.HomeOf(page).Value >> 12;
            if (number is >= First and <= Last && Differs(machine, number))
            {
                return true;
            }
        }

        return false;
    }

    // What the start holds is known: one entry, four, then 2 MiB pages in a row; the first 2 MiB are open to CPL 3.
    private static bool Differs(Machine machine, ulong number)
    {
        Span<byte> entry = stackalloc byte[8];
        for (ulong i = 0; i < 512; i++)
        {
            machine.Memory.TryRead(new Gpa((number << 12) + (i * 8)), entry);
            ulong now = BinaryPrimitives.ReadUInt64LittleEndian(entry) & ~(Accessed | Dirty);
            if (now != Start(number - First, i))
            {
                return true;
            }
        }

        return false;
    }

    private static ulong Start(ulong table, ulong index) => table switch
    {
        0 => index == 0 ? FlatMachine.PageTables + 0x1007 : 0,
        1 => index < 4 ? FlatMachine.PageTables + 0x2003 + (index << 12) + (index == 0 ? 4UL : 0) : 0,
        _ => ((((table - 2) * 512) + index) << 21) | 0x83 | (table == 2 && index == 0 ? 4UL : 0),
    };
}
