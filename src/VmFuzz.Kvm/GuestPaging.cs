using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Kvm;

/// <summary>
/// The hypervisor's own walk of the guest's page tables (SDM "Paging"), for the emulator: from a linear address to a
/// guest-physical one, with rights, faults and the accessed and dirty bits.
/// </summary>
internal sealed class GuestPaging(Vcpu vcpu)
{
    private const ulong Present = 1;
    private const ulong Writable = 2;
    private const ulong User = 4;
    private const ulong Accessed = 0x20;
    private const ulong Dirty = 0x40;
    private const ulong Large = 0x80;
    private const ulong Nx = 1UL << 63;

    private readonly Vcpu _vcpu = vcpu;

    /// <summary>Translates for an access; false with the fault to raise.</summary>
    public bool TryTranslate(ulong linear, AccessKind access, AccessMode mode, out ulong gpa, out GuestFault fault)
    {
        VmxVcpu vmx = _vcpu.Vmx;
        bool user = mode == AccessMode.Own && vmx.Cpl == 3;
        fault = default;
        ulong cr0 = vmx.Cr0;
        if ((cr0 & Cr0.Pg) == 0)
        {
            gpa = linear;
            return true;
        }

        ulong cr4 = vmx.Cr4;
        ulong efer = vmx.Efer;
        bool pae = (cr4 & Cr4.Pae) != 0;
        bool longMode = (efer & Efer.Lma) != 0;
        bool nxe = pae && (efer & Efer.Nxe) != 0;
        int levels = longMode ? (cr4 & Cr4.La57) != 0 ? 5 : 4 : pae ? 3 : 2;
        int bytes = pae ? 8 : 4;
        ulong frameMask = ((1UL << _vcpu.Processor.Model.PhysicalBits) - 1) & ~0xFFFUL;
        ulong table = longMode ? vmx.Cr3 & frameMask : vmx.Cr3 & 0xFFFF_F000;
        ulong rights = Writable | User;
        bool nx = false;
        gpa = 0;
        for (int level = levels; level >= 1; level--)
        {
            int shift = pae ? 12 + (9 * (level - 1)) : level == 2 ? 22 : 12;
            bool pdpte = pae && !longMode && level == 3;
            ulong index = (linear >> shift) & (pdpte ? 3UL : pae ? 511UL : 1023UL);
            ulong at = table + (index * (ulong)bytes);
            ulong entry = pdpte ? vmx.Read(VmcsField.GuestPdpte0 + (2 * (uint)index)) : Read(at, bytes);
            if ((entry & Present) == 0)
            {
                fault = Fault(linear, access, user, 0, nxe, cr4);
                return false;
            }

            bool large = level > 1 && !pdpte && (entry & Large) != 0
                && (pae ? level == 2 || (level == 3 && longMode && HasPage1G) : (cr4 & Cr4.Pse) != 0);
            if (Reserved(entry, level, shift, large, pae, longMode, pdpte, nxe, frameMask, HasPage1G))
            {
                fault = Fault(linear, access, user, PageFaultError.Present | PageFaultError.Reserved, nxe, cr4);
                return false;
            }

            if (!pdpte)
            {
                rights &= entry;
                nx |= nxe && (entry & Nx) != 0;
            }

            if (level > 1 && !large)
            {
                if (!pdpte && (entry & Accessed) == 0)
                {
                    Write(at, bytes, entry | Accessed);
                }

                table = pae ? entry & frameMask : entry & 0xFFFF_F000;
                continue;
            }

            uint keyed = longMode && KeyDenies(access, user, rights, entry, cr0, cr4) ? PageFaultError.ProtectionKey : 0;
            if (keyed != 0 || !Allowed(access, mode, user, rights, nx, cr0, cr4))
            {
                fault = Fault(linear, access, user, PageFaultError.Present | keyed, nxe, cr4);
                return false;
            }

            ulong updated = entry | Accessed | (access == AccessKind.Write ? Dirty : 0);
            if (updated != entry)
            {
                Write(at, bytes, updated);
            }

            ulong offset = (1UL << shift) - 1;
            ulong frame = pae ? entry & frameMask & ~offset
                : large ? (entry & 0xFFC0_0000) | ((entry & 0x001F_E000) << 19)
                : entry & 0xFFFF_F000;
            gpa = frame | (linear & offset);
            return true;
        }

        return false;
    }

    private bool HasPage1G => _vcpu.Processor.Model.Has(CpuFeatures.Page1G);

    private static bool Reserved(
        ulong entry, int level, int shift, bool large, bool pae, bool longMode, bool pdpte, bool nxe, ulong frameMask, bool page1G)
    {
        if (!pae)
        {
            // The upper address bits of a 4 MiB page stand in bits 20:13.
            ulong absent = (0xFF_0000_0000UL & ~frameMask) >> 19;
            return large && (entry & ((1UL << 21) | absent)) != 0;
        }

        ulong reserved = 0x000F_FFFF_FFFF_F000UL & ~frameMask;
        reserved |= longMode ? 0 : 0x7FF0_0000_0000_0000UL;
        reserved |= nxe || pdpte ? 0 : Nx;
        reserved |= pdpte ? 0x1E6 | Nx : 0;
        reserved |= large ? ((1UL << shift) - 1) & ~0x1FFFUL : 0;
        reserved |= longMode && (level >= 4 || (level == 3 && !page1G)) ? Large : 0;
        return (entry & reserved) != 0;
    }

    private bool Allowed(AccessKind access, AccessMode mode, bool user, ulong rights, bool nx, ulong cr0, ulong cr4)
    {
        bool userPage = (rights & User) != 0;
        bool writable = (rights & Writable) != 0;
        if (access == AccessKind.Fetch)
        {
            return !nx && (user ? userPage : !userPage || (cr4 & Cr4.Smep) == 0);
        }

        if (user)
        {
            return userPage && (access == AccessKind.Read || writable);
        }

        // RFLAGS.AC opens user pages to explicit accesses only.
        if (userPage && (cr4 & Cr4.Smap) != 0 && (mode == AccessMode.System || (_vcpu.Vmx.RFlags & RFlags.Ac) == 0))
        {
            return false;
        }

        return access == AccessKind.Read || writable || (cr0 & Cr0.Wp) == 0;
    }

    // The guest's PKRU stays in the processor. KVM gives no guest CR4.PKS.
    private unsafe bool KeyDenies(AccessKind access, bool user, ulong rights, ulong entry, ulong cr0, ulong cr4)
    {
        if (access == AccessKind.Fetch || (rights & User) == 0 || (cr4 & Cr4.Pke) == 0)
        {
            return false;
        }

        int at = (int)(entry >> 59) & 15;
        ulong pkru = _vcpu.Processor.State->Pkru;
        bool accessDisabled = (pkru & (1UL << (2 * at))) != 0;
        bool writeDisabled = (pkru & (2UL << (2 * at))) != 0;
        return accessDisabled || (writeDisabled && access == AccessKind.Write && (user || (cr0 & Cr0.Wp) != 0));
    }

    private static GuestFault Fault(ulong linear, AccessKind access, bool user, uint code, bool nxe, ulong cr4)
    {
        bool fetch = access == AccessKind.Fetch && (nxe || (cr4 & Cr4.Smep) != 0);
        code |= (access == AccessKind.Write ? PageFaultError.Write : 0)
            | (user ? PageFaultError.User : 0) | (fetch ? PageFaultError.Fetch : 0);
        return new GuestFault(Vector.Pf, code, linear);
    }

    // A paging structure without memory behind it reads as ones.
    private ulong Read(ulong gpa, int bytes)
    {
        Span<byte> value = stackalloc byte[8];
        value.Clear();
        if (!_vcpu.Vm.TryRead(gpa, value[..bytes]))
        {
            value[..bytes].Fill(0xFF);
        }

        return StateFields.Take(value);
    }

    private void Write(ulong gpa, int bytes, ulong entry)
    {
        Span<byte> value = stackalloc byte[8];
        StateFields.Put(value, entry);
        _vcpu.Vm.TryWrite(gpa, value[..bytes]);
    }
}
