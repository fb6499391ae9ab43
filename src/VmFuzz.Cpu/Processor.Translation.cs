using VmFuzz.Arch;
using VmFuzz.Memory;

namespace VmFuzz.Cpu;

/// <summary>Where an access goes: a host address, or a physical address without memory behind it.</summary>
internal readonly unsafe struct Mapping(byte* host, ulong physical, bool writable)
{
    /// <summary>Host address of the first byte; null for MMIO.</summary>
    public readonly byte* Host = host;

    /// <summary>Physical address of the first byte.</summary>
    public readonly ulong Physical = physical;

    /// <summary>Whether the memory takes writes (false: ROM).</summary>
    public readonly bool Writable = writable;
}

// SAFETY: Host, when not null, points at the first byte of an access that ends in the same page; it is used before anything
// that could change translations or memory.
// Address translation (SDM "Paging"): one walker for all modes, with the look-aside buffers in front of it.
public sealed unsafe partial class Processor
{
    private const ulong EntryPresent = 1;
    private const ulong EntryWritable = 2;
    private const ulong EntryUser = 4;
    private const ulong EntryAccessed = 0x20;
    private const ulong EntryDirty = 0x40;
    private const ulong EntryLarge = 0x80;
    private const ulong EntryNx = 1UL << 63;

    // Entries of the three look-aside buffers, which lie one behind another, in groups: a bit for each group that may hold
    // a translation, so that dropping them costs what was used.
    private const int TlbGroup = 16;
    private const int TlbGroups = CpuState.TlbSize / TlbGroup;
    private const ulong AllTlbGroups = (1UL << (3 * TlbGroups)) - 1;
    private const ulong WriteTlbGroups = ((1UL << TlbGroups) - 1) << TlbGroups;
    private ulong _tlbGroups = AllTlbGroups;

    // How often a page became one of the paging structures.
    private ulong _tableMarks;

    /// <summary>Drops every cached translation and makes block links be looked up again.</summary>
    /// <remarks>
    /// INVLPG too: entries are kept in 4 KiB pieces, and it must drop a large page whole.
    /// </remarks>
    public void FlushTlb()
    {
        DropTlb(AllTlbGroups);
        NextGeneration();
    }

    /// <summary>
    /// Drops cached write translations of all pages (before a digest or after a memory reset), those of the processors
    /// that share the memory too.
    /// </summary>
    public void FlushWriteTlb()
    {
        DropTlb(WriteTlbGroups);
        foreach (Processor peer in _peers)
        {
            peer.DropTlb(WriteTlbGroups);
        }
    }

    /// <inheritdoc/>
    /// <remarks>
    /// Cached translations never outlive the entries that they came from. Architecturally they may (SDM "Invalidation of
    /// TLBs and Paging-Structure Caches"), but which do depends on what else was cached, and caches must not show.
    /// </remarks>
    public void OnTablePageChanged(int pageIndex)
    {
        Memory.MarkTable(pageIndex, false);
        DropTranslations();
        foreach (Processor peer in _peers)
        {
            peer.DropTranslations();
        }
    }

    // The running block was translated too.
    private void DropTranslations()
    {
        FlushTlb();
        _state->Attention |= AttentionBits.Code;
    }

    private void MarkTable(int page)
    {
        if (!Memory.IsTable(page))
        {
            Memory.MarkTable(page, true);
            _tableMarks++;
            FlushWriteTlb();
        }
    }

    private void DropTlb(ulong groups)
    {
        for (ulong used = _tlbGroups & groups; used != 0; used &= used - 1)
        {
            int first = System.Numerics.BitOperations.TrailingZeroCount(used) * TlbGroup;
            new Span<ulong>(_state->ReadTlb + (first * 2), TlbGroup * 2).Fill(ulong.MaxValue);
        }

        _tlbGroups &= ~groups;
    }

    internal static int TlbIndex(ulong linear) => (int)(linear >> 12) & (CpuState.TlbSize - 1);

    /// <summary>The context bits of tags for an access: user or supervisor, and whether SMAP lets a supervisor reach user pages.</summary>
    private ulong ContextOf(AccessMode mode)
    {
        CpuState* s = _state;
        return IsUser(mode) ? 1UL
            : mode != AccessMode.System && (s->Flags & RFlags.Ac) != 0 && (s->Cr4 & Cr4.Smap) != 0 ? 2UL : 0;
    }

    private bool IsUser(AccessMode mode) => mode == AccessMode.Own && UserMode;

    // No translation has this bit: while alignment is checked, every access takes the slow path.
    private const ulong AlignmentContext = 4;

    /// <summary>Recomputes the tag context after CPL, CR0.AM, CR4.SMAP or RFLAGS.AC changed.</summary>
    internal void UpdateTlbContext()
    {
        CpuState* s = _state;
        bool alignment = (s->Flags & RFlags.Ac) != 0 && (s->Cr0 & Cr0.Am) != 0 && UserMode;
        s->TlbContext = ContextOf(AccessMode.Own) | (alignment ? AlignmentContext : 0);
    }

    /// <summary>Translates a linear address for an access of one page, fills the look-aside buffer.</summary>
    /// <returns>False when a page fault or an EPT exit is noted.</returns>
    internal bool Translate(ulong linear, AccessKind access, AccessMode mode, out Mapping mapping)
    {
        CpuState* s = _state;
        ulong context = ContextOf(mode);
        ulong tag = (linear & ~0xFFFUL) | context;
        ulong* tlb = access switch
        {
            AccessKind.Read => s->ReadTlb,
            AccessKind.Write => s->WriteTlb,
            _ => s->FetchTlb,
        };
        int slot = TlbIndex(linear) * 2;
        if (tlb[slot] == tag)
        {
            mapping = new Mapping((byte*)(linear + tlb[slot + 1]), 0, true);
            return true;
        }

        mapping = default;
        if (!Walk(linear, access, mode, out ulong gpa))
        {
            return false;
        }

        ulong physical = gpa;
        bool stageWritable = true;
        if (SecondStage is { } stage
            && !stage.Translate(gpa, access, pagingStructure: false, linear, glaValid: true, out physical, out stageWritable))
        {
            _state->Stop = StopKind.Exit;
            return false;
        }

        if (!Memory.TryGetPage(physical, out PageRef page))
        {
            mapping = new Mapping(null, physical, true);
            return true;
        }

        byte* host = page.Host + (physical & 0xFFF);
        mapping = new Mapping(host, physical, page.Writable);
        bool cache = MayCache(linear, access);
        if (access == AccessKind.Write)
        {
            if (!page.Writable)
            {
                return true;
            }

            if (!Memory.IsPrepared(page.Index))
            {
                Memory.PrepareWrite(page.Index);
            }

            if (Memory.IsCode(page.Index))
            {
                OnCodeWrite(page.Index, (int)(physical & 0xFFF));
                cache = cache && !Memory.IsCode(page.Index);
            }

            if (Memory.IsTable(page.Index))
            {
                // The translation itself may have come from the entry that is about to change.
                OnTablePageChanged(page.Index);
                cache = false;
            }

            cache = cache && stageWritable;
        }

        if (cache)
        {
            _fetchPages[slot / 2] = access == AccessKind.Fetch ? page.Index : _fetchPages[slot / 2];
            _tlbGroups |= 1UL << (int)((tlb + slot - s->ReadTlb) / (TlbGroup * 2));
            tlb[slot] = tag;
            tlb[slot + 1] = (ulong)host - linear;
        }

        return true;
    }

    // SDM "Hierarchical Paging Structures: an Overview" and the sections on each paging mode.
    private bool Walk(ulong linear, AccessKind access, AccessMode mode, out ulong physical)
    {
        CpuState* s = _state;
        if ((s->Cr0 & Cr0.Pg) == 0)
        {
            physical = linear;
            return true;
        }

        bool pae = (s->Cr4 & Cr4.Pae) != 0;
        bool longMode = LongMode;
        int levels = longMode ? (s->Cr4 & Cr4.La57) != 0 ? 5 : 4 : pae ? 3 : 2;
        int entryBytes = pae ? 8 : 4;
        ulong entryMask = PhysicalMask & ~0xFFFUL;
        ulong table = longMode ? s->Cr3 & entryMask : pae ? s->Cr3 & 0xFFFF_FFE0UL : s->Cr3 & 0xFFFF_F000UL;
        ulong rights = EntryWritable | EntryUser;
        bool nx = false;
        bool nxe = (s->Efer & Efer.Nxe) != 0 && pae;
        physical = 0;
        for (int level = levels; level >= 1; level--)
        {
            int shift = pae ? 12 + (9 * (level - 1)) : level == 2 ? 22 : 12;
            ulong index = (linear >> shift) & (pae ? level == 3 && !longMode ? 3UL : 511UL : 1023UL);
            ulong entry;
            ulong at = 0;
            bool pdpteRegister = pae && !longMode && level == 3;
            if (pdpteRegister)
            {
                entry = s->Pdpte[index];
            }
            else
            {
                at = table + (index * (ulong)entryBytes);
                if (!ReadEntry(at, entryBytes, linear, out entry))
                {
                    return false;
                }
            }

            if ((entry & EntryPresent) == 0)
            {
                return PageFault(linear, access, mode, 0);
            }

            bool large = !pdpteRegister && IsLargePage(entry, level, pae, longMode);
            if (HasReservedBits(entry, level, large, pae, longMode, pdpteRegister, nxe))
            {
                return PageFault(linear, access, mode, PageFaultError.Present | PageFaultError.Reserved);
            }

            if (!pdpteRegister)
            {
                rights &= entry;
                nx |= nxe && (entry & EntryNx) != 0;
            }

            if (level > 1 && !large)
            {
                if (!pdpteRegister && (entry & EntryAccessed) == 0 && !SetEntryBits(at, entryBytes, entry | EntryAccessed, linear))
                {
                    return false;
                }

                table = pae ? entry & entryMask : entry & 0xFFFF_F000UL;
                continue;
            }

            uint keyed = KeyDenies(access, mode, rights, entry) ? PageFaultError.ProtectionKey : 0;
            if (keyed != 0 || !Allowed(access, mode, rights, nx))
            {
                return PageFault(linear, access, mode, PageFaultError.Present | keyed);
            }

            ulong updated = entry | EntryAccessed | (access == AccessKind.Write ? EntryDirty : 0);
            if (updated != entry && !SetEntryBits(at, entryBytes, updated, linear))
            {
                return false;
            }

            physical = PageAddress(entry, linear, shift, pae, large);
            return true;
        }

        return false;
    }

    // Whether an entry above the last level maps a page.
    private bool IsLargePage(ulong entry, int level, bool pae, bool longMode) => level > 1 && (entry & EntryLarge) != 0
        && (pae ? level == 2 || (level == 3 && longMode && Model.Has(CpuFeatures.Page1G)) : (_state->Cr4 & Cr4.Pse) != 0);

    // The physical address of a linear one in the page that an entry maps.
    private ulong PageAddress(ulong entry, ulong linear, int shift, bool pae, bool large)
    {
        ulong offsetMask = (1UL << shift) - 1;
        ulong frame = pae ? entry & PhysicalMask & ~0xFFFUL & ~offsetMask
            : large ? (entry & 0xFFC0_0000UL) | ((entry & 0x001F_E000UL) << 19)
            : entry & 0xFFFF_F000UL;
        return frame | (linear & offsetMask);
    }

    private ulong PhysicalMask => (1UL << Model.PhysicalBits) - 1;

    private bool HasReservedBits(ulong entry, int level, bool large, bool pae, bool longMode, bool pdpteRegister, bool nxe)
    {
        if (!pae)
        {
            // 4 MiB pages with PSE-36 have bit 21 reserved, and of the upper address bits those that no address has.
            return large && (entry & ((1UL << 21) | ((0xFF_0000_0000UL & ~PhysicalMask) >> 19))) != 0;
        }

        ulong reserved = 0x000F_FFFF_FFFF_FFFFUL & ~PhysicalMask;
        if (!longMode)
        {
            reserved |= 0x7FF0_0000_0000_0000UL;
        }

        if (!nxe && !pdpteRegister)
        {
            reserved |= EntryNx;
        }

        if (pdpteRegister)
        {
            reserved |= 0x1E6 | EntryNx;
        }
        else if (large)
        {
            reserved |= ((1UL << (12 + (9 * (level - 1)))) - 1) & ~0x1FFFUL;
        }
        else if (longMode && level >= 4)
        {
            reserved |= EntryLarge;
        }
        else if (level == 3 && longMode && !Model.Has(CpuFeatures.Page1G))
        {
            reserved |= EntryLarge;
        }

        return (entry & reserved) != 0;
    }

    // SDM "Access Rights".
    private bool Allowed(AccessKind access, AccessMode mode, ulong rights, bool nx)
    {
        CpuState* s = _state;
        bool user = IsUser(mode);
        bool userPage = (rights & EntryUser) != 0;
        bool writable = (rights & EntryWritable) != 0;
        if (access == AccessKind.Fetch)
        {
            return !nx && (user ? userPage : !userPage || (s->Cr4 & Cr4.Smep) == 0);
        }

        if (user)
        {
            return userPage && (access == AccessKind.Read || writable);
        }

        // RFLAGS.AC opens user pages to explicit accesses only.
        if (userPage && (s->Cr4 & Cr4.Smap) != 0 && ((s->Flags & RFlags.Ac) == 0 || mode == AccessMode.System))
        {
            return false;
        }

        return access == AccessKind.Read || writable || (s->Cr0 & Cr0.Wp) == 0;
    }

    // SDM "Protection Keys". Bits 62:59 of the entry that maps the page select two bits: access disable, write disable.
    private bool KeyDenies(AccessKind access, AccessMode mode, ulong rights, ulong entry)
    {
        CpuState* s = _state;
        bool userPage = (rights & EntryUser) != 0;
        if ((s->Cr4 & (userPage ? Cr4.Pke : Cr4.Pks)) == 0 || !LongMode || access == AccessKind.Fetch)
        {
            return false;
        }

        ulong key = (userPage ? s->Pkru : s->Pkrs) >> (int)((entry >> 59) & 15) * 2;
        bool protects = IsUser(mode) || (s->Cr0 & Cr0.Wp) != 0;
        return (key & 1) != 0 || ((key & 2) != 0 && access == AccessKind.Write && protects);
    }

    /// <summary>Sets PKRU or IA32_PKRS; cached translations hold the rights of their keys.</summary>
    /// <returns>True.</returns>
    internal bool SetPageKeys(ref ulong register, ulong value)
    {
        if (register != value)
        {
            register = value;
            DropTranslations();
        }

        return true;
    }

    private bool PageFault(ulong linear, AccessKind access, AccessMode mode, uint cause)
    {
        CpuState* s = _state;
        bool fetchBit = access == AccessKind.Fetch
            && (((s->Efer & Efer.Nxe) != 0 && (s->Cr4 & Cr4.Pae) != 0) || (s->Cr4 & Cr4.Smep) != 0);
        uint code = cause
            | (access == AccessKind.Write ? PageFaultError.Write : 0)
            | (IsUser(mode) ? PageFaultError.User : 0)
            | (fetchBit ? PageFaultError.Fetch : 0);
        return RaiseFault(new GuestFault(Vector.Pf, code, linear));
    }

    private bool ReadEntry(ulong gpa, int bytes, ulong linear, out ulong entry)
    {
        entry = 0;
        ulong physical = gpa;
        if (SecondStage is { } stage
            && !stage.Translate(gpa, AccessKind.Read, pagingStructure: true, linear, glaValid: true, out physical, out _))
        {
            _state->Stop = StopKind.Exit;
            return false;
        }

        if (!Memory.TryGetPage(physical, out PageRef page))
        {
            entry = bytes == 8 ? ulong.MaxValue : uint.MaxValue;
            return true;
        }

        MarkTable(page.Index);
        byte* host = page.Host + (physical & 0xFFF);
        entry = bytes == 8 ? *(ulong*)host : *(uint*)host;
        return true;
    }

    private bool SetEntryBits(ulong gpa, int bytes, ulong entry, ulong linear)
    {
        ulong physical = gpa;
        if (SecondStage is { } stage
            && !stage.Translate(gpa, AccessKind.Write, pagingStructure: true, linear, glaValid: true, out physical, out _))
        {
            _state->Stop = StopKind.Exit;
            return false;
        }

        if (!Memory.TryGetPage(physical, out PageRef page) || !page.Writable)
        {
            return true;
        }

        if (!Memory.IsPrepared(page.Index))
        {
            Memory.PrepareWrite(page.Index);
        }

        int offset = (int)(physical & 0xFFF);
        if (Memory.IsCode(page.Index))
        {
            OnCodeWrite(page.Index, offset);
        }

        // Accessed and dirty bits change no translation: the ones that came from this page stay.
        byte* host = page.Host + offset;
        if (bytes == 8)
        {
            *(ulong*)host = entry;
        }
        else
        {
            *(uint*)host = (uint)entry;
        }

        return true;
    }

    /// <summary>
    /// Loads the four PDPTEs for PAE paging (SDM "PDPTE Registers"). False: reserved bits are set, nothing changed.
    /// </summary>
    public bool TryLoadPdptes(ulong cr3)
    {
        Span<ulong> entries = stackalloc ulong[4];
        for (int i = 0; i < 4; i++)
        {
            if (!ReadEntry((cr3 & 0xFFFF_FFE0UL) + ((ulong)i * 8), 8, 0, out entries[i]))
            {
                return false;
            }

            if ((entries[i] & EntryPresent) != 0 && HasReservedBits(entries[i], 3, false, true, false, true, false))
            {
                return false;
            }
        }

        for (int i = 0; i < 4; i++)
        {
            _state->Pdpte[i] = entries[i];
        }

        return true;
    }
}
