using VmFuzz.Arch;

namespace VmFuzz.Cpu;

// Far JMP, CALL, RET and IRET (SDM "Calling Procedures Using CALL and RET", "Call Gates", and the instructions' pages).
public sealed unsafe partial class Processor
{
    /// <summary>Far JMP to selector and offset.</summary>
    internal ExecResult FarJump(ushort selector, ulong offset, int size, int length)
    {
        offset &= MaskOfSize(size);
        if (!UsesDescriptors)
        {
            return RealFarJump(selector, offset);
        }

        if (!ReadTarget(selector, out Descriptor target))
        {
            return ExecResult.Abort;
        }

        if (!target.IsSegment)
        {
            return FarThroughSystem(selector, target, isCall: false, 0, length);
        }

        if (!CheckDirectCode(selector, target) || !EnterableOffset(target, ref offset)
            || !MarkAccessed(ref target))
        {
            return ExecResult.Abort;
        }

        return EnterCode(CodeState(target, selector, Cpl), offset);
    }

    /// <summary>Far CALL to selector and offset.</summary>
    internal ExecResult FarCall(ushort selector, ulong offset, int size, ulong returnRip, int length)
    {
        CpuState* s = _state;
        offset &= MaskOfSize(size);
        StackFrame frame = CurrentFrame(size);
        if (!UsesDescriptors)
        {
            frame.Add(s->Cs.Selector);
            frame.Add(returnRip);
            if (offset > s->Cs.Limit)
            {
                return Fault(GuestFault.Gp());
            }

            if (!PushFrame(ref frame))
            {
                return ExecResult.Abort;
            }

            SetStackPointer(frame.Pointer);
            return RealFarJump(selector, offset);
        }

        if (!ReadTarget(selector, out Descriptor target))
        {
            return ExecResult.Abort;
        }

        if (!target.IsSegment)
        {
            return FarThroughSystem(selector, target, isCall: true, returnRip, length);
        }

        frame.Add(s->Cs.Selector);
        frame.Add(returnRip);
        if (!CheckDirectCode(selector, target) || !EnterableOffset(target, ref offset)
            || !MarkAccessed(ref target) || !PushFrame(ref frame))
        {
            return ExecResult.Abort;
        }

        SetStackPointer(frame.Pointer);
        return EnterCode(CodeState(target, selector, Cpl), offset);
    }

    private ExecResult RealFarJump(ushort selector, ulong offset)
    {
        if (offset > _state->Cs.Limit)
        {
            return Fault(GuestFault.Gp());
        }

        return EnterCode(RealSegment(_state->Cs, selector), offset);
    }

    private ExecResult EnterCode(in SegmentState code, ulong offset)
    {
        _state->Cs = code;
        Rip = offset;
        StateChanged();
        return ExecResult.Jump;
    }

    private bool ReadTarget(ushort selector, out Descriptor target)
    {
        target = default;
        return IsNull(selector) ? RaiseFault(GuestFault.Gp()) : ReadDescriptor(selector, Vector.Gp, out target);
    }

    // The checks of a far JMP or CALL to a code segment.
    private bool CheckDirectCode(ushort selector, in Descriptor target)
    {
        uint error = SelectorError(selector);
        if (!target.IsCode || (LongMode && target.Long && target.Big))
        {
            return RaiseFault(GuestFault.Gp(error));
        }

        bool allowed = target.IsConforming
            ? target.Dpl <= Cpl
            : (selector & 3) <= Cpl && target.Dpl == Cpl;
        return allowed ? target.Present || RaiseFault(GuestFault.Np(error)) : RaiseFault(GuestFault.Gp(error));
    }

    private bool EnterableOffset(in Descriptor target, ref ulong offset)
    {
        if (!LongMode || !target.Long)
        {
            offset = (uint)offset;
        }

        return OffsetInCode(target.ToState(0), offset) || RaiseFault(GuestFault.Gp());
    }

    private ExecResult FarThroughSystem(ushort selector, in Descriptor gate, bool isCall, ulong returnRip, int length)
    {
        uint error = SelectorError(selector);
        int rpl = selector & 3;
        bool isGate = gate.Type == SystemCallGate32 || (!LongMode && gate.Type is SystemCallGate16 or SystemTaskGate);
        bool isTss = !LongMode && gate.Type is SystemTss16 or SystemTss32;
        if ((!isGate && !isTss) || (LongMode && gate.Type != SystemCallGate32))
        {
            return Fault(GuestFault.Gp(error));
        }

        if (gate.Dpl < Cpl || gate.Dpl < rpl)
        {
            return Fault(GuestFault.Gp(error));
        }

        if (!gate.Present)
        {
            return Fault(GuestFault.Np(error));
        }

        if (isTss || gate.Type == SystemTaskGate)
        {
            return SwitchTask(isTss ? selector : gate.GateSelector, isCall ? TaskSwitchSource.Call : TaskSwitchSource.Jmp, length);
        }

        ulong offset = gate.GateOffset;
        if (LongMode)
        {
            if (!ReadUpperHalf(selector, gate, out ulong upper))
            {
                return ExecResult.Abort;
            }

            offset |= upper << 32;
        }
        else if (gate.Type == SystemCallGate16)
        {
            offset &= 0xFFFF;
        }

        return ThroughCallGate(gate, offset, isCall, returnRip);
    }

    private ExecResult ThroughCallGate(in Descriptor gate, ulong offset, bool isCall, ulong returnRip)
    {
        CpuState* s = _state;
        ushort codeSelector = gate.GateSelector;
        uint error = SelectorError(codeSelector);
        if (!ReadTarget(codeSelector, out Descriptor target))
        {
            return ExecResult.Abort;
        }

        bool wrongKind = !target.IsCode || target.Dpl > Cpl || (LongMode && (!target.Long || target.Big));
        bool inward = isCall && !target.IsConforming && target.Dpl < Cpl;
        if (wrongKind || (!isCall && !target.IsConforming && target.Dpl != Cpl))
        {
            return Fault(GuestFault.Gp(error));
        }

        if (!target.Present)
        {
            return Fault(GuestFault.Np(error));
        }

        if (!isCall)
        {
            return EnterableOffset(target, ref offset) && MarkAccessed(ref target)
                ? EnterCode(CodeState(target, codeSelector, Cpl), offset)
                : ExecResult.Abort;
        }

        int size = LongMode ? 8 : gate.Type == SystemCallGate16 ? 2 : 4;
        StackFrame frame = CurrentFrame(size);
        int cpl = Cpl;
        if (inward)
        {
            int parameters = LongMode ? 0 : (int)(gate.Raw >> 32) & 0x1F;
            if (!InnerFrame(target.Dpl, 0, size, out StackFrame inner))
            {
                return ExecResult.Abort;
            }

            inner.Add(s->Ss.Selector);
            inner.Add(s->Gpr[(int)Gpr.Rsp]);
            for (int i = parameters - 1; i >= 0; i--)
            {
                if (!PeekStack(size, i * size, out ulong parameter))
                {
                    return ExecResult.Abort;
                }

                inner.Add(parameter);
            }

            frame = inner;
            cpl = target.Dpl;
        }
        else if (LongMode)
        {
            frame.Flat = true;
        }

        frame.Add(s->Cs.Selector);
        frame.Add(returnRip);
        if (!EnterableOffset(target, ref offset) || !MarkAccessed(ref target) || !PushFrame(ref frame))
        {
            return ExecResult.Abort;
        }

        s->Ss = frame.Segment;
        s->Cs = CodeState(target, codeSelector, cpl);
        Rip = offset;
        SetStackPointer(frame.Pointer);
        StateChanged();
        return ExecResult.Jump;
    }

    /// <summary>The stack of an inner privilege level from the TSS, checked (#TS), ready for pushes.</summary>
    internal bool InnerFrame(int dpl, int ist, int size, out StackFrame frame)
    {
        frame = default;
        if (!ReadTssStack(dpl, ist, out ulong rsp, out ushort selector))
        {
            return false;
        }

        SegmentState stack = NullSegment((ushort)dpl, dpl);
        if (!LongMode && !CheckStackSegment(selector, dpl, Vector.Ts, false, out stack))
        {
            return false;
        }

        frame = new StackFrame
        {
            Segment = stack,
            Pointer = rsp,
            Size = size,
            Flat = LongMode,
            Mode = dpl != 3 ? AccessMode.Supervisor : AccessMode.Own,
            Error = LongMode ? 0 : SelectorError(selector),
        };
        return true;
    }

    /// <summary>Far RET, which releases a number of bytes of parameters.</summary>
    internal ExecResult FarReturn(int size, int release)
    {
        CpuState* s = _state;
        if (!PeekStack(size, 0, out ulong offset) || !PeekStack(size, size, out ulong selectorWord))
        {
            return ExecResult.Abort;
        }

        ushort selector = (ushort)selectorWord;
        if (!UsesDescriptors)
        {
            if (offset > s->Cs.Limit)
            {
                return Fault(GuestFault.Gp());
            }

            AdjustStack((2 * size) + release);
            return EnterCode(RealSegment(s->Cs, selector), offset);
        }

        if (!CheckReturnCode(selector, out Descriptor target))
        {
            return ExecResult.Abort;
        }

        int rpl = selector & 3;
        if (rpl == Cpl)
        {
            if (!EnterableOffset(target, ref offset) || !MarkAccessed(ref target))
            {
                return ExecResult.Abort;
            }

            AdjustStack((2 * size) + release);
            return EnterCode(CodeState(target, selector, rpl), offset);
        }

        if (!PeekStack(size, (2 * size) + release, out ulong rsp) || !PeekStack(size, (3 * size) + release, out ulong ss)
            || !CheckStackSegment((ushort)ss, rpl, Vector.Gp, LongMode && target.Long, out SegmentState stack)
            || !EnterableOffset(target, ref offset) || !MarkAccessed(ref target))
        {
            return ExecResult.Abort;
        }

        s->Cs = CodeState(target, selector, rpl);
        s->Ss = stack;
        Rip = offset;
        SetReturnedStack(rsp + (ulong)release);
        DropInnerSegments(rpl);
        StateChanged();
        return ExecResult.Jump;
    }

    // SS and CS are the new ones already.
    private void SetReturnedStack(ulong rsp) => SetStackPointer(rsp);

    // The checks of RET and IRET on the code segment that is returned to.
    private bool CheckReturnCode(ushort selector, out Descriptor target)
    {
        if (!ReadTarget(selector, out target))
        {
            return false;
        }

        uint error = SelectorError(selector);
        int rpl = selector & 3;
        bool wrong = !target.IsCode || rpl < Cpl
            || (target.IsConforming ? target.Dpl > rpl : target.Dpl != rpl)
            || (LongMode && target.Long && target.Big);
        if (wrong)
        {
            return RaiseFault(GuestFault.Gp(error));
        }

        return target.Present || RaiseFault(GuestFault.Np(error));
    }

    /// <summary>IRET of an operand size (2, 4, 8).</summary>
    internal ExecResult InterruptReturn(int size, int length)
    {
        CpuState* s = _state;
        if (!Protected)
        {
            return RealInterruptReturn(size);
        }

        if (Virtual8086)
        {
            return !IsSensitive || UsesVif(size) ? RealInterruptReturn(size) : Fault(GuestFault.Gp());
        }

        if ((s->Flags & RFlags.Nt) != 0)
        {
            if (LongMode)
            {
                return Fault(GuestFault.Gp());
            }

            return ReadLinear((uint)s->Tr.Base, 2, out ulong link, AccessMode.System)
                ? SwitchTask((ushort)link, TaskSwitchSource.Iret, length)
                : ExecResult.Abort;
        }

        if (!PeekStack(size, 0, out ulong offset) || !PeekStack(size, size, out ulong selectorWord)
            || !PeekStack(size, 2 * size, out ulong flags))
        {
            return ExecResult.Abort;
        }

        ushort selector = (ushort)selectorWord;
        int cpl = Cpl;
        if (!LongMode && size == 4 && (flags & RFlags.Vm) != 0 && cpl == 0)
        {
            return ReturnToVirtual8086(offset, selector, flags);
        }

        if (!CheckReturnCode(selector, out Descriptor target))
        {
            return ExecResult.Abort;
        }

        int rpl = selector & 3;
        bool popsStack = Code64 || rpl != cpl;
        if (!popsStack)
        {
            if (!EnterableOffset(target, ref offset) || !MarkAccessed(ref target))
            {
                return ExecResult.Abort;
            }

            AdjustStack(3 * size);
            s->Cs = CodeState(target, selector, rpl);
        }
        else
        {
            if (!PeekStack(size, 3 * size, out ulong rsp) || !PeekStack(size, 4 * size, out ulong ss)
                || !CheckStackSegment((ushort)ss, rpl, Vector.Gp, LongMode && target.Long, out SegmentState stack)
                || !EnterableOffset(target, ref offset) || !MarkAccessed(ref target))
            {
                return ExecResult.Abort;
            }

            s->Cs = CodeState(target, selector, rpl);
            s->Ss = stack;
            SetReturnedStack(rsp);
        }

        Rip = offset;
        RestoreFlags(size, flags, cpl, keepVm: true);
        if (rpl > cpl)
        {
            DropInnerSegments(rpl);
        }

        return InterruptReturned();
    }

    private ExecResult InterruptReturned()
    {
        _state->Interruptibility &= ~8UL;
        StateChanged();
        return ExecResult.Jump;
    }

    private ExecResult RealInterruptReturn(int size)
    {
        CpuState* s = _state;
        if (!PeekStack(size, 0, out ulong offset) || !PeekStack(size, size, out ulong selector)
            || !PeekStack(size, 2 * size, out ulong flags))
        {
            return ExecResult.Abort;
        }

        if (offset > s->Cs.Limit)
        {
            return Fault(GuestFault.Gp());
        }

        bool sensitive = IsSensitive;
        if (sensitive && !CheckVirtualFlags(flags))
        {
            return ExecResult.Abort;
        }

        AdjustStack(3 * size);
        s->Cs = RealSegment(s->Cs, (ushort)selector);
        Rip = offset;
        if (sensitive)
        {
            LoadVirtualFlags(flags);
            return InterruptReturned();
        }

        ulong changed = RFlags.Arithmetic | RFlags.Tf | RFlags.If | RFlags.Df | RFlags.Nt
            | (Virtual8086 ? 0 : RFlags.Iopl)
            | (size == 4 ? RFlags.Rf | RFlags.Ac | RFlags.Id : 0);
        ulong old = RFlagsValue;
        RFlagsValue = (old & ~changed) | (flags & changed);
        return InterruptReturned();
    }

    private ExecResult ReturnToVirtual8086(ulong offset, ushort selector, ulong flags)
    {
        CpuState* s = _state;
        Span<ulong> words = stackalloc ulong[6];
        for (int i = 0; i < 6; i++)
        {
            if (!PeekStack(4, 12 + (i * 4), out words[i]))
            {
                return ExecResult.Abort;
            }
        }

        if (offset > 0xFFFF)
        {
            return Fault(GuestFault.Gp());
        }

        RFlagsValue = flags;
        s->Cs = V86Segment(selector);
        s->Ss = V86Segment((ushort)words[1]);
        s->Es = V86Segment((ushort)words[2]);
        s->Ds = V86Segment((ushort)words[3]);
        s->Fs = V86Segment((ushort)words[4]);
        s->Gs = V86Segment((ushort)words[5]);
        s->Gpr[(int)Gpr.Rsp] = (uint)words[0];
        Rip = offset;
        return InterruptReturned();
    }

    /// <summary>Sets the flags that POPF and IRET may change at a privilege level.</summary>
    /// <param name="size">Operand size: 2 leaves the upper half alone.</param>
    /// <param name="flags">The image.</param>
    /// <param name="cpl">The privilege level of the instruction.</param>
    /// <param name="keepVm">For IRET, which also loads RF.</param>
    internal void RestoreFlags(int size, ulong flags, int cpl, bool keepVm)
    {
        ulong changed = RFlags.Arithmetic | RFlags.Tf | RFlags.Df | RFlags.Nt;
        if (cpl <= Iopl)
        {
            changed |= RFlags.If;
        }

        if (cpl == 0)
        {
            changed |= RFlags.Iopl;
        }

        if (size > 2)
        {
            changed |= RFlags.Ac | RFlags.Id | RFlags.Rf;
            if (keepVm && cpl == 0)
            {
                changed |= RFlags.Vif | RFlags.Vip;
            }

            if (!keepVm)
            {
                flags &= ~RFlags.Rf; // POPF clears RF.
            }
        }

        ulong old = RFlagsValue;
        RFlagsValue = (old & ~changed) | (flags & changed);
    }
}
