namespace VmFuzz.Arch;

/// <summary>
/// Section titles of the Intel Software Developer's Manual. Titles, not numbers: numbers change between editions.
/// </summary>
public static class Sdm
{
    /// <summary>Volume 3, VM entries.</summary>
    public const string VmExecutionControlFields = "Checks on VM-Execution Control Fields";
    /// <summary>Volume 3, VM entries.</summary>
    public const string VmExitControlFields = "Checks on VM-Exit Control Fields";
    /// <summary>Volume 3, VM entries.</summary>
    public const string VmEntryControlFields = "Checks on VM-Entry Control Fields";
    /// <summary>Volume 3, VM entries.</summary>
    public const string HostControlRegisters = "Checks on Host Control Registers, MSRs, and SSP";
    /// <summary>Volume 3, VM entries.</summary>
    public const string HostSegments = "Checks on Host Segment and Descriptor-Table Registers";
    /// <summary>Volume 3, VM entries.</summary>
    public const string AddressSpaceSize = "Checks Related to Address-Space Size";
    /// <summary>Volume 3, VM entries.</summary>
    public const string GuestControlRegisters = "Checks on Guest Control Registers, Debug Registers, and MSRs";
    /// <summary>Volume 3, VM entries.</summary>
    public const string GuestSegments = "Checks on Guest Segment Registers";
    /// <summary>Volume 3, VM entries.</summary>
    public const string GuestDescriptorTables = "Checks on Guest Descriptor-Table Registers";
    /// <summary>Volume 3, VM entries.</summary>
    public const string GuestRipAndRflags = "Checks on Guest RIP, RFLAGS, and SSP";
    /// <summary>Volume 3, VM entries.</summary>
    public const string GuestNonRegisterState = "Checks on Guest Non-Register State";
    /// <summary>Volume 3, VM entries.</summary>
    public const string GuestPdptes = "Checks on Guest Page-Directory-Pointer-Table Entries";
    /// <summary>Volume 3, VM entries.</summary>
    public const string LoadingMsrs = "Loading MSRs";
    /// <summary>Volume 3, VMCS: guest state, non-register.</summary>
    public const string EventInjectionControls = "VM-Entry Controls for Event Injection";
}
