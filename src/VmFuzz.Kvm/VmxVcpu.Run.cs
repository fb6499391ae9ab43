using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Vmx;

namespace VmFuzz.Kvm;

// vmx_vcpu_run and what stands right after the exit.
public sealed unsafe partial class VmxVcpu
{
    private VmExit _exit;
    private VmxResult _failure;
    private EntryOutcome _outcome;
    private ulong _hostStack;
    private bool _nmiKnownUnmasked;
    private bool _softNmiBlocked;
    private ulong _softNmiBlockedTime;

    /// <summary>The last exit.</summary>
    public ref readonly VmExit Exit => ref _exit;

    /// <summary>How the last entry instruction failed; success when it did not.</summary>
    public VmxResult Failure => _failure;

    /// <summary>Whether the last pass really left the guest, so that the exit information is its own.</summary>
    public bool ExitIsFresh { get; private set; }

    /// <summary>How the last pass ended.</summary>
    public EntryOutcome Outcome => _outcome;

    /// <summary>Whether the processor virtualises NMIs.</summary>
    public bool VirtualNmis { get; private set; }

    /// <summary>
    /// Whether guest state is one that the processor cannot run (S59). With unrestricted guest there is none; the place
    /// for emulation until the state is valid again is the head of <see cref="Run"/>.
    /// </summary>
    public bool EmulationRequired => false;

    /// <summary>Host stack pointer at the entry (S66, S100).</summary>
    public ulong HostStackPointer { get; set; } = HostStack;

    /// <summary>Performance MSRs with the guest's and the host's values; those that differ are switched by the processor (S63).</summary>
    public AtomicSwitch AtomicMsrs { get; } = new();

    /// <summary>VMCS field counts of HOST_RSP writes, for S66.</summary>
    public ulong HostStackWrites { get; private set; }

    /// <summary>The host's DEBUGCTL at the entry (S64).</summary>
    internal ulong DebugCtlBefore { get; set; }

    /// <summary>Time of the entry while an NMI is blocked without virtual NMIs (S58).</summary>
    internal ulong SoftNmiEntry { get; set; }

    internal ExitReason ExitBasic => _exit.Basic;

    internal InterruptionInfo ExitInterruption => new((uint)_vmcs[VmcsField.ExitInterruptionInfo]);

    internal InterruptionInfo Injection => new((uint)Read(VmcsField.EntryInterruptionInfo));

    internal uint InjectionErrorCode => (uint)Read(VmcsField.EntryExceptionErrorCode);

    internal uint InjectionInstructionLength => (uint)Read(VmcsField.EntryInstructionLength);

    /// <summary>Whether NMIs are blocked (vmx_get_nmi_mask).</summary>
    public bool NmiMasked
    {
        get
        {
            if (!VirtualNmis)
            {
                return _softNmiBlocked;
            }

            return !_nmiKnownUnmasked
                && (Read(VmcsField.GuestInterruptibility) & InterruptibilityState.BlockingByNmi) != 0;
        }

        internal set
        {
            if (!VirtualNmis)
            {
                if (_softNmiBlocked != value)
                {
                    _softNmiBlocked = value;
                    _softNmiBlockedTime = 0;
                }

                return;
            }

            _nmiKnownUnmasked = !value;
            Change(VmcsField.GuestInterruptibility, InterruptibilityState.BlockingByNmi, value);
        }
    }

    /// <summary>Whether an NMI can be injected now (vmx_nmi_allowed).</summary>
    public bool NmiAllowed => (VirtualNmis || !_softNmiBlocked)
        && (Read(VmcsField.GuestInterruptibility)
            & (InterruptibilityState.BlockingByMovSs | InterruptibilityState.BlockingBySti | InterruptibilityState.BlockingByNmi)) == 0;

    /// <summary>Whether an interrupt can be injected now (vmx_interrupt_allowed).</summary>
    public bool InterruptAllowed => (RFlags & Arch.RFlags.If) != 0 && InterruptShadow == 0;

    internal void WriteInjection(InterruptionInfo info, uint errorCode, uint instructionLength)
    {
        Write(VmcsField.EntryInterruptionInfo, info.Value);
        if (info.ErrorCodeValid)
        {
            Write(VmcsField.EntryExceptionErrorCode, errorCode);
        }

        if (instructionLength != 0)
        {
            Write(VmcsField.EntryInstructionLength, instructionLength);
        }
    }

    internal void NoteNmiInjected()
    {
        if (!VirtualNmis)
        {
            _softNmiBlocked = true;
            _softNmiBlockedTime = 0;
        }

        _nmiKnownUnmasked = false;
    }

    // S39: under an STI shadow, or without virtual NMIs, the interrupt window is as near as one gets.
    internal void EnableNmiWindow()
    {
        if (!VirtualNmis || (Read(VmcsField.GuestInterruptibility) & InterruptibilityState.BlockingBySti) != 0)
        {
            EnableInterruptWindow();
            return;
        }

        Change(VmcsField.PrimaryControls, PrimaryControls.NmiWindowExiting, true);
    }

    internal void EnableInterruptWindow() => Change(VmcsField.PrimaryControls, PrimaryControls.InterruptWindowExiting, true);

    /// <summary>Runs the guest until it leaves. False: the machine stopped the processor in the middle.</summary>
    internal bool Run()
    {
        RunPath path = _vcpu.Path;
        ExitIsFresh = false;
        if (!VirtualNmis && _softNmiBlocked && path.Runs(Row.S58, _vcpu))
        {
            SoftNmiEntry = _vcpu.Vm.Clock.Now;
        }

        TraceEntry();
        if (EmulationRequired)
        {
            return true;
        }

        // S60: a pending shadow-VMCS sync (nested VMX) comes here.
        WriteDirtyRegisters();
        if ((_vcpu.GuestDebug & GuestDebug.SingleStep) != 0 && path.Runs(Row.S62, _vcpu))
        {
            InterruptShadow = 0;
        }

        if (path.Runs(Row.S63, _vcpu))
        {
            AtomicMsrs.Prepare(this, _vcpu.Vm.Host);
        }

        DebugCtlBefore = _unit.Host.DebugCtl;
        if (_hostStack != HostStackPointer || !path.Runs(Row.S66, _vcpu))
        {
            _hostStack = HostStackPointer;
            HostStackWrites++;
            Write(VmcsField.HostRsp, HostStackPointer);
        }

        LoadGprs();
        _vcpu.Host.Log(HostEvent.Enter);
        bool launch = !Launched || !path.Runs(Row.S65, _vcpu);
        EntryOutcome outcome = _unit.Enter(launch, out VmxResult failure);
        return Returned(outcome, failure);
    }

    /// <summary>Goes on after <see cref="Run"/> returned false.</summary>
    internal bool GoOn()
    {
        EntryOutcome outcome = _unit.Continue();
        return Returned(outcome, VmxResult.Succeed);
    }

    private bool Returned(EntryOutcome outcome, VmxResult failure)
    {
        _outcome = outcome;
        SaveGprs();
        if (outcome == EntryOutcome.Stopped)
        {
            return false;
        }

        _vcpu.Host.Log(HostEvent.Left);
        RunPath path = _vcpu.Path;
        if (DebugCtlBefore != 0 && path.Runs(Row.S64, _vcpu))
        {
            _unit.Host.DebugCtl = DebugCtlBefore;
            _vcpu.Host.Log(HostEvent.RestoreDebugCtl);
        }

        _failure = path.Runs(Row.S69, _vcpu) ? failure : VmxResult.Succeed;
        bool stale = outcome != EntryOutcome.Exited;
        bool checksStale = path.Runs(Row.S71, _vcpu) && !path.Seed(Row.S71);
        if (outcome is EntryOutcome.Exited or EntryOutcome.Failed)
        {
            ResetCache();
        }

        if (stale && checksStale)
        {
            _vcpu.CancelInjection();
            return true;
        }

        if (!stale)
        {
            _exit = _unit.LastExit;
        }

        _failure = stale ? failure : VmxResult.Succeed;
        ExitIsFresh = !stale;
        Launched = true;
        if (_vcpu.Observer is { } observer && path.Runs(Row.S72, _vcpu))
        {
            observer.OnExit(_vcpu, _exit, Rip);
        }

        CompleteAtomicExit();
        RecoverNmiBlocking();
        if (_exit.IsEntryFailure && checksStale)
        {
            _vcpu.CancelInjection();
            Launched = _vmcs.Launched;
        }
        else
        {
            _vcpu.CompleteInterrupts(_exit.IdtVectoringInfo, _exit.IdtVectoringError, _exit.InstructionLength);
        }

        return true;
    }

    // S61.
    private void WriteDirtyRegisters()
    {
        bool lazy = _vcpu.Path.Runs(Row.S61, _vcpu);
        if ((_dirty & RspBit) != 0 || !lazy)
        {
            Write(VmcsField.GuestRsp, GetGpr(Gpr.Rsp));
        }

        if ((_dirty & RipBit) != 0 || !lazy)
        {
            Write(VmcsField.GuestRip, Rip);
        }
    }

    // S67, S68.
    private void LoadGprs()
    {
        CpuState* s = _state;
        if (_vcpu.Path.Runs(Row.S68, _vcpu))
        {
            ulong stack = s->Gpr[(int)Gpr.Rsp];
            ((ReadOnlySpan<ulong>)_gprs).CopyTo(new Span<ulong>(s->Gpr, 16));
            s->Gpr[(int)Gpr.Rsp] = stack;
        }

        if (s->Cr2 != Cr2 && _vcpu.Path.Runs(Row.S67, _vcpu))
        {
            s->Cr2 = Cr2;
        }
    }

    private void SaveGprs()
    {
        CpuState* s = _state;
        ulong stack = _gprs[(int)Gpr.Rsp];
        new ReadOnlySpan<ulong>(s->Gpr, 16).CopyTo(_gprs);
        _gprs[(int)Gpr.Rsp] = stack;

        if (_vcpu.Path.Runs(Row.S67, _vcpu))
        {
            Cr2 = s->Cr2;
        }
    }

    // S70.
    private void ResetCache()
    {
        if (_vcpu.Path.Runs(Row.S70, _vcpu))
        {
            _available = 0;
            _dirty = 0;
        }
    }

    // S49: before the entry, for every pass.
    private void TraceEntry()
    {
        if (_vcpu.Observer is not { } observer || !_vcpu.Path.Runs(Row.S49, _vcpu))
        {
            return;
        }

        observer.OnEntry(_vcpu, new EntryRecord(
            _vcpu.Index,
            (_available & RipBit) != 0 ? _rip : _vmcs[VmcsField.GuestRip],
            new InterruptionInfo((uint)_vmcs[VmcsField.EntryInterruptionInfo]),
            (uint)_vmcs[VmcsField.EntryExceptionErrorCode],
            (uint)_vmcs[VmcsField.EntryInstructionLength],
            !Launched,
            EmulationRequired));
    }

    // S73 (vmx_complete_atomic_exit), S96.
    internal void CompleteAtomicExit()
    {
        if (!_vcpu.Path.Runs(Row.S73, _vcpu))
        {
            return;
        }

        bool machineCheckOnEntry = _exit.IsEntryFailure && _exit.Basic == ExitReason.EntryFailureMachineCheck;
        if (machineCheckOnEntry && !_vcpu.Path.Seed(Row.S96) && _vcpu.Path.Runs(Row.S96, _vcpu))
        {
            _vcpu.Host.RunVector(Vector.Mc);
            return;
        }

        if (_exit.Reason != (uint)ExitReason.ExceptionOrNmi || !_exit.InterruptionInfo.Valid)
        {
            return;
        }

        InterruptionInfo info = _exit.InterruptionInfo;
        if (info.Type == InterruptionType.HardwareException && info.Vector == Vector.Mc)
        {
            _vcpu.Host.RunVector(Vector.Mc);
        }
        else if (info.Type == InterruptionType.Nmi)
        {
            _vcpu.Host.RunVector(Vector.Nmi);
        }
    }

    // S74 (vmx_recover_nmi_blocking).
    internal void RecoverNmiBlocking()
    {
        if (!_vcpu.Path.Runs(Row.S74, _vcpu))
        {
            return;
        }

        bool vectoring = _exit.IdtVectoringInfo.Valid;
        if (VirtualNmis)
        {
            if (_nmiKnownUnmasked)
            {
                return;
            }

            InterruptionInfo info = _exit.InterruptionInfo;
            if (info.Valid && info.NmiUnblocking && info.Vector != Vector.Df && !vectoring)
            {
                Change(VmcsField.GuestInterruptibility, InterruptibilityState.BlockingByNmi, true);
            }
            else
            {
                _nmiKnownUnmasked = (Read(VmcsField.GuestInterruptibility) & InterruptibilityState.BlockingByNmi) == 0;
            }
        }
        else if (_softNmiBlocked)
        {
            _softNmiBlockedTime += _vcpu.Vm.Clock.Now - SoftNmiEntry;
        }
    }

    // S79.
    internal void EndSoftNmiBlocking()
    {
        if (VirtualNmis || !_softNmiBlocked || !_vcpu.Path.Runs(Row.S79, _vcpu))
        {
            return;
        }

        if (InterruptAllowed || (_softNmiBlockedTime > 1_000_000_000 && _vcpu.Events.NmiPending > 0))
        {
            _softNmiBlocked = false;
        }
    }

    /// <summary>Takes a synthetic exit as the last one (see <see cref="Vcpu.HandleExit(in VmExit)"/>).</summary>
    internal void SetExit(in VmExit exit)
    {
        _exit = exit;
        _failure = VmxResult.Succeed;
        _outcome = EntryOutcome.Exited;
        ExitIsFresh = true;
    }
}

/// <summary>MSRs that the processor itself switches at entry and exit, through its load lists.</summary>
public sealed class AtomicSwitch
{
    private readonly List<(uint Msr, ulong Guest, ulong Host)> _msrs = [];
    private ulong _entryList;
    private ulong _exitList;
    private bool _changed;

    /// <summary>MSRs on the lists at the last entry.</summary>
    public int Count { get; private set; }

    /// <summary>Sets the values of an MSR; equal values take it off the lists.</summary>
    public void Set(uint msr, ulong guest, ulong host)
    {
        int at = _msrs.FindIndex(msr, static (m, id) => m.Msr == id);
        if (at >= 0)
        {
            _msrs.RemoveAt(at);
        }

        if (guest != host)
        {
            _msrs.Add((msr, guest, host));
        }

        _changed = true;
    }

    internal void Prepare(VmxVcpu vmx, HostArea area)
    {
        if (!_changed)
        {
            return;
        }

        _changed = false;
        if (_entryList == 0)
        {
            _entryList = area.TakeFixed();
            _exitList = area.TakeFixed();
            vmx.Write(VmcsField.EntryMsrLoadAddress, _entryList);
            vmx.Write(VmcsField.ExitMsrLoadAddress, _exitList);
        }

        for (int i = 0; i < _msrs.Count; i++)
        {
            area.Write(_entryList + ((ulong)i * 16), _msrs[i].Msr);
            area.Write(_entryList + ((ulong)i * 16) + 8, _msrs[i].Guest);
            area.Write(_exitList + ((ulong)i * 16), _msrs[i].Msr);
            area.Write(_exitList + ((ulong)i * 16) + 8, _msrs[i].Host);
        }

        Count = _msrs.Count;
        vmx.Write(VmcsField.EntryMsrLoadCount, (ulong)Count);
        vmx.Write(VmcsField.ExitMsrLoadCount, (ulong)Count);
    }
}
