using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Vmx;

namespace VmFuzz.Kvm.Exits;

/// <summary>S86: MOV to and from debug registers, general detect, guest debugging (SDM "Debug Registers").</summary>
internal static class DebugRegisterExit
{
    public static ExitOutcome Handle(Vcpu vcpu, in VmExit exit)
    {
        VmxVcpu vmx = vcpu.Vmx;
        DebugRegisterQualification q = new(exit.Qualification);
        int register = q.Register;
        if (register is 4 or 5)
        {
            if ((vmx.Cr4 & Cr4.De) != 0)
            {
                vcpu.Queue(GuestFault.Ud);
                return ExitOutcome.Resume;
            }

            register += 2;
        }

        if (vmx.Cpl > 0 && vcpu.Rules.Holds(Rule.MovDrPrivilege))
        {
            vcpu.Queue(GuestFault.Gp());
            return ExitOutcome.Resume;
        }

        if ((vmx.Dr7 & Dr7.Gd) != 0)
        {
            return Detect(vcpu);
        }

        if (q.FromDr)
        {
            ulong read = register < 4 ? vmx.DebugAddresses[register] : register == 6 ? vmx.Dr6 : vmx.Dr7;
            vcpu[q.Gpr] = vmx.Code64 ? read : (uint)read;
            return ExitOutcome.RetireInstruction;
        }

        ulong value = vmx.Code64 ? vcpu[q.Gpr] : (uint)vcpu[q.Gpr];
        if (register >= 6 && value >> 32 != 0)
        {
            vcpu.Queue(GuestFault.Gp());
            return ExitOutcome.Resume;
        }

        switch (register)
        {
            case < 4:
                vmx.DebugAddresses[register] = value;
                break;
            case 6:
                vmx.Dr6 = (value & 0xE00F) | 0xFFFF_0FF0;
                break;
            default:
                // Bit 11 exists with RTM only, which no model has.
                vmx.Dr7 = (value & 0xFFFF_23FF) | 0x400;
                break;
        }

        return ExitOutcome.RetireInstruction;
    }

    private static ExitOutcome Detect(Vcpu vcpu)
    {
        if ((vcpu.GuestDebug & GuestDebug.UseHardwareBreakpoints) != 0)
        {
            return ExceptionExit.LeaveWithDebug(vcpu, Vector.Db, vcpu.Vmx.Dr6 | Dr6.Bd);
        }

        // A fault, and the flags that it pushes have RF set; injecting does not do that for #DB.
        vcpu.Vmx.RFlags |= RFlags.Rf;
        vcpu.QueueDebug(Dr6.Bd);
        return ExitOutcome.Resume;
    }
}
