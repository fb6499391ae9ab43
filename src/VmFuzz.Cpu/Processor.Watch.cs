using VmFuzz.Arch;
using VmFuzz.Memory;

namespace VmFuzz.Cpu;

// What a debugger needs: to be asked before instructions, and to see and change memory as the guest addresses it without
// leaving a trace in the guest's state.
public sealed unsafe partial class Processor
{
    private IInstructionWatch? _watch;

    /// <summary>Looks at instructions and accesses; null for nobody.</summary>
    public IInstructionWatch? Watch
    {
        get => _watch;
        set
        {
            _watch = value;
            WatchChanged();
        }
    }

    /// <summary>What <see cref="Watch"/> wants to see has changed: translations and links that were made without asking it are dropped.</summary>
    public void WatchChanged()
    {
        FlushTlb();
        LeaveRegions();
        NextCodeGeneration();
    }

    /// <summary>Linear address of the next instruction.</summary>
    public ulong NextInstruction => LinearRip;

    /// <summary>
    /// Reads memory at linear addresses through the current translation, whatever the rights of its pages, without faults,
    /// accessed bits or VM exits.
    /// </summary>
    /// <param name="linear">Linear address of the first byte; wraps at 4 GiB outside IA-32e mode.</param>
    /// <param name="destination">Receives the bytes.</param>
    /// <returns>How many bytes could be read; it ends before the first that is not mapped, or has no memory behind it.</returns>
    public int Peek(ulong linear, Span<byte> destination)
    {
        int done = 0;
        while (done < destination.Length && TryPeekPhysical(linear + (ulong)done, out ulong physical))
        {
            Span<byte> piece = destination[done..Math.Min(destination.Length, done + Gpa.PageSize - (int)(physical & 0xFFF))];
            if (!Memory.TryRead(new Gpa(physical), piece))
            {
                break;
            }

            done += piece.Length;
        }

        return done;
    }

    /// <summary>Writes memory at linear addresses as <see cref="Peek"/> reads it; ROM is not written.</summary>
    /// <param name="linear">Linear address of the first byte.</param>
    /// <param name="source">The bytes.</param>
    /// <returns>False when not all of them have memory behind them; what comes before the first that has none is written.</returns>
    public bool TryPoke(ulong linear, ReadOnlySpan<byte> source)
    {
        while (source.Length != 0)
        {
            if (!TryPeekPhysical(linear, out ulong physical))
            {
                return false;
            }

            int count = Math.Min(source.Length, Gpa.PageSize - (int)(physical & 0xFFF));
            if (!Memory.TryWrite(new Gpa(physical), source[..count]))
            {
                return false;
            }

            source = source[count..];
            linear += (ulong)count;
        }

        // Paging structures may have been among it.
        FlushTlb();
        return true;
    }

    /// <summary>Whether an address lies in a page that walks took for a paging structure since it was last written.</summary>
    /// <param name="linear">Linear address; wraps at 4 GiB outside IA-32e mode.</param>
    /// <returns>False also when the address is not mapped, or has no memory behind it.</returns>
    public bool IsPagingStructure(ulong linear) =>
        TryPeekPhysical(linear, out ulong physical) && Memory.TryGetPage(physical, out PageRef page) && Memory.IsTable(page.Index);

    private bool Show(IInstructionWatch watch)
    {
        if (!watch.ShowsCode(LinearRip))
        {
            return false;
        }

        watch.BeforeInstruction(this);
        return true;
    }

    // As Walk, without rights, reserved bits and effects.
    private bool TryPeekPhysical(ulong linear, out ulong physical)
    {
        CpuState* s = _state;
        bool longMode = LongMode;
        linear = longMode ? linear : (uint)linear;
        physical = linear;
        if ((s->Cr0 & Cr0.Pg) == 0)
        {
            return TryPeekStage(linear, out physical);
        }

        bool pae = (s->Cr4 & Cr4.Pae) != 0;
        ulong tables = pae ? PhysicalMask & ~0xFFFUL : 0xFFFF_F000UL;
        int indexBits = pae ? 9 : 10;
        int level = longMode ? (s->Cr4 & Cr4.La57) != 0 ? 5 : 4 : 2;
        ulong entry = pae && !longMode ? s->Pdpte[(linear >> 30) & 3] : s->Cr3 | EntryPresent;
        if (longMode && !IsCanonical(linear))
        {
            return false;
        }

        for (; (entry & EntryPresent) != 0; level--)
        {
            int shift = 12 + (indexBits * (level - 1));
            ulong index = (linear >> shift) & ((1UL << indexBits) - 1);
            if (!TryPeekEntry((entry & tables) + (index * (pae ? 8UL : 4UL)), pae ? 8 : 4, out entry))
            {
                return false;
            }

            bool large = IsLargePage(entry, level, pae, longMode);
            if ((entry & EntryPresent) != 0 && (level == 1 || large))
            {
                return TryPeekStage(PageAddress(entry, linear, shift, pae, large), out physical);
            }
        }

        return false;
    }

    private bool TryPeekEntry(ulong gpa, int bytes, out ulong entry)
    {
        ulong value = 0;
        bool read = TryPeekStage(gpa, out ulong physical) && Memory.TryRead(new Gpa(physical), new Span<byte>(&value, bytes));
        entry = value;
        return read;
    }

    private bool TryPeekStage(ulong gpa, out ulong physical)
    {
        physical = gpa;
        return SecondStage is not { } stage || stage.TryPeek(gpa, out physical);
    }
}
