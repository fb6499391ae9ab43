using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Vmx;

namespace VmFuzz.Kvm;

// The guest's registers as the guest would read them, wherever they are kept just now.
public sealed unsafe partial class Vcpu
{
    private const int Segments = 32;
    private const int FirstSwitchedMsr = 103;
    private const int FirstFpu = 120;
    private const int FirstVmcsMsr = 100;

    /// <summary>
    /// Reads a register of the guest: from the VMCS, from what is switched lazily, or from the processor, whichever holds
    /// it; under masks as the guest sees it.
    /// </summary>
    /// <param name="index">Index into <see cref="ProcessorState.List"/>.</param>
    /// <param name="value">Exactly as wide as the field; little-endian.</param>
    public void ReadGuest(int index, Span<byte> value)
    {
        StateField field = ProcessorState.List[index];
        if (field.Id is >= FirstFpu and <= 128)
        {
            ReadGuestFpu(index, field, value);
        }
        else if (FindGuestWord(field.Id) is { } word)
        {
            StateFields.Put(value, word);
        }
        else
        {
            Processor.Fields.ReadField(index, value);
        }
    }

    // What stands elsewhere than in the processor's register of the same name; null for the rest.
    private ulong? FindGuestWord(ushort id)
    {
        switch (id)
        {
            // Masked registers.
            case 70:
                return StoppedInGuest ? Masked(Processor.State->Cr0, VmcsField.Cr0GuestHostMask, VmcsField.Cr0ReadShadow) : Vmx.Cr0;
            case 74:
                return StoppedInGuest ? Masked(Processor.State->Cr4, VmcsField.Cr4GuestHostMask, VmcsField.Cr4ReadShadow) : Vmx.Cr4;
            // Registers that only exits change.
            case 76:
                return Vmx.Xcr0;
            case >= 80 and <= 83:
                return Vmx.DebugAddresses[id - 80];
            case 86:
                return Vmx.Dr6;
            case 87:
                return Vmx.Dr7;
            case >= FirstSwitchedMsr and < FirstSwitchedMsr + GuestSwitch.MsrCount:
                return Vmx.GetSwitchedMsr(id - FirstSwitchedMsr);
            case 109:
                return Processor.State->TscOffset + Vmx.Read(VmcsField.TscOffset);
            default:
                return StoppedInGuest ? null : FindSavedWord(id);
        }
    }

    // What an exit saves, or the run path keeps.
    private ulong? FindSavedWord(ushort id) => id switch
    {
        < ProcessorState.Rip => this[(Gpr)id],
        ProcessorState.Rip => Vmx.Rip,
        ProcessorState.RFlagsId => Vmx.RFlags,
        >= Segments and < Segments + 32 => SegmentPart(Vmx.GetSegment((SegmentRegister)((id - Segments) / 4)), (id - Segments) % 4),
        64 => Vmx.Read(VmcsField.GuestGdtrBase),
        65 => Vmx.Read(VmcsField.GuestGdtrLimit),
        66 => Vmx.Read(VmcsField.GuestIdtrBase),
        67 => Vmx.Read(VmcsField.GuestIdtrLimit),
        72 => Vmx.Cr2,
        73 => Vmx.Cr3,
        75 => Vmx.Efer,
        88 => Vmx.Read(VmcsField.GuestInterruptibility),
        89 => Vmx.Read(VmcsField.GuestActivity),
        90 => Vmx.Read(VmcsField.GuestPendingDebug),
        >= 96 and < 100 => Vmx.Read(VmcsField.GuestPdpte0 + (2 * (uint)(id - 96))),
        FirstVmcsMsr => Vmx.Read(VmcsField.GuestSysenterCs),
        101 => Vmx.Read(VmcsField.GuestSysenterEsp),
        102 => Vmx.Read(VmcsField.GuestSysenterEip),
        111 => Vmx.Read(VmcsField.GuestPat),
        114 => Vmx.Read(VmcsField.GuestDebugCtl),
        _ => null,
    };

    private ulong Masked(ulong real, VmcsField mask, VmcsField shadow)
    {
        ulong held = Vmx.Read(mask);
        return (real & ~held) | (Vmx.Read(shadow) & held);
    }

    private void ReadGuestFpu(int index, StateField field, Span<byte> value)
    {
        if (Host.GuestFpuLoaded)
        {
            Processor.Fields.ReadField(index, value);
        }
        else
        {
            int offset = field.Id < 127 ? (field.Id - FirstFpu) * 8 : field.Id == 127 ? 7 * 8 : (7 + 16) * 8;
            Vmx.SavedFpu.Slice(offset, field.Width).CopyTo(value);
        }
    }

    private static ulong SegmentPart(in SegmentState segment, int part) => part switch
    {
        0 => segment.Selector,
        1 => segment.Base,
        2 => segment.Limit,
        _ => segment.Attributes,
    };
}
