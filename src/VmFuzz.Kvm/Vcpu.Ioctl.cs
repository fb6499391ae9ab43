using VmFuzz.Arch;

namespace VmFuzz.Kvm;

// kvm_vcpu_ioctl: what every call to a VCPU goes through, and the calls.
public sealed partial class Vcpu
{
    /// <summary>Runs the guest until something must be done in userspace (KVM_RUN).</summary>
    /// <param name="argument">Must be 0.</param>
    /// <returns>0 with <see cref="Kvm.KvmRun.ExitReason"/> set, or a negated <see cref="Errno"/>.</returns>
    public int Run(ulong argument = 0)
    {
        int result = BeginCall();
        if (result < 0)
        {
            return result;
        }

        if (argument != 0 && Path.Runs(Row.S01, this))
        {
            EndCall();
            return -Errno.EINVAL;
        }

        result = ArchRun();
        if (result == Stopped)
        {
            Host.LoadDepth--;
            return result;
        }

        if (Observer is { } observer && Path.Runs(Row.S05, this))
        {
            observer.OnUserspaceExit(this, KvmRun.ExitReason, result);
        }

        EndCall();
        return result;
    }

    /// <summary>Queues an interrupt of a userspace irqchip (KVM_INTERRUPT). Takes the loading path on x86 (S03).</summary>
    /// <param name="vector">0 to 255.</param>
    /// <returns>0, -EINVAL for another vector, -EEXIST when one is queued already.</returns>
    public int Interrupt(int vector)
    {
        int result = BeginCall();
        if (result < 0)
        {
            return result;
        }

        result = QueueUserInterrupt(vector);
        EndCall();
        return result;
    }

    /// <summary>Queues an NMI (KVM_NMI).</summary>
    /// <returns>0 or a negated errno of the loading path.</returns>
    public int Nmi()
    {
        int result = BeginCall();
        if (result == 0)
        {
            Events.QueueNmi();
            EndCall();
        }

        return result;
    }

    /// <summary>Another thread wants the VCPU out of guest mode, or awake (kvm_vcpu_kick).</summary>
    public void Kick()
    {
        if (Mode == VcpuMode.InGuest)
        {
            Mode = VcpuMode.ExitingGuest;
            Host.RaiseVector(HostCpu.RescheduleVector);
            Processor.Look();
        }
    }

    /// <summary>A signal arrives for the VCPU's thread: the run call returns -EINTR.</summary>
    public void Signal()
    {
        Host.SignalPending = true;
        if (Mode != VcpuMode.OutsideGuest)
        {
            Host.RaiseVector(HostCpu.RescheduleVector);
            Processor.Look();
        }
    }

    /// <summary>The general registers, RIP and RFLAGS.</summary>
    public int GetRegs(out VcpuRegs regs)
    {
        regs = default;
        int result = BeginCall();
        if (result == 0)
        {
            regs = Vmx.GetRegs();
            EndCall();
        }

        return result;
    }

    /// <summary>Sets the general registers, RIP and RFLAGS; a waiting exception is dropped.</summary>
    public int SetRegs(in VcpuRegs regs)
    {
        int result = BeginCall();
        if (result == 0)
        {
            Vmx.SetRegs(regs);
            Events.ClearException();
            Raise(Request.Event);
            EndCall();
        }

        return result;
    }

    /// <summary>The system registers.</summary>
    public int GetSregs(out VcpuSregs sregs)
    {
        sregs = default;
        int result = BeginCall();
        if (result == 0)
        {
            sregs = Vmx.GetSregs() with { Cr8 = Cr8, ApicBase = ApicBase };
            EndCall();
        }

        return result;
    }

    /// <summary>Sets the system registers.</summary>
    public int SetSregs(in VcpuSregs sregs)
    {
        int result = BeginCall();
        if (result == 0)
        {
            Vmx.SetSregs(sregs);
            Cr8 = sregs.Cr8 & 15;
            ApicBase = sregs.ApicBase;
            Raise(Request.Event);
            EndCall();
        }

        return result;
    }

    /// <summary>The events that wait (KVM_GET_VCPU_EVENTS).</summary>
    public int GetEvents(out VcpuEvents events)
    {
        events = default;
        int result = BeginCall();
        if (result == 0)
        {
            Events.AcceptQueuedNmis();
            events = new VcpuEvents(Events.Exception, Events.Interrupt, Events.NmiInjected, Events.NmiPending,
                Vmx.NmiMasked, (byte)Vmx.InterruptShadow, Events.InstructionLength);
            EndCall();
        }

        return result;
    }

    /// <summary>Sets the events that wait (KVM_SET_VCPU_EVENTS).</summary>
    public int SetEvents(in VcpuEvents events)
    {
        int result = BeginCall();
        if (result == 0)
        {
            Events.Set(events);
            Vmx.NmiMasked = events.NmiMasked;
            Vmx.InterruptShadow = events.InterruptShadow;
            Raise(Request.Event);
            EndCall();
        }

        return result;
    }

    /// <summary>Sets the state of the processor (KVM_SET_MP_STATE).</summary>
    public int SetMpState(MpState state)
    {
        int result = BeginCall();
        if (result == 0)
        {
            MpState = state == MpState.SipiReceived ? MpState.InitReceived : state;
            Raise(Request.Event);
            EndCall();
        }

        return result;
    }

    /// <summary>Sets which debug events go to userspace (KVM_SET_GUEST_DEBUG).</summary>
    /// <param name="options">What.</param>
    /// <param name="addresses">DR0 to DR3 for hardware breakpoints.</param>
    /// <param name="dr7">DR7 for hardware breakpoints.</param>
    public int SetGuestDebug(GuestDebug options, ReadOnlySpan<ulong> addresses = default, ulong dr7 = 0)
    {
        int result = BeginCall();
        if (result == 0)
        {
            Vmx.SetGuestDebug(options, addresses, dr7);
            EndCall();
        }

        return result;
    }

    // S02 to S04: the owner, then vcpu_load.
    private int BeginCall()
    {
        if (Vm.System.CurrentOwner != Vm.Owner && Path.Runs(Row.S02, this))
        {
            return -Errno.EIO;
        }

        if (Host.LoadFails)
        {
            Host.LoadFails = false;
            return -Errno.EINTR;
        }

        Host.LoadDepth++;
        Host.Log(HostEvent.VcpuLoad);
        Vmx.Load();
        return 0;
    }

    private void EndCall()
    {
        if (!Path.Runs(Row.S04, this))
        {
            return;
        }

        Vmx.Put();
        Host.LoadDepth--;
        Host.Log(HostEvent.VcpuPut);
    }

    private int QueueUserInterrupt(int vector)
    {
        if ((uint)vector > 255)
        {
            return -Errno.EINVAL;
        }

        if (Events.Interrupt.Pending)
        {
            return -Errno.EEXIST;
        }

        Events.QueueInterrupt((byte)vector, software: false);
        Raise(Request.Event);
        return 0;
    }
}
