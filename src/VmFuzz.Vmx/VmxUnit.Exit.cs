using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Vmx;

// VM exits (SDM "VM Exits"): recording, saving guest state, loading host state.
public sealed unsafe partial class VmxUnit
{
    private enum SavedRf : byte
    {
        // As it is in RFLAGS.
        Keep,
        // 0: an instruction caused the exit.
        Clear,
        // 1: a fault-like event or an access caused it.
        Set,
    }

    private SavedRf _savedRf;

    // What the host's registers were loaded from, and what they were then: while neither moves, loading changes nothing.
    private ulong _loadedHostArea;
    private ulong _loadedHost;
    private uint _loadedExitControls;

    private EntryOutcome LeaveGuest()
    {
        StopStepping();
        SaveGuest();
        RecordExit();
        _tlbCr0 = _state->Cr0;
        _tlbCr3 = _state->Cr3;
        _tlbCr4 = _state->Cr4;
        _tlbEfer = _state->Efer;
        InGuest = false;
        _cpu.NonRoot = null;
        _cpu.SecondStage = null;
        _pendingMtf = false;
        Exits++;
        bool fine = StoreExitMsrs() && LoadHost();
        Observer?.OnExit(_exit);
        return fine ? EntryOutcome.Exited : EntryOutcome.Aborted;
    }

    // SDM "Recording VM-Exit Information and Updating VM-Entry Control Fields".
    private void RecordExit()
    {
        Vmcs v = _vmcs;
        ulong* slots = v.Slots;
        ulong quads = 0;
        ulong doubles = 0;
        ulong naturals = 0;
        ref readonly VmExit exit = ref _exit;
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.ExitReason), exit.Reason, ref doubles);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.ExitQualification), exit.Qualification, ref naturals);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestLinearAddress), exit.GuestLinear, ref naturals);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestPhysicalAddress), exit.GuestPhysical, ref quads);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.ExitInterruptionInfo), exit.InterruptionInfo.Value, ref doubles);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.ExitInterruptionErrorCode), exit.InterruptionError, ref doubles);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.IdtVectoringInfo), exit.IdtVectoringInfo.Value, ref doubles);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.IdtVectoringErrorCode), exit.IdtVectoringError, ref doubles);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.ExitInstructionLength), exit.InstructionLength, ref doubles);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.ExitInstructionInfo), exit.InstructionInfo, ref doubles);
        v.AddDirty(VmcsFieldInfo.Slot(VmcsField.GuestPhysicalAddress) >> 6, quads);
        v.AddDirty(VmcsFieldInfo.Slot(VmcsField.ExitReason) >> 6, doubles);
        v.AddDirty(VmcsFieldInfo.Slot(VmcsField.ExitQualification) >> 6, naturals);
        v[VmcsField.EntryInterruptionInfo] &= ~(ulong)InterruptionInfo.ValidBit;
    }

    // SDM "Loading Host State". False is a VMX abort.
    private bool LoadHost()
    {
        Vmcs v = _vmcs;
        HostRegisters h = Host;
        uint exit = (uint)v[VmcsField.ExitControls];
        if (_loadedHost == h.Version && _loadedHostArea == v.HostVersion && _loadedExitControls == exit)
        {
            return LoadExitMsrs();
        }

        bool wide = (exit & ExitControls.HostAddressSpaceSize) != 0;
        h.Cr0 = (v[VmcsField.HostCr0] & ~Cr0Kept) | (h.Cr0 & Cr0Kept);
        h.Cr3 = v[VmcsField.HostCr3] & (ulong.MaxValue >> (64 - Capabilities.PhysicalBits));
        h.Cr4 = (v[VmcsField.HostCr4] & (wide ? ulong.MaxValue : ~Cr4.Pcide)) | (wide ? Cr4.Pae : 0);
        h.BlockedByMovSs = false;
        h.Dr7 = 0x400;
        h.DebugCtl = 0;
        h.SysenterCs = v[VmcsField.HostSysenterCs];
        h.SysenterEsp = v[VmcsField.HostSysenterEsp];
        h.SysenterEip = v[VmcsField.HostSysenterEip];
        if ((exit & ExitControls.LoadEfer) != 0)
        {
            h.Efer = v[VmcsField.HostEfer];
        }
        else
        {
            h.Efer = (h.Efer & ~(Efer.Lma | Efer.Lme)) | (wide ? Efer.Lma | Efer.Lme : 0);
        }

        if ((exit & ExitControls.LoadPat) != 0)
        {
            h.Pat = v[VmcsField.HostPat];
        }

        if ((exit & ExitControls.LoadPerfGlobalCtrl) != 0)
        {
            h.PerfGlobalCtrl = v[VmcsField.HostPerfGlobalCtrl];
        }

        const uint Data = SegmentAttributes.P | SegmentAttributes.S | SegmentAttributes.Db | SegmentAttributes.G | 3;
        HostSegment(h, SegmentRegister.Es, v[VmcsField.HostEsSelector], 0, Data);
        HostSegment(h, SegmentRegister.Ss, v[VmcsField.HostSsSelector], 0, Data);
        HostSegment(h, SegmentRegister.Ds, v[VmcsField.HostDsSelector], 0, Data);
        HostSegment(h, SegmentRegister.Fs, v[VmcsField.HostFsSelector], v[VmcsField.HostFsBase], Data);
        HostSegment(h, SegmentRegister.Gs, v[VmcsField.HostGsSelector], v[VmcsField.HostGsBase], Data);
        h.Segment(SegmentRegister.Cs) = new SegmentState
        {
            Selector = v[VmcsField.HostCsSelector],
            Limit = uint.MaxValue,
            Attributes = SegmentAttributes.P | SegmentAttributes.S | SegmentAttributes.G | 11
                | (wide ? SegmentAttributes.L : SegmentAttributes.Db),
        };
        h.Segment(SegmentRegister.Ldtr) = new SegmentState { Attributes = SegmentAttributes.Unusable };
        h.Segment(SegmentRegister.Tr) = new SegmentState
        {
            Selector = v[VmcsField.HostTrSelector],
            Base = v[VmcsField.HostTrBase],
            Limit = 0x67,
            Attributes = SegmentAttributes.P | 11,
        };
        h.Gdtr = new TableState { Base = v[VmcsField.HostGdtrBase], Limit = 0xFFFF };
        h.Idtr = new TableState { Base = v[VmcsField.HostIdtrBase], Limit = 0xFFFF };
        h.Rsp = v[VmcsField.HostRsp];
        h.Rip = v[VmcsField.HostRip];
        h.RFlags = Arch.RFlags.Reserved1;
        _loadedHost = h.Version;
        _loadedHostArea = v.HostVersion;
        _loadedExitControls = exit;
        return LoadExitMsrs();
    }

    private static void HostSegment(HostRegisters host, SegmentRegister register, ulong selector, ulong segmentBase, uint attributes)
    {
        ref SegmentState segment = ref host.Segment(register);
        segment.Selector = selector;
        segment.Base = segmentBase;
        segment.Limit = uint.MaxValue;
        segment.Attributes = attributes;
    }

    private bool AbortExit(VmxAbort abort)
    {
        Abort = abort;
        Span<byte> bytes = stackalloc byte[4];
        System.Buffers.Binary.BinaryPrimitives.WriteUInt32LittleEndian(bytes, (uint)abort);
        _cpu.Memory.TryWrite(new Gpa(CurrentPointer + 4), bytes);
        return false;
    }

    /// <summary>Notes an exit; the processor stops and <see cref="LeaveGuest"/> completes it.</summary>
    private bool Note(in VmExit exit, SavedRf savedRf)
    {
        _exit = exit;
        _savedRf = savedRf;
        return true;
    }

    private bool NoteInstruction(ExitReason reason, int length, ulong qualification = 0, uint info = 0, ulong linear = 0) =>
        Note(new VmExit((uint)reason, qualification, linear, InstructionLength: (uint)length, InstructionInfo: info), SavedRf.Clear);

    // With the IDT-vectoring information of the event whose delivery the exit interrupts.
    private bool NoteDuringDelivery(in VmExit exit, in GuestEvent? original, SavedRf savedRf)
    {
        if (original is not { } vectoring)
        {
            return Note(exit, savedRf);
        }

        return Note(
            exit with
            {
                IdtVectoringInfo = new InterruptionInfo(vectoring.Information),
                IdtVectoringError = vectoring.HasErrorCode ? vectoring.ErrorCode : 0,
                InstructionLength = vectoring.IsSoftware ? vectoring.InstructionLength : exit.InstructionLength,
            },
            savedRf);
    }
}
