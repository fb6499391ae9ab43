using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Vmx;

/// <summary>An entry that fails for a reason that the VMCS does not show: a machine check, or hardware of another mind.</summary>
/// <param name="Reason">The basic exit reason; 0 for VMfail, with which no exit information is written.</param>
/// <param name="Qualification">The exit qualification.</param>
public readonly record struct MadeEntryFailure(ExitReason Reason, ulong Qualification)
{
    /// <summary>Whether the entry instruction itself fails.</summary>
    public bool IsVmfail => Reason == 0;
}

/// <summary>Lets entries fail whose checks all hold.</summary>
public interface IEntryStandIn
{
    /// <summary>Asked once for each entry, after its checks and before anything is loaded.</summary>
    /// <param name="failure">How it fails, when the result is true.</param>
    bool TryFail(out MadeEntryFailure failure);
}

// What a stand-in for the guest's instructions (IStandIn) does in non-root operation.
public sealed unsafe partial class VmxUnit
{
    /// <summary>Most fields that <see cref="TrySetGuestState"/> takes at once.</summary>
    public const int MostGuestFields = 64;

    /// <summary>Lets entries fail; null when nobody does.</summary>
    public IEntryStandIn? EntryStandIn { get; set; }

    /// <summary>
    /// Ends non-root operation with a given exit, as an instruction that causes one does; guest state is saved and the
    /// processor stops. For use in <see cref="IStandIn.Step"/>.
    /// </summary>
    /// <param name="exit">The exit.</param>
    /// <exception cref="InvalidOperationException">The processor is not in non-root operation.</exception>
    public void TakeExit(in VmExit exit) => TakeExit(exit, SavedRf.Keep);

    /// <summary>As <see cref="TakeExit(in VmExit)"/>, for an exit in place of a fault: RF is saved as 1 (SDM "Saving Non-Register State").</summary>
    /// <param name="exit">The exit.</param>
    /// <exception cref="InvalidOperationException">The processor is not in non-root operation.</exception>
    public void TakeFaultLikeExit(in VmExit exit) => TakeExit(exit, SavedRf.Set);

    private void TakeExit(in VmExit exit, SavedRf savedRf)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (!InGuest)
        {
            throw new InvalidOperationException("Only a guest can exit.");
        }

        Note(exit, savedRf);
        _state->Stop = StopKind.Exit;
    }

    /// <summary>
    /// Ends non-root operation with the exit that an intercept has just noted: after a question of
    /// <see cref="INonRootPolicy"/> was answered with true. For use in <see cref="IStandIn.Step"/>.
    /// </summary>
    public void TakeNotedExit()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        _state->Stop = StopKind.Exit;
    }

    /// <summary>As <see cref="TakeNotedExit()"/>, for an exit that leaves the instruction length undefined.</summary>
    /// <param name="instructionLength">What the field holds. Unit: bytes.</param>
    public void TakeNotedExit(uint instructionLength)
    {
        _exit = _exit with { InstructionLength = instructionLength };
        TakeNotedExit();
    }

    /// <summary>Takes the pending debug exceptions away: the exit that follows reports them. For use in <see cref="IStandIn.Step"/>.</summary>
    public void DropPendingDebug()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        _state->PendingDebug = 0;
    }

    /// <summary>
    /// As if the guest had taken its pending debug exceptions: they and the blocking by STI before them are gone. Those that
    /// blocking by MOV SS holds back stay (SDM "Priority Among Concurrent Events"). For use in <see cref="IStandIn.Step"/>.
    /// </summary>
    public void PassPendingDebug()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (_state->PendingDebug != 0 && (_state->Interruptibility & InterruptibilityState.BlockingByMovSs) == 0)
        {
            _state->PendingDebug = 0;
            _state->Interruptibility &= ~(ulong)InterruptibilityState.BlockingBySti;
        }
    }

    /// <summary>
    /// Unblocks NMIs as an IRET of the guest does before it meets a fault (SDM "Interruptibility State"). For use in <see cref="IStandIn.Step"/>.
    /// </summary>
    /// <returns>False when NMIs were not blocked.</returns>
    public bool TryUnblockNmis()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        bool blocked = (_state->Interruptibility & InterruptibilityState.BlockingByNmi) != 0;
        _state->Interruptibility &= ~(ulong)InterruptibilityState.BlockingByNmi;
        return blocked;
    }

    /// <summary>
    /// Gives the running guest other registers, by the fields of the guest-state area that hold them at an exit, when an
    /// entry would accept the result. For use in <see cref="IStandIn.Step"/>.
    /// </summary>
    /// <param name="fields">The fields with their values; at most <see cref="MostGuestFields"/>, cut to their widths.</param>
    /// <returns>False when a check of an entry refuses the state; then nothing changed.</returns>
    /// <exception cref="InvalidOperationException">The processor is not in non-root operation, or there are too many fields.</exception>
    public bool TrySetGuestState(ReadOnlySpan<KeyValuePair<VmcsField, ulong>> fields)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (!InGuest || fields.Length > MostGuestFields)
        {
            throw new InvalidOperationException("Only a running guest has state to set, and at most 64 fields at once.");
        }

        _savedRf = SavedRf.Keep;
        SaveGuest();
        Span<ulong> old = stackalloc ulong[MostGuestFields];
        for (int i = 0; i < fields.Length; i++)
        {
            old[i] = _vmcs[fields[i].Key];
            _vmcs[fields[i].Key] = fields[i].Value;
        }

        EntryContext context = new(_vmcs, Capabilities, _cpu.Memory, CurrentPointer, Host);
        ulong injected = _vmcs[VmcsField.EntryInterruptionInfo];
        _vmcs[VmcsField.EntryInterruptionInfo] = 0;
        bool fine = Checks.FirstFailureIncremental(context) is null;
        _vmcs[VmcsField.EntryInterruptionInfo] = injected;
        if (!fine)
        {
            for (int i = fields.Length - 1; i >= 0; i--)
            {
                _vmcs[fields[i].Key] = old[i];
            }

            return false;
        }

        LoadGuest();
        PrepareTranslations();
        _cpu.StateChanged();
        return true;
    }
}
