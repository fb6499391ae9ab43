namespace VmFuzz.Arch;

/// <summary>
/// VMCS fields by their full encoding (SDM "Field Encoding in VMCS"). The high half of a 64-bit field is its encoding
/// plus one and has no name here.
/// </summary>
public enum VmcsField : uint
{
    /// <summary>Virtual-processor identifier (VPID). 16 bits.</summary>
    VirtualProcessorIdentifier = 0x0000,
    /// <summary>Posted-interrupt notification vector. 16 bits.</summary>
    PostedInterruptNotificationVector = 0x0002,
    /// <summary>EPTP index. 16 bits.</summary>
    EptpIndex = 0x0004,
    /// <summary>HLAT prefix size. 16 bits.</summary>
    HlatPrefixSize = 0x0006,
    /// <summary>Last PID-pointer index. 16 bits.</summary>
    LastPidPointerIndex = 0x0008,
    /// <summary>Guest ES selector. 16 bits.</summary>
    GuestEsSelector = 0x0800,
    /// <summary>Guest CS selector. 16 bits.</summary>
    GuestCsSelector = 0x0802,
    /// <summary>Guest SS selector. 16 bits.</summary>
    GuestSsSelector = 0x0804,
    /// <summary>Guest DS selector. 16 bits.</summary>
    GuestDsSelector = 0x0806,
    /// <summary>Guest FS selector. 16 bits.</summary>
    GuestFsSelector = 0x0808,
    /// <summary>Guest GS selector. 16 bits.</summary>
    GuestGsSelector = 0x080A,
    /// <summary>Guest LDTR selector. 16 bits.</summary>
    GuestLdtrSelector = 0x080C,
    /// <summary>Guest TR selector. 16 bits.</summary>
    GuestTrSelector = 0x080E,
    /// <summary>Guest interrupt status. 16 bits.</summary>
    GuestInterruptStatus = 0x0810,
    /// <summary>PML index. 16 bits.</summary>
    PmlIndex = 0x0812,
    /// <summary>Guest UINV. 16 bits.</summary>
    GuestUinv = 0x0814,
    /// <summary>Host ES selector. 16 bits.</summary>
    HostEsSelector = 0x0C00,
    /// <summary>Host CS selector. 16 bits.</summary>
    HostCsSelector = 0x0C02,
    /// <summary>Host SS selector. 16 bits.</summary>
    HostSsSelector = 0x0C04,
    /// <summary>Host DS selector. 16 bits.</summary>
    HostDsSelector = 0x0C06,
    /// <summary>Host FS selector. 16 bits.</summary>
    HostFsSelector = 0x0C08,
    /// <summary>Host GS selector. 16 bits.</summary>
    HostGsSelector = 0x0C0A,
    /// <summary>Host TR selector. 16 bits.</summary>
    HostTrSelector = 0x0C0C,
    /// <summary>Address of I/O bitmap A. 64 bits.</summary>
    IoBitmapA = 0x2000,
    /// <summary>Address of I/O bitmap B. 64 bits.</summary>
    IoBitmapB = 0x2002,
    /// <summary>Address of MSR bitmaps. 64 bits.</summary>
    MsrBitmaps = 0x2004,
    /// <summary>VM-exit MSR-store address. 64 bits.</summary>
    ExitMsrStoreAddress = 0x2006,
    /// <summary>VM-exit MSR-load address. 64 bits.</summary>
    ExitMsrLoadAddress = 0x2008,
    /// <summary>VM-entry MSR-load address. 64 bits.</summary>
    EntryMsrLoadAddress = 0x200A,
    /// <summary>Executive-VMCS pointer. 64 bits.</summary>
    ExecutiveVmcsPointer = 0x200C,
    /// <summary>PML address. 64 bits.</summary>
    PmlAddress = 0x200E,
    /// <summary>TSC offset. 64 bits.</summary>
    TscOffset = 0x2010,
    /// <summary>Virtual-APIC address. 64 bits.</summary>
    VirtualApicAddress = 0x2012,
    /// <summary>APIC-access address. 64 bits.</summary>
    ApicAccessAddress = 0x2014,
    /// <summary>Posted-interrupt descriptor address. 64 bits.</summary>
    PostedInterruptDescriptorAddress = 0x2016,
    /// <summary>VM-function controls. 64 bits.</summary>
    VmFunctionControls = 0x2018,
    /// <summary>EPT pointer. 64 bits.</summary>
    EptPointer = 0x201A,
    /// <summary>EOI-exit bitmap 0. 64 bits.</summary>
    EoiExitBitmap0 = 0x201C,
    /// <summary>EOI-exit bitmap 1. 64 bits.</summary>
    EoiExitBitmap1 = 0x201E,
    /// <summary>EOI-exit bitmap 2. 64 bits.</summary>
    EoiExitBitmap2 = 0x2020,
    /// <summary>EOI-exit bitmap 3. 64 bits.</summary>
    EoiExitBitmap3 = 0x2022,
    /// <summary>EPTP-list address. 64 bits.</summary>
    EptpListAddress = 0x2024,
    /// <summary>VMREAD-bitmap address. 64 bits.</summary>
    VmreadBitmap = 0x2026,
    /// <summary>VMWRITE-bitmap address. 64 bits.</summary>
    VmwriteBitmap = 0x2028,
    /// <summary>Virtualization-exception information address. 64 bits.</summary>
    VirtualizationExceptionInfoAddress = 0x202A,
    /// <summary>XSS-exiting bitmap. 64 bits.</summary>
    XssExitingBitmap = 0x202C,
    /// <summary>ENCLS-exiting bitmap. 64 bits.</summary>
    EnclsExitingBitmap = 0x202E,
    /// <summary>Sub-page-permission-table pointer. 64 bits.</summary>
    SubPagePermissionTablePointer = 0x2030,
    /// <summary>TSC multiplier. 64 bits.</summary>
    TscMultiplier = 0x2032,
    /// <summary>Tertiary processor-based VM-execution controls. 64 bits.</summary>
    TertiaryControls = 0x2034,
    /// <summary>ENCLV-exiting bitmap. 64 bits.</summary>
    EnclvExitingBitmap = 0x2036,
    /// <summary>Low PASID directory address. 64 bits.</summary>
    LowPasidDirectoryAddress = 0x2038,
    /// <summary>High PASID directory address. 64 bits.</summary>
    HighPasidDirectoryAddress = 0x203A,
    /// <summary>Shared EPT pointer. 64 bits.</summary>
    SharedEptPointer = 0x203C,
    /// <summary>PCONFIG-exiting bitmap. 64 bits.</summary>
    PconfigExitingBitmap = 0x203E,
    /// <summary>Hypervisor-managed linear-address translation pointer. 64 bits.</summary>
    HlatPointer = 0x2040,
    /// <summary>PID-pointer table address. 64 bits.</summary>
    PidPointerTableAddress = 0x2042,
    /// <summary>Secondary VM-exit controls. 64 bits.</summary>
    SecondaryExitControls = 0x2044,
    /// <summary>IA32_SPEC_CTRL mask. 64 bits.</summary>
    SpecCtrlMask = 0x204A,
    /// <summary>IA32_SPEC_CTRL shadow. 64 bits.</summary>
    SpecCtrlShadow = 0x204C,
    /// <summary>Guest-physical address. 64 bits.</summary>
    GuestPhysicalAddress = 0x2400,
    /// <summary>VMCS link pointer. 64 bits.</summary>
    VmcsLinkPointer = 0x2800,
    /// <summary>Guest IA32_DEBUGCTL. 64 bits.</summary>
    GuestDebugCtl = 0x2802,
    /// <summary>Guest IA32_PAT. 64 bits.</summary>
    GuestPat = 0x2804,
    /// <summary>Guest IA32_EFER. 64 bits.</summary>
    GuestEfer = 0x2806,
    /// <summary>Guest IA32_PERF_GLOBAL_CTRL. 64 bits.</summary>
    GuestPerfGlobalCtrl = 0x2808,
    /// <summary>Guest PDPTE0. 64 bits.</summary>
    GuestPdpte0 = 0x280A,
    /// <summary>Guest PDPTE1. 64 bits.</summary>
    GuestPdpte1 = 0x280C,
    /// <summary>Guest PDPTE2. 64 bits.</summary>
    GuestPdpte2 = 0x280E,
    /// <summary>Guest PDPTE3. 64 bits.</summary>
    GuestPdpte3 = 0x2810,
    /// <summary>Guest IA32_BNDCFGS. 64 bits.</summary>
    GuestBndcfgs = 0x2812,
    /// <summary>Guest IA32_RTIT_CTL. 64 bits.</summary>
    GuestRtitCtl = 0x2814,
    /// <summary>Guest IA32_LBR_CTL. 64 bits.</summary>
    GuestLbrCtl = 0x2816,
    /// <summary>Guest IA32_PKRS. 64 bits.</summary>
    GuestPkrs = 0x2818,
    /// <summary>Host IA32_PAT. 64 bits.</summary>
    HostPat = 0x2C00,
    /// <summary>Host IA32_EFER. 64 bits.</summary>
    HostEfer = 0x2C02,
    /// <summary>Host IA32_PERF_GLOBAL_CTRL. 64 bits.</summary>
    HostPerfGlobalCtrl = 0x2C04,
    /// <summary>Host IA32_PKRS. 64 bits.</summary>
    HostPkrs = 0x2C06,
    /// <summary>Pin-based VM-execution controls. 32 bits.</summary>
    PinBasedControls = 0x4000,
    /// <summary>Primary processor-based VM-execution controls. 32 bits.</summary>
    PrimaryControls = 0x4002,
    /// <summary>Exception bitmap. 32 bits.</summary>
    ExceptionBitmap = 0x4004,
    /// <summary>Page-fault error-code mask. 32 bits.</summary>
    PageFaultErrorCodeMask = 0x4006,
    /// <summary>Page-fault error-code match. 32 bits.</summary>
    PageFaultErrorCodeMatch = 0x4008,
    /// <summary>CR3-target count. 32 bits.</summary>
    Cr3TargetCount = 0x400A,
    /// <summary>Primary VM-exit controls. 32 bits.</summary>
    ExitControls = 0x400C,
    /// <summary>VM-exit MSR-store count. 32 bits.</summary>
    ExitMsrStoreCount = 0x400E,
    /// <summary>VM-exit MSR-load count. 32 bits.</summary>
    ExitMsrLoadCount = 0x4010,
    /// <summary>VM-entry controls. 32 bits.</summary>
    EntryControls = 0x4012,
    /// <summary>VM-entry MSR-load count. 32 bits.</summary>
    EntryMsrLoadCount = 0x4014,
    /// <summary>VM-entry interruption-information field. 32 bits.</summary>
    EntryInterruptionInfo = 0x4016,
    /// <summary>VM-entry exception error code. 32 bits.</summary>
    EntryExceptionErrorCode = 0x4018,
    /// <summary>VM-entry instruction length. 32 bits.</summary>
    EntryInstructionLength = 0x401A,
    /// <summary>TPR threshold. 32 bits.</summary>
    TprThreshold = 0x401C,
    /// <summary>Secondary processor-based VM-execution controls. 32 bits.</summary>
    SecondaryControls = 0x401E,
    /// <summary>PLE_Gap. 32 bits.</summary>
    PleGap = 0x4020,
    /// <summary>PLE_Window. 32 bits.</summary>
    PleWindow = 0x4022,
    /// <summary>Instruction-timeout control. 32 bits.</summary>
    InstructionTimeoutControl = 0x4024,
    /// <summary>VM-instruction error. 32 bits.</summary>
    VmInstructionError = 0x4400,
    /// <summary>Exit reason. 32 bits.</summary>
    ExitReason = 0x4402,
    /// <summary>VM-exit interruption information. 32 bits.</summary>
    ExitInterruptionInfo = 0x4404,
    /// <summary>VM-exit interruption error code. 32 bits.</summary>
    ExitInterruptionErrorCode = 0x4406,
    /// <summary>IDT-vectoring information field. 32 bits.</summary>
    IdtVectoringInfo = 0x4408,
    /// <summary>IDT-vectoring error code. 32 bits.</summary>
    IdtVectoringErrorCode = 0x440A,
    /// <summary>VM-exit instruction length. 32 bits.</summary>
    ExitInstructionLength = 0x440C,
    /// <summary>VM-exit instruction information. 32 bits.</summary>
    ExitInstructionInfo = 0x440E,
    /// <summary>Guest ES limit. 32 bits.</summary>
    GuestEsLimit = 0x4800,
    /// <summary>Guest CS limit. 32 bits.</summary>
    GuestCsLimit = 0x4802,
    /// <summary>Guest SS limit. 32 bits.</summary>
    GuestSsLimit = 0x4804,
    /// <summary>Guest DS limit. 32 bits.</summary>
    GuestDsLimit = 0x4806,
    /// <summary>Guest FS limit. 32 bits.</summary>
    GuestFsLimit = 0x4808,
    /// <summary>Guest GS limit. 32 bits.</summary>
    GuestGsLimit = 0x480A,
    /// <summary>Guest LDTR limit. 32 bits.</summary>
    GuestLdtrLimit = 0x480C,
    /// <summary>Guest TR limit. 32 bits.</summary>
    GuestTrLimit = 0x480E,
    /// <summary>Guest GDTR limit. 32 bits.</summary>
    GuestGdtrLimit = 0x4810,
    /// <summary>Guest IDTR limit. 32 bits.</summary>
    GuestIdtrLimit = 0x4812,
    /// <summary>Guest ES access rights. 32 bits.</summary>
    GuestEsAccessRights = 0x4814,
    /// <summary>Guest CS access rights. 32 bits.</summary>
    GuestCsAccessRights = 0x4816,
    /// <summary>Guest SS access rights. 32 bits.</summary>
    GuestSsAccessRights = 0x4818,
    /// <summary>Guest DS access rights. 32 bits.</summary>
    GuestDsAccessRights = 0x481A,
    /// <summary>Guest FS access rights. 32 bits.</summary>
    GuestFsAccessRights = 0x481C,
    /// <summary>Guest GS access rights. 32 bits.</summary>
    GuestGsAccessRights = 0x481E,
    /// <summary>Guest LDTR access rights. 32 bits.</summary>
    GuestLdtrAccessRights = 0x4820,
    /// <summary>Guest TR access rights. 32 bits.</summary>
    GuestTrAccessRights = 0x4822,
    /// <summary>Guest interruptibility state. 32 bits.</summary>
    GuestInterruptibility = 0x4824,
    /// <summary>Guest activity state. 32 bits.</summary>
    GuestActivity = 0x4826,
    /// <summary>Guest SMBASE. 32 bits.</summary>
    GuestSmbase = 0x4828,
    /// <summary>Guest IA32_SYSENTER_CS. 32 bits.</summary>
    GuestSysenterCs = 0x482A,
    /// <summary>VMX-preemption timer value. 32 bits.</summary>
    PreemptionTimerValue = 0x482E,
    /// <summary>Host IA32_SYSENTER_CS. 32 bits.</summary>
    HostSysenterCs = 0x4C00,
    /// <summary>CR0 guest/host mask. natural width.</summary>
    Cr0GuestHostMask = 0x6000,
    /// <summary>CR4 guest/host mask. natural width.</summary>
    Cr4GuestHostMask = 0x6002,
    /// <summary>CR0 read shadow. natural width.</summary>
    Cr0ReadShadow = 0x6004,
    /// <summary>CR4 read shadow. natural width.</summary>
    Cr4ReadShadow = 0x6006,
    /// <summary>CR3-target value 0. natural width.</summary>
    Cr3TargetValue0 = 0x6008,
    /// <summary>CR3-target value 1. natural width.</summary>
    Cr3TargetValue1 = 0x600A,
    /// <summary>CR3-target value 2. natural width.</summary>
    Cr3TargetValue2 = 0x600C,
    /// <summary>CR3-target value 3. natural width.</summary>
    Cr3TargetValue3 = 0x600E,
    /// <summary>Exit qualification. natural width.</summary>
    ExitQualification = 0x6400,
    /// <summary>I/O RCX. natural width.</summary>
    IoRcx = 0x6402,
    /// <summary>I/O RSI. natural width.</summary>
    IoRsi = 0x6404,
    /// <summary>I/O RDI. natural width.</summary>
    IoRdi = 0x6406,
    /// <summary>I/O RIP. natural width.</summary>
    IoRip = 0x6408,
    /// <summary>Guest-linear address. natural width.</summary>
    GuestLinearAddress = 0x640A,
    /// <summary>Guest CR0. natural width.</summary>
    GuestCr0 = 0x6800,
    /// <summary>Guest CR3. natural width.</summary>
    GuestCr3 = 0x6802,
    /// <summary>Guest CR4. natural width.</summary>
    GuestCr4 = 0x6804,
    /// <summary>Guest ES base. natural width.</summary>
    GuestEsBase = 0x6806,
    /// <summary>Guest CS base. natural width.</summary>
    GuestCsBase = 0x6808,
    /// <summary>Guest SS base. natural width.</summary>
    GuestSsBase = 0x680A,
    /// <summary>Guest DS base. natural width.</summary>
    GuestDsBase = 0x680C,
    /// <summary>Guest FS base. natural width.</summary>
    GuestFsBase = 0x680E,
    /// <summary>Guest GS base. natural width.</summary>
    GuestGsBase = 0x6810,
    /// <summary>Guest LDTR base. natural width.</summary>
    GuestLdtrBase = 0x6812,
    /// <summary>Guest TR base. natural width.</summary>
    GuestTrBase = 0x6814,
    /// <summary>Guest GDTR base. natural width.</summary>
    GuestGdtrBase = 0x6816,
    /// <summary>Guest IDTR base. natural width.</summary>
    GuestIdtrBase = 0x6818,
    /// <summary>Guest DR7. natural width.</summary>
    GuestDr7 = 0x681A,
    /// <summary>Guest RSP. natural width.</summary>
    GuestRsp = 0x681C,
    /// <summary>Guest RIP. natural width.</summary>
    GuestRip = 0x681E,
    /// <summary>Guest RFLAGS. natural width.</summary>
    GuestRflags = 0x6820,
    /// <summary>Guest pending debug exceptions. natural width.</summary>
    GuestPendingDebug = 0x6822,
    /// <summary>Guest IA32_SYSENTER_ESP. natural width.</summary>
    GuestSysenterEsp = 0x6824,
    /// <summary>Guest IA32_SYSENTER_EIP. natural width.</summary>
    GuestSysenterEip = 0x6826,
    /// <summary>Guest IA32_S_CET. natural width.</summary>
    GuestSCet = 0x6828,
    /// <summary>Guest SSP. natural width.</summary>
    GuestSsp = 0x682A,
    /// <summary>Guest IA32_INTERRUPT_SSP_TABLE_ADDR. natural width.</summary>
    GuestInterruptSspTableAddress = 0x682C,
    /// <summary>Host CR0. natural width.</summary>
    HostCr0 = 0x6C00,
    /// <summary>Host CR3. natural width.</summary>
    HostCr3 = 0x6C02,
    /// <summary>Host CR4. natural width.</summary>
    HostCr4 = 0x6C04,
    /// <summary>Host FS base. natural width.</summary>
    HostFsBase = 0x6C06,
    /// <summary>Host GS base. natural width.</summary>
    HostGsBase = 0x6C08,
    /// <summary>Host TR base. natural width.</summary>
    HostTrBase = 0x6C0A,
    /// <summary>Host GDTR base. natural width.</summary>
    HostGdtrBase = 0x6C0C,
    /// <summary>Host IDTR base. natural width.</summary>
    HostIdtrBase = 0x6C0E,
    /// <summary>Host IA32_SYSENTER_ESP. natural width.</summary>
    HostSysenterEsp = 0x6C10,
    /// <summary>Host IA32_SYSENTER_EIP. natural width.</summary>
    HostSysenterEip = 0x6C12,
    /// <summary>Host RSP. natural width.</summary>
    HostRsp = 0x6C14,
    /// <summary>Host RIP. natural width.</summary>
    HostRip = 0x6C16,
    /// <summary>Host IA32_S_CET. natural width.</summary>
    HostSCet = 0x6C18,
    /// <summary>Host SSP. natural width.</summary>
    HostSsp = 0x6C1A,
    /// <summary>Host IA32_INTERRUPT_SSP_TABLE_ADDR. natural width.</summary>
    HostInterruptSspTableAddress = 0x6C1C,
}
