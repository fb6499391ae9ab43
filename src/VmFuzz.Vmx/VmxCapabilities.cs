using VmFuzz.Arch;

namespace VmFuzz.Vmx;

/// <summary>Settings a group of controls allows: bits that must be 1 and bits that may be 1.</summary>
/// <param name="Required">Allowed 0-settings: a bit that is 1 here must be 1.</param>
/// <param name="Allowed">Allowed 1-settings: a bit that is 0 here must be 0.</param>
public readonly record struct ControlSettings(uint Required, uint Allowed)
{
    /// <summary>Unpacks a capability MSR.</summary>
    public static ControlSettings FromMsr(ulong value) => new((uint)value, (uint)(value >> 32));

    /// <summary>Whether a control may be 1.</summary>
    public bool Allows(uint bits) => (Allowed & bits) == bits;

    /// <summary>Whether a value obeys both.</summary>
    public bool Permits(uint value) => (Required & ~value) == 0 && (value & ~Allowed) == 0;

    /// <summary>A wanted value with required bits added and impossible ones removed.</summary>
    public uint Adjust(uint wanted) => (wanted | Required) & Allowed;
}

/// <summary>
/// The VMX capability MSRs (SDM "VMX Capability Reporting Facility") as a value.
/// </summary>
public sealed record VmxCapabilities
{
    private const uint PinDefault1 = 0x16;
    private const uint PrimaryDefault1 = 0x0401_E172;
    private const uint PrimaryTrueDefault1 = 0x0400_6172;
    private const uint ExitDefault1 = 0x0003_6DFF;
    private const uint ExitTrueDefault1 = 0x0003_6DFB;
    private const uint EntryDefault1 = 0x0000_11FF;
    private const uint EntryTrueDefault1 = 0x0000_11FB;

    private const uint PinHonoured = PinBasedControls.ExternalInterruptExiting | PinBasedControls.NmiExiting | PinBasedControls.VirtualNmis;

    private const uint PrimaryHonoured = PrimaryControls.InterruptWindowExiting | PrimaryControls.UseTscOffsetting
        | PrimaryControls.HltExiting | PrimaryControls.InvlpgExiting | PrimaryControls.MwaitExiting
        | PrimaryControls.RdpmcExiting | PrimaryControls.RdtscExiting | PrimaryControls.Cr3LoadExiting
        | PrimaryControls.Cr3StoreExiting | PrimaryControls.Cr8LoadExiting | PrimaryControls.Cr8StoreExiting
        | PrimaryControls.NmiWindowExiting | PrimaryControls.MovDrExiting | PrimaryControls.UnconditionalIoExiting
        | PrimaryControls.UseIoBitmaps | PrimaryControls.UseMsrBitmaps | PrimaryControls.MonitorExiting
        | PrimaryControls.PauseExiting | PrimaryControls.MonitorTrapFlag | PrimaryControls.ActivateSecondaryControls;

    private const uint SecondaryHonoured = SecondaryControls.EnableEpt | SecondaryControls.DescriptorTableExiting
        | SecondaryControls.EnableRdtscp | SecondaryControls.EnableVpid | SecondaryControls.WbinvdExiting
        | SecondaryControls.UnrestrictedGuest | SecondaryControls.RdrandExiting | SecondaryControls.EnableInvpcid
        | SecondaryControls.RdseedExiting | SecondaryControls.EnableXsaves;

    private const uint ExitHonoured = ExitControls.SaveDebugControls | ExitControls.HostAddressSpaceSize
        | ExitControls.AcknowledgeInterruptOnExit | ExitControls.SavePat | ExitControls.LoadPat | ExitControls.SaveEfer
        | ExitControls.LoadEfer;

    private const uint EntryHonoured = EntryControls.LoadDebugControls | EntryControls.Ia32eModeGuest
        | EntryControls.LoadPat | EntryControls.LoadEfer;

    /// <summary>IA32_VMX_BASIC.</summary>
    public ulong Basic { get; init; }

    /// <summary>IA32_VMX_PINBASED_CTLS.</summary>
    public ulong PinBasedCtls { get; init; }

    /// <summary>IA32_VMX_PROCBASED_CTLS.</summary>
    public ulong ProcBasedCtls { get; init; }

    /// <summary>IA32_VMX_EXIT_CTLS.</summary>
    public ulong ExitCtls { get; init; }

    /// <summary>IA32_VMX_ENTRY_CTLS.</summary>
    public ulong EntryCtls { get; init; }

    /// <summary>IA32_VMX_MISC.</summary>
    public ulong Misc { get; init; }

    /// <summary>IA32_VMX_CR0_FIXED0.</summary>
    public ulong Cr0Fixed0 { get; init; }

    /// <summary>IA32_VMX_CR0_FIXED1.</summary>
    public ulong Cr0Fixed1 { get; init; }

    /// <summary>IA32_VMX_CR4_FIXED0.</summary>
    public ulong Cr4Fixed0 { get; init; }

    /// <summary>IA32_VMX_CR4_FIXED1.</summary>
    public ulong Cr4Fixed1 { get; init; }

    /// <summary>IA32_VMX_VMCS_ENUM.</summary>
    public ulong VmcsEnum { get; init; }

    /// <summary>IA32_VMX_PROCBASED_CTLS2.</summary>
    public ulong ProcBasedCtls2 { get; init; }

    /// <summary>IA32_VMX_EPT_VPID_CAP.</summary>
    public ulong EptVpidCap { get; init; }

    /// <summary>IA32_VMX_TRUE_PINBASED_CTLS.</summary>
    public ulong TruePinBasedCtls { get; init; }

    /// <summary>IA32_VMX_TRUE_PROCBASED_CTLS.</summary>
    public ulong TrueProcBasedCtls { get; init; }

    /// <summary>IA32_VMX_TRUE_EXIT_CTLS.</summary>
    public ulong TrueExitCtls { get; init; }

    /// <summary>IA32_VMX_TRUE_ENTRY_CTLS.</summary>
    public ulong TrueEntryCtls { get; init; }

    /// <summary>IA32_VMX_VMFUNC.</summary>
    public ulong VmFunc { get; init; }

    /// <summary>IA32_VMX_PROCBASED_CTLS3: allowed 1-settings of the tertiary controls.</summary>
    public ulong ProcBasedCtls3 { get; init; }

    /// <summary>IA32_VMX_EXIT_CTLS2: allowed 1-settings of the secondary VM-exit controls.</summary>
    public ulong ExitCtls2 { get; init; }

    /// <summary>Width of physical addresses in bits, 36 to 52.</summary>
    public int PhysicalBits { get; init; } = 46;

    /// <summary>Width of linear addresses in bits: 48 or 57.</summary>
    public int LinearBits { get; init; } = 48;

    /// <summary>What the model honours: EPT, VPID, unrestricted guest, true controls.</summary>
    public static VmxCapabilities Default { get; } = Make(PinHonoured, PrimaryHonoured, SecondaryHonoured, ExitHonoured, EntryHonoured, 0);

    /// <summary>
    /// Every control of the SDM, honoured or not: a value for tests of entry checks and for fuzzing them. Running a
    /// guest with a control that is not honoured leaves the control without effect.
    /// </summary>
    public static VmxCapabilities Everything { get; } = Make(
        PinHonoured | PinBasedControls.ActivatePreemptionTimer | PinBasedControls.ProcessPostedInterrupts,
        PrimaryHonoured | PrimaryControls.UseTprShadow | PrimaryControls.MonitorTrapFlag | PrimaryControls.ActivateTertiaryControls,
        0xDFFF_FFFF,
        ExitHonoured | ExitControls.SavePreemptionTimer | ExitControls.LoadPerfGlobalCtrl | ExitControls.ClearBndcfgs
            | ExitControls.ConcealVmxFromPt | ExitControls.ClearRtitCtl | ExitControls.ClearLbrCtl | ExitControls.ClearUinv
            | ExitControls.LoadCetState | ExitControls.LoadPkrs | ExitControls.SavePerfGlobalCtrl,
        EntryHonoured | EntryControls.EntryToSmm | EntryControls.DeactivateDualMonitor | EntryControls.LoadPerfGlobalCtrl
            | EntryControls.LoadBndcfgs | EntryControls.ConcealVmxFromPt | EntryControls.LoadRtitCtl | EntryControls.LoadUinv
            | EntryControls.LoadCetState | EntryControls.LoadLbrCtl | EntryControls.LoadPkrs,
        0xDF) with
    {
        VmFunc = 1,
        Cr4Fixed1 = 0x01FF_FFFF & ~(1UL << 15) & ~(1UL << 19),
    };

    /// <summary>Revision identifier: bits 30:0 of IA32_VMX_BASIC.</summary>
    public uint RevisionId => (uint)Basic & 0x7FFF_FFFF;

    /// <summary>Whether the TRUE capability MSRs exist (bit 55).</summary>
    public bool HasTrueControls => (Basic & (1UL << 55)) != 0;

    /// <summary>Whether hardware exceptions may be injected with an error code whatever their vector (bit 56).</summary>
    public bool AnyErrorCodeDelivery => (Basic & (1UL << 56)) != 0;

    /// <summary>Pin-based controls.</summary>
    public ControlSettings Pin => ControlSettings.FromMsr(HasTrueControls ? TruePinBasedCtls : PinBasedCtls);

    /// <summary>Primary processor-based controls.</summary>
    public ControlSettings Primary => ControlSettings.FromMsr(HasTrueControls ? TrueProcBasedCtls : ProcBasedCtls);

    /// <summary>Secondary processor-based controls.</summary>
    public ControlSettings Secondary => ControlSettings.FromMsr(ProcBasedCtls2);

    /// <summary>Tertiary processor-based controls that may be 1.</summary>
    public ulong TertiaryAllowed1 => ProcBasedCtls3;

    /// <summary>Primary VM-exit controls.</summary>
    public ControlSettings Exit => ControlSettings.FromMsr(HasTrueControls ? TrueExitCtls : ExitCtls);

    /// <summary>VM-entry controls.</summary>
    public ControlSettings Entry => ControlSettings.FromMsr(HasTrueControls ? TrueEntryCtls : EntryCtls);

    /// <summary>Whether an EPT or VPID capability bit is set.</summary>
    public bool HasEptVpid(int bit) => (EptVpidCap & (1UL << bit)) != 0;

    /// <summary>Bits above the physical-address width.</summary>
    public ulong PhysicalReserved => ~((1UL << PhysicalBits) - 1);

    /// <summary>Number of CR3-target values (IA32_VMX_MISC bits 24:16).</summary>
    public int Cr3Targets => (int)(Misc >> 16) & 0x1FF;

    /// <summary>Most entries an MSR list should have: 512 times (bits 27:25 of IA32_VMX_MISC plus 1).</summary>
    public int MsrListLimit => 512 * ((int)((Misc >> 25) & 7) + 1);

    /// <summary>Whether a linear address is canonical for the modelled width.</summary>
    public bool IsCanonical(ulong address)
    {
        int shift = 64 - LinearBits;
        return (ulong)(((long)address << shift) >> shift) == address;
    }

    /// <summary>Reads a capability MSR, 0x480 to 0x493.</summary>
    /// <returns>False when the processor does not have it (#GP).</returns>
    public bool TryReadMsr(uint msr, out ulong value)
    {
        ulong? found = msr switch
        {
            0x480 => Basic,
            0x481 => PinBasedCtls,
            0x482 => ProcBasedCtls,
            0x483 => ExitCtls,
            0x484 => EntryCtls,
            0x485 => Misc,
            0x486 => Cr0Fixed0,
            0x487 => Cr0Fixed1,
            0x488 => Cr4Fixed0,
            0x489 => Cr4Fixed1,
            0x48A => VmcsEnum,
            0x48B when Primary.Allows(PrimaryControls.ActivateSecondaryControls) => ProcBasedCtls2,
            0x48C when Secondary.Allows(SecondaryControls.EnableEpt) || Secondary.Allows(SecondaryControls.EnableVpid) => EptVpidCap,
            0x48D when HasTrueControls => TruePinBasedCtls,
            0x48E when HasTrueControls => TrueProcBasedCtls,
            0x48F when HasTrueControls => TrueExitCtls,
            0x490 when HasTrueControls => TrueEntryCtls,
            0x491 when Secondary.Allows(SecondaryControls.EnableVmFunctions) => VmFunc,
            0x492 when Primary.Allows(PrimaryControls.ActivateTertiaryControls) => ProcBasedCtls3,
            0x493 when Exit.Allows(ExitControls.ActivateSecondaryControls) => ExitCtls2,
            _ => null,
        };
        value = found ?? 0;
        return found is not null;
    }

    private static VmxCapabilities Make(uint pin, uint primary, uint secondary, uint exit, uint entry, ulong tertiary) => new()
    {
        // Revision 17, 4096-byte regions, write-back, INS/OUTS information, true controls.
        Basic = 0x11 | (4096UL << 32) | (6UL << 50) | (1UL << 54) | (1UL << 55),
        PinBasedCtls = Pack(PinDefault1, pin),
        ProcBasedCtls = Pack(PrimaryDefault1, primary),
        ExitCtls = Pack(ExitDefault1, exit),
        EntryCtls = Pack(EntryDefault1, entry),
        TruePinBasedCtls = Pack(PinDefault1, pin),
        TrueProcBasedCtls = Pack(PrimaryTrueDefault1, primary | PrimaryDefault1),
        TrueExitCtls = Pack(ExitTrueDefault1, exit | ExitDefault1),
        TrueEntryCtls = Pack(EntryTrueDefault1, entry | EntryDefault1),
        ProcBasedCtls2 = Pack(0, secondary),
        ProcBasedCtls3 = tertiary,
        // Preemption timer at TSC / 32, exits store LMA, activity HLT, shutdown and wait-for-SIPI, four CR3 targets,
        // VMWRITE to any field, injection with instruction length 0.
        Misc = 5 | (1UL << 5) | (7UL << 6) | (4UL << 16) | (1UL << 29) | (1UL << 30),
        Cr0Fixed0 = Cr0.Pe | Cr0.Ne | Cr0.Pg,
        Cr0Fixed1 = 0xFFFF_FFFF,
        Cr4Fixed0 = Cr4.Vmxe,
        Cr4Fixed1 = 0x0077_2FFF & ~Cr4.Smxe,
        VmcsEnum = 0x29UL << 1,
        // Execute-only, 4-level, UC and WB, 2 MiB and 1 GiB pages, INVEPT, A/D flags, advanced information off, INVVPID.
        EptVpidCap = (1UL << 0) | (1UL << 6) | (1UL << 8) | (1UL << 14) | (1UL << 16) | (1UL << 17) | (1UL << 20) | (1UL << 21)
            | (1UL << 25) | (1UL << 26) | (1UL << 32) | (0xFUL << 40),
    };

    private static ulong Pack(uint required, uint allowed) => required | ((ulong)(required | allowed) << 32);
}
