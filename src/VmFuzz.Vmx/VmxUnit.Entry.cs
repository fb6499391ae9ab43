using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Vmx;

// VM entries (SDM "VM Entries"): basic checks, checks of controls and host state, checks and loading of guest state,
// MSR-load area, event injection.
public sealed unsafe partial class VmxUnit
{
    /// <summary>CR0 bits that an entry leaves as the host has them (SDM "Loading Guest Control Registers, Debug Registers, and MSRs").</summary>
    private const ulong Cr0Kept = Cr0.Et | Cr0.Cd | Cr0.Nw | ~0xFFFF_FFFFUL;

    private VmExit _exit;

    // What translations were made under; another value means that they cannot be used.
    private ulong _tlbCr0 = ulong.MaxValue;
    private ulong _tlbCr3;
    private ulong _tlbCr4;
    private ulong _tlbEfer;
    private ulong _tlbEptPointer;
    private ulong _tlbVpid;

    // Controls in force while in non-root operation.
    private uint _pin;
    private uint _primary;
    private uint _secondary;

    /// <summary>VMLAUNCH or VMRESUME, then the guest until something ends it.</summary>
    /// <param name="launch">VMLAUNCH; otherwise VMRESUME.</param>
    /// <param name="exit">The exit, when the result is Exited.</param>
    /// <param name="failure">VMfail, when the result is Failed.</param>
    /// <remarks>General registers other than RSP, CR2, DR0 to DR3, DR6, XCR0 and the FPU are the caller's, in <see cref="CpuState"/>.</remarks>
    public EntryOutcome Enter(bool launch, out VmExit exit, out VmxResult failure)
    {
        EntryOutcome outcome = Enter(launch, out failure);
        exit = outcome is EntryOutcome.Exited or EntryOutcome.Aborted ? _exit : default;
        return outcome;
    }

    /// <summary>As the other, with the exit in <see cref="LastExit"/> when the result is Exited.</summary>
    /// <param name="launch">VMLAUNCH; otherwise VMRESUME.</param>
    /// <param name="failure">VMfail, when the result is Failed.</param>
    public EntryOutcome Enter(bool launch, out VmxResult failure)
    {
        FailedCheck = "";
        Abort = VmxAbort.None;
        failure = VmxResult.Succeed;
        if (CurrentPointer == NoPointer || VmxonPointer == NoPointer)
        {
            failure = VmxResult.FailInvalid;
            return EntryOutcome.Failed;
        }

        if (Host.BlockedByMovSs)
        {
            failure = Fail(VmxInstructionError.EntryBlockedByMovSs);
            return EntryOutcome.Failed;
        }

        if (launch == _vmcs.Launched)
        {
            failure = Fail(launch ? VmxInstructionError.VmlaunchNonClear : VmxInstructionError.VmresumeNonLaunched);
            return EntryOutcome.Failed;
        }

        EntryContext context = new(_vmcs, Capabilities, _cpu.Memory, CurrentPointer, Host);
        if (Checks.FirstFailureIncremental(context) is { } failed)
        {
            FailedCheck = failed.Id;
            if (failed.Stage != EntryCheckStage.Guest)
            {
                failure = Fail(failed.Stage == EntryCheckStage.Controls
                    ? VmxInstructionError.EntryInvalidControls
                    : VmxInstructionError.EntryInvalidHostState);
                return EntryOutcome.Failed;
            }

            return FailEntry(ExitReason.EntryFailureInvalidGuestState, failed.Qualification);
        }

        if (EntryStandIn is { } standIn && standIn.TryFail(out MadeEntryFailure made))
        {
            if (made.IsVmfail)
            {
                failure = Fail(VmxInstructionError.EntryInvalidControls);
                return EntryOutcome.Failed;
            }

            return FailEntry(made.Reason, made.Qualification);
        }

        LoadGuest();
        uint badEntry = LoadEntryMsrs();
        if (badEntry != 0)
        {
            FailedCheck = "entry-msr-load";
            return FailEntry(ExitReason.EntryFailureMsrLoading, badEntry);
        }

        if (launch)
        {
            _vmcs.Launched = true;
        }

        BecomeGuest();
        _state->Stop = StopKind.None;
        _cpu.StateChanged();
        Observer?.OnEntry(launch);
        bool injects = (_vmcs[VmcsField.EntryInterruptionInfo] >> 31) != 0;
        if (!Inject())
        {
            StopKind stop = _state->Stop;
            _state->Stop = StopKind.None;
            if (stop == StopKind.Exit)
            {
                return LeaveGuest();
            }

            if (stop == StopKind.Unimplemented)
            {
                return EntryOutcome.Unimplemented;
            }
        }

        StartStepping(injects);
        return Continue();
    }

    /// <summary>Goes on in the guest after Stopped, Halted or Unimplemented.</summary>
    public EntryOutcome Continue(out VmExit exit)
    {
        EntryOutcome outcome = Continue();
        exit = outcome is EntryOutcome.Exited or EntryOutcome.Aborted ? _exit : default;
        return outcome;
    }

    /// <summary>As the other, with the exit in <see cref="LastExit"/>.</summary>
    public EntryOutcome Continue()
    {
        if (!InGuest)
        {
            return EntryOutcome.Failed;
        }

        switch (_cpu.Run())
        {
            case CpuStop.Exit:
                return LeaveGuest();
            case CpuStop.Requested:
                return EntryOutcome.Stopped;
            case CpuStop.Unimplemented:
                return EntryOutcome.Unimplemented;
            default:
                return EntryOutcome.Halted;
        }
    }

    /// <summary>
    /// Leaves non-root operation without an exit: for resets and restores. The VMCS keeps what it had.
    /// </summary>
    public void Abandon()
    {
        StopStepping();
        InGuest = false;
        _cpu.NonRoot = null;
        _cpu.SecondStage = null;
        _tlbCr0 = ulong.MaxValue;
    }

    internal static uint SecondaryOf(Vmcs vmcs) => vmcs.Has(VmcsField.PrimaryControls, PrimaryControls.ActivateSecondaryControls)
        ? (uint)vmcs[VmcsField.SecondaryControls]
        : 0;

    internal static bool EptPointerIsValid(VmxCapabilities capabilities, ulong pointer)
    {
        ulong type = pointer & 7;
        bool typeFine = (type == 0 && capabilities.HasEptVpid(8)) || (type == 6 && capabilities.HasEptVpid(14));
        ulong levels = (pointer >> 3) & 7;
        bool levelsFine = (levels == 3 && capabilities.HasEptVpid(6)) || (levels == 4 && capabilities.HasEptVpid(7));
        bool flagsFine = (pointer & (1UL << 6)) == 0 || capabilities.HasEptVpid(21);
        return typeFine && levelsFine && flagsFine && (pointer & 0xF80) == 0 && (pointer & capabilities.PhysicalReserved) == 0;
    }

    // DEVIATION: translations are dropped where the SDM lets a processor keep them (another CR3, VPID or EPT pointer);
    // with "enable VPID" 0 every entry drops them, as the SDM requires.
    private void PrepareTranslations()
    {
        CpuState* s = _state;
        ulong vpid = (_secondary & SecondaryControls.EnableVpid) != 0 ? _vmcs[VmcsField.VirtualProcessorIdentifier] : 0;
        ulong ept = (_secondary & SecondaryControls.EnableEpt) != 0 ? _vmcs[VmcsField.EptPointer] : 0;
        if (vpid == 0 || vpid != _tlbVpid || ept != _tlbEptPointer || s->Cr0 != _tlbCr0 || s->Cr3 != _tlbCr3
            || s->Cr4 != _tlbCr4 || s->Efer != _tlbEfer)
        {
            _cpu.FlushTlb();
        }

        _tlbVpid = vpid;
        _tlbEptPointer = ept;
        SetEptPointer(ept);
    }

    // SDM "Event Injection". False: the delivery did not end in a handler.
    private bool Inject()
    {
        InterruptionInfo info = new((uint)_vmcs[VmcsField.EntryInterruptionInfo]);
        if (!info.Valid)
        {
            return true;
        }

        CpuState* s = _state;
        uint error = info.ErrorCodeValid ? (uint)_vmcs[VmcsField.EntryExceptionErrorCode] : 0;
        byte length = info.Type is InterruptionType.SoftwareInterrupt or InterruptionType.SoftwareException
            or InterruptionType.PrivilegedSoftwareException
            ? (byte)_vmcs[VmcsField.EntryInstructionLength]
            : (byte)0;
        Observer?.OnInjected(info, error, length);
        if (info.Type == InterruptionType.OtherEvent)
        {
            _pendingMtf = true;
            return true;
        }

        s->Activity = 0;
        bool movSs = (s->Interruptibility & InterruptibilityState.BlockingByMovSs) != 0;

        // SDM "Interruptibility State" and "Delivery of Pending Debug Exceptions after VM Entry": an injected event ends the
        // shadows and takes the traps away that wait, before its own delivery meets any. INT n and its like under MOV SS leave them.
        if (!movSs || info.Type is not (InterruptionType.SoftwareInterrupt or InterruptionType.SoftwareException))
        {
            s->PendingDebug = 0;
            s->Interruptibility &= ~(ulong)(InterruptibilityState.BlockingBySti | InterruptibilityState.BlockingByMovSs);
        }

        GuestEvent injected = new(info.Vector, (EventType)info.Type, info.ErrorCodeValid, error, length);
        if (!_cpu.DeliverEvent(injected, injected: true))
        {
            return false;
        }

        // The instruction that an exit during its delivery had interrupted is complete now, unless a fault came instead.
        if (!_cpu.DeliveredAnother && info.Type is InterruptionType.SoftwareInterrupt or InterruptionType.SoftwareException or InterruptionType.PrivilegedSoftwareException)
        {
            _cpu.RetireEmulated(1);
        }

        return true;
    }

    private EntryOutcome FailEntry(ExitReason reason, ulong qualification)
    {
        _exit = new VmExit((uint)reason | VmExit.EntryFailureBit, qualification);
        _vmcs[VmcsField.ExitReason] = _exit.Reason;
        _vmcs[VmcsField.ExitQualification] = qualification;
        Exits++;
        bool loaded = LoadHost();
        Observer?.OnExit(_exit);
        return loaded ? EntryOutcome.Exited : EntryOutcome.Aborted;
    }
}
