using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Memory;

namespace VmFuzz.Vmx;

// The extended page-table mechanism (SDM "The Extended Page Table Mechanism (EPT)").
public sealed unsafe partial class VmxUnit
{
    private const ulong EptRead = 1;
    private const ulong EptWrite = 2;
    private const ulong EptExecute = 4;
    private const ulong EptRights = EptRead | EptWrite | EptExecute;
    private const ulong EptLarge = 0x80;
    private const ulong EptAccessed = 0x100;
    private const ulong EptDirty = 0x200;

    private ulong _eptRoot;
    private int _eptLevels = 4;
    private bool _eptFlags;

    private enum EptFault : byte
    {
        None,
        Violation,
        Misconfiguration,
    }

    private void SetEptPointer(ulong pointer)
    {
        _eptRoot = pointer & ~Capabilities.PhysicalReserved & ~0xFFFUL;
        _eptLevels = (int)((pointer >> 3) & 7) + 1;
        _eptFlags = (pointer & (1UL << 6)) != 0;
    }

    /// <inheritdoc/>
    public bool Translate(ulong gpa, AccessKind access, bool pagingStructure, ulong gla, bool glaValid, out ulong hpa, out bool writable)
    {
        // With accessed and dirty flags, accesses to guest paging structures are treated as writes.
        bool asWrite = pagingStructure && _eptFlags;
        AccessKind effective = asWrite ? AccessKind.Write : access;
        EptFault fault = WalkEpt(gpa, effective, out hpa, out ulong rights, out writable);
        if (fault == EptFault.None)
        {
            return true;
        }

        if (fault == EptFault.Misconfiguration)
        {
            // DEVIATION: the guest-linear address is undefined for misconfigurations; it is 0 here.
            NoteDuringDelivery(new VmExit((uint)ExitReason.EptMisconfiguration, GuestPhysical: gpa), Vectoring, RfOfAccess);
            return false;
        }

        ulong qualification = access switch
        {
            AccessKind.Read => EptViolationQualification.ReadBit,
            AccessKind.Write => EptViolationQualification.WriteBit,
            _ => EptViolationQualification.FetchBit,
        };
        if (asWrite)
        {
            qualification = EptViolationQualification.ReadBit | EptViolationQualification.WriteBit;
        }

        qualification |= rights << 3;
        if (glaValid)
        {
            qualification |= EptViolationQualification.LinearAddressValidBit;
            if (!pagingStructure)
            {
                qualification |= EptViolationQualification.FinalTranslationBit;
            }
        }

        NoteDuringDelivery(
            new VmExit((uint)ExitReason.EptViolation, qualification, glaValid ? gla : 0, gpa),
            Vectoring,
            RfOfAccess);
        return false;
    }

    // SDM "Saving RIP, RSP, RFLAGS, and SSP": 1, or during a delivery what the saved image would have had.
    private SavedRf RfOfAccess => Vectoring is not { } delivered || _cpu.PushesRf(delivered) ? SavedRf.Set : SavedRf.Clear;

    /// <summary>Walks the EPT paging structures of a pointer without faults, exits or flag updates (for tools and tests).</summary>
    /// <returns>False when the address is not mapped for a read.</returns>
    public bool TryPeekEpt(ulong eptPointer, ulong gpa, out ulong hpa)
    {
        (ulong root, int levels, bool flags) = (_eptRoot, _eptLevels, _eptFlags);
        SetEptPointer(eptPointer);
        bool mapped = TryPeek(gpa, out hpa);
        (_eptRoot, _eptLevels, _eptFlags) = (root, levels, flags);
        return mapped;
    }

    /// <inheritdoc/>
    public bool TryPeek(ulong gpa, out ulong hpa)
    {
        bool flags = _eptFlags;
        _eptFlags = false;
        EptFault fault = WalkEpt(gpa, AccessKind.Read, out hpa, out _, out _);
        _eptFlags = flags;
        return fault == EptFault.None || (fault == EptFault.Violation && Unmapped is { } unmapped && unmapped(gpa, out hpa));
    }

    /// <summary>Finds the memory that a hypervisor has for a guest-physical address.</summary>
    public delegate bool UnmappedMemory(ulong gpa, out ulong hpa);

    /// <summary>
    /// What <see cref="TryPeek"/> finds where the hypervisor around this processor will map memory at the guest's first
    /// access; null when it has nothing but its tables.
    /// </summary>
    public UnmappedMemory? Unmapped { get; set; }

    private EptFault WalkEpt(ulong gpa, AccessKind access, out ulong hpa, out ulong rights, out bool writable)
    {
        hpa = 0;
        writable = false;
        rights = EptRights;
        ulong table = _eptRoot;
        ulong needed = access switch { AccessKind.Read => EptRead, AccessKind.Write => EptWrite, _ => EptExecute };
        VisitedEntries visited = default;
        if (gpa >> (12 + (9 * _eptLevels)) != 0)
        {
            rights = 0;
            return EptFault.Violation;
        }

        for (int level = _eptLevels; level >= 1; level--)
        {
            int shift = 12 + (9 * (level - 1));
            ulong at = table + (((gpa >> shift) & 511) * 8);
            visited[level - 1] = at;
            ulong entry = ReadEptEntry(at);
            if ((entry & EptRights) == 0)
            {
                rights = 0;
                return EptFault.Violation;
            }

            bool leaf = level == 1 || ((entry & EptLarge) != 0 && level is 2 or 3 && Capabilities.HasEptVpid(14 + level));
            if (IsMisconfigured(entry, level, leaf))
            {
                return EptFault.Misconfiguration;
            }

            rights &= entry;
            if (!leaf)
            {
                table = entry & ~Capabilities.PhysicalReserved & ~0xFFFUL;
                continue;
            }

            if ((rights & needed) == 0)
            {
                return EptFault.Violation;
            }

            if (_eptFlags)
            {
                SetEptFlags(visited, level, access == AccessKind.Write);
            }

            ulong offset = (1UL << shift) - 1;
            hpa = (entry & ~Capabilities.PhysicalReserved & ~offset & ~0xFFFUL) | (gpa & offset);
            writable = (rights & EptWrite) != 0 && (!_eptFlags || access == AccessKind.Write || (entry & EptDirty) != 0);
            return EptFault.None;
        }

        rights = 0;
        return EptFault.Violation;
    }

    // SDM "EPT Misconfigurations".
    private bool IsMisconfigured(ulong entry, int level, bool leaf)
    {
        if ((entry & (EptRead | EptWrite)) == EptWrite
            || ((entry & EptRights) == EptExecute && !Capabilities.HasEptVpid(0)))
        {
            return true;
        }

        ulong reserved = Capabilities.PhysicalReserved & 0x000F_FFFF_FFFF_FFFF;
        if (leaf)
        {
            if (level > 1)
            {
                reserved |= ((1UL << (12 + (9 * (level - 1)))) - 1) & ~0xFFFUL;
            }

            if (((entry >> 3) & 7) is 2 or 3 or 7)
            {
                return true;
            }
        }
        else
        {
            // Bit 7 asks for a page where there is none: above the PDPT, or of a size that is not supported.
            reserved |= 0xF8;
        }

        return (entry & reserved) != 0;
    }

    private void SetEptFlags(ReadOnlySpan<ulong> visited, int leaf, bool dirty)
    {
        for (int level = _eptLevels; level >= leaf; level--)
        {
            ulong entry = ReadEptEntry(visited[level - 1]);
            ulong updated = entry | EptAccessed | (dirty && level == leaf ? EptDirty : 0);
            if (updated != entry)
            {
                WriteWord(visited[level - 1], updated);
            }
        }
    }

    private ulong ReadEptEntry(ulong at) => _cpu.Memory.TryGetPage(at, out PageRef page)
        ? *(ulong*)(page.Host + (at & 0xFFF))
        : ulong.MaxValue;

    // Addresses of the entries of a walk, by level. No stack allocation: the JIT would leave the walk out of its tiers.
    [System.Runtime.CompilerServices.InlineArray(5)]
    private struct VisitedEntries
    {
        private ulong _first;
    }
}
