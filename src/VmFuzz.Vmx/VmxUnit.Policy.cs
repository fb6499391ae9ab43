using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Vmx;

// VMX non-root operation (SDM "VMX Non-Root Operation"): which instructions and events exit.
public sealed unsafe partial class VmxUnit
{
    private bool _pendingMtf;

    /// <summary>The event whose delivery is under way, for IDT-vectoring information.</summary>
    private GuestEvent? Vectoring => _cpu.Delivering;

    /// <inheritdoc/>
    public bool Instruction(SensitiveInstruction instruction, int instructionLength, ulong qualification = 0, uint instructionInfo = 0)
    {
        ExitReason reason;
        bool exits;
        switch (instruction)
        {
            case SensitiveInstruction.Cpuid: (reason, exits) = (ExitReason.Cpuid, true); break;
            case SensitiveInstruction.Getsec: (reason, exits) = (ExitReason.Getsec, true); break;
            case SensitiveInstruction.Invd: (reason, exits) = (ExitReason.Invd, true); break;
            case SensitiveInstruction.Xsetbv: (reason, exits) = (ExitReason.Xsetbv, true); break;
            case SensitiveInstruction.Vmcall: (reason, exits) = (ExitReason.Vmcall, true); break;
            case SensitiveInstruction.Vmclear: (reason, exits) = (ExitReason.Vmclear, true); break;
            case SensitiveInstruction.Vmlaunch: (reason, exits) = (ExitReason.Vmlaunch, true); break;
            case SensitiveInstruction.Vmptrld: (reason, exits) = (ExitReason.Vmptrld, true); break;
            case SensitiveInstruction.Vmptrst: (reason, exits) = (ExitReason.Vmptrst, true); break;
            case SensitiveInstruction.Vmread: (reason, exits) = (ExitReason.Vmread, true); break;
            case SensitiveInstruction.Vmresume: (reason, exits) = (ExitReason.Vmresume, true); break;
            case SensitiveInstruction.Vmwrite: (reason, exits) = (ExitReason.Vmwrite, true); break;
            case SensitiveInstruction.Vmxoff: (reason, exits) = (ExitReason.Vmxoff, true); break;
            case SensitiveInstruction.Vmxon: (reason, exits) = (ExitReason.Vmxon, true); break;
            case SensitiveInstruction.Invept: (reason, exits) = (ExitReason.Invept, true); break;
            case SensitiveInstruction.Invvpid: (reason, exits) = (ExitReason.Invvpid, true); break;
            case SensitiveInstruction.Hlt: (reason, exits) = (ExitReason.Hlt, Primary(PrimaryControls.HltExiting)); break;
            case SensitiveInstruction.Invlpg: (reason, exits) = (ExitReason.Invlpg, Primary(PrimaryControls.InvlpgExiting)); break;
            case SensitiveInstruction.Invpcid: (reason, exits) = (ExitReason.Invpcid, Primary(PrimaryControls.InvlpgExiting)); break;
            case SensitiveInstruction.Rdpmc: (reason, exits) = (ExitReason.Rdpmc, Primary(PrimaryControls.RdpmcExiting)); break;
            case SensitiveInstruction.Rdtsc: (reason, exits) = (ExitReason.Rdtsc, Primary(PrimaryControls.RdtscExiting)); break;
            case SensitiveInstruction.Rdtscp: (reason, exits) = (ExitReason.Rdtscp, Primary(PrimaryControls.RdtscExiting)); break;
            case SensitiveInstruction.Mwait: (reason, exits) = (ExitReason.Mwait, Primary(PrimaryControls.MwaitExiting)); break;
            case SensitiveInstruction.Monitor: (reason, exits) = (ExitReason.Monitor, Primary(PrimaryControls.MonitorExiting)); break;
            case SensitiveInstruction.Pause: (reason, exits) = (ExitReason.Pause, Primary(PrimaryControls.PauseExiting)); break;
            case SensitiveInstruction.GdtrIdtrAccess: (reason, exits) = (ExitReason.GdtrOrIdtrAccess, Secondary(SecondaryControls.DescriptorTableExiting)); break;
            case SensitiveInstruction.LdtrTrAccess: (reason, exits) = (ExitReason.LdtrOrTrAccess, Secondary(SecondaryControls.DescriptorTableExiting)); break;
            case SensitiveInstruction.Rdrand: (reason, exits) = (ExitReason.Rdrand, Secondary(SecondaryControls.RdrandExiting)); break;
            case SensitiveInstruction.Rdseed: (reason, exits) = (ExitReason.Rdseed, Secondary(SecondaryControls.RdseedExiting)); break;
            case SensitiveInstruction.Wbinvd: (reason, exits) = (ExitReason.Wbinvd, Secondary(SecondaryControls.WbinvdExiting)); break;
            default: (reason, exits) = (ExitReason.Xsaves, false); break;
        }

        return exits && NoteInstruction(reason, instructionLength, qualification, instructionInfo);
    }

    /// <inheritdoc/>
    public bool Io(in IoAccess access, int instructionLength)
    {
        if (!IoExits(access.Port, access.Size))
        {
            return false;
        }

        IoQualification qualification = new(access.Port, access.Size, access.IsIn, access.IsString, access.IsRep, access.IsImmediate);
        // Bits 9:7 address size, bits 17:15 segment (OUTS only).
        uint info = !access.IsString ? 0
            : ((access.AddressSize switch { 2 => 0U, 4 => 1U, _ => 2U }) << 7) | (access.IsIn ? 0 : (uint)access.Segment << 15);
        return NoteInstruction(ExitReason.IoInstruction, instructionLength, qualification.Value, info, access.IsString ? access.LinearAddress : 0);
    }

    // SDM "Instructions That Cause VM Exits Conditionally", IN: the bitmaps win over unconditional exiting; an access
    // that wraps the I/O space exits.
    internal bool IoExits(ushort port, int size)
    {
        if (!Primary(PrimaryControls.UseIoBitmaps))
        {
            return Primary(PrimaryControls.UnconditionalIoExiting);
        }

        if (port + size > 0x1_0000)
        {
            return true;
        }

        for (int i = 0; i < size; i++)
        {
            int bit = port + i;
            ulong bitmap = _vmcs[bit < 0x8000 ? VmcsField.IoBitmapA : VmcsField.IoBitmapB];
            if (BitmapBit(bitmap, bit & 0x7FFF))
            {
                return true;
            }
        }

        return false;
    }

    /// <inheritdoc/>
    public bool MsrAccess(uint msr, bool write, int instructionLength) =>
        MsrExits(msr, write) && NoteInstruction(write ? ExitReason.Wrmsr : ExitReason.Rdmsr, instructionLength);

    internal bool MsrExits(uint msr, bool write)
    {
        if (!Primary(PrimaryControls.UseMsrBitmaps) || (msr & 0x3FFF_E000) != 0)
        {
            return true;
        }

        int quarter = (msr >> 30) switch { 0 => 0, 3 => 1, _ => -1 };
        if (quarter < 0)
        {
            return true;
        }

        ulong at = _vmcs[VmcsField.MsrBitmaps] + (ulong)((quarter + (write ? 2 : 0)) * 1024);
        return BitmapBit(at, (int)(msr & 0x1FFF));
    }

    private bool BitmapBit(ulong bitmap, int bit)
    {
        ulong address = bitmap + (ulong)(bit >> 3);
        return !_cpu.Memory.TryGetPage(address, out Memory.PageRef page) || (page.Host[address & 0xFFF] & (1 << (bit & 7))) != 0;
    }

    /// <inheritdoc/>
    public bool MovToCr(int register, Gpr source, int instructionLength, ref ulong value)
    {
        Vmcs v = _vmcs;
        bool exits;
        switch (register)
        {
            case 0:
                exits = MaskExits(value, v[VmcsField.Cr0GuestHostMask], v[VmcsField.Cr0ReadShadow]);
                value = Masked(value, _state->Cr0, v[VmcsField.Cr0GuestHostMask]);
                break;
            case 3:
                exits = Primary(PrimaryControls.Cr3LoadExiting) && !IsCr3Target(value);
                break;
            case 4:
                exits = MaskExits(value, v[VmcsField.Cr4GuestHostMask], v[VmcsField.Cr4ReadShadow]);
                value = Masked(value, _state->Cr4, v[VmcsField.Cr4GuestHostMask]);
                break;
            default:
                exits = Primary(PrimaryControls.Cr8LoadExiting);
                break;
        }

        if (exits)
        {
            return NoteInstruction(
                ExitReason.ControlRegisterAccess, instructionLength, ControlRegisterQualification.Mov(register, source, toCr: true).Value);
        }

        if (register is 0 or 4 && BreaksFixedBits(register, value))
        {
            // A bit that no processor has: the load raises #GP(0), as a value with wrong fixed bits must.
            value |= 1UL << 63;
        }

        return false;
    }

    /// <inheritdoc/>
    public bool MovFromCr(int register, Gpr destination, int instructionLength, ref ulong value)
    {
        Vmcs v = _vmcs;
        bool exits = false;
        switch (register)
        {
            case 0:
                value = Masked(value, v[VmcsField.Cr0ReadShadow], v[VmcsField.Cr0GuestHostMask]);
                break;
            case 3:
                exits = Primary(PrimaryControls.Cr3StoreExiting);
                break;
            case 4:
                value = Masked(value, v[VmcsField.Cr4ReadShadow], v[VmcsField.Cr4GuestHostMask]);
                break;
            default:
                exits = Primary(PrimaryControls.Cr8StoreExiting);
                break;
        }

        return exits && NoteInstruction(
            ExitReason.ControlRegisterAccess, instructionLength, ControlRegisterQualification.Mov(register, destination, toCr: false).Value);
    }

    /// <inheritdoc/>
    public bool Clts(int instructionLength, out bool clear)
    {
        bool owned = _vmcs.Has(VmcsField.Cr0GuestHostMask, Cr0.Ts);
        clear = !owned;
        return owned && _vmcs.Has(VmcsField.Cr0ReadShadow, Cr0.Ts)
            && NoteInstruction(ExitReason.ControlRegisterAccess, instructionLength, ControlRegisterQualification.Clts().Value);
    }

    /// <inheritdoc/>
    public bool Lmsw(ushort source, bool fromMemory, ulong linearAddress, int instructionLength, ref ulong cr0)
    {
        ulong mask = _vmcs[VmcsField.Cr0GuestHostMask];
        ulong shadow = _vmcs[VmcsField.Cr0ReadShadow];
        // PE exits only when it would be set; MP, EM and TS when they differ from the shadow.
        const ulong Others = Cr0.Mp | Cr0.Em | Cr0.Ts;
        bool exits = (mask & Others & (source ^ shadow)) != 0 || ((mask & source & ~shadow) & Cr0.Pe) != 0;
        cr0 = Masked(cr0, _state->Cr0, mask);
        return exits && NoteInstruction(
            ExitReason.ControlRegisterAccess,
            instructionLength,
            ControlRegisterQualification.Lmsw(source, fromMemory).Value,
            0,
            fromMemory ? linearAddress : 0);
    }

    /// <inheritdoc/>
    public bool MovDr(int register, bool write, Gpr gpr, int instructionLength) => Primary(PrimaryControls.MovDrExiting)
        && NoteInstruction(ExitReason.MovDr, instructionLength, new DebugRegisterQualification(register, !write, gpr).Value);

    /// <inheritdoc/>
    public bool Exception(in GuestEvent raised, in GuestEvent? original)
    {
        if (raised.Type == EventType.Nmi)
        {
            return original is null && Nmi();
        }

        if (!ExceptionExits(raised.Vector, raised.ErrorCode))
        {
            return false;
        }

        ulong qualification = raised.Vector is Vector.Pf or Vector.Db ? raised.Address : 0;
        VmExit exit = new(
            (uint)ExitReason.ExceptionOrNmi,
            qualification,
            InterruptionInfo: new InterruptionInfo(raised.Information),
            InterruptionError: raised.HasErrorCode ? raised.ErrorCode : 0,
            InstructionLength: raised.IsSoftware ? raised.InstructionLength : 0U);
        bool fault = raised.Type == EventType.HardwareException && raised.Vector is not (Vector.Db or Vector.Df or Vector.Mc);
        return NoteDuringDelivery(exit, original, fault ? SavedRf.Set : SavedRf.Keep);
    }

    // SDM "Exception Bitmap" and the page-fault error-code mask and match.
    internal bool ExceptionExits(byte vector, uint errorCode)
    {
        bool bit = (_vmcs[VmcsField.ExceptionBitmap] & (1UL << (vector & 31))) != 0;
        if (vector == Vector.Pf)
        {
            bool match = (errorCode & _vmcs[VmcsField.PageFaultErrorCodeMask]) == _vmcs[VmcsField.PageFaultErrorCodeMatch];
            return match == bit;
        }

        return bit;
    }

    /// <inheritdoc/>
    public bool TripleFault() => Note(new VmExit((uint)ExitReason.TripleFault), SavedRf.Keep);

    /// <inheritdoc/>
    public bool TaskSwitch(ushort selector, TaskSwitchSource source, in GuestEvent? original, int instructionLength)
    {
        VmExit exit = new(
            (uint)ExitReason.TaskSwitch,
            new TaskSwitchQualification(selector, source).Value,
            InstructionLength: (uint)instructionLength);
        return NoteDuringDelivery(exit, original, SavedRf.Keep);
    }

    /// <inheritdoc/>
    public bool VirtualNmis => Pin(PinBasedControls.VirtualNmis);

    /// <inheritdoc/>
    public bool Nmi() => Pin(PinBasedControls.NmiExiting) && Note(
        new VmExit((uint)ExitReason.ExceptionOrNmi, InterruptionInfo: new InterruptionInfo(InterruptionType.Nmi, Vector.Nmi)),
        SavedRf.Keep);

    /// <inheritdoc/>
    public bool ExternalInterrupt(IInterruptController controller)
    {
        if (!Pin(PinBasedControls.ExternalInterruptExiting))
        {
            return false;
        }

        InterruptionInfo info = default;
        if (_vmcs.Has(VmcsField.ExitControls, ExitControls.AcknowledgeInterruptOnExit))
        {
            info = new InterruptionInfo(InterruptionType.ExternalInterrupt, controller.Acknowledge());
        }

        return Note(new VmExit((uint)ExitReason.ExternalInterrupt, InterruptionInfo: info), SavedRf.Keep);
    }

    /// <inheritdoc/>
    public bool MonitorTrap()
    {
        if (!_pendingMtf && !Stepped())
        {
            return false;
        }

        _pendingMtf = false;
        return Note(new VmExit((uint)ExitReason.MonitorTrapFlag), SavedRf.Keep);
    }

    /// <inheritdoc/>
    public bool Window()
    {
        ulong blocking = _state->Interruptibility;
        if (Primary(PrimaryControls.NmiWindowExiting)
            && (blocking & (InterruptibilityState.BlockingByNmi | InterruptibilityState.BlockingByMovSs)) == 0
            && _state->Activity <= (ulong)ActivityState.Hlt)
        {
            return Note(new VmExit((uint)ExitReason.NmiWindow), SavedRf.Keep);
        }

        return false;
    }

    /// <inheritdoc/>
    public bool InterruptWindow()
    {
        if (Primary(PrimaryControls.InterruptWindowExiting)
            && (_state->Flags & RFlags.If) != 0
            && (_state->Interruptibility & (InterruptibilityState.BlockingBySti | InterruptibilityState.BlockingByMovSs)) == 0
            && _state->Activity <= (ulong)ActivityState.Hlt)
        {
            return Note(new VmExit((uint)ExitReason.InterruptWindow), SavedRf.Keep);
        }

        return false;
    }

    /// <inheritdoc/>
    public ulong GuestTsc(ulong tsc) =>
        Primary(PrimaryControls.UseTscOffsetting) ? tsc + _vmcs[VmcsField.TscOffset] : tsc;

    // SDM "Changes to Instruction Behavior in VMX Non-Root Operation", MOV to CR0 and CR4; CR0.PE and CR0.PG are free
    // with unrestricted guest.
    private bool BreaksFixedBits(int register, ulong value)
    {
        if (register == 4)
        {
            return (~value & Capabilities.Cr4Fixed0) != 0;
        }

        ulong required = Secondary(SecondaryControls.UnrestrictedGuest)
            ? Capabilities.Cr0Fixed0 & ~(Cr0.Pe | Cr0.Pg)
            : Capabilities.Cr0Fixed0;
        return (~value & required) != 0;
    }

    private bool Pin(uint bits) => (_pin & bits) != 0;

    private bool Primary(uint bits) => (_primary & bits) != 0;

    private bool Secondary(uint bits) => (_secondary & bits) != 0;

    private static bool MaskExits(ulong value, ulong mask, ulong shadow) => ((value ^ shadow) & mask) != 0;

    private static ulong Masked(ulong value, ulong host, ulong mask) => (value & ~mask) | (host & mask);

    private bool IsCr3Target(ulong value)
    {
        ulong count = _vmcs[VmcsField.Cr3TargetCount];
        for (uint i = 0; i < count && i < 4; i++)
        {
            if (_vmcs[VmcsField.Cr3TargetValue0 + (2 * i)] == value)
            {
                return true;
            }
        }

        return false;
    }
}
