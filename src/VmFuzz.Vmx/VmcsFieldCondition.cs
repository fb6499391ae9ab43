using VmFuzz.Arch;

namespace VmFuzz.Vmx;

/// <summary>When a VMCS field exists (SDM "Field Encoding in VMCS", notes).</summary>
public enum VmcsFieldCondition : byte
{
    /// <summary>On every processor.</summary>
    Always,
    /// <summary>On no modelled processor.</summary>
    Never,
    /// <summary>With the capability "enable VPID".</summary>
    Vpid,
    /// <summary>With "process posted interrupts".</summary>
    PostedInterrupts,
    /// <summary>With "EPT-violation #VE".</summary>
    EptViolationVe,
    /// <summary>With "enable HLAT".</summary>
    Hlat,
    /// <summary>With "IPI virtualization".</summary>
    IpiVirtualization,
    /// <summary>With "virtual-interrupt delivery".</summary>
    VirtualInterruptDelivery,
    /// <summary>With "enable PML".</summary>
    Pml,
    /// <summary>With "load UINV" or "clear UINV".</summary>
    Uinv,
    /// <summary>With "use MSR bitmaps".</summary>
    MsrBitmaps,
    /// <summary>With "use TPR shadow".</summary>
    TprShadow,
    /// <summary>With "virtualize APIC accesses".</summary>
    ApicAccesses,
    /// <summary>With "enable VM functions".</summary>
    VmFunctions,
    /// <summary>With "enable EPT".</summary>
    Ept,
    /// <summary>With "VMCS shadowing".</summary>
    VmcsShadowing,
    /// <summary>With "enable XSAVES/XRSTORS".</summary>
    Xsaves,
    /// <summary>With "enable ENCLS exiting".</summary>
    EnclsExiting,
    /// <summary>With "sub-page write permissions for EPT".</summary>
    SubPage,
    /// <summary>With "use TSC scaling".</summary>
    TscScaling,
    /// <summary>With "activate tertiary controls".</summary>
    Tertiary,
    /// <summary>With "enable ENCLV exiting".</summary>
    EnclvExiting,
    /// <summary>With "PASID translation".</summary>
    Pasid,
    /// <summary>With "enable PCONFIG".</summary>
    Pconfig,
    /// <summary>With "activate secondary controls" of the VM-exit controls.</summary>
    SecondaryExit,
    /// <summary>With "virtualize IA32_SPEC_CTRL".</summary>
    SpecCtrl,
    /// <summary>With a control that loads or saves IA32_PAT of the guest.</summary>
    PatControls,
    /// <summary>With a control that loads or saves IA32_EFER of the guest.</summary>
    EferControls,
    /// <summary>With a control that loads IA32_PERF_GLOBAL_CTRL of the guest.</summary>
    PerfGlobalControls,
    /// <summary>With "load IA32_BNDCFGS".</summary>
    Bndcfgs,
    /// <summary>With "load IA32_RTIT_CTL".</summary>
    RtitCtl,
    /// <summary>With "load guest IA32_LBR_CTL".</summary>
    LbrCtl,
    /// <summary>With "load PKRS" of the VM-entry controls.</summary>
    PkrsEntry,
    /// <summary>With "load IA32_PAT" of the VM-exit controls.</summary>
    HostPat,
    /// <summary>With "load IA32_EFER" of the VM-exit controls.</summary>
    HostEfer,
    /// <summary>With "load IA32_PERF_GLOBAL_CTRL" of the VM-exit controls.</summary>
    HostPerf,
    /// <summary>With "load PKRS" of the VM-exit controls.</summary>
    HostPkrs,
    /// <summary>With "activate secondary controls".</summary>
    Secondary,
    /// <summary>With "PAUSE-loop exiting".</summary>
    PauseLoop,
    /// <summary>With "instruction timeout".</summary>
    InstructionTimeout,
    /// <summary>With "activate VMX-preemption timer".</summary>
    PreemptionTimer,
    /// <summary>With "load CET state" of the VM-entry controls.</summary>
    CetEntry,
    /// <summary>With "load CET state" of the VM-exit controls.</summary>
    CetExit,
}

internal static class VmcsFieldConditions
{
    public static bool Holds(VmcsFieldCondition condition, VmxCapabilities capabilities) => condition switch
    {
        VmcsFieldCondition.Always => true,
        VmcsFieldCondition.Vpid => capabilities.Secondary.Allows(SecondaryControls.EnableVpid),
        VmcsFieldCondition.PostedInterrupts => capabilities.Pin.Allows(PinBasedControls.ProcessPostedInterrupts),
        VmcsFieldCondition.EptViolationVe => capabilities.Secondary.Allows(SecondaryControls.EptViolationVe),
        VmcsFieldCondition.Hlat => (capabilities.TertiaryAllowed1 & TertiaryControls.EnableHlat) != 0,
        VmcsFieldCondition.IpiVirtualization => (capabilities.TertiaryAllowed1 & TertiaryControls.IpiVirtualization) != 0,
        VmcsFieldCondition.VirtualInterruptDelivery => capabilities.Secondary.Allows(SecondaryControls.VirtualInterruptDelivery),
        VmcsFieldCondition.Pml => capabilities.Secondary.Allows(SecondaryControls.EnablePml),
        VmcsFieldCondition.Uinv => capabilities.Entry.Allows(EntryControls.LoadUinv),
        VmcsFieldCondition.MsrBitmaps => capabilities.Primary.Allows(PrimaryControls.UseMsrBitmaps),
        VmcsFieldCondition.TprShadow => capabilities.Primary.Allows(PrimaryControls.UseTprShadow),
        VmcsFieldCondition.ApicAccesses => capabilities.Secondary.Allows(SecondaryControls.VirtualizeApicAccesses),
        VmcsFieldCondition.VmFunctions => capabilities.Secondary.Allows(SecondaryControls.EnableVmFunctions),
        VmcsFieldCondition.Ept => capabilities.Secondary.Allows(SecondaryControls.EnableEpt),
        VmcsFieldCondition.VmcsShadowing => capabilities.Secondary.Allows(SecondaryControls.VmcsShadowing),
        VmcsFieldCondition.Xsaves => capabilities.Secondary.Allows(SecondaryControls.EnableXsaves),
        VmcsFieldCondition.EnclsExiting => capabilities.Secondary.Allows(SecondaryControls.EnableEnclsExiting),
        VmcsFieldCondition.SubPage => capabilities.Secondary.Allows(SecondaryControls.SubPageWritePermissions),
        VmcsFieldCondition.TscScaling => capabilities.Secondary.Allows(SecondaryControls.UseTscScaling),
        VmcsFieldCondition.Tertiary => capabilities.Primary.Allows(PrimaryControls.ActivateTertiaryControls),
        VmcsFieldCondition.EnclvExiting => capabilities.Secondary.Allows(SecondaryControls.EnableEnclvExiting),
        VmcsFieldCondition.Pasid => capabilities.Secondary.Allows(SecondaryControls.PasidTranslation),
        VmcsFieldCondition.Pconfig => capabilities.Secondary.Allows(SecondaryControls.EnablePconfig),
        VmcsFieldCondition.SecondaryExit => capabilities.Exit.Allows(ExitControls.ActivateSecondaryControls),
        VmcsFieldCondition.SpecCtrl => (capabilities.TertiaryAllowed1 & TertiaryControls.VirtualizeSpecCtrl) != 0,
        VmcsFieldCondition.PatControls => capabilities.Entry.Allows(EntryControls.LoadPat),
        VmcsFieldCondition.EferControls => capabilities.Entry.Allows(EntryControls.LoadEfer),
        VmcsFieldCondition.PerfGlobalControls => capabilities.Entry.Allows(EntryControls.LoadPerfGlobalCtrl),
        VmcsFieldCondition.Bndcfgs => capabilities.Entry.Allows(EntryControls.LoadBndcfgs),
        VmcsFieldCondition.RtitCtl => capabilities.Entry.Allows(EntryControls.LoadRtitCtl),
        VmcsFieldCondition.LbrCtl => capabilities.Entry.Allows(EntryControls.LoadLbrCtl),
        VmcsFieldCondition.PkrsEntry => capabilities.Entry.Allows(EntryControls.LoadPkrs),
        VmcsFieldCondition.HostPat => capabilities.Exit.Allows(ExitControls.LoadPat),
        VmcsFieldCondition.HostEfer => capabilities.Exit.Allows(ExitControls.LoadEfer),
        VmcsFieldCondition.HostPerf => capabilities.Exit.Allows(ExitControls.LoadPerfGlobalCtrl),
        VmcsFieldCondition.HostPkrs => capabilities.Exit.Allows(ExitControls.LoadPkrs),
        VmcsFieldCondition.Secondary => capabilities.Primary.Allows(PrimaryControls.ActivateSecondaryControls),
        VmcsFieldCondition.PauseLoop => capabilities.Secondary.Allows(SecondaryControls.PauseLoopExiting),
        VmcsFieldCondition.InstructionTimeout => capabilities.Secondary.Allows(SecondaryControls.InstructionTimeout),
        VmcsFieldCondition.PreemptionTimer => capabilities.Pin.Allows(PinBasedControls.ActivatePreemptionTimer),
        VmcsFieldCondition.CetEntry => capabilities.Entry.Allows(EntryControls.LoadCetState),
        VmcsFieldCondition.CetExit => capabilities.Exit.Allows(ExitControls.LoadCetState),
        _ => false,
    };
}
