using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>What an entry or an exit must leave as it was, or set, whatever the VMCS holds.</summary>
internal static class EntryFacts
{
    /// <summary>Registers that a refused entry must not touch.</summary>
    public static (ulong Rip, ulong Rsp, ulong Flags, int Cpl, bool LongMode) Of(Processor processor) =>
        (processor.Rip, processor.GetGpr(Gpr.Rsp), processor.RFlagsValue, processor.Cpl, processor.LongMode);

    /// <summary>VMfail: nothing was loaded, and the number fits the stage (SDM "VM-Instruction Error Numbers").</summary>
    public static Violation? Refused(EntryRig rig, EntryCheck? failed, VmxResult failure, (ulong, ulong, ulong, int, bool) before)
    {
        if (Of(rig.Processor) != before)
        {
            return new Violation("frame.refused-entry", failed?.Id ?? "", "an entry that was refused changed registers");
        }

        VmxInstructionError expected = failed?.Stage == EntryCheckStage.Host ? VmxInstructionError.EntryInvalidHostState : VmxInstructionError.EntryInvalidControls;
        return failed is not null && failure != VmxResult.FailValid(expected)
            ? new Violation("frame.instruction-error", failed.Id, $"the check {failed.Id} fails with {failure} and not with {expected}")
            : null;
    }

    /// <summary>An entry that fails after its first checks looks like an exit and changes no guest field (SDM "VM-Entry Failures During or After Loading Guest State").</summary>
    public static Violation? FailedLate(EntryRig rig, EntryCheck? failed, in VmExit exit, ReadOnlySpan<ulong> before)
    {
        if (failed is not null && (exit.Basic != ExitReason.EntryFailureInvalidGuestState || exit.Qualification != failed.Qualification))
        {
            return new Violation("frame.entry-failure", failed.Id, $"the check {failed.Id} ends with {exit.Basic}, qualification {exit.Qualification}");
        }

        if (rig.Unit.Current.Launched)
        {
            return new Violation("frame.launch-state", "", "a failed VMLAUNCH made the VMCS launched");
        }

        int changed = rig.Unit.Current.FirstGuestDifference(before);
        return changed >= 0 ? new Violation("frame.failed-entry", Vmcs.GuestFieldAt(changed)?.ToString() ?? "", "a failed entry changed the guest-state area") : null;
    }

    /// <summary>After any exit the host's registers are those of the host-state area (SDM "Loading Host State").</summary>
    public static Violation? HostLoaded(EntryRig rig)
    {
        Vmcs v = rig.Unit.Current;
        HostRegisters h = rig.Unit.Host;
        (string Name, ulong Is, ulong Expected)[] registers =
        [
            ("RIP", h.Rip, v[VmcsField.HostRip]),
            ("RSP", h.Rsp, v[VmcsField.HostRsp]),
            ("CR3", h.Cr3, v[VmcsField.HostCr3] & ~rig.Unit.Capabilities.PhysicalReserved),
            ("CR0.WP", h.Cr0 & Cr0.Wp, v[VmcsField.HostCr0] & Cr0.Wp),
            ("SYSENTER_EIP", h.SysenterEip, v[VmcsField.HostSysenterEip]),
            ("SYSENTER_ESP", h.SysenterEsp, v[VmcsField.HostSysenterEsp]),
            ("DR7", h.Dr7, 0x400),
            ("DEBUGCTL", h.DebugCtl, 0),
            ("RFLAGS", h.RFlags, RFlags.Reserved1),
            ("FS base", h.Segment(SegmentRegister.Fs).Base, v[VmcsField.HostFsBase]),
            ("GS base", h.Segment(SegmentRegister.Gs).Base, v[VmcsField.HostGsBase]),
            ("TR base", h.Segment(SegmentRegister.Tr).Base, v[VmcsField.HostTrBase]),
            ("GDTR base", h.Gdtr.Base, v[VmcsField.HostGdtrBase]),
            ("IDTR base", h.Idtr.Base, v[VmcsField.HostIdtrBase]),
        ];
        bool lists = v[VmcsField.ExitMsrLoadCount] != 0;
        foreach ((string name, ulong value, ulong expected) in registers)
        {
            if (value != expected && !lists)
            {
                return new Violation("ledger.host-state", name, $"after an exit the host's {name} is 0x{value:x} and not 0x{expected:x}");
            }
        }

        return null;
    }

    /// <summary>Entering what an exit saved, and leaving at once, saves it again (SDM "Saving Guest State").</summary>
    public static Violation? RoundTrip(EntryRig rig, ReadOnlySpan<ulong> before)
    {
        Vmcs v = rig.Unit.Current;
        int word = v.FirstGuestDifference(before);
        return word >= 0 && v[VmcsField.EntryMsrLoadCount] == 0
            ? new Violation("frame.round-trip", Vmcs.GuestFieldAt(word)?.ToString() ?? "", $"{Vmcs.GuestFieldAt(word)} became 0x{v[Vmcs.GuestFieldAt(word) ?? default]:x} by an entry that ran nothing, it was 0x{before[word]:x}")
            : null;
    }
}
