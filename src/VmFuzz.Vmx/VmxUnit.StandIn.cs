using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Vmx;

// What a stand-in for the guest's instructions (IStandIn) does in non-root operation.
public sealed unsafe partial class VmxUnit
{
    /// <summary>Most fields that <see cref="TrySetGuestState"/> takes at once.</summary>
    public const int MostGuestFields = 64;

    /// <summary>
    /// Ends non-root operation with a given exit, as an instruction that causes one does; guest state is saved and the
    /// processor stops. For use in <see cref="IStandIn.Step"/>.
    /// </summary>
    /// <param name="exit">The exit.</param>
    /// <exception cref="InvalidOperationException">The processor is not in non-root operation.</exception>
    public void TakeExit(in VmExit exit)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (!InGuest)
        {
            throw new InvalidOperationException("Only a guest can exit.");
        }

        Note(exit, SavedRf.Keep);
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
