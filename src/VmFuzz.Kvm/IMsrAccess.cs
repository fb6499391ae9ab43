using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Kvm;

/// <summary>MSRs that RDMSR and WRMSR exits reach. False means #GP.</summary>
public interface IMsrAccess
{
    /// <summary>Reads an MSR.</summary>
    bool TryRead(Vcpu vcpu, uint msr, out ulong value);

    /// <summary>Writes an MSR; false: nothing has changed.</summary>
    bool TryWrite(Vcpu vcpu, uint msr, ulong value);
}

/// <summary>
/// The processor's own table of MSRs, so that a guest sees the same registers and rules as without the hypervisor. What
/// the VMCS holds is brought into the processor's registers for the access and back afterwards; what belongs to the TSC
/// is done through the TSC offset.
/// </summary>
public sealed unsafe class ProcessorMsrs(Processor processor) : IMsrAccess
{
    private readonly Processor _processor = processor;

    /// <inheritdoc/>
    public bool TryRead(Vcpu vcpu, uint msr, out ulong value)
    {
        if (msr == Msr.Tsc)
        {
            value = vcpu.Vmx.GuestTsc;
            return true;
        }

        if (_processor.IsApicMsr(msr))
        {
            value = 0;
            return vcpu.LocalApic is { } apic && apic.TryReadApicMsr(msr, out value);
        }

        Bring(vcpu);
        return _processor.TryReadMsr(msr, out value);
    }

    /// <inheritdoc/>
    public bool TryWrite(Vcpu vcpu, uint msr, ulong value)
    {
        CpuState* s = _processor.State;
        switch (msr)
        {
            case Msr.Tsc:
                MoveTsc(vcpu, value - vcpu.Vmx.GuestTsc);
                return true;
            case Msr.TscAdjust:
                MoveTsc(vcpu, value - s->TscAdjust);
                return true;
        }

        if (_processor.IsApicMsr(msr))
        {
            return TryWriteApic(vcpu, msr, value);
        }

        Bring(vcpu);
        if (!_processor.TryWriteMsr(msr, value))
        {
            return false;
        }

        Return(vcpu);
        if (msr == Msr.ApicBase)
        {
            TellApic(vcpu);
        }

        return true;
    }

    // DEVIATION: the local APIC stands in userspace, and its MSRs would be exits that userspace completes
    // (KVM_CAP_X86_USER_SPACE_MSR); here the handler asks it at once.
    private static bool TryWriteApic(Vcpu vcpu, uint msr, ulong value)
    {
        if (vcpu.LocalApic is not { } apic || !apic.TryWriteApicMsr(msr, value))
        {
            return false;
        }

        vcpu.Cr8 = apic.TaskPriority;
        LeaveIfPending(vcpu, apic);
        return true;
    }

    private static void TellApic(Vcpu vcpu)
    {
        if (vcpu.LocalApic is { } apic)
        {
            apic.ProcessorMsrWritten();
            LeaveIfPending(vcpu, apic);
        }
    }

    // Userspace delivers the interrupts of its controller: it must hear of one that became deliverable.
    private static void LeaveIfPending(Vcpu vcpu, IInterruptController apic)
    {
        if (apic.InterruptPending && !vcpu.KvmRun.RequestInterruptWindow)
        {
            vcpu.Signal();
        }
    }

    private void MoveTsc(Vcpu vcpu, ulong delta)
    {
        vcpu.Vmx.Write(VmcsField.TscOffset, vcpu.Vmx.Read(VmcsField.TscOffset) + delta);
        _processor.State->TscAdjust += delta;
        TellApic(vcpu);
    }

    private void Bring(Vcpu vcpu)
    {
        CpuState* s = _processor.State;
        VmxVcpu vmx = vcpu.Vmx;
        vmx.LoadGuestMsrs();
        s->Cr0 = vmx.Cr0;
        s->Cr4 = vmx.Cr4;
        s->Efer = vmx.Efer;
        s->Pat = vmx.Read(VmcsField.GuestPat);
        s->DebugCtl = vmx.Read(VmcsField.GuestDebugCtl);
        s->SysenterCs = vmx.Read(VmcsField.GuestSysenterCs);
        s->SysenterEsp = vmx.Read(VmcsField.GuestSysenterEsp);
        s->SysenterEip = vmx.Read(VmcsField.GuestSysenterEip);
        s->Fs = vmx.GetSegment(SegmentRegister.Fs);
        s->Gs = vmx.GetSegment(SegmentRegister.Gs);
    }

    private void Return(Vcpu vcpu)
    {
        CpuState* s = _processor.State;
        VmxVcpu vmx = vcpu.Vmx;
        if (s->Efer != vmx.Efer)
        {
            vmx.LoadEfer(s->Efer);
        }

        vmx.Write(VmcsField.GuestPat, s->Pat);
        vmx.Write(VmcsField.GuestDebugCtl, s->DebugCtl);
        vmx.Write(VmcsField.GuestSysenterCs, s->SysenterCs);
        vmx.Write(VmcsField.GuestSysenterEsp, s->SysenterEsp);
        vmx.Write(VmcsField.GuestSysenterEip, s->SysenterEip);
        vmx.SetSegment(SegmentRegister.Fs, s->Fs);
        vmx.SetSegment(SegmentRegister.Gs, s->Gs);
    }
}
