using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.Blocks;

namespace VmFuzz.Cpu;

// The dispatcher: limits, events, blocks, in this order, until something stops the processor.
public sealed unsafe partial class Processor
{
    /// <summary>Runs until something stops the processor.</summary>
    public CpuStop Run()
    {
        CpuState* s = _state;
        s->PendingLink = null;
        s->Attention |= AttentionBits.Limit | AttentionBits.Events;
        _hits = 0;
        UpdateBreakpoints();
        for (; ; )
        {
            if (s->Budget <= 0 || (s->Attention & AttentionBits.Limit) != 0)
            {
                s->Attention &= ~AttentionBits.Limit;
                if (!MoveLimit())
                {
                    return CpuStop.Requested;
                }
            }

            if (s->Attention != 0)
            {
                ulong attention = s->Attention;
                s->Attention = 0;
                if (_clearDue)
                {
                    _clearDue = false;
                    DropBlocks();
                    s->Attention = 0;
                }

                if ((attention & AttentionBits.Stop) != 0)
                {
                    s->Attention = attention & ~(AttentionBits.Stop | AttentionBits.Code);
                    return CpuStop.Requested;
                }

                if ((attention & AttentionBits.Events) != 0 && !TakeEvents(out CpuStop stop))
                {
                    return stop;
                }

                if (s->Attention != 0)
                {
                    continue;
                }
            }

            if (s->Activity != 0)
            {
                return s->Activity == 1 ? CpuStop.Halted : CpuStop.Shutdown;
            }

            if (StandIn is { } standIn)
            {
                standIn.Step(this);
                if (s->Stop != StopKind.None && !HandleStop(out CpuStop why))
                {
                    return why;
                }

                continue;
            }

            bool shown = _watch is { } watch && Show(watch);
            if (shown && s->Attention != 0)
            {
                continue;
            }

            ulong before = (s->Interruptibility & 3) | (s->Flags & (RFlags.Tf | RFlags.Rf));
            if (before != 0 || shown || AtWatchedCode)
            {
                Step(before);
            }
            else
            {
                Block* block = Lookup(single: false);
                if (block != null && block->Count > s->Budget)
                {
                    block = Lookup(single: true);
                }

                if (block != null)
                {
                    Execute(block);
                }
            }

            if (s->Stop != StopKind.None && !HandleStop(out CpuStop reason))
            {
                return reason;
            }
        }
    }

    /// <summary>Executes the reference microcode of an op and works out how to go on.</summary>
    internal Op* ExecuteReference(Op* op)
    {
        CpuState* s = _state;
        Block* block = Block.Of(op);
        Reference* reference = block->References + (block->Count - op->Remaining);
        ulong start = s->Gpr[CpuState.RipSlot];
        ulong next = reference->Instruction.NextIP & SequentialMask(block->Mode);
        s->Budget += op->Remaining;
        s->Gpr[CpuState.RipSlot] = reference->Instruction.IP;
        InstructionLog?.Invoke(this, reference->Instruction);
        if (reference->Row < 0)
        {
            NoRow(reference);
            return null;
        }

        ExecHandler handler = Instructions.Rows[reference->Row].Handler;
        bool repeats = false;
        for (; ; )
        {
            ExecResult result = handler(this, reference->Instruction);
            if (_hits != 0 && result != ExecResult.Abort)
            {
                KeepHits();
            }

            if (repeats && result is (ExecResult.Next or ExecResult.NextAndLook))
            {
                s->Flags &= ~RFlags.Rf;
            }

            switch (result)
            {
                case ExecResult.Next:
                    // The iterations of a repeated instruction may have used up what the rest of the block needs.
                    if (s->Attention == 0 && block->Valid != 0 && s->Budget >= op->Remaining)
                    {
                        s->Gpr[CpuState.RipSlot] = start;
                        s->Budget -= op->Remaining;
                        return op + 1;
                    }

                    s->Gpr[CpuState.RipSlot] = next;
                    s->Budget--;
                    CutBlock(op, next);
                    return null;
                case ExecResult.NextAndLook:
                    s->Gpr[CpuState.RipSlot] = next;
                    s->Budget--;
                    CutBlock(op, next);
                    StateChanged();
                    return null;
                case ExecResult.Jump:
                    s->Budget--;
                    StateChanged();
                    return null;
                case ExecResult.Repeat:
                    // What comes between two iterations finds RF set (SDM "Instruction-Breakpoint Exception Condition").
                    repeats = true;
                    s->Flags |= RFlags.Rf;
                    s->Budget--;
                    if (s->Budget <= 0 || s->Attention != 0 || (block->Mode & BlockMode.Single) != 0)
                    {
                        CutRepetition(block, reference->Instruction.IP);
                        return null;
                    }

                    continue;
                case ExecResult.Halt:
                    s->Gpr[CpuState.RipSlot] = next;
                    s->Budget--;
                    s->Stop = StopKind.Halt;
                    return null;
                default:
                    _hits = 0;
                    BreakBlock();
                    return null;
            }
        }
    }

    /// <summary>What runs instead of the instructions in memory; null runs those.</summary>
    public IStandIn? StandIn { get; set; }

    /// <summary>Called with every instruction that the reference microcode executes; for logs, with <see cref="ReferenceOnly"/> for all.</summary>
    public Action<Processor, Instruction>? InstructionLog { get; set; }

    internal static ulong RipMask(ulong mode) => (mode & BlockMode.CodeMask) switch
    {
        0 => 0xFFFF,
        BlockMode.Code32 => uint.MaxValue,
        _ => ulong.MaxValue,
    };

    // Running on does not wrap at 64 KiB, as jumps do: what lies behind the limit is a fault of its fetch.
    internal static ulong SequentialMask(ulong mode) => (mode & BlockMode.Code64) != 0 ? ulong.MaxValue : uint.MaxValue;

    private void NoRow(Reference* reference)
    {
        if (reference->Row is RowUndefined or RowTooLong)
        {
            RaiseFault(reference->Row == RowTooLong ? GuestFault.Gp() : GuestFault.Ud);
            return;
        }

        Unimplemented($"instruction {reference->Instruction} ({reference->Instruction.Code}) at RIP 0x{reference->Instruction.IP:x}");
    }

    private void Execute(Block* block)
    {
        CpuState* s = _state;
        Op* op = Block.First(block);
        Op* link = (Op*)s->PendingLink;
        if (link != null)
        {
            s->PendingLink = null;
            if (block->Valid != 0 && (block->Mode & BlockMode.Single) == 0)
            {
                link->Immediate = (long)op;
                link->Displacement = (int)(link->R0 != 0 ? s->CodeGeneration : s->Generation);
                if (block->Rip <= Block.Of(link)->Rip)
                {
                    // Backwards: the head of a loop.
                    CountEntries(block);
                }
            }
        }

        while (op != null)
        {
            op = op->Handler(s, op);
        }
    }

    // One instruction under a shadow, TF or RF, or where a breakpoint may be.
    private void Step(ulong before)
    {
        CpuState* s = _state;
        const ulong Hides = RFlags.Rf | 2; // Blocking by MOV SS holds back instruction breakpoints too.
        if (_breakpoints.Code != 0 && (before & Hides) == 0 && MeetsCodeBreakpoint(out ulong hits))
        {
            RaiseFault(new GuestFault(Vector.Db, 0, hits));
            return;
        }

        Block* block = Lookup(single: true);
        if (block == null)
        {
            return;
        }

        ulong shadow = before & 3;
        s->Interruptibility &= ~3UL;
        ulong retired = Retired;
        ulong deliveries = _deliveries;
        ulong switches = _taskSwitches;
        s->PendingLink = null;
        Execute(block);
        if (s->Stop is StopKind.Fault or StopKind.Exit or StopKind.Unimplemented or StopKind.Event || Retired == retired)
        {
            // Unless a fault of a software interrupt's delivery was delivered, or shut the processor down, which ends shadows.
            s->Interruptibility |= deliveries == _deliveries ? shadow : 0;
            return;
        }

        if ((before & RFlags.Rf) != 0 && ClearsRf(block, switches))
        {
            s->Flags &= ~RFlags.Rf;
        }

        if ((before & RFlags.Tf) != 0 && Steps(block->References[0].Instruction))
        {
            s->PendingDebug |= StepDr6;
        }

        s->Attention |= AttentionBits.Events;
    }

    private bool MoveLimit()
    {
        CpuState* s = _state;
        ulong retired = Retired;
        ulong limit = ulong.MaxValue >> 1;
        if (Boundary is { } boundary && !boundary.OnBoundary(retired, out limit))
        {
            return false;
        }

        // A due event may have retired nothing but advanced time; the count itself is unchanged.
        retired = Retired;
        s->RetireLimit = Math.Max(limit, retired + 1);
        s->Budget = (long)(s->RetireLimit - retired);
        return true;
    }

    /// <summary>Works on a stop of the ops. True: go on.</summary>
    private bool HandleStop(out CpuStop reason)
    {
        CpuState* s = _state;
        StopKind stop = s->Stop;
        s->Stop = StopKind.None;
        s->PendingLink = null;
        reason = CpuStop.Requested;
        if (stop == StopKind.Fault)
        {
            if (DeliverPendingFault())
            {
                return true;
            }

            stop = s->Stop;
            s->Stop = StopKind.None;
        }

        switch (stop)
        {
            case StopKind.Halt:
                s->Activity = 1;
                s->Attention |= AttentionBits.Events;
                return true;
            case StopKind.Shutdown:
                s->Activity = 2;
                reason = CpuStop.Shutdown;
                return false;
            case StopKind.Exit:
                reason = CpuStop.Exit;
                return false;
            case StopKind.Unimplemented:
                reason = CpuStop.Unimplemented;
                return false;
            case StopKind.Event:
                reason = CpuStop.Event;
                return false;
            default:
                return true;
        }
    }

    // SDM "Priority Among Concurrent Events": monitor trap, traps of the previous instruction, NMI, interrupt; windows beside
    // them.
    private bool TakeEvents(out CpuStop stop)
    {
        CpuState* s = _state;
        stop = CpuStop.Exit;
        ulong shadow = s->Interruptibility & 3;
        if (NonRoot is { } monitor && monitor.MonitorTrap())
        {
            return false;
        }

        if (s->PendingDebug != 0 && (shadow & 2) == 0 && s->Activity <= 1 && TakeDebugTraps() is var traps and not 0)
        {
            // The trap of a step over HLT ends the halt (SDM "HLT - Halt").
            return Deliver(new GuestEvent(Vector.Db, EventType.HardwareException, Address: traps), out stop);
        }

        if (NonRoot is { } policy && policy.Window())
        {
            return false;
        }

        bool blocked = (s->Interruptibility & 8) != 0 && NonRoot is not { VirtualNmis: true };
        if (NmiPending && !blocked && shadow == 0)
        {
            if (NonRoot is { } nmiPolicy && nmiPolicy.Nmi())
            {
                NmiPending = false;
                return false;
            }

            NmiPending = false;
            s->Activity = 0;
            return Deliver(new GuestEvent(Vector.Nmi, EventType.Nmi), out stop);
        }

        if (NonRoot is { } window && window.InterruptWindow())
        {
            return false;
        }

        if (Interrupts is { InterruptPending: true } controller && s->Activity <= 1)
        {
            if (NonRoot is { } policyOfInterrupts && policyOfInterrupts.ExternalInterrupt(controller))
            {
                return false;
            }

            if ((s->Flags & RFlags.If) != 0 && shadow == 0)
            {
                s->Activity = 0;
                return Deliver(new GuestEvent(controller.Acknowledge(), EventType.ExternalInterrupt), out stop);
            }
        }

        return true;
    }

    private bool Deliver(in GuestEvent raised, out CpuStop stop)
    {
        stop = CpuStop.Requested;
        if (DeliverEvent(raised))
        {
            StateChanged();
            return true;
        }

        return HandleStop(out stop);
    }
}
