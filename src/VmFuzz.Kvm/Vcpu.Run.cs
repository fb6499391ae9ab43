using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Kvm;

// kvm_arch_vcpu_ioctl_run and __vcpu_run.
public sealed partial class Vcpu
{
    private int ArchRun()
    {
        if (StoppedInGuest)
        {
            return GoOnInGuest();
        }

        ulong mask = Host.SignalMask;
        if (SignalMask is { } runMask)
        {
            Host.SignalMask = runMask;
        }

        return FinishRun(ArchRunMasked(), mask);
    }

    private int GoOnInGuest()
    {
        StoppedInGuest = false;
        return FinishRun(RunLoop(goOn: true), _maskBefore);
    }

    private int FinishRun(int result, ulong mask)
    {
        if (result == Stopped)
        {
            StoppedInGuest = true;
            _maskBefore = mask;
            return result;
        }

        if (Path.Runs(Row.S10, this))
        {
            SaveRunState();
        }

        if (Path.Runs(Row.S06, this))
        {
            Host.SignalMask = mask;
        }

        return result;
    }

    /// <summary>
    /// The run call returned in the middle of the guest because the machine asked the processor to stop; the next run
    /// call goes on there. Not a result of KVM.
    /// </summary>
    public const int Stopped = -512;

    private ulong _maskBefore;

    /// <summary>Whether the last run call returned <see cref="Stopped"/>.</summary>
    public bool StoppedInGuest { get; private set; }

    private int ArchRunMasked()
    {
        if (MpState == MpState.Uninitialized && Path.Runs(Row.S07, this))
        {
            Block();
            AcceptApicEvents();
            Check(Request.Unhalt);
            return -Errno.EAGAIN;
        }

        if (Path.Runs(Row.S08, this) && !TrySetCr8(KvmRun.Cr8))
        {
            return -Errno.EINVAL;
        }

        // S09: what the last userspace exit left unfinished.
        if (Emulator.HasPending && Path.Runs(Row.S09, this) && Emulator.Complete() is int unfinished and <= 0)
        {
            return unfinished;
        }

        if (KvmRun.ImmediateExit)
        {
            KvmRun.ExitReason = KvmExitReason.Intr;
            return -Errno.EINTR;
        }

        return RunLoop();
    }

    private bool TrySetCr8(ulong value)
    {
        if (value > 15)
        {
            return false;
        }

        Cr8 = value;
        return true;
    }

    private void SaveRunState()
    {
        KvmRun.IfFlag = (RFlagsQuiet & Arch.RFlags.If) != 0;
        KvmRun.Cr8 = Cr8;
        KvmRun.ApicBase = ApicBase;
        KvmRun.ReadyForInterruptInjection = ReadyForInterrupt;
    }

    /// <summary>Whether KVM_INTERRUPT would be injected at the next entry.</summary>
    internal bool ReadyForInterrupt => Vmx.InterruptAllowed && !Events.NeedsReinjection && !Emulator.HasPending;

    private ulong RFlagsQuiet => Vmx.RFlags;

    private int RunLoop(bool goOn = false)
    {
        if (!goOn)
        {
            LockSlots();
        }

        // S11: the virtual-APIC page is pinned here once there is an in-kernel irqchip.
        int result = 1;
        while (result > 0)
        {
            result = goOn ? FinishPass(goOn: true)
                : MpState == MpState.Runnable && !AsyncPageHalted ? EnterOnce() : BlockOnce();
            goOn = false;
            if (result == Stopped)
            {
                return result;
            }

            if (result <= 0 && Path.Runs(Row.S14, this))
            {
                break;
            }

            result = BetweenPasses();
        }

        UnlockSlots();
        return result;
    }

    private int EnterOnce()
    {
        Stats.Entered++;
        return EnterGuest();
    }

    // S12, S13: sleep until something wakes the VCPU, then see what it is now.
    private int BlockOnce()
    {
        Stats.Blocked++;
        UnlockSlots();
        Block();
        LockSlots();
        if (!Check(Request.Unhalt) || !Path.Runs(Row.S13, this))
        {
            return 1;
        }

        AcceptApicEvents();
        switch (MpState)
        {
            case MpState.Halted:
                PvUnhalted = false;
                MpState = MpState.Runnable;
                AsyncPageHalted = false;
                return 1;
            case MpState.Runnable:
                AsyncPageHalted = false;
                return 1;
            case MpState.InitReceived:
                return 1;
            default:
                return -Errno.EINTR;
        }
    }

    // S15 to S19.
    private int BetweenPasses()
    {
        int result = 1;

        // S15: with an in-kernel local APIC its due timer is injected here.
        Clear(Request.PendingTimer);

        if (Path.Runs(Row.S16, this) && KvmRun.RequestInterruptWindow && ReadyForInterrupt)
        {
            result = -Errno.EINTR;
            KvmRun.ExitReason = KvmExitReason.Intr;
            Stats.RequestIrqExits++;
        }

        if (_pageReady && Path.Runs(Row.S17, this))
        {
            CompleteAsyncPage();
        }

        TakeInputs(InputPoint.Signal);
        if (Host.SignalPending && Path.Runs(Row.S18, this))
        {
            Host.SignalPending = false;
            result = -Errno.EINTR;
            KvmRun.ExitReason = KvmExitReason.Intr;
            Stats.SignalExits++;
        }

        TakeInputs(InputPoint.Reschedule);
        if (Host.NeedResched && Path.Runs(Row.S19, this))
        {
            UnlockSlots();
            Reschedule();
            LockSlots();
        }

        return result;
    }

    private void Reschedule()
    {
        Host.NeedResched = false;
        Stats.Reschedules++;
        Vmx.Put();
        Vmx.Load();
    }

    // kvm_vcpu_block: S104 lists what wakes it.
    private void Block()
    {
        Host.Log(HostEvent.Block);
        TakeInputs(InputPoint.Blocked);
        if (IsRunnable)
        {
            Stats.HaltWakeups++;
            Raise(Request.Unhalt);
        }
        else if (!IsWoken)
        {
            // One VCPU, one thread: nothing else can wake it before its userspace runs again.
            Host.SignalPending = true;
        }
    }

    /// <summary>The next run call would find the VCPU blocked with nothing that wakes it.</summary>
    internal bool IsAsleep => !IsWoken;

    // A signal and a due timer end the sleep but not the halt.
    private bool IsWoken => IsRunnable || IsRaised(Request.PendingTimer) || Host.SignalPending;

    // kvm_arch_vcpu_runnable.
    private bool IsRunnable =>
        (Events.InterruptWaits && Vmx.InterruptAllowed)
        || (Events.NmiPending > 0 || Events.NmiQueued > 0)
        || _initPending || (_sipiVector >= 0 && MpState == MpState.InitReceived)
        || IsRaised(Request.Unhalt) || _pageReady || PvUnhalted
        || MpState == MpState.Runnable && !AsyncPageHalted;

    private void LockSlots()
    {
        if (Path.Runs(Row.S98, this))
        {
            Host.LockSlots();
        }
    }

    private void UnlockSlots()
    {
        if (Path.Runs(Row.S98, this))
        {
            Host.UnlockSlots();
        }
    }

    /// <summary>Takes every input that is due at a point and applies it.</summary>
    internal void TakeInputs(InputPoint point)
    {
        while (Processor.Door.TryTake(point, out Input input))
        {
            Apply(input);
        }
    }

    /// <summary>
    /// Receives the inputs that are a machine's rather than a VCPU's (interrupts, console bytes, stop) when they come at
    /// a point of the run path; null applies them here.
    /// </summary>
    public Action<Input>? ForwardInput { get; set; }

    /// <summary>
    /// Applies one input, from whichever thread it came: a VCPU in the guest is kicked out to look at it. Kinds without
    /// a meaning here are ignored.
    /// </summary>
    public void Apply(in Input input)
    {
        if (input.Kind is (InputKind.Interrupt or InputKind.ConsoleByte or InputKind.Stop) && ForwardInput is { } forward)
        {
            forward(input);
        }
        else
        {
            ApplyHere(input);
        }

        if (Mode == VcpuMode.InGuest && (Requests != 0 || Host.NeedResched))
        {
            Kick();
        }
    }

    private void ApplyHere(in Input input)
    {
        switch (input.Kind)
        {
            case InputKind.Kick:
                if (Mode != VcpuMode.OutsideGuest)
                {
                    Kick();
                }

                // Whoever kicks has something to be looked at.
                Raise(Request.Event);
                break;
            case InputKind.Nmi:
                // Who sends an event to a VCPU in guest mode kicks it out, or the event would wait for the next exit.
                Events.QueueNmi();
                Kick();
                break;
            case InputKind.Interrupt:
                // Without an in-kernel irqchip only userspace may queue, and only when the guest can take it.
                if (ReadyForInterrupt)
                {
                    QueueUserInterrupt((int)(input.Value & 0xFF));
                }

                break;
            case InputKind.Init:
                _initPending = true;
                Raise(Request.Event);
                Kick();
                break;
            case InputKind.Sipi:
                _sipiVector = (int)(input.Value & 0xFF);
                Raise(Request.Event);
                Kick();
                break;
            case InputKind.HostVector:
                Host.RaiseVector((byte)input.Value);
                Processor.Look();
                break;
            case InputKind.Signal:
                Signal();
                break;
            case InputKind.Stop:
                StopRequested = true;
                Signal();
                break;
            case InputKind.Reschedule:
                Host.NeedResched = true;
                break;
            case InputKind.PageAbsent:
                Raise(Request.ApfHalt);
                break;
            case InputKind.PageReady:
                _pageReady = true;
                break;
            case InputKind.StealDelay:
                _stealDelay += input.Value;
                Raise(Request.StealUpdate);
                break;
            case InputKind.PmuOverflow:
                Raise(Request.Pmu);
                break;
            case InputKind.AllocationFailure:
                Vm.Mmu.FailNextLoad = true;
                break;
            case InputKind.MachineCheck:
                // Whoever reports it does so between two passes (KVM_X86_SET_MCE).
                _machineCheckPending = true;
                Raise(Request.Event);
                break;
        }
    }
}
