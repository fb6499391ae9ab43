namespace VmFuzz.Arch;

/// <summary>Model-specific register numbers (SDM volume 4, "Architectural MSRs").</summary>
public static class Msr
{
    /// <summary>IA32_TIME_STAMP_COUNTER.</summary>
    public const uint Tsc = 0x10;
    /// <summary>IA32_PLATFORM_ID.</summary>
    public const uint PlatformId = 0x17;
    /// <summary>IA32_APIC_BASE.</summary>
    public const uint ApicBase = 0x1B;
    /// <summary>IA32_FEATURE_CONTROL.</summary>
    public const uint FeatureControl = 0x3A;
    /// <summary>IA32_TSC_ADJUST.</summary>
    public const uint TscAdjust = 0x3B;
    /// <summary>IA32_SPEC_CTRL.</summary>
    public const uint SpecCtrl = 0x48;
    /// <summary>IA32_BIOS_UPDT_TRIG.</summary>
    public const uint BiosUpdateTrigger = 0x79;
    /// <summary>IA32_BIOS_SIGN_ID.</summary>
    public const uint BiosSignId = 0x8B;
    /// <summary>IA32_MTRRCAP.</summary>
    public const uint MtrrCap = 0xFE;
    /// <summary>IA32_SYSENTER_CS.</summary>
    public const uint SysenterCs = 0x174;
    /// <summary>IA32_SYSENTER_ESP.</summary>
    public const uint SysenterEsp = 0x175;
    /// <summary>IA32_SYSENTER_EIP.</summary>
    public const uint SysenterEip = 0x176;
    /// <summary>IA32_MCG_CAP.</summary>
    public const uint McgCap = 0x179;
    /// <summary>IA32_MCG_STATUS.</summary>
    public const uint McgStatus = 0x17A;
    /// <summary>IA32_MISC_ENABLE.</summary>
    public const uint MiscEnable = 0x1A0;
    /// <summary>IA32_DEBUGCTL.</summary>
    public const uint DebugCtl = 0x1D9;
    /// <summary>IA32_MTRR_PHYSBASE0; pairs of base and mask follow up to 0x20F.</summary>
    public const uint MtrrPhysBase0 = 0x200;
    /// <summary>IA32_MTRR_FIX64K_00000.</summary>
    public const uint MtrrFix64K = 0x250;
    /// <summary>IA32_MTRR_FIX16K_80000.</summary>
    public const uint MtrrFix16K80000 = 0x258;
    /// <summary>IA32_MTRR_FIX16K_A0000.</summary>
    public const uint MtrrFix16KA0000 = 0x259;
    /// <summary>IA32_MTRR_FIX4K_C0000; eight registers up to 0x26F.</summary>
    public const uint MtrrFix4KC0000 = 0x268;
    /// <summary>IA32_PAT.</summary>
    public const uint Pat = 0x277;
    /// <summary>IA32_MTRR_DEF_TYPE.</summary>
    public const uint MtrrDefType = 0x2FF;
    /// <summary>IA32_PERF_GLOBAL_CTRL.</summary>
    public const uint PerfGlobalCtrl = 0x38F;
    /// <summary>IA32_VMX_BASIC; the capability registers run up to 0x493.</summary>
    public const uint VmxBasic = 0x480;
    /// <summary>IA32_PKRS.</summary>
    public const uint Pkrs = 0x6E1;
    /// <summary>IA32_TSC_DEADLINE.</summary>
    public const uint TscDeadline = 0x6E0;
    /// <summary>IA32_XSS.</summary>
    public const uint Xss = 0xDA0;
    /// <summary>IA32_EFER.</summary>
    public const uint Efer = 0xC000_0080;
    /// <summary>IA32_STAR.</summary>
    public const uint Star = 0xC000_0081;
    /// <summary>IA32_LSTAR.</summary>
    public const uint Lstar = 0xC000_0082;
    /// <summary>IA32_CSTAR.</summary>
    public const uint Cstar = 0xC000_0083;
    /// <summary>IA32_FMASK.</summary>
    public const uint Fmask = 0xC000_0084;
    /// <summary>IA32_FS_BASE.</summary>
    public const uint FsBase = 0xC000_0100;
    /// <summary>IA32_GS_BASE.</summary>
    public const uint GsBase = 0xC000_0101;
    /// <summary>IA32_KERNEL_GS_BASE.</summary>
    public const uint KernelGsBase = 0xC000_0102;
    /// <summary>IA32_TSC_AUX.</summary>
    public const uint TscAux = 0xC000_0103;
}
