using VmFuzz.Arch;
using VmFuzz.Vmx;

namespace VmFuzz.Kvm;

// vmx_handle_exit: S76 to S80, then the table.
public sealed partial class Vcpu
{
    /// <summary>
    /// Feeds an exit to its handler without running the guest: a made or recorded one. NMIs and machine checks run in
    /// the host and what its IDT-vectoring information says is queued again first, as after a real exit.
    /// </summary>
    /// <returns>Over 0: the guest would go on; 0: to userspace; below 0: a negated errno.</returns>
    public int HandleExit(in VmExit exit)
    {
        Vmx.SetExit(exit);
        Vmx.CompleteAtomicExit();
        Vmx.RecoverNmiBlocking();
        CompleteInterrupts(exit.IdtVectoringInfo, exit.IdtVectoringError, exit.InstructionLength);
        return HandleExit();
    }

    private int HandleExit()
    {
        if (Vmx.EmulationRequired && Path.Runs(Row.S76, this))
        {
            return Emulator.Emulate();
        }

        if (Vmx.Outcome is EntryOutcome.Unimplemented or EntryOutcome.Aborted or EntryOutcome.Halted)
        {
            KvmRun.SetInternalError(KvmInternalError.UnexpectedExitReason,
                Vmx.Outcome == EntryOutcome.Unimplemented ? Processor.UnimplementedText : Vmx.Outcome.ToString(), (ulong)Vmx.Outcome);
            return 0;
        }

        ref readonly VmExit exit = ref Vmx.Exit;
        if (Path.Runs(Row.S77, this) && LeavesForFailedEntry(exit))
        {
            return 0;
        }

        if (exit.IdtVectoringInfo.Valid && Path.Runs(Row.S78, this)
            && exit.Basic is not (ExitReason.ExceptionOrNmi or ExitReason.EptViolation or ExitReason.TaskSwitch))
        {
            KvmRun.SetInternalError(KvmInternalError.DeliveryEvent, exit.Basic.ToString(), exit.IdtVectoringInfo.Value, exit.Reason);
            return 0;
        }

        Vmx.EndSoftNmiBlocking();
        ExitRow? row = Exits.Find((ushort)exit.Reason);
        if (row is null || !Path.Runs(Row.S80, this) || Path.Removed(row.Number))
        {
            KvmRun.ExitReason = KvmExitReason.Unknown;
            KvmRun.HardwareReason = exit.Reason;
            return 0;
        }

        if (!Path.Runs(row.Number, this, out int decided))
        {
            return decided;
        }

        Observer?.OnHandling(this, row, exit);
        uint length = exit.InstructionLength;
        ExitOutcome outcome = row.Handler(this, exit);
        int result = Conclude(outcome, length);
        Observer?.OnHandled(this, row, exit, outcome);
        return result;
    }

    private bool LeavesForFailedEntry(in VmExit exit)
    {
        if (!Vmx.Failure.Succeeded)
        {
            KvmRun.ExitReason = KvmExitReason.FailEntry;
            KvmRun.HardwareReason = Vmx.Read(VmcsField.VmInstructionError);
            return true;
        }

        if (exit.IsEntryFailure)
        {
            KvmRun.ExitReason = KvmExitReason.FailEntry;
            KvmRun.HardwareReason = exit.Reason;
            return true;
        }

        return false;
    }

    // S57: over 0 stay, 0 to userspace, below 0 an error.
    private int Conclude(ExitOutcome outcome, uint length)
    {
        int result = Apply(outcome, length);
        return result > 0 && _debugTrapPending ? LeaveForDebugTrap() : result;
    }

    // A single step that userspace asked for, over an instruction that a handler completed.
    private int LeaveForDebugTrap()
    {
        _debugTrapPending = false;
        Kvm.Exits.ExceptionExit.LeaveWithDebug(this, Vector.Db, 0xFFFF_4FF0);
        return 0;
    }

    private int Apply(ExitOutcome outcome, uint length)
    {
        switch (outcome.Verdict)
        {
            case ExitVerdict.RetireInstruction:
                Retire(length);
                return 1;
            case ExitVerdict.RetireToUserspace:
                Retire(length);
                return 0;
            case ExitVerdict.ToUserspace:
                return 0;
            case ExitVerdict.Error:
                return -outcome.Errno;
            default:
                return 1;
        }
    }

    /// <summary>skip_emulated_instruction: RIP moves on, shadows end, a single step traps, the instruction counts.</summary>
    /// <param name="length">The instruction's length. Unit: bytes.</param>
    /// <param name="traps">Whether TF traps behind it.</param>
    internal void Retire(uint length, bool traps = true)
    {
        ulong next = Vmx.Rip + length;
        Vmx.Rip = Vmx.Code64 ? next : (uint)next;
        ulong flags = Vmx.RFlags;
        FinishInstruction(traps && Rules.Holds(Rule.RetireTrap) ? flags : flags & ~Arch.RFlags.Tf);
    }

    /// <summary>The rest of completing an instruction whose RIP is set already.</summary>
    /// <param name="flagsBefore">RFLAGS before the instruction: its TF decides about the trap.</param>
    /// <param name="shadow">The shadow that it leaves behind: 0, or 2 for MOV SS.</param>
    /// <param name="repeats">Whether it was an iteration of a string instruction that has more: RF is set between them (x86_emulate_insn).</param>
    /// <param name="branches">Whether it was a branch that was taken: all that is stepped over under DEBUGCTL.BTF.</param>
    internal void FinishInstruction(ulong flagsBefore, ulong shadow = 0, bool repeats = false, bool branches = false)
    {
        Vmx.InterruptShadow = shadow;
        if (repeats)
        {
            Vmx.RFlags |= Arch.RFlags.Rf;
        }
        else if ((Vmx.RFlags & Arch.RFlags.Rf) != 0 && Rules.Holds(Rule.RetireResumeFlag))
        {
            Vmx.RFlags &= ~Arch.RFlags.Rf;
        }

        Processor.RetireEmulated(1);
        if ((flagsBefore & Arch.RFlags.Tf) != 0)
        {
            RaiseSingleStep(shadow, branches);
        }
    }

    // SDM "Single-Stepping on Branches".
    private bool StepsBranchesOnly => (Vmx.Read(VmcsField.GuestDebugCtl) & DebugCtl.Btf) != 0;

    private void RaiseSingleStep(ulong shadow, bool branches)
    {
        if ((GuestDebug & GuestDebug.SingleStep) != 0)
        {
            _debugTrapPending = true;
            return;
        }

        if (StepsBranchesOnly && !branches)
        {
            return;
        }

        if (shadow != 0)
        {
            // MOV SS holds its own trap back until the next instruction is over.
            Vmx.Change(VmcsField.GuestPendingDebug, PendingDebugExceptions.Bs, true);
            return;
        }

        QueueDebug(Dr6.Bs);
    }

    /// <summary>Raises #DB. SDM "Debug Exceptions": its exit leaves DR6, DR7 and IA32_DEBUGCTL to the hypervisor.</summary>
    /// <param name="causes">As in DR6; other bits do not count.</param>
    internal void QueueDebug(ulong causes)
    {
        Vmx.Dr6 = (Vmx.Dr6 & ~Dr6.Breakpoints) | (causes & Dr6.Causes) | Dr6.Fixed;
        ulong dr7 = Vmx.Dr7;
        if ((dr7 & Dr7.Gd) != 0)
        {
            Vmx.Dr7 = dr7 & ~Dr7.Gd;
        }

        Vmx.Change(VmcsField.GuestDebugCtl, DebugCtl.EndsWithDebug, false);
        if ((Vmx.RFlags & Arch.RFlags.Tf) != 0 && Vmx.InterruptShadow != 0 && Rules.Holds(Rule.StepUnderShadow))
        {
            // SDM "Checks on Guest Non-Register State": under a shadow TF goes with a pending single step. The exit has
            // taken that away; with the injected #DB it is not delivered again.
            Vmx.Change(VmcsField.GuestPendingDebug, PendingDebugExceptions.Bs, true);
        }

        Events.QueueException(Vector.Db);
    }

    private bool _debugTrapPending;
}
