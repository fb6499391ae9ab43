using VmFuzz.Arch;

namespace VmFuzz.Kvm;

// vcpu_enter_guest: one pass.
public sealed partial class Vcpu
{
    private bool _initPending;
    private bool _machineCheckPending;
    private int _sipiVector = -1;
    private bool _pageReady;
    private ulong _stealDelay;

    private int EnterGuest()
    {
        bool wantWindow = WantsInterruptWindow;
        if (Requests != 0 && ServeRequests() is RequestOutcome outcome and not RequestOutcome.Continue)
        {
            return (int)outcome;
        }

        TakeInputs(InputPoint.AfterRequests);
        if (_machineCheckPending && !Events.Exception.Pending)
        {
            _machineCheckPending = false;
            Events.QueueException(Vector.Mc);
        }

        bool immediateExit = ForceImmediateExit;
        if (Check(Request.Event) || wantWindow)
        {
            if (Path.Runs(Row.S37, this))
            {
                AcceptApicEvents();
            }

            if (MpState == MpState.InitReceived)
            {
                return 1;
            }

            InjectPending();
            ArmWindows(wantWindow);

            // S41: with an in-kernel local APIC the hints for it are written here.
        }

        TakeInputs(InputPoint.AfterInjection);
        if (Path.Runs(Row.S42, this) && Vm.Mmu.Load() is int failure and < 0)
        {
            CancelInjection();
            return failure;
        }

        Vmx.LoadRoot();
        Host.DisablePreemption();
        PrepareGuestSwitch();
        TakeInputs(InputPoint.AfterPrepare);
        PublishMode(VcpuMode.InGuest, HostEvent.ModeInGuest);
        Host.DisableInterrupts();
        TakeInputs(InputPoint.BeforeLastCheck);
        if (Path.Runs(Row.S44, this) && MustNotEnter)
        {
            PublishMode(VcpuMode.OutsideGuest, HostEvent.ModeOutside);
            EnableInterrupts();
            Host.EnablePreemption();
            CancelInjection();
            Stats.Cancelled++;
            return 1;
        }

        TakeInputs(InputPoint.BeforeEntry);
        UnlockSlots();
        if (immediateExit && Path.Runs(Row.S46, this))
        {
            Host.RaiseVector(HostCpu.RescheduleVector);
        }

        StartGuestTime();
        LoadGuestDebug();
        return FinishPass(goOn: false);
    }

    // From the entry instruction to the exit handler.
    private int FinishPass(bool goOn)
    {
        if (!(goOn ? Vmx.GoOn() : Vmx.Run()))
        {
            return Stopped;
        }

        RestoreHostDebug();
        if (Path.Runs(Row.S51, this))
        {
            LastGuestTsc = Vmx.GuestTsc;
        }

        PublishMode(VcpuMode.OutsideGuest, HostEvent.ModeOutside);
        Vm.Time.Charge(Vm.Options.ExitCost);
        HandleExternalInterrupt();
        if (Path.Runs(Row.S53, this))
        {
            Stats.Exits++;
            Host.Log(HostEvent.CountExit);
        }

        EndGuestTime();
        Host.EnablePreemption();
        LockSlots();
        if (Vm.Options.ProfileRips && Path.Runs(Row.S54, this))
        {
            Profile.Count(Vmx.Rip);
        }

        if (Vm.Options.TscCatchup && Path.Runs(Row.S55, this))
        {
            Raise(Request.ClockUpdate);
        }

        // S56: with an in-kernel local APIC the virtual APIC page is read here.
        return HandleExit();
    }

    /// <summary>Histogram of RIPs at exits (S54).</summary>
    public RipProfile Profile { get; } = new();

    // S20.
    private bool WantsInterruptWindow => KvmRun.RequestInterruptWindow && Path.Runs(Row.S20, this);

    // S44: looked at with interrupts off and the mode published, so that nothing raised before is missed.
    private bool MustNotEnter =>
        Mode == VcpuMode.ExitingGuest || Requests != 0 || Host.NeedResched || Host.SignalPending;

    private RequestOutcome ServeRequests()
    {
        if (IsRaised(Request.MclockInProgress) && Path.Runs(Row.S106, this))
        {
            return RequestOutcome.Stay;
        }

        foreach (ref readonly RequestRow row in RequestTable.Rows.AsSpan())
        {
            if (!Check(row.Request))
            {
                continue;
            }

            RequestOutcome outcome = Path.Runs(row.Row, this, out int decided)
                ? row.Handler(this)
                : decided == 0 ? RequestOutcome.Continue : (RequestOutcome)decided;
            if (outcome != RequestOutcome.Continue)
            {
                return outcome;
            }
        }

        return RequestOutcome.Continue;
    }

    private void PublishMode(VcpuMode mode, HostEvent what)
    {
        Mode = mode;
        Host.Log(what);
    }

    private void EnableInterrupts() => Host.EnableInterrupts();

    // S43.
    private void PrepareGuestSwitch()
    {
        Host.Log(HostEvent.PrepareGuestSwitch);
        if (Path.Runs(Row.S43, this))
        {
            Vmx.LoadGuestMsrs();
            Vmx.LoadGuestFpu();
            Vmx.LoadGuestXcr0();
        }
    }

    // S47.
    private void StartGuestTime()
    {
        Host.GuestSince = Vm.Clock.Now;
        Host.Log(HostEvent.GuestEnter);
    }

    private void EndGuestTime()
    {
        if (Path.Runs(Row.S47, this))
        {
            Host.GuestTime += Vm.Clock.Now - Host.GuestSince;
        }

        Host.Log(HostEvent.GuestExit);
    }

    // S48: DR7 first, so that no half-loaded breakpoint fires in the host.
    private void LoadGuestDebug()
    {
        if (Vmx.HasActiveBreakpoints && Path.Runs(Row.S48, this))
        {
            Vmx.LoadGuestDebug();
            Host.Log(HostEvent.LoadGuestDebug);
        }
    }

    // S50.
    private void RestoreHostDebug()
    {
        if ((Host.Dr7 & 0xFF) != 0 && Path.Runs(Row.S50, this))
        {
            Vmx.RestoreHostDebug();
            Host.Log(HostEvent.RestoreHostDebug);
        }
    }

    // S52: interrupts are still off; an external-interrupt exit hands its vector to the host, then they go on.
    private void HandleExternalInterrupt()
    {
        if (Path.Runs(Row.S52, this))
        {
            bool fresh = Vmx.ExitIsFresh || Path.Seed(Row.S52);
            InterruptionInfo info = Vmx.ExitInterruption;
            if (fresh && Vmx.ExitBasic == ExitReason.ExternalInterrupt && info.Valid
                && info.Type == InterruptionType.ExternalInterrupt)
            {
                Host.RunVector(info.Vector);
            }
        }

        EnableInterrupts();
    }

    // S21.
    internal void UnloadMmu()
    {
        Vm.Mmu.Unload();
        Stats.MmuReloads++;
    }

    // S25: pvclock, when the guest has one.
    internal RequestOutcome UpdateGuestClock()
    {
        if (Vm.Options.TscKilohertz == 0)
        {
            Raise(Request.ClockUpdate);
            return RequestOutcome.Stay;
        }

        if (PvClockAddress != 0)
        {
            GuestClock.Write(this);
        }

        return RequestOutcome.Continue;
    }

    // S30: the FPU is the guest's no more; its next use traps.
    internal void DeactivateFpu() => Vmx.DeactivateFpu();

    // S31.
    internal RequestOutcome HaltForAsyncPage()
    {
        AsyncPageHalted = true;
        return RequestOutcome.Stay;
    }

    // S17: nothing is mapped by the host's whim, so readiness only ends the synthetic halt.
    private void CompleteAsyncPage()
    {
        _pageReady = false;
        AsyncPageHalted = false;
    }

    // S32.
    internal void RecordSteal()
    {
        if (StealTimeAddress != 0)
        {
            GuestClock.WriteSteal(this, _stealDelay);
        }

        _stealDelay = 0;
    }
}
