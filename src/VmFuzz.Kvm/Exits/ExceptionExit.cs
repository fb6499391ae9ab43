using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Vmx;

namespace VmFuzz.Kvm.Exits;

/// <summary>S81: exceptions and NMIs.</summary>
internal static class ExceptionExit
{
    public static ExitOutcome Handle(Vcpu vcpu, in VmExit exit)
    {
        InterruptionInfo info = exit.InterruptionInfo;
        if (info.Type == InterruptionType.Nmi)
        {
            return ExitOutcome.Resume;
        }

        byte vector = info.Vector;
        bool software = info.Type is InterruptionType.SoftwareException or InterruptionType.PrivilegedSoftwareException;
        if (exit.IdtVectoringInfo.Valid && vector != Vector.Pf && vector != Vector.Mc)
        {
            vcpu.KvmRun.SetInternalError(KvmInternalError.SimultaneousExceptions, $"exception {vector} during delivery",
                exit.IdtVectoringInfo.Value, info.Value, exit.InterruptionError);
            return ExitOutcome.ToUserspace;
        }

        switch (vector)
        {
            case Vector.Mc:
                return ExitOutcome.Resume;
            case Vector.Nm when !vcpu.Vmx.FpuActive:
                vcpu.Vmx.ActivateFpu();
                return ExitOutcome.Resume;
            case Vector.Db:
                return HandleDebug(vcpu, exit, software);
            case Vector.Bp when (vcpu.GuestDebug & GuestDebug.UseSoftwareBreakpoints) != 0:
                return LeaveWithDebug(vcpu, vector, vcpu.Vmx.Dr6);
            case Vector.Pf:
                vcpu.Queue(new GuestFault(Vector.Pf, exit.InterruptionError, exit.Qualification));
                return ExitOutcome.Resume;
            case Vector.Ud or Vector.Ac or Vector.Nm:
                vcpu.Events.QueueException(vector, info.ErrorCodeValid, exit.InterruptionError);
                return ExitOutcome.Resume;
        }

        vcpu.KvmRun.ExitReason = KvmExitReason.Exception;
        vcpu.KvmRun.HardwareReason = info.Value;
        return ExitOutcome.ToUserspace;
    }

    private static ExitOutcome HandleDebug(Vcpu vcpu, in VmExit exit, bool software)
    {
        const GuestDebug Mine = GuestDebug.SingleStep | GuestDebug.UseHardwareBreakpoints;
        if ((vcpu.GuestDebug & Mine) != 0)
        {
            return LeaveWithDebug(vcpu, Vector.Db, exit.Qualification | 0xFFFF_0FF0);
        }

        if (software)
        {
            // INT1 completes: it pushes the address after it. As with INT n, TF ends without a trap.
            vcpu.Retire(exit.InstructionLength, traps: false);
        }

        vcpu.QueueDebug(exit.Qualification);
        return ExitOutcome.Resume;
    }

    internal static ExitOutcome LeaveWithDebug(Vcpu vcpu, byte vector, ulong dr6)
    {
        ulong based = vcpu.Vmx.Code64 ? 0 : vcpu.Vmx.GetSegment(SegmentRegister.Cs).Base;
        vcpu.KvmRun.ExitReason = KvmExitReason.Debug;
        vcpu.KvmRun.Debug = (vector, vcpu.Rip + based, dr6, vcpu.Vmx.Read(VmcsField.GuestDr7));
        return ExitOutcome.ToUserspace;
    }
}
