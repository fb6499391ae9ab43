namespace VmFuzz.Arch;

/// <summary>Bits of the pin based controls (SDM "Pin-Based VM-Execution Controls").</summary>
public static class PinBasedControls
{
    /// <summary>Bit 0: External-interrupt exiting.</summary>
    public const uint ExternalInterruptExiting = 1U << 0;
    /// <summary>Bit 3: NMI exiting.</summary>
    public const uint NmiExiting = 1U << 3;
    /// <summary>Bit 5: Virtual NMIs.</summary>
    public const uint VirtualNmis = 1U << 5;
    /// <summary>Bit 6: Activate VMX-preemption timer.</summary>
    public const uint ActivatePreemptionTimer = 1U << 6;
    /// <summary>Bit 7: Process posted interrupts.</summary>
    public const uint ProcessPostedInterrupts = 1U << 7;
}

/// <summary>Bits of the primary controls (SDM "Processor-Based VM-Execution Controls").</summary>
public static class PrimaryControls
{
    /// <summary>Bit 2: Interrupt-window exiting.</summary>
    public const uint InterruptWindowExiting = 1U << 2;
    /// <summary>Bit 3: Use TSC offsetting.</summary>
    public const uint UseTscOffsetting = 1U << 3;
    /// <summary>Bit 7: HLT exiting.</summary>
    public const uint HltExiting = 1U << 7;
    /// <summary>Bit 9: INVLPG exiting.</summary>
    public const uint InvlpgExiting = 1U << 9;
    /// <summary>Bit 10: MWAIT exiting.</summary>
    public const uint MwaitExiting = 1U << 10;
    /// <summary>Bit 11: RDPMC exiting.</summary>
    public const uint RdpmcExiting = 1U << 11;
    /// <summary>Bit 12: RDTSC exiting.</summary>
    public const uint RdtscExiting = 1U << 12;
    /// <summary>Bit 15: CR3-load exiting.</summary>
    public const uint Cr3LoadExiting = 1U << 15;
    /// <summary>Bit 16: CR3-store exiting.</summary>
    public const uint Cr3StoreExiting = 1U << 16;
    /// <summary>Bit 17: Activate tertiary controls.</summary>
    public const uint ActivateTertiaryControls = 1U << 17;
    /// <summary>Bit 19: CR8-load exiting.</summary>
    public const uint Cr8LoadExiting = 1U << 19;
    /// <summary>Bit 20: CR8-store exiting.</summary>
    public const uint Cr8StoreExiting = 1U << 20;
    /// <summary>Bit 21: Use TPR shadow.</summary>
    public const uint UseTprShadow = 1U << 21;
    /// <summary>Bit 22: NMI-window exiting.</summary>
    public const uint NmiWindowExiting = 1U << 22;
    /// <summary>Bit 23: MOV-DR exiting.</summary>
    public const uint MovDrExiting = 1U << 23;
    /// <summary>Bit 24: Unconditional I/O exiting.</summary>
    public const uint UnconditionalIoExiting = 1U << 24;
    /// <summary>Bit 25: Use I/O bitmaps.</summary>
    public const uint UseIoBitmaps = 1U << 25;
    /// <summary>Bit 27: Monitor trap flag.</summary>
    public const uint MonitorTrapFlag = 1U << 27;
    /// <summary>Bit 28: Use MSR bitmaps.</summary>
    public const uint UseMsrBitmaps = 1U << 28;
    /// <summary>Bit 29: MONITOR exiting.</summary>
    public const uint MonitorExiting = 1U << 29;
    /// <summary>Bit 30: PAUSE exiting.</summary>
    public const uint PauseExiting = 1U << 30;
    /// <summary>Bit 31: Activate secondary controls.</summary>
    public const uint ActivateSecondaryControls = 1U << 31;
}

/// <summary>Bits of the secondary controls (SDM "Processor-Based VM-Execution Controls").</summary>
public static class SecondaryControls
{
    /// <summary>Bit 0: Virtualize APIC accesses.</summary>
    public const uint VirtualizeApicAccesses = 1U << 0;
    /// <summary>Bit 1: Enable EPT.</summary>
    public const uint EnableEpt = 1U << 1;
    /// <summary>Bit 2: Descriptor-table exiting.</summary>
    public const uint DescriptorTableExiting = 1U << 2;
    /// <summary>Bit 3: Enable RDTSCP.</summary>
    public const uint EnableRdtscp = 1U << 3;
    /// <summary>Bit 4: Virtualize x2APIC mode.</summary>
    public const uint VirtualizeX2ApicMode = 1U << 4;
    /// <summary>Bit 5: Enable VPID.</summary>
    public const uint EnableVpid = 1U << 5;
    /// <summary>Bit 6: WBINVD exiting.</summary>
    public const uint WbinvdExiting = 1U << 6;
    /// <summary>Bit 7: Unrestricted guest.</summary>
    public const uint UnrestrictedGuest = 1U << 7;
    /// <summary>Bit 8: APIC-register virtualization.</summary>
    public const uint ApicRegisterVirtualization = 1U << 8;
    /// <summary>Bit 9: Virtual-interrupt delivery.</summary>
    public const uint VirtualInterruptDelivery = 1U << 9;
    /// <summary>Bit 10: PAUSE-loop exiting.</summary>
    public const uint PauseLoopExiting = 1U << 10;
    /// <summary>Bit 11: RDRAND exiting.</summary>
    public const uint RdrandExiting = 1U << 11;
    /// <summary>Bit 12: Enable INVPCID.</summary>
    public const uint EnableInvpcid = 1U << 12;
    /// <summary>Bit 13: Enable VM functions.</summary>
    public const uint EnableVmFunctions = 1U << 13;
    /// <summary>Bit 14: VMCS shadowing.</summary>
    public const uint VmcsShadowing = 1U << 14;
    /// <summary>Bit 15: Enable ENCLS exiting.</summary>
    public const uint EnableEnclsExiting = 1U << 15;
    /// <summary>Bit 16: RDSEED exiting.</summary>
    public const uint RdseedExiting = 1U << 16;
    /// <summary>Bit 17: Enable PML.</summary>
    public const uint EnablePml = 1U << 17;
    /// <summary>Bit 18: EPT-violation #VE.</summary>
    public const uint EptViolationVe = 1U << 18;
    /// <summary>Bit 19: Conceal VMX from PT.</summary>
    public const uint ConcealVmxFromPt = 1U << 19;
    /// <summary>Bit 20: Enable XSAVES/XRSTORS.</summary>
    public const uint EnableXsaves = 1U << 20;
    /// <summary>Bit 21: PASID translation.</summary>
    public const uint PasidTranslation = 1U << 21;
    /// <summary>Bit 22: Mode-based execute control for EPT.</summary>
    public const uint ModeBasedExecuteControl = 1U << 22;
    /// <summary>Bit 23: Sub-page write permissions for EPT.</summary>
    public const uint SubPageWritePermissions = 1U << 23;
    /// <summary>Bit 24: Intel PT uses guest physical addresses.</summary>
    public const uint PtUsesGuestPhysicalAddresses = 1U << 24;
    /// <summary>Bit 25: Use TSC scaling.</summary>
    public const uint UseTscScaling = 1U << 25;
    /// <summary>Bit 26: Enable user wait and pause.</summary>
    public const uint EnableUserWaitAndPause = 1U << 26;
    /// <summary>Bit 27: Enable PCONFIG.</summary>
    public const uint EnablePconfig = 1U << 27;
    /// <summary>Bit 28: Enable ENCLV exiting.</summary>
    public const uint EnableEnclvExiting = 1U << 28;
    /// <summary>Bit 30: VMM bus-lock detection.</summary>
    public const uint VmmBusLockDetection = 1U << 30;
    /// <summary>Bit 31: Instruction timeout.</summary>
    public const uint InstructionTimeout = 1U << 31;
}

/// <summary>Bits of the tertiary controls (SDM "Processor-Based VM-Execution Controls").</summary>
public static class TertiaryControls
{
    /// <summary>Bit 0: LOADIWKEY exiting.</summary>
    public const ulong LoadiwkeyExiting = 1UL << 0;
    /// <summary>Bit 1: Enable HLAT.</summary>
    public const ulong EnableHlat = 1UL << 1;
    /// <summary>Bit 2: EPT paging-write control.</summary>
    public const ulong EptPagingWriteControl = 1UL << 2;
    /// <summary>Bit 3: Guest-paging verification.</summary>
    public const ulong GuestPagingVerification = 1UL << 3;
    /// <summary>Bit 4: IPI virtualization.</summary>
    public const ulong IpiVirtualization = 1UL << 4;
    /// <summary>Bit 6: Enable MSR-list instructions.</summary>
    public const ulong EnableMsrListInstructions = 1UL << 6;
    /// <summary>Bit 7: Virtualize IA32_SPEC_CTRL.</summary>
    public const ulong VirtualizeSpecCtrl = 1UL << 7;
}

/// <summary>Bits of the exit controls (SDM "VM-Exit Controls").</summary>
public static class ExitControls
{
    /// <summary>Bit 2: Save debug controls.</summary>
    public const uint SaveDebugControls = 1U << 2;
    /// <summary>Bit 9: Host address-space size.</summary>
    public const uint HostAddressSpaceSize = 1U << 9;
    /// <summary>Bit 12: Load IA32_PERF_GLOBAL_CTRL.</summary>
    public const uint LoadPerfGlobalCtrl = 1U << 12;
    /// <summary>Bit 15: Acknowledge interrupt on exit.</summary>
    public const uint AcknowledgeInterruptOnExit = 1U << 15;
    /// <summary>Bit 18: Save IA32_PAT.</summary>
    public const uint SavePat = 1U << 18;
    /// <summary>Bit 19: Load IA32_PAT.</summary>
    public const uint LoadPat = 1U << 19;
    /// <summary>Bit 20: Save IA32_EFER.</summary>
    public const uint SaveEfer = 1U << 20;
    /// <summary>Bit 21: Load IA32_EFER.</summary>
    public const uint LoadEfer = 1U << 21;
    /// <summary>Bit 22: Save VMX-preemption timer value.</summary>
    public const uint SavePreemptionTimer = 1U << 22;
    /// <summary>Bit 23: Clear IA32_BNDCFGS.</summary>
    public const uint ClearBndcfgs = 1U << 23;
    /// <summary>Bit 24: Conceal VMX from PT.</summary>
    public const uint ConcealVmxFromPt = 1U << 24;
    /// <summary>Bit 25: Clear IA32_RTIT_CTL.</summary>
    public const uint ClearRtitCtl = 1U << 25;
    /// <summary>Bit 26: Clear IA32_LBR_CTL.</summary>
    public const uint ClearLbrCtl = 1U << 26;
    /// <summary>Bit 27: Clear UINV.</summary>
    public const uint ClearUinv = 1U << 27;
    /// <summary>Bit 28: Load CET state.</summary>
    public const uint LoadCetState = 1U << 28;
    /// <summary>Bit 29: Load PKRS.</summary>
    public const uint LoadPkrs = 1U << 29;
    /// <summary>Bit 30: Save IA32_PERF_GLOBAL_CTRL.</summary>
    public const uint SavePerfGlobalCtrl = 1U << 30;
    /// <summary>Bit 31: Activate secondary controls.</summary>
    public const uint ActivateSecondaryControls = 1U << 31;
}

/// <summary>Bits of the entry controls (SDM "VM-Entry Controls").</summary>
public static class EntryControls
{
    /// <summary>Bit 2: Load debug controls.</summary>
    public const uint LoadDebugControls = 1U << 2;
    /// <summary>Bit 9: IA-32e mode guest.</summary>
    public const uint Ia32eModeGuest = 1U << 9;
    /// <summary>Bit 10: Entry to SMM.</summary>
    public const uint EntryToSmm = 1U << 10;
    /// <summary>Bit 11: Deactivate dual-monitor treatment.</summary>
    public const uint DeactivateDualMonitor = 1U << 11;
    /// <summary>Bit 13: Load IA32_PERF_GLOBAL_CTRL.</summary>
    public const uint LoadPerfGlobalCtrl = 1U << 13;
    /// <summary>Bit 14: Load IA32_PAT.</summary>
    public const uint LoadPat = 1U << 14;
    /// <summary>Bit 15: Load IA32_EFER.</summary>
    public const uint LoadEfer = 1U << 15;
    /// <summary>Bit 16: Load IA32_BNDCFGS.</summary>
    public const uint LoadBndcfgs = 1U << 16;
    /// <summary>Bit 17: Conceal VMX from PT.</summary>
    public const uint ConcealVmxFromPt = 1U << 17;
    /// <summary>Bit 18: Load IA32_RTIT_CTL.</summary>
    public const uint LoadRtitCtl = 1U << 18;
    /// <summary>Bit 19: Load UINV.</summary>
    public const uint LoadUinv = 1U << 19;
    /// <summary>Bit 20: Load CET state.</summary>
    public const uint LoadCetState = 1U << 20;
    /// <summary>Bit 21: Load guest IA32_LBR_CTL.</summary>
    public const uint LoadLbrCtl = 1U << 21;
    /// <summary>Bit 22: Load PKRS.</summary>
    public const uint LoadPkrs = 1U << 22;
}
