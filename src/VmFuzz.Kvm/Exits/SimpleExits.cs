using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Vmx;

namespace VmFuzz.Kvm.Exits;

/// <summary>S82: external interrupts (their vector ran already) and triple faults.</summary>
internal static class ExternalInterruptExit
{
    public static ExitOutcome Handle(Vcpu vcpu, in VmExit exit)
    {
        vcpu.Stats.IrqExits++;
        return ExitOutcome.Resume;
    }

    public static ExitOutcome HandleTripleFault(Vcpu vcpu, in VmExit exit)
    {
        vcpu.KvmRun.ExitReason = KvmExitReason.Shutdown;
        return ExitOutcome.ToUserspace;
    }
}

/// <summary>S83: the windows close and events are looked at again.</summary>
internal static class WindowExit
{
    public static ExitOutcome HandleInterrupt(Vcpu vcpu, in VmExit exit)
    {
        vcpu.Vmx.Change(VmcsField.PrimaryControls, PrimaryControls.InterruptWindowExiting, false);
        vcpu.Raise(Request.Event);
        vcpu.Stats.IrqWindowExits++;
        if (vcpu.KvmRun.RequestInterruptWindow && !vcpu.Events.Interrupt.Pending)
        {
            vcpu.KvmRun.ExitReason = KvmExitReason.IrqWindowOpen;
            return ExitOutcome.ToUserspace;
        }

        return ExitOutcome.Resume;
    }

    public static ExitOutcome HandleNmi(Vcpu vcpu, in VmExit exit)
    {
        vcpu.Vmx.Change(VmcsField.PrimaryControls, PrimaryControls.NmiWindowExiting, false);
        vcpu.Raise(Request.Event);
        vcpu.Stats.NmiWindowExits++;
        return ExitOutcome.Resume;
    }
}

/// <summary>S89: HLT leaves to userspace, which has the irqchip; PAUSE, MONITOR and MWAIT.</summary>
internal static class HaltExit
{
    public static ExitOutcome Handle(Vcpu vcpu, in VmExit exit)
    {
        vcpu.Stats.HaltExits++;

        // In-kernel irqchip: mp_state becomes HALTED and the VCPU blocks in the loop.
        vcpu.KvmRun.ExitReason = KvmExitReason.Hlt;
        return ExitOutcome.RetireToUserspace;
    }

    public static ExitOutcome HandlePause(Vcpu vcpu, in VmExit exit)
    {
        vcpu.Stats.PauseExits++;
        vcpu.Host.NeedResched = true;
        return ExitOutcome.RetireInstruction;
    }

    public static ExitOutcome HandleMonitor(Vcpu vcpu, in VmExit exit)
    {
        if (vcpu.Path.Seed(Row.S89))
        {
            vcpu.Queue(GuestFault.Ud);
            return ExitOutcome.Resume;
        }

        return ExitOutcome.RetireInstruction;
    }
}

/// <summary>S90: INVD, WBINVD, INVLPG, RDPMC.</summary>
internal static class CacheExit
{
    public static ExitOutcome HandleNothing(Vcpu vcpu, in VmExit exit) => ExitOutcome.RetireInstruction;

    public static ExitOutcome HandleInvlpg(Vcpu vcpu, in VmExit exit)
    {
        vcpu.Processor.FlushTlb();
        return ExitOutcome.RetireInstruction;
    }

    // No performance counters are modelled: counter numbers do not exist.
    public static ExitOutcome HandleRdpmc(Vcpu vcpu, in VmExit exit)
    {
        vcpu.Queue(GuestFault.Gp());
        return ExitOutcome.Resume;
    }

    public static ExitOutcome HandleRdtsc(Vcpu vcpu, in VmExit exit)
    {
        ulong tsc = vcpu.Vmx.GuestTsc;
        (vcpu.Rax, vcpu.Rdx) = ((uint)tsc, tsc >> 32);
        return ExitOutcome.RetireInstruction;
    }
}

/// <summary>S91: hypercalls.</summary>
internal static class HypercallExit
{
    private const ulong VapicPollIrq = 1;
    private const ulong KickCpu = 5;

    public static ExitOutcome Handle(Vcpu vcpu, in VmExit exit)
    {
        bool wide = vcpu.Vmx.Code64;
        ulong number = wide ? vcpu.Rax : (uint)vcpu.Rax;
        bool denied = vcpu.Vmx.Cpl > 0 && vcpu.Rules.Holds(Rule.HypercallPrivilege);
        long result = denied ? -1 : number switch
        {
            VapicPollIrq => 0,
            KickCpu => Kick(vcpu, wide ? vcpu.Rcx : (uint)vcpu.Rcx),
            _ => -1000,
        };
        vcpu.Rax = wide ? (ulong)result : (uint)result;
        return ExitOutcome.RetireInstruction;
    }

    private static long Kick(Vcpu vcpu, ulong apicId)
    {
        foreach (Vcpu other in vcpu.Vm.Vcpus)
        {
            if ((ulong)other.Index == apicId)
            {
                other.PvUnhalted = true;
                other.Raise(Request.Event);
                other.Kick();
            }
        }

        return 0;
    }
}

/// <summary>S88: RDMSR and WRMSR.</summary>
internal static class MsrExit
{
    public static ExitOutcome HandleRead(Vcpu vcpu, in VmExit exit)
    {
        if (!vcpu.Msrs.TryRead(vcpu, (uint)vcpu.Rcx, out ulong value))
        {
            vcpu.Queue(GuestFault.Gp());
            return ExitOutcome.Resume;
        }

        (vcpu.Rax, vcpu.Rdx) = ((uint)value, value >> 32);
        return ExitOutcome.RetireInstruction;
    }

    public static ExitOutcome HandleWrite(Vcpu vcpu, in VmExit exit)
    {
        ulong value = (vcpu.Rdx << 32) | (uint)vcpu.Rax;
        if (!vcpu.Msrs.TryWrite(vcpu, (uint)vcpu.Rcx, value))
        {
            vcpu.Queue(GuestFault.Gp());
            return ExitOutcome.Resume;
        }

        return ExitOutcome.RetireInstruction;
    }
}

/// <summary>S94: XSETBV.</summary>
internal static class XsetbvExit
{
    public static ExitOutcome Handle(Vcpu vcpu, in VmExit exit)
    {
        ulong value = (vcpu.Rdx << 32) | (uint)vcpu.Rax;
        CpuidLeaf leaf = vcpu.Processor.Model.Lookup(0xD, 0);
        ulong supported = ((ulong)leaf.Edx << 32) | leaf.Eax;
        bool bad = (uint)vcpu.Rcx != 0 || (value & 1) == 0 || (value & ~supported) != 0 || (value & 6) == 4;
        if (bad || vcpu.Vmx.Cpl > 0)
        {
            vcpu.Queue(GuestFault.Gp());
            return ExitOutcome.Resume;
        }

        vcpu.Vmx.Xcr0 = value;
        return ExitOutcome.RetireInstruction;
    }
}

/// <summary>S84: port I/O.</summary>
internal static class IoExit
{
    public static ExitOutcome Handle(Vcpu vcpu, in VmExit exit)
    {
        IoQualification io = new(exit.Qualification);
        return io.IsString
            ? ExitOutcome.FromResult(vcpu.Emulator.Emulate())
            : vcpu.Emulator.StartPort(io, exit.InstructionLength);
    }
}

/// <summary>S92: the guest has no VMX; nested VMX has its own handlers later.</summary>
internal static class VmxInstructionExit
{
    public static ExitOutcome Handle(Vcpu vcpu, in VmExit exit)
    {
        vcpu.Queue(GuestFault.Ud);
        return ExitOutcome.Resume;
    }
}

/// <summary>S95: task switches are not emulated yet, and say so.</summary>
internal static class TaskSwitchExit
{
    public static ExitOutcome Handle(Vcpu vcpu, in VmExit exit)
    {
        TaskSwitchQualification q = new(exit.Qualification);
        vcpu.KvmRun.SetInternalError(KvmInternalError.Emulation, $"task switch by {q.Source} to 0x{q.Selector:x}", exit.Qualification);
        return ExitOutcome.ToUserspace;
    }
}

/// <summary>S97: second-stage violations and misconfigurations.</summary>
internal static class EptExit
{
    public static ExitOutcome HandleViolation(Vcpu vcpu, in VmExit exit)
    {
        EptViolationQualification q = new(exit.Qualification);
        if (!q.LinearAddressValid && q.FinalTranslation)
        {
            vcpu.KvmRun.ExitReason = KvmExitReason.Unknown;
            vcpu.KvmRun.HardwareReason = exit.Reason;
            return ExitOutcome.ToUserspace;
        }

        bool unblocked = (exit.Qualification & EptViolationQualification.NmiUnblockingBit) != 0;
        if (unblocked && !exit.IdtVectoringInfo.Valid && vcpu.Vmx.VirtualNmis && !vcpu.Path.Seed(Row.S97))
        {
            vcpu.Vmx.NmiMasked = true;
        }

        switch (vcpu.Vm.Mmu.Fault(exit.GuestPhysical, q.Write))
        {
            case EptMmu.FaultResult.Mapped:
                return ExitOutcome.Resume;
            case EptMmu.FaultResult.OutOfMemory:
                return ExitOutcome.Fail(Errno.ENOMEM);
            default:
                return Emulate(vcpu, exit);
        }
    }

    public static ExitOutcome HandleMisconfiguration(Vcpu vcpu, in VmExit exit) => Emulate(vcpu, exit);

    private static ExitOutcome Emulate(Vcpu vcpu, in VmExit exit)
    {
        if (exit.IdtVectoringInfo.Valid)
        {
            vcpu.KvmRun.SetInternalError(KvmInternalError.DeliveryEvent, "an event is delivered through MMIO",
                exit.IdtVectoringInfo.Value, exit.Reason, exit.Qualification, exit.GuestPhysical);
            return ExitOutcome.ToUserspace;
        }

        return ExitOutcome.FromResult(vcpu.Emulator.Emulate());
    }
}
