using VmFuzz.Arch;

namespace VmFuzz.Kvm;

// Injection, windows, cancelling, requeueing, INIT and SIPI.
public sealed partial class Vcpu
{
    // S38 (inject_pending_event): what is decided goes first and alone; then an NMI, which holds an interrupt back.
    private void InjectPending()
    {
        if (!Path.Runs(Row.S38, this))
        {
            return;
        }

        Events.Placed = InjectedFrom.Nothing;
        if (Events.Exception.Pending)
        {
            InjectException();
            return;
        }

        if (Events.NmiInjected)
        {
            InjectNmi(again: true);
            return;
        }

        if (Events.Interrupt.Pending)
        {
            InjectInterrupt();
            return;
        }

        if (Events.NmiPending > 0 && Vmx.NmiAllowed)
        {
            Events.NmiPending--;
            Events.NmiInjected = true;
            InjectNmi(again: false);
        }

        // In-kernel irqchip: a new interrupt is taken from it here, when no NMI waits.
    }

    private void InjectException()
    {
        QueuedException e = Events.Exception;
        Events.Placed = InjectedFrom.Exception;
        Stats.ExceptionInjections++;
        bool software = e.Type is InterruptionType.SoftwareException or InterruptionType.PrivilegedSoftwareException;
        uint length = software ? Math.Max(Events.InstructionLength, (byte)1) : 0U;
        Inject(new InterruptionInfo(e.Type, e.Vector, e.HasErrorCode), e.ErrorCode, length, e.Reinjected);
    }

    private void InjectNmi(bool again)
    {
        Events.Placed = InjectedFrom.Nmi;
        Stats.NmiInjections++;
        Vmx.NoteNmiInjected();
        Inject(new InterruptionInfo(InterruptionType.Nmi, Vector.Nmi), 0, 0, again);
    }

    private void InjectInterrupt()
    {
        QueuedInterrupt i = Events.Interrupt;
        Events.Placed = InjectedFrom.Interrupt;
        Stats.IrqInjections++;
        InterruptionType type = i.Software ? InterruptionType.SoftwareInterrupt : InterruptionType.ExternalInterrupt;
        Inject(new InterruptionInfo(type, i.Vector), 0, i.Software ? Events.InstructionLength : 0U, again: i.Software);
    }

    private void Inject(InterruptionInfo info, uint errorCode, uint instructionLength, bool again)
    {
        Vmx.WriteInjection(info, errorCode, instructionLength);
        Observer?.OnInjected(this, info, errorCode, again);
    }

    // S39, S40.
    private void ArmWindows(bool wantWindow)
    {
        if (Events.NmiPending > 0)
        {
            if (Path.Runs(Row.S39, this))
            {
                Vmx.EnableNmiWindow();
            }
        }
        else if ((wantWindow || Events.InterruptWaits) && Path.Runs(Row.S40, this))
        {
            Vmx.EnableInterruptWindow();
        }
    }

    // S45 (vmx_cancel_injection): the entry did not happen; what its event field holds goes back to the queues.
    internal void CancelInjection()
    {
        if (Path.Runs(Row.S45, this))
        {
            Requeue(Vmx.Injection, Vmx.InjectionErrorCode, Vmx.InjectionInstructionLength);
            Vmx.WriteInjection(default, 0, 0);
        }
    }

    // S75 (vmx_complete_interrupts): an exit in the middle of a delivery.
    internal void CompleteInterrupts(InterruptionInfo vectoring, uint errorCode, uint instructionLength)
    {
        if (Path.Runs(Row.S75, this))
        {
            Requeue(vectoring, errorCode, instructionLength);
        }
        else
        {
            Events.ClearPlaced();
        }
    }

    private void Requeue(InterruptionInfo info, uint errorCode, uint instructionLength)
    {
        Events.ClearPlaced();
        if (Events.NeedsReinjection || _machineCheckPending)
        {
            // What stood behind the delivered event has its turn at the next entry.
            Raise(Request.Event);
        }

        if (!info.Valid)
        {
            return;
        }

        Raise(Request.Event);
        switch (info.Type)
        {
            case InterruptionType.Nmi:
                Events.NmiInjected = true;

                // SDM: the NMI blocks itself although its delivery did not end; injecting it again needs it open.
                Vmx.NmiMasked = false;
                break;
            case InterruptionType.SoftwareException:
            case InterruptionType.PrivilegedSoftwareException:
                if (info.Type == InterruptionType.PrivilegedSoftwareException && Path.Seed(Row.S75))
                {
                    break;
                }

                Events.InstructionLength = (byte)instructionLength;
                Events.RequeueException(info.Vector, info.Type, info.ErrorCodeValid, errorCode);
                break;
            case InterruptionType.HardwareException:
                Events.RequeueException(info.Vector, info.Type, info.ErrorCodeValid, errorCode);
                break;
            case InterruptionType.SoftwareInterrupt:
                Events.InstructionLength = (byte)instructionLength;
                Events.QueueInterrupt(info.Vector, software: true);
                break;
            case InterruptionType.ExternalInterrupt:
                Events.QueueInterrupt(info.Vector, software: false);
                break;
        }
    }

    // S37 (kvm_apic_accept_events), without an in-kernel local APIC driven by INIT and SIPI inputs alone.
    private void AcceptApicEvents()
    {
        if (_initPending)
        {
            _initPending = false;
            Vmx.ResetState();
            MpState = Index == 0 ? MpState.Runnable : MpState.InitReceived;
        }

        if (_sipiVector >= 0)
        {
            int vector = _sipiVector;
            _sipiVector = -1;
            if (MpState == MpState.InitReceived)
            {
                Vmx.StartAt((byte)vector);
                MpState = MpState.Runnable;
            }
        }
    }

    /// <summary>Raises a guest exception from an exit handler.</summary>
    internal void Queue(in Cpu.GuestFault fault)
    {
        if (fault.Vector == Vector.Pf)
        {
            Vmx.Cr2 = fault.Address;
        }

        Events.QueueException(fault.Vector, Vector.HasErrorCode(fault.Vector), fault.ErrorCode);
    }
}
