using VmFuzz.Arch;

namespace VmFuzz.Cpu;

// Loads of control registers with their checks (SDM "Control Registers", MOV to CR). False: a fault or an exit is noted.
public sealed unsafe partial class Processor
{
    /// <summary>Loads CR0 as MOV to CR0 does: #GP(0) on wrong combinations, EFER.LMA follows, PDPTEs are loaded.</summary>
    internal bool LoadCr0(ulong value)
    {
        CpuState* s = _state;
        if (value >> 32 != 0)
        {
            return RaiseFault(GuestFault.Gp());
        }

        value = (value & Cr0.Defined) | Cr0.Et;
        bool paging = (value & Cr0.Pg) != 0;
        if ((paging && (value & Cr0.Pe) == 0) || ((value & Cr0.Nw) != 0 && (value & Cr0.Cd) == 0))
        {
            return RaiseFault(GuestFault.Gp());
        }

        ulong changed = value ^ s->Cr0;
        bool enables = paging && (changed & Cr0.Pg) != 0;
        bool disables = !paging && (changed & Cr0.Pg) != 0;
        bool pae = (s->Cr4 & Cr4.Pae) != 0;
        bool longMode = LongMode;
        if (enables && (s->Efer & Efer.Lme) != 0)
        {
            bool tss16 = (s->Tr.Attributes & 0xD) == 1;
            if (!pae || (s->Cs.Attributes & SegmentAttributes.L) != 0 || tss16)
            {
                return RaiseFault(GuestFault.Gp());
            }

            longMode = true;
        }
        else if (disables)
        {
            if (Code64 || (s->Cr4 & Cr4.Pcide) != 0)
            {
                return RaiseFault(GuestFault.Gp());
            }

            longMode = false;
        }

        if (paging && pae && !longMode && (changed & (Cr0.Pg | Cr0.Cd | Cr0.Nw)) != 0 && !LoadPdptes(s->Cr3))
        {
            return false;
        }

        s->Cr0 = value;
        s->Efer = longMode ? s->Efer | Efer.Lma : s->Efer & ~Efer.Lma;
        if ((changed & (Cr0.Pg | Cr0.Pe | Cr0.Wp)) != 0)
        {
            FlushTlb();
        }

        StateChanged();
        return true;
    }

    /// <summary>Loads CR3: reserved bits, PDPTEs in PAE paging, translations dropped.</summary>
    internal bool LoadCr3(ulong value)
    {
        CpuState* s = _state;
        if (LongMode)
        {
            if ((s->Cr4 & Cr4.Pcide) != 0)
            {
                value &= ~(1UL << 63);
            }

            if ((value & ~PhysicalMask) != 0)
            {
                return RaiseFault(GuestFault.Gp());
            }
        }
        else if ((s->Cr0 & Cr0.Pg) != 0 && (s->Cr4 & Cr4.Pae) != 0 && !LoadPdptes(value))
        {
            return false;
        }

        s->Cr3 = value;
        FlushTlb();
        return true;
    }

    /// <summary>Whether XSETBV takes a value for XCR0 (SDM "XSETBV - Set Extended Control Register"); 1 where there is no XSAVE.</summary>
    public bool IsXcr0Allowed(ulong value)
    {
        if (!Model.Has(CpuFeatures.Xsave))
        {
            return value == 1;
        }

        CpuidLeaf leaf = Model.Lookup(0xD, 0);
        ulong supported = ((ulong)leaf.Edx << 32) | leaf.Eax;
        return (value & 1) != 0 && (value & ~supported) == 0 && (value & 6) != 4;
    }

    /// <summary>Bits of CR4 that this model implements.</summary>
    public ulong Cr4Mask
    {
        get
        {
            ulong mask = Cr4.Tsd | Cr4.Mce | Cr4.Pce;
            mask |= Bit(CpuFeatures.Vme, Cr4.Vme | Cr4.Pvi) | Bit(CpuFeatures.De, Cr4.De) | Bit(CpuFeatures.Pse, Cr4.Pse);
            mask |= Bit(CpuFeatures.Pae, Cr4.Pae) | Bit(CpuFeatures.Pge, Cr4.Pge) | Bit(CpuFeatures.Fxsr, Cr4.Osfxsr);
            mask |= Bit(CpuFeatures.Sse, Cr4.Osxmmexcpt) | Bit(CpuFeatures.Umip, Cr4.Umip) | Bit(CpuFeatures.La57, Cr4.La57);
            mask |= (NonRoot is null ? 0 : Cr4.Vmxe) | Bit(CpuFeatures.Vmx, Cr4.Vmxe) | Bit(CpuFeatures.Fsgsbase, Cr4.Fsgsbase) | Bit(CpuFeatures.Pcid, Cr4.Pcide);
            mask |= Bit(CpuFeatures.Xsave, Cr4.Osxsave) | Bit(CpuFeatures.Smep, Cr4.Smep) | Bit(CpuFeatures.Smap, Cr4.Smap);
            mask |= Bit(CpuFeatures.Pku, Cr4.Pke) | Bit(CpuFeatures.Pks, Cr4.Pks);
            return mask;
        }
    }

    private ulong Bit(CpuFeatures feature, ulong bits) => Model.Has(feature) ? bits : 0;

    /// <summary>Loads CR4.</summary>
    internal bool LoadCr4(ulong value)
    {
        CpuState* s = _state;
        ulong changed = value ^ s->Cr4;
        // In non-root operation VMXE stays set underneath whatever the guest is shown.
        bool bad = (value & ~(Cr4Mask | (NonRoot is null ? 0 : Cr4.Vmxe))) != 0;
        if (LongMode)
        {
            bad |= (value & Cr4.Pae) == 0 || (changed & Cr4.La57) != 0;
        }

        bool setsPcide = (changed & value & Cr4.Pcide) != 0;
        bad |= setsPcide && (!LongMode || (s->Cr3 & 0xFFF) != 0);
        if (bad)
        {
            return RaiseFault(GuestFault.Gp());
        }

        const ulong Reloads = Cr4.Pae | Cr4.Pge | Cr4.Pse | Cr4.Smep;
        bool paging = (s->Cr0 & Cr0.Pg) != 0;
        if (paging && (value & Cr4.Pae) != 0 && !LongMode && (changed & Reloads) != 0 && !LoadPdptes(s->Cr3))
        {
            return false;
        }

        s->Cr4 = value;
        if ((changed & (Reloads | Cr4.Smap | Cr4.Pcide | Cr4.La57 | Cr4.Pke | Cr4.Pks)) != 0)
        {
            FlushTlb();
        }

        StateChanged();
        return true;
    }

    /// <summary>Loads IA32_EFER as WRMSR does; LMA is not written.</summary>
    internal bool TryLoadEfer(ulong value)
    {
        CpuState* s = _state;
        ulong allowed = Efer.Lma | Bit(CpuFeatures.Syscall, Efer.Sce) | Bit(CpuFeatures.LongMode, Efer.Lme) | Bit(CpuFeatures.Nx, Efer.Nxe);
        ulong changed = value ^ s->Efer;
        if ((value & ~allowed) != 0 || ((changed & Efer.Lme) != 0 && (s->Cr0 & Cr0.Pg) != 0))
        {
            return false;
        }

        s->Efer = (value & ~Efer.Lma) | (s->Efer & Efer.Lma);
        if ((changed & Efer.Nxe) != 0)
        {
            FlushTlb();
        }

        StateChanged();
        return true;
    }

    private bool LoadPdptes(ulong cr3)
    {
        _state->Stop = StopKind.None;
        return TryLoadPdptes(cr3) || (_state->Stop == StopKind.Exit ? false : RaiseFault(GuestFault.Gp()));
    }
}
