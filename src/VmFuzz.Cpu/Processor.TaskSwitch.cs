using VmFuzz.Arch;

namespace VmFuzz.Cpu;

// Hardware task switches (SDM "Task Switching").
public sealed unsafe partial class Processor
{
    private const ulong TaskDr6 = 1UL << 15;

    // L0 to L3 and LE.
    private const ulong LocalBreakpoints = 0x155;
    private const byte BusyType = 2;

    // Switches so far; only compared.
    private ulong _taskSwitches;

    private ExecResult SwitchTask(ushort selector, TaskSwitchSource source, int length) =>
        TrySwitchTask(selector, source, null, Rip + (ulong)length, length) ? ExecResult.Jump : ExecResult.Abort;

    /// <summary>Switches to another task; exits in non-root operation when nothing is wrong with the new TSS.</summary>
    /// <param name="selector">Selector of the new TSS.</param>
    /// <param name="source">What asks for it. The checks of the gate or of privilege are done.</param>
    /// <param name="raised">The event that is delivered through a task gate.</param>
    /// <param name="returnRip">EIP of the old task.</param>
    /// <param name="length">Bytes of the instruction.</param>
    /// <returns>
    /// False: a fault or an exit is noted. RIP tells in whose context: a fault in the loading of segments is the new task's.
    /// </returns>
    private bool TrySwitchTask(ushort selector, TaskSwitchSource source, in GuestEvent? raised, ulong returnRip, int length)
    {
        CpuState* s = _state;
        if (!CheckNewTask(selector, source, out Descriptor tss))
        {
            return false;
        }

        if (NonRoot is { } policy && policy.TaskSwitch(selector, source, raised, length))
        {
            return Stopped(StopKind.Exit);
        }

        TssLayout layout = TssLayout.Of(tss.Attributes);
        bool nests = source is TaskSwitchSource.Call or TaskSwitchSource.TaskGate;
        if (!ProbeSwitch(tss, layout, nests))
        {
            return false;
        }

        ulong saved = raised is { } cause ? PushedFlags(cause) : RFlagsValue & ~RFlags.Rf;
        saved &= source == TaskSwitchSource.Iret ? ~RFlags.Nt : ulong.MaxValue;
        ulong link = s->Tr.Selector;
        if (!((nests || MarkBusy(OldTaskDescriptor, busy: false))
            && SaveTask(saved, returnRip)
            && (!nests || WriteTss(tss.Base, 0, 2, link))
            && (source == TaskSwitchSource.Iret || MarkBusy(tss.Linear, busy: true))
            && ReadTask(tss.Base, layout, out TaskState task)
            && EnterTask(task, tss, selector, nests)))
        {
            return false;
        }

        if (source == TaskSwitchSource.Iret)
        {
            s->Interruptibility &= ~8UL;
        }

        bool entered = LoadTaskSegments(task) && (raised is not { HasErrorCode: true } fault || Push(layout.Size, fault.ErrorCode));
        if (entered && task.Trap)
        {
            s->PendingDebug |= TaskDr6;
        }

        StateChanged();
        return entered;
    }

    // SDM "Task Switching", steps 1 to 4. The same before an exit ("Treatment of Task Switches").
    private bool CheckNewTask(ushort selector, TaskSwitchSource source, out Descriptor tss)
    {
        tss = default;
        bool returns = source == TaskSwitchSource.Iret;
        byte vector = returns ? Vector.Ts : Vector.Gp;
        uint error = SelectorError(selector);
        if ((selector & 4) != 0 || IsNull(selector))
        {
            return RaiseFault(new GuestFault(vector, error));
        }

        if (!ReadDescriptor(selector, vector, out tss))
        {
            return false;
        }

        int wanted = SystemTss16 | (returns ? BusyType : 0);
        if (tss.IsSegment || (tss.Type & ~8) != wanted)
        {
            return RaiseFault(new GuestFault(vector, error));
        }

        if (!tss.Present)
        {
            return RaiseFault(GuestFault.Np(error));
        }

        return tss.Limit >= TssLayout.Of(tss.Attributes).LastByte || RaiseFault(GuestFault.Ts(error));
    }

    private ulong OldTaskDescriptor => TableLinear(_state->Gdtr.Base, (uint)_state->Tr.Selector & 0xFFF8);

    private static ulong TableLinear(ulong tableBase, uint offset) => (uint)(tableBase + offset);

    // Step 5: whatever is accessed before the new task's segments can be.
    private bool ProbeSwitch(in Descriptor tss, TssLayout layout, bool nests)
    {
        CpuState* s = _state;
        TssLayout old = TssLayout.Of(s->Tr.Attributes);
        if (s->Tr.Limit < old.LastByte)
        {
            return RaiseFault(GuestFault.Ts(SelectorError((ushort)s->Tr.Selector)));
        }

        return ProbeRange(TableLinear(s->Tr.Base, old.Rip), old.SavedBytes, AccessKind.Write)
            && ProbeRange((uint)tss.Base, layout.LastByte + 1, AccessKind.Read)
            && (!nests || ProbeLinear((uint)tss.Base, 2, AccessKind.Write, AccessMode.System))
            && (nests || ProbeLinear(Next(OldTaskDescriptor, 5), 1, AccessKind.Write, AccessMode.System))
            && ProbeLinear(Next(tss.Linear, 5), 1, AccessKind.Write, AccessMode.System);
    }

    private bool ProbeRange(ulong linear, uint bytes, AccessKind access) =>
        ProbeLinear(linear, 1, access, AccessMode.System)
        && ProbeLinear(TableLinear(linear, bytes - 1), 1, access, AccessMode.System);

    private bool MarkBusy(ulong descriptor, bool busy)
    {
        if (!ReadLinear(Next(descriptor, 5), 1, out ulong access, AccessMode.System))
        {
            return false;
        }

        ulong marked = busy ? access | BusyType : access & ~(ulong)BusyType;
        return WriteLinear(Next(descriptor, 5), 1, marked, AccessMode.System);
    }

    private bool WriteTss(ulong tssBase, uint offset, int size, ulong value) =>
        WriteLinear(TableLinear(tssBase, offset), size, value, AccessMode.System);

    // Step 8. CR3 and the LDT selector are not saved.
    private bool SaveTask(ulong flags, ulong rip)
    {
        CpuState* s = _state;
        TssLayout layout = TssLayout.Of(s->Tr.Attributes);
        ulong to = s->Tr.Base;
        bool saved = WriteTss(to, layout.Rip, layout.Size, rip) && WriteTss(to, layout.Flags, layout.Size, flags);
        for (int i = 0; saved && i < 8; i++)
        {
            saved = WriteTss(to, layout.Registers + (uint)(i * layout.Size), layout.Size, s->Gpr[i]);
        }

        for (int i = 0; saved && i < layout.SegmentCount; i++)
        {
            saved = WriteTss(to, layout.Segments + (uint)(i * layout.Size), 2, (&s->Es)[i].Selector);
        }

        return saved;
    }

    // Step 12. What the 16-bit format lacks: the upper halves of the general registers become ones, the rest zero.
    private bool ReadTask(ulong tssBase, TssLayout layout, out TaskState task)
    {
        task = default;
        ulong upper = layout.IsWide ? 0 : 0xFFFF_0000UL;
        bool read = Read(layout.Rip, layout.Size, out task.Rip) && Read(layout.Flags, layout.Size, out task.Flags);
        for (int i = 0; read && i < 8; i++)
        {
            read = Read(layout.Registers + (uint)(i * layout.Size), layout.Size, out ulong value);
            task.Registers[i] = value | upper;
        }

        for (int i = 0; read && i < layout.SegmentCount; i++)
        {
            read = Read(layout.Segments + (uint)(i * layout.Size), 2, out ulong selector);
            task.Segments[i] = (ushort)selector;
        }

        read = read && Read(layout.Ldt, 2, out ulong ldt) && Set(ref task.Ldt, ldt);
        if (!read || !layout.IsWide)
        {
            return read;
        }

        read = Read(TssLayout.Cr3, 4, out task.Cr3) & Read(TssLayout.Trap, 2, out ulong trap);
        task.Trap = (trap & 1) != 0;
        return read;

        bool Read(uint offset, int size, out ulong value) => ReadLinear(TableLinear(tssBase, offset), size, out value, AccessMode.System);

        static bool Set(ref ushort field, ulong value)
        {
            field = (ushort)value;
            return true;
        }
    }

    // Steps 9 to 12. All segment registers are unusable until they are loaded; SS has the new privilege level.
    private bool EnterTask(in TaskState task, in Descriptor tss, ushort selector, bool nests)
    {
        CpuState* s = _state;
        s->Tr = tss.ToState(selector);
        s->Tr.Attributes |= BusyType;
        s->Cr0 |= Cr0.Ts;
        s->Dr7 &= ~LocalBreakpoints;
        RFlagsValue = task.Flags | (nests ? RFlags.Nt : 0);
        Rip = task.Rip;
        int cpl = Virtual8086 ? 3 : task.Segments[(int)SegmentRegister.Cs] & 3;
        for (int i = 0; i < 8; i++)
        {
            s->Gpr[i] = task.Registers[i];
        }

        for (int i = 0; i < 6; i++)
        {
            (&s->Es)[i] = NullSegment(task.Segments[i], cpl);
        }

        s->Ldtr = NullSegment(task.Ldt);
        _taskSwitches++;
        StateChanged();
        bool loadsCr3 = (s->Cr0 & Cr0.Pg) != 0 && (tss.Type & 8) != 0;
        return !loadsCr3 || LoadCr3(task.Cr3);
    }

    // Step 13, in the order of the table of exceptions there.
    private bool LoadTaskSegments(in TaskState task)
    {
        CpuState* s = _state;
        if (!CheckTaskLdt(task.Ldt, out s->Ldtr))
        {
            return false;
        }

        if (Virtual8086)
        {
            for (int i = 0; i < 6; i++)
            {
                (&s->Es)[i] = V86Segment(task.Segments[i]);
            }

            return true;
        }

        ushort code = task.Segments[(int)SegmentRegister.Cs];
        ushort stack = task.Segments[(int)SegmentRegister.Ss];
        if (!CheckTaskCode(code, out SegmentState state))
        {
            return false;
        }

        s->Cs = state;
        if (!CheckStackSegment(stack, code & 3, Vector.Ts, false, out state))
        {
            return false;
        }

        s->Ss = state;
        ReadOnlySpan<SegmentRegister> data = [SegmentRegister.Ds, SegmentRegister.Es, SegmentRegister.Fs, SegmentRegister.Gs];
        foreach (SegmentRegister register in data)
        {
            if (!CheckDataSegment(task.Segments[(int)register], Vector.Ts, out state))
            {
                return false;
            }

            Segment(register) = state;
        }

        return true;
    }

    private bool CheckTaskLdt(ushort selector, out SegmentState state)
    {
        state = NullSegment(selector);
        uint error = SelectorError(selector);
        if (IsNull(selector))
        {
            return true;
        }

        if ((selector & 4) != 0)
        {
            return RaiseFault(GuestFault.Ts(error));
        }

        if (!ReadDescriptor(selector, Vector.Ts, out Descriptor descriptor))
        {
            return false;
        }

        if (descriptor.IsSegment || descriptor.Type != SystemLdt || !descriptor.Present)
        {
            return RaiseFault(GuestFault.Ts(error));
        }

        state = descriptor.ToState(selector);
        return true;
    }

    private bool CheckTaskCode(ushort selector, out SegmentState state)
    {
        state = default;
        uint error = SelectorError(selector);
        if (IsNull(selector))
        {
            return RaiseFault(GuestFault.Ts(error));
        }

        if (!ReadDescriptor(selector, Vector.Ts, out Descriptor descriptor))
        {
            return false;
        }

        int rpl = selector & 3;
        if (!descriptor.IsCode || (descriptor.IsConforming ? descriptor.Dpl > rpl : descriptor.Dpl != rpl))
        {
            return RaiseFault(GuestFault.Ts(error));
        }

        if (!descriptor.Present)
        {
            return RaiseFault(GuestFault.Np(error));
        }

        if (!MarkAccessed(ref descriptor))
        {
            return false;
        }

        state = CodeState(descriptor, selector, rpl);
        return true;
    }
}
