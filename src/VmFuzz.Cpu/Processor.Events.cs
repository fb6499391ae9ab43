using VmFuzz.Arch;

namespace VmFuzz.Cpu;

// Delivery of events through the IDT (SDM "Interrupt and Exception Handling").
public sealed unsafe partial class Processor
{
    // An event, its fault, the double fault and a fault of that: nothing goes deeper, serial faults stop here too.
    private const int DeepestDelivery = 8;

    /// <summary>
    /// The event whose delivery is under way: what a VM exit during delivery records as IDT-vectoring information.
    /// Null at all other times.
    /// </summary>
    public GuestEvent? Delivering { get; private set; }

    /// <summary>Whether the last delivery that ended in a handler delivered a fault on the way and not the event itself.</summary>
    public bool DeliveredAnother { get; private set; }

    /// <summary>
    /// Whether events end <see cref="Run"/> with <see cref="CpuStop.Event"/> instead of going through the IDT. What belongs
    /// to the event itself is done (CR2, DR6); nothing is pushed. RIP is at the instruction, also at INT n; after a trap it
    /// is behind it.
    /// </summary>
    public bool ReportsEvents { get; set; }

    /// <summary>The event that ended the last <see cref="Run"/> with <see cref="CpuStop.Event"/>.</summary>
    public GuestEvent ReportedEvent { get; private set; }

    // DR7.GD and DR6.BD.
    internal const ulong GeneralDetect = 1UL << 13;

    // Deliveries so far, and those that ended in a shutdown; only compared.
    private ulong _deliveries;

    // The retired count of the last delivery.
    private ulong _deliveredAt;

    /// <summary>
    /// Deliveries in a row since the last instruction retired, after which the processor calls <see cref="Boundary"/> although
    /// its limit is not reached: 2^16.
    /// </summary>
    public const uint DeliveryLimit = 1 << 16;

    /// <summary>
    /// Deliveries in a row between which no instruction retired. A handler whose first instruction faults at once makes it grow
    /// for ever. Counted from the last <see cref="SetRetired"/> on; not part of the state.
    /// </summary>
    public uint DeliveriesInPlace { get; private set; }

    /// <summary>
    /// Delivers an event through the IDT of the current mode, with double-fault and triple-fault rules.
    /// </summary>
    /// <param name="raised">The event. Software events name their instruction's length.</param>
    /// <param name="injected">
    /// The event is injected by VM entry: the exception bitmap is not asked about it, CR2 and DR6 stay (faults on the
    /// way are treated as always).
    /// </param>
    /// <returns>False when it did not end in a handler: <see cref="CpuState.Stop"/> is Exit, Shutdown or Unimplemented.</returns>
    public bool DeliverEvent(in GuestEvent raised, bool injected = false)
    {
        CpuState* s = _state;
        GuestEvent current = raised;
        _hits = 0;
        if (ReportsEvents)
        {
            NoteDelivery(raised);
            ReportedEvent = raised;
            return Stopped(StopKind.Event);
        }

        if (!injected && AsksPolicy(current) && NonRoot is { } first && first.Exception(current, null))
        {
            return Stopped(StopKind.Exit);
        }

        for (int depth = 0; depth < DeepestDelivery; depth++)
        {
            if (depth > 0 || !injected)
            {
                NoteDelivery(current);
            }

            s->Stop = StopKind.None;
            ulong returnRip = current.IsSoftware ? Rip + current.InstructionLength : Rip;
            Delivering = current;
            bool delivered = Deliver(current, returnRip);
            if (delivered)
            {
                Delivering = null;
                DeliveredAnother = depth > 0;
                _deliveries++;
                Delivered(current, returnRip);
                return true;
            }

            if (s->Stop != StopKind.Fault)
            {
                Delivering = null;
                return false;
            }

            GuestEvent nested = PendingFault();
            if (!IsSoftwareRequest(current) && nested.HasErrorCode && nested.Vector != Vector.Pf)
            {
                nested = nested with { ErrorCode = nested.ErrorCode | 1 };
            }

            if (NonRoot is { } policy && policy.Exception(nested, current))
            {
                Delivering = null;
                return Stopped(StopKind.Exit);
            }

            Delivering = null;
            switch (DoubleFaults.Combine(current, nested))
            {
                case FaultCombination.Serial:
                    current = nested;
                    break;
                case FaultCombination.DoubleFault:
                    NoteDelivery(nested);
                    current = new GuestEvent(Vector.Df, EventType.HardwareException, Protected);
                    if (NonRoot is { } again && again.Exception(current, null))
                    {
                        return Stopped(StopKind.Exit);
                    }

                    break;
                default:
                    return TripleFault();
            }
        }

        return TripleFault();
    }

    /// <summary>Delivers the fault that <see cref="RaiseFault"/> noted; results as of <see cref="DeliverEvent"/>.</summary>
    public bool DeliverPendingFault() => DeliverEvent(PendingFault());

    /// <summary>The noted fault as an event; in real mode exceptions have no error code.</summary>
    internal GuestEvent PendingFault()
    {
        CpuState* s = _state;
        bool hasError = s->FaultHasErrorCode != 0 && Protected;
        return new GuestEvent(
            (byte)s->FaultVector,
            EventType.HardwareException,
            hasError,
            hasError ? (uint)s->FaultErrorCode : 0,
            0,
            s->FaultAddress);
    }

    private bool Stopped(StopKind stop)
    {
        _state->Stop = stop;
        return false;
    }

    // The shadows and the traps that wait end with the event that could not be delivered.
    private bool TripleFault()
    {
        _state->Interruptibility &= ~3UL;
        _state->PendingDebug = 0;
        _deliveries++;
        if (NonRoot is { } policy && policy.TripleFault())
        {
            return Stopped(StopKind.Exit);
        }

        _state->Activity = 2;
        return Stopped(StopKind.Shutdown);
    }

    private static bool AsksPolicy(in GuestEvent raised) => raised.Type is EventType.HardwareException or EventType.Nmi
        or EventType.SoftwareException or EventType.PrivilegedSoftwareException;

    // INT n, INT3 and INTO: IDT descriptors are checked against CPL, and error codes have EXT clear.
    private static bool IsSoftwareRequest(in GuestEvent raised) =>
        raised.Type is EventType.SoftwareInterrupt or EventType.SoftwareException;

    // CR2, DR6, DR7.GD and DEBUGCTL are written when the exception is really taken.
    private void NoteDelivery(in GuestEvent raised)
    {
        CpuState* s = _state;
        if (raised.Type == EventType.HardwareException && raised.Vector == Vector.Pf)
        {
            s->Cr2 = raised.Address;
        }
        else if (raised.Vector == Vector.Db && raised.Type is EventType.HardwareException or EventType.PrivilegedSoftwareException)
        {
            // SDM "Debug Status Register (DR6)": debug exceptions may clear bits 3:0; here all do. INT1 has no cause to name.
            ulong causes = raised.Type == EventType.HardwareException ? raised.Address & 0xE00F : 0;
            s->Dr6 = (s->Dr6 & ~0xFUL) | causes;
            s->Dr7 &= ~GeneralDetect;
            s->DebugCtl &= ~DebugCtl.EndsWithDebug;
        }
    }

    private void Delivered(in GuestEvent raised, ulong returnRip)
    {
        CpuState* s = _state;
        s->Stop = StopKind.None;
        s->Activity = 0;
        s->Interruptibility &= ~3UL;
        if (raised.Type == EventType.Nmi)
        {
            s->Interruptibility |= 8;
        }

        if (raised.Type == EventType.HardwareException)
        {
            // As an injected one does (SDM "Delivery of Pending Debug Exceptions after VM Entry"); a task's trap came with its delivery.
            s->PendingDebug &= TaskDr6;
        }

        CountDelivery();
        KeepHits();
        StateChanged();
        if (!IsSoftwareRequest(raised))
        {
            Observer?.OnDelivered(raised, returnRip);
        }
    }

    private void CountDelivery()
    {
        DeliveriesInPlace = _deliveredAt == Retired ? DeliveriesInPlace + 1 : 1;
        _deliveredAt = Retired;
        if (DeliveriesInPlace >= DeliveryLimit)
        {
            RecomputeLimit();
        }
    }

    private ulong PushedFlags(in GuestEvent raised) =>
        PushesRf(raised) ? RFlagsValue | RFlags.Rf : RFlagsValue & ~RFlags.Rf;

    /// <summary>
    /// RF in the flags that an event pushes (SDM "Instruction-Breakpoint Exception Condition"): set by faults, so that the
    /// instruction is not trapped on again by its breakpoint, but not by that breakpoint; clear for software events, which
    /// cleared it at their start; otherwise as it is. A double fault has it from the fault that it began with, as processors show.
    /// </summary>
    public bool PushesRf(in GuestEvent raised)
    {
        if (raised.IsSoftware)
        {
            return false;
        }

        bool fault = raised.Type == EventType.HardwareException && raised.Vector switch
        {
            Vector.Db => (raised.Address & GeneralDetect) != 0,
            Vector.Mc => false,
            _ => true,
        };
        return fault || (_state->Flags & RFlags.Rf) != 0;
    }

    private bool Deliver(in GuestEvent raised, ulong returnRip)
    {
        if (!Protected)
        {
            return DeliverReal(raised, returnRip);
        }

        return Virtual8086 && raised.Type == EventType.SoftwareInterrupt
            ? DeliverInVirtual8086(raised, returnRip)
            : DeliverProtected(raised, returnRip);
    }

    private bool DeliverReal(in GuestEvent raised, ulong returnRip)
    {
        CpuState* s = _state;
        uint at = raised.Vector * 4u;
        if (at + 3 > s->Idtr.Limit)
        {
            return RaiseFault(GuestFault.Gp((raised.Vector * 8u) + 2));
        }

        return ReadLinear((uint)(s->Idtr.Base + at), 4, out ulong entry, AccessMode.System)
            && EnterRealHandler(entry, PushedFlags(raised), returnRip, RFlags.If | RFlags.Tf | RFlags.Ac | RFlags.Rf);
    }

    // A handler by an entry of an interrupt vector table: offset and segment.
    private bool EnterRealHandler(ulong entry, ulong flags, ulong returnRip, ulong cleared)
    {
        CpuState* s = _state;
        ulong offset = entry & 0xFFFF;
        StackFrame frame = CurrentFrame(2);
        frame.Add(flags);
        frame.Add(s->Cs.Selector);
        frame.Add(returnRip);
        if (!PushFrame(ref frame))
        {
            return false;
        }

        if (offset > s->Cs.Limit)
        {
            return RaiseFault(GuestFault.Gp());
        }

        SetStackPointer(frame.Pointer);
        s->Cs = RealSegment(s->Cs, (ushort)(entry >> 16));
        Rip = offset;
        RFlagsValue = RFlagsValue & ~cleared;
        return true;
    }

    private bool DeliverProtected(in GuestEvent raised, ulong returnRip)
    {
        CpuState* s = _state;
        bool longMode = LongMode;
        uint gateError = (raised.Vector * 8u) + 2;
        uint entryBytes = longMode ? 16u : 8u;
        uint at = raised.Vector * entryBytes;
        if (at + entryBytes - 1 > s->Idtr.Limit)
        {
            return RaiseFault(GuestFault.Gp(gateError));
        }

        ulong linear = longMode ? s->Idtr.Base + at : (uint)(s->Idtr.Base + at);
        if (!ReadLinear(linear, 8, out ulong raw, AccessMode.System))
        {
            return false;
        }

        Descriptor gate = new(raw, linear);
        bool interruptGate = gate.Type is 6 or 14;
        bool known = longMode ? gate.Type is 14 or 15 : gate.Type is SystemTaskGate or 6 or 7 or 14 or 15;
        if (gate.IsSegment || !known || (IsSoftwareRequest(raised) && gate.Dpl < Cpl))
        {
            return RaiseFault(GuestFault.Gp(gateError));
        }

        if (!gate.Present)
        {
            return RaiseFault(GuestFault.Np(gateError));
        }

        if (gate.Type == SystemTaskGate)
        {
            return TrySwitchTask(gate.GateSelector, TaskSwitchSource.TaskGate, raised, returnRip, raised.InstructionLength);
        }

        ulong offset = gate.GateOffset;
        if (longMode)
        {
            if (!ReadLinear(linear + 8, 8, out ulong upper, AccessMode.System))
            {
                return false;
            }

            offset |= upper << 32;
        }
        else if (gate.Type is 6 or 7)
        {
            offset &= 0xFFFF;
        }

        int size = longMode ? 8 : gate.Type >= 14 ? 4 : 2;
        return EnterHandler(raised, returnRip, gate, offset, size, interruptGate);
    }

    private bool EnterHandler(in GuestEvent raised, ulong returnRip, in Descriptor gate, ulong offset, int size, bool interruptGate)
    {
        CpuState* s = _state;
        ushort selector = gate.GateSelector;
        uint error = SelectorError(selector);
        if (!ReadTarget(selector, out Descriptor target))
        {
            return false;
        }

        int cpl = Cpl;
        bool fromV86 = Virtual8086;
        if (!target.IsCode || target.Dpl > cpl || (LongMode && (!target.Long || target.Big)))
        {
            return RaiseFault(GuestFault.Gp(error));
        }

        if (!target.Present)
        {
            return RaiseFault(GuestFault.Np(error));
        }

        bool inner = !target.IsConforming && target.Dpl < cpl;
        if (fromV86 && (!inner || target.Dpl != 0))
        {
            return RaiseFault(GuestFault.Gp(error));
        }

        int level = inner ? target.Dpl : cpl;
        if (!HandlerStack(gate, inner, level, size, out StackFrame frame))
        {
            return false;
        }

        if (fromV86)
        {
            frame.Add(s->Gs.Selector);
            frame.Add(s->Fs.Selector);
            frame.Add(s->Ds.Selector);
            frame.Add(s->Es.Selector);
        }

        if (inner || LongMode)
        {
            frame.Add(s->Ss.Selector);
            frame.Add(s->Gpr[(int)Gpr.Rsp]);
        }

        frame.Add(PushedFlags(raised));
        frame.Add(s->Cs.Selector);
        frame.Add(returnRip);
        if (raised.HasErrorCode)
        {
            frame.Add(raised.ErrorCode);
        }

        if (!EnterableOffset(target, ref offset) || !MarkAccessed(ref target) || !PushFrame(ref frame))
        {
            return false;
        }

        ulong cleared = RFlags.Tf | RFlags.Nt | RFlags.Vm | RFlags.Rf | (interruptGate ? RFlags.If : 0);
        RFlagsValue = RFlagsValue & ~cleared;
        s->Ss = frame.Segment;
        s->Cs = CodeState(target, selector, level);
        Rip = offset;
        SetStackPointer(frame.Pointer);
        if (fromV86)
        {
            s->Es = NullSegment(0);
            s->Ds = NullSegment(0);
            s->Fs = NullSegment(0);
            s->Gs = NullSegment(0);
        }

        return true;
    }

    private bool HandlerStack(in Descriptor gate, bool inner, int level, int size, out StackFrame frame)
    {
        CpuState* s = _state;
        int ist = LongMode ? (int)(gate.Raw >> 32) & 7 : 0;
        if (inner)
        {
            if (!InnerFrame(level, ist, size, out frame))
            {
                return false;
            }
        }
        else
        {
            frame = CurrentFrame(size);
            if (LongMode)
            {
                frame.Flat = true;
                if (ist != 0)
                {
                    if (!ReadTssStack(level, ist, out ulong rsp, out _))
                    {
                        return false;
                    }

                    frame.Pointer = rsp;
                }
            }
        }

        if (LongMode)
        {
            frame.Pointer &= ~15UL;
        }

        frame.Mode = level != 3 ? AccessMode.Supervisor : AccessMode.Own;
        return true;
    }
}
