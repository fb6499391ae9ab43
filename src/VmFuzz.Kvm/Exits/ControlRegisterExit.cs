using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Vmx;

namespace VmFuzz.Kvm.Exits;

/// <summary>S85: MOV to and from control registers, CLTS, LMSW (SDM "Control Registers").</summary>
internal static class ControlRegisterExit
{
    public static ExitOutcome Handle(Vcpu vcpu, in VmExit exit)
    {
        ControlRegisterQualification q = new(exit.Qualification);
        switch (q.AccessType)
        {
            case ControlRegisterAccessType.MovToCr:
                return Write(vcpu, q.Register, Operand(vcpu, q.Gpr));
            case ControlRegisterAccessType.MovFromCr:
                return Read(vcpu, q.Register, q.Gpr);
            case ControlRegisterAccessType.Clts:
                vcpu.Vmx.LoadCr0(vcpu.Vmx.Cr0 & ~Cr0.Ts);
                return ExitOutcome.RetireInstruction;
            default:
                return Lmsw(vcpu, q.LmswSource);
        }
    }

    private static ulong Operand(Vcpu vcpu, Gpr gpr) => vcpu.Vmx.Code64 ? vcpu[gpr] : (uint)vcpu[gpr];

    private static ExitOutcome Write(Vcpu vcpu, int register, ulong value)
    {
        switch (register)
        {
            case 0:
                return Conclude(vcpu, TrySetCr0(vcpu, value));
            case 3:
                return Conclude(vcpu, TrySetCr3(vcpu, value));
            case 4:
                return Conclude(vcpu, TrySetCr4(vcpu, value));
            case 8:
                return SetCr8(vcpu, value);
            default:
                return ExitOutcome.Resume;
        }
    }

    private static ExitOutcome Read(Vcpu vcpu, int register, Gpr destination)
    {
        ulong value = register switch
        {
            0 => vcpu.Vmx.Cr0,
            3 => vcpu.Vmx.Cr3,
            4 => vcpu.Vmx.Cr4,
            _ => vcpu.Cr8,
        };
        vcpu[destination] = vcpu.Vmx.Code64 ? value : (uint)value;
        return ExitOutcome.RetireInstruction;
    }

    // LMSW sets PE but does not clear it, and never faults.
    private static ExitOutcome Lmsw(Vcpu vcpu, ushort source)
    {
        ulong cr0 = vcpu.Vmx.Cr0;
        ulong low = (source & 0xFUL) | (cr0 & Cr0.Pe);
        TrySetCr0(vcpu, (cr0 & ~0xFUL) | low);
        return ExitOutcome.RetireInstruction;
    }

    // Without an in-kernel irqchip userspace must hear of a lowered CR8: it may hold interrupts back by it.
    private static ExitOutcome SetCr8(Vcpu vcpu, ulong value)
    {
        if (value > 15)
        {
            vcpu.Queue(GuestFault.Gp());
            return ExitOutcome.Resume;
        }

        ulong old = vcpu.Cr8;
        vcpu.Cr8 = value;
        if (value >= old)
        {
            return ExitOutcome.RetireInstruction;
        }

        vcpu.KvmRun.ExitReason = KvmExitReason.SetTpr;
        return ExitOutcome.RetireToUserspace;
    }

    private static ExitOutcome Conclude(Vcpu vcpu, bool done)
    {
        if (done)
        {
            return ExitOutcome.RetireInstruction;
        }

        vcpu.Queue(GuestFault.Gp());
        return ExitOutcome.Resume;
    }

    private static bool TrySetCr0(Vcpu vcpu, ulong value)
    {
        VmxVcpu vmx = vcpu.Vmx;
        if (value >> 32 != 0)
        {
            return false;
        }

        value = (value & Cr0.Defined) | Cr0.Et;
        bool paging = (value & Cr0.Pg) != 0;
        if ((paging && (value & Cr0.Pe) == 0) || ((value & Cr0.Nw) != 0 && (value & Cr0.Cd) == 0))
        {
            return false;
        }

        ulong changed = value ^ vmx.Cr0;
        bool pae = (vmx.Cr4 & Cr4.Pae) != 0;
        bool longMode = vmx.LongMode;
        if (paging && (changed & Cr0.Pg) != 0 && (vmx.Efer & Efer.Lme) != 0)
        {
            bool code64 = (vmx.GetSegment(SegmentRegister.Cs).Attributes & SegmentAttributes.L) != 0;
            bool tss16 = (vmx.GetSegment(SegmentRegister.Tr).Attributes & 0xD) == 1;
            if (!pae || code64 || tss16)
            {
                return false;
            }

            longMode = true;
        }
        else if (!paging && (changed & Cr0.Pg) != 0)
        {
            if ((vmx.Code64 || (vmx.Cr4 & Cr4.Pcide) != 0) && vcpu.Rules.Holds(Rule.Cr0PagingIn64Bit))
            {
                return false;
            }

            longMode = false;
        }

        bool loads = (changed & (Cr0.Pg | Cr0.Cd | Cr0.Nw)) != 0;
        if (paging && pae && !longMode && loads && !vmx.TryLoadPdptes(vmx.Cr3))
        {
            return false;
        }

        vmx.LoadCr0(value);
        return true;
    }

    private static bool TrySetCr3(Vcpu vcpu, ulong value)
    {
        VmxVcpu vmx = vcpu.Vmx;
        if (vmx.LongMode)
        {
            value = (vmx.Cr4 & Cr4.Pcide) != 0 ? value & ~(1UL << 63) : value;
            if (value >> vcpu.Processor.Model.PhysicalBits != 0)
            {
                return false;
            }
        }
        else if ((vmx.Cr0 & Cr0.Pg) != 0 && (vmx.Cr4 & Cr4.Pae) != 0 && !vmx.TryLoadPdptes(value))
        {
            return false;
        }

        vmx.Cr3 = value;
        vcpu.Processor.FlushTlb();
        return true;
    }

    private static bool TrySetCr4(Vcpu vcpu, ulong value)
    {
        VmxVcpu vmx = vcpu.Vmx;
        ulong changed = value ^ vmx.Cr4;
        if ((value & ~Cr4Mask(vcpu.Processor.Model)) != 0)
        {
            return false;
        }

        if (vmx.LongMode && ((value & Cr4.Pae) == 0 || (changed & Cr4.La57) != 0))
        {
            return false;
        }

        if ((changed & value & Cr4.Pcide) != 0 && (!vmx.LongMode || (vmx.Cr3 & 0xFFF) != 0))
        {
            return false;
        }

        const ulong Reloads = Cr4.Pae | Cr4.Pge | Cr4.Pse | Cr4.Smep;
        bool paging = (vmx.Cr0 & Cr0.Pg) != 0;
        if (paging && (value & Cr4.Pae) != 0 && !vmx.LongMode && (changed & Reloads) != 0 && !vmx.TryLoadPdptes(vmx.Cr3))
        {
            return false;
        }

        vmx.LoadCr4(value);
        return true;
    }

    // VMXE is not the guest's before nested VMX.
    private static ulong Cr4Mask(CpuModel model)
    {
        ulong mask = Cr4.Tsd | Cr4.Mce | Cr4.Pce;
        mask |= Has(model, CpuFeatures.Vme, Cr4.Vme | Cr4.Pvi) | Has(model, CpuFeatures.De, Cr4.De);
        mask |= Has(model, CpuFeatures.Pse, Cr4.Pse) | Has(model, CpuFeatures.Pae, Cr4.Pae) | Has(model, CpuFeatures.Pge, Cr4.Pge);
        mask |= Has(model, CpuFeatures.Fxsr, Cr4.Osfxsr) | Has(model, CpuFeatures.Sse, Cr4.Osxmmexcpt);
        mask |= Has(model, CpuFeatures.Umip, Cr4.Umip) | Has(model, CpuFeatures.La57, Cr4.La57);
        mask |= Has(model, CpuFeatures.Fsgsbase, Cr4.Fsgsbase) | Has(model, CpuFeatures.Pcid, Cr4.Pcide);
        mask |= Has(model, CpuFeatures.Xsave, Cr4.Osxsave) | Has(model, CpuFeatures.Smep, Cr4.Smep);
        return mask | Has(model, CpuFeatures.Smap, Cr4.Smap) | Has(model, CpuFeatures.Pku, Cr4.Pke);
    }

    private static ulong Has(CpuModel model, CpuFeatures feature, ulong bits) => model.Has(feature) ? bits : 0;
}
