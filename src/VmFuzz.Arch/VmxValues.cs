namespace VmFuzz.Arch;

/// <summary>Result of a VMX instruction (SDM "Conventions" of the VMX instruction reference).</summary>
public readonly record struct VmxResult
{
    private readonly short _code;

    private VmxResult(short code) => _code = code;

    /// <summary>VMsucceed: CF, PF, AF, ZF, SF and OF are cleared.</summary>
    public static VmxResult Succeed => default;

    /// <summary>VMfailInvalid: CF is set. There is no current VMCS.</summary>
    public static VmxResult FailInvalid => new(-1);

    /// <summary>VMfailValid: ZF is set, the number goes to the VM-instruction error field.</summary>
    public static VmxResult FailValid(VmxInstructionError error) => new((short)error);

    /// <summary>Whether the instruction succeeded.</summary>
    public bool Succeeded => _code == 0;

    /// <summary>Whether it is VMfailInvalid.</summary>
    public bool IsFailInvalid => _code < 0;

    /// <summary>The error number of VMfailValid, otherwise None.</summary>
    public VmxInstructionError Error => _code > 0 ? (VmxInstructionError)_code : VmxInstructionError.None;

    /// <summary>The arithmetic flags as the instruction leaves them: a part of RFLAGS.</summary>
    public ulong Flags => _code == 0 ? 0 : _code < 0 ? RFlags.Cf : RFlags.Zf;

    /// <inheritdoc/>
    public override string ToString() => _code == 0 ? "succeed" : _code < 0 ? "fail invalid" : $"fail valid {_code} ({Error})";
}

/// <summary>Event types of the interruption-information fields (SDM "VM-Entry Controls for Event Injection").</summary>
public enum InterruptionType : byte
{
    /// <summary>External interrupt.</summary>
    ExternalInterrupt = 0,
    /// <summary>Reserved.</summary>
    Reserved = 1,
    /// <summary>Non-maskable interrupt.</summary>
    Nmi = 2,
    /// <summary>Hardware exception.</summary>
    HardwareException = 3,
    /// <summary>Software interrupt (INT n).</summary>
    SoftwareInterrupt = 4,
    /// <summary>Privileged software exception (INT1).</summary>
    PrivilegedSoftwareException = 5,
    /// <summary>Software exception (INT3, INTO).</summary>
    SoftwareException = 6,
    /// <summary>Other event.</summary>
    OtherEvent = 7,
}

/// <summary>
/// The layout that VM-entry interruption information, VM-exit interruption information and IDT-vectoring information
/// share.
/// </summary>
/// <param name="Value">The 32 bits of the field.</param>
public readonly record struct InterruptionInfo(uint Value)
{
    /// <summary>Bit 11: deliver an error code, or the error code is valid.</summary>
    public const uint ErrorCodeBit = 1U << 11;

    /// <summary>Bit 12 of VM-exit and IDT-vectoring information: NMI unblocking due to IRET.</summary>
    public const uint NmiUnblockingBit = 1U << 12;

    /// <summary>Bit 31: the field is valid.</summary>
    public const uint ValidBit = 1U << 31;

    /// <summary>Packs a valid field.</summary>
    public InterruptionInfo(InterruptionType type, byte vector, bool errorCodeValid = false)
        : this(ValidBit | (errorCodeValid ? ErrorCodeBit : 0) | ((uint)type << 8) | vector)
    {
    }

    /// <summary>Bits 7:0.</summary>
    public byte Vector => (byte)Value;

    /// <summary>Bits 10:8.</summary>
    public InterruptionType Type => (InterruptionType)((Value >> 8) & 7);

    /// <summary>Bit 11.</summary>
    public bool ErrorCodeValid => (Value & ErrorCodeBit) != 0;

    /// <summary>Bit 12.</summary>
    public bool NmiUnblocking => (Value & NmiUnblockingBit) != 0;

    /// <summary>Bit 31.</summary>
    public bool Valid => (Value & ValidBit) != 0;
}

/// <summary>Bits of the guest interruptibility state (SDM "Guest Non-Register State").</summary>
public static class InterruptibilityState
{
    /// <summary>Blocking by STI.</summary>
    public const uint BlockingBySti = 1U << 0;
    /// <summary>Blocking by MOV SS or POP SS.</summary>
    public const uint BlockingByMovSs = 1U << 1;
    /// <summary>Blocking by SMI.</summary>
    public const uint BlockingBySmi = 1U << 2;
    /// <summary>Blocking by NMI, or virtual-NMI blocking.</summary>
    public const uint BlockingByNmi = 1U << 3;
    /// <summary>Enclave interruption.</summary>
    public const uint EnclaveInterruption = 1U << 4;
    /// <summary>Every bit that exists.</summary>
    public const uint Defined = 0x1F;
}

/// <summary>Guest activity states (SDM "Guest Non-Register State").</summary>
public enum ActivityState : byte
{
    /// <summary>Executing.</summary>
    Active = 0,
    /// <summary>HLT.</summary>
    Hlt = 1,
    /// <summary>Shutdown.</summary>
    Shutdown = 2,
    /// <summary>Wait for SIPI.</summary>
    WaitForSipi = 3,
}

/// <summary>Bits of the pending debug exceptions (SDM "Guest Non-Register State").</summary>
public static class PendingDebugExceptions
{
    /// <summary>B0 to B3.</summary>
    public const ulong Breakpoints = 0xF;
    /// <summary>Bus-lock assertion, active high here.</summary>
    public const ulong BusLock = 1UL << 11;
    /// <summary>An enabled breakpoint was met.</summary>
    public const ulong EnabledBreakpoint = 1UL << 12;
    /// <summary>Single step.</summary>
    public const ulong Bs = 1UL << 14;
    /// <summary>RTM.</summary>
    public const ulong Rtm = 1UL << 16;
    /// <summary>Every bit that exists.</summary>
    public const ulong Defined = Breakpoints | BusLock | EnabledBreakpoint | Bs | Rtm;
}

/// <summary>VMX-abort indicators (SDM "VMX Aborts").</summary>
public enum VmxAbort : uint
{
    /// <summary>None.</summary>
    None = 0,
    /// <summary>Saving guest MSRs failed.</summary>
    SavingGuestMsrs = 1,
    /// <summary>Host checking of the page-directory-pointer-table entries failed.</summary>
    HostPdptes = 2,
    /// <summary>The current VMCS was corrupted.</summary>
    CorruptedVmcs = 3,
    /// <summary>Loading host MSRs failed.</summary>
    LoadingHostMsrs = 4,
    /// <summary>Machine-check event during VM exit.</summary>
    MachineCheck = 5,
    /// <summary>Exit from 64-bit mode into a host that is not 64-bit, or the other way round.</summary>
    AddressSpaceSize = 6,
}
