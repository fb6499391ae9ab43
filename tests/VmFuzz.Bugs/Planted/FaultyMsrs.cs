using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Kvm;

namespace VmFuzz.Bugs.Planted;

/// <summary>CVE-2014-3610: MSRs that hold addresses take any value.</summary>
internal sealed class UncheckedAddressMsrs(IMsrAccess inner) : IMsrAccess
{
    private const int Lstar = 1;
    private const int Cstar = 2;
    private const int KernelGsBase = 4;

    public bool TryRead(Vcpu vcpu, uint msr, out ulong value) => inner.TryRead(vcpu, msr, out value);

    public bool TryWrite(Vcpu vcpu, uint msr, ulong value)
    {
        if ((long)value >> 47 is 0 or -1)
        {
            return inner.TryWrite(vcpu, msr, value);
        }

        VmxVcpu vmx = vcpu.Vmx;
        switch (msr)
        {
            case Msr.Lstar:
                vmx.SetSwitchedMsr(Lstar, value);
                return true;
            case Msr.Cstar:
                vmx.SetSwitchedMsr(Cstar, value);
                return true;
            case Msr.KernelGsBase:
                vmx.SetSwitchedMsr(KernelGsBase, value);
                return true;
            case Msr.SysenterEsp:
                vmx.Write(VmcsField.GuestSysenterEsp, value);
                return true;
            case Msr.SysenterEip:
                vmx.Write(VmcsField.GuestSysenterEip, value);
                return true;
            case Msr.FsBase:
                SetBase(vmx, SegmentRegister.Fs, value);
                return true;
            case Msr.GsBase:
                SetBase(vmx, SegmentRegister.Gs, value);
                return true;
            default:
                return inner.TryWrite(vcpu, msr, value);
        }
    }

    private static void SetBase(VmxVcpu vmx, SegmentRegister register, ulong value)
    {
        SegmentState segment = vmx.GetSegment(register);
        segment.Base = value;
        vmx.SetSegment(register, segment);
    }
}

/// <summary>CVE-2016-3713: MSR 0x2F8 counts as a variable MTRR.</summary>
internal sealed class ExtraMtrr(IMsrAccess inner) : IMsrAccess
{
    private const uint Extra = 0x2F8;
    private readonly ulong[] _variable = new ulong[16];

    public bool TryRead(Vcpu vcpu, uint msr, out ulong value)
    {
        if (msr == Extra)
        {
            value = _variable[msr - Msr.MtrrPhysBase0];
            return true;
        }

        return inner.TryRead(vcpu, msr, out value);
    }

    public bool TryWrite(Vcpu vcpu, uint msr, ulong value)
    {
        if (msr == Extra && (value & 0xFF) is (0 or 1 or 4 or 5 or 6))
        {
            _variable[msr - Msr.MtrrPhysBase0] = value;
            return true;
        }

        return inner.TryWrite(vcpu, msr, value);
    }
}
