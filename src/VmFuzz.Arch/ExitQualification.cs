namespace VmFuzz.Arch;

/// <summary>Access types of a control-register exit.</summary>
public enum ControlRegisterAccessType : byte
{
    /// <summary>MOV to CR.</summary>
    MovToCr = 0,
    /// <summary>MOV from CR.</summary>
    MovFromCr = 1,
    /// <summary>CLTS.</summary>
    Clts = 2,
    /// <summary>LMSW.</summary>
    Lmsw = 3,
}

/// <summary>Sources of a task switch.</summary>
public enum TaskSwitchSource : byte
{
    /// <summary>CALL.</summary>
    Call = 0,
    /// <summary>IRET.</summary>
    Iret = 1,
    /// <summary>JMP.</summary>
    Jmp = 2,
    /// <summary>Task gate in the IDT.</summary>
    TaskGate = 3,
}

/// <summary>Packing and unpacking of exit qualifications (SDM "Basic VM-Exit Information").</summary>
public static class ExitQualification
{
    /// <summary>Qualifications of VM-entry failures: PDPTE loading.</summary>
    public const ulong EntryFailurePdpte = 2;

    /// <summary>Qualifications of VM-entry failures: injection of an NMI while events are blocked by STI.</summary>
    public const ulong EntryFailureNmiInjection = 3;

    /// <summary>Qualifications of VM-entry failures: invalid VMCS link pointer.</summary>
    public const ulong EntryFailureLinkPointer = 4;
}

/// <summary>Exit qualification of control-register accesses.</summary>
/// <param name="Value">The 64 bits.</param>
public readonly record struct ControlRegisterQualification(ulong Value)
{
    /// <summary>MOV to or from a control register.</summary>
    public static ControlRegisterQualification Mov(int register, Gpr gpr, bool toCr) =>
        new((uint)register | (toCr ? 0U : 1U << 4) | ((uint)gpr << 8));

    /// <summary>CLTS.</summary>
    public static ControlRegisterQualification Clts() => new(2U << 4);

    /// <summary>LMSW.</summary>
    public static ControlRegisterQualification Lmsw(ushort source, bool memory) =>
        new((3U << 4) | (memory ? 1U << 6 : 0) | ((ulong)source << 16));

    /// <summary>Bits 3:0, the control register (0 for CLTS and LMSW).</summary>
    public int Register => (int)(Value & 0xF);

    /// <summary>Bits 5:4.</summary>
    public ControlRegisterAccessType AccessType => (ControlRegisterAccessType)((Value >> 4) & 3);

    /// <summary>Bit 6: LMSW with a memory operand.</summary>
    public bool LmswMemory => (Value & (1U << 6)) != 0;

    /// <summary>Bits 11:8.</summary>
    public Gpr Gpr => (Gpr)((Value >> 8) & 0xF);

    /// <summary>Bits 31:16, the source of LMSW.</summary>
    public ushort LmswSource => (ushort)(Value >> 16);
}

/// <summary>Exit qualification of MOV DR.</summary>
/// <param name="Value">The 64 bits.</param>
public readonly record struct DebugRegisterQualification(ulong Value)
{
    /// <summary>Packs.</summary>
    public DebugRegisterQualification(int register, bool fromDr, Gpr gpr)
        : this((uint)register | (fromDr ? 1U << 4 : 0) | ((uint)gpr << 8))
    {
    }

    /// <summary>Bits 2:0.</summary>
    public int Register => (int)(Value & 7);

    /// <summary>Bit 4: MOV from DR.</summary>
    public bool FromDr => (Value & 0x10) != 0;

    /// <summary>Bits 11:8.</summary>
    public Gpr Gpr => (Gpr)((Value >> 8) & 0xF);
}

/// <summary>Exit qualification of I/O instructions.</summary>
/// <param name="Value">The 64 bits.</param>
public readonly record struct IoQualification(ulong Value)
{
    /// <summary>Packs.</summary>
    public IoQualification(ushort port, int size, bool isIn, bool isString = false, bool isRep = false, bool isImmediate = false)
        : this((uint)(size - 1) | (isIn ? 1U << 3 : 0) | (isString ? 1U << 4 : 0) | (isRep ? 1U << 5 : 0)
            | (isImmediate ? 1U << 6 : 0) | ((ulong)port << 16))
    {
    }

    /// <summary>1, 2 or 4 bytes.</summary>
    public int Size => (int)(Value & 7) + 1;

    /// <summary>Bit 3.</summary>
    public bool IsIn => (Value & (1U << 3)) != 0;

    /// <summary>Bit 4.</summary>
    public bool IsString => (Value & (1U << 4)) != 0;

    /// <summary>Bit 5.</summary>
    public bool IsRep => (Value & (1U << 5)) != 0;

    /// <summary>Bit 6: the port is an immediate operand.</summary>
    public bool IsImmediate => (Value & (1U << 6)) != 0;

    /// <summary>Bits 31:16.</summary>
    public ushort Port => (ushort)(Value >> 16);
}

/// <summary>Exit qualification of task switches.</summary>
/// <param name="Value">The 64 bits.</param>
public readonly record struct TaskSwitchQualification(ulong Value)
{
    /// <summary>Packs.</summary>
    public TaskSwitchQualification(ushort selector, TaskSwitchSource source)
        : this(selector | ((ulong)source << 30))
    {
    }

    /// <summary>Bits 15:0.</summary>
    public ushort Selector => (ushort)Value;

    /// <summary>Bits 31:30.</summary>
    public TaskSwitchSource Source => (TaskSwitchSource)((Value >> 30) & 3);
}

/// <summary>Exit qualification of EPT violations.</summary>
/// <param name="Value">The 64 bits.</param>
public readonly record struct EptViolationQualification(ulong Value)
{
    /// <summary>Bit 0: the access was a data read.</summary>
    public const ulong ReadBit = 1 << 0;
    /// <summary>Bit 1: the access was a data write.</summary>
    public const ulong WriteBit = 1 << 1;
    /// <summary>Bit 2: the access was an instruction fetch.</summary>
    public const ulong FetchBit = 1 << 2;
    /// <summary>Bit 3: the address was readable.</summary>
    public const ulong ReadableBit = 1 << 3;
    /// <summary>Bit 4: the address was writable.</summary>
    public const ulong WritableBit = 1 << 4;
    /// <summary>Bit 5: the address was executable (for supervisor-mode linear addresses with mode-based control).</summary>
    public const ulong ExecutableBit = 1 << 5;
    /// <summary>Bit 6: the address was executable for user-mode linear addresses.</summary>
    public const ulong UserExecutableBit = 1 << 6;
    /// <summary>Bit 7: the guest-linear address is valid.</summary>
    public const ulong LinearAddressValidBit = 1 << 7;
    /// <summary>Bit 8: the access was to the translation of a linear address, not to a paging-structure entry.</summary>
    public const ulong FinalTranslationBit = 1 << 8;
    /// <summary>Bit 9: the linear address is a user-mode one (advanced information).</summary>
    public const ulong UserLinearAddressBit = 1 << 9;
    /// <summary>Bit 10: the linear address is read/write (advanced information).</summary>
    public const ulong WritableLinearAddressBit = 1 << 10;
    /// <summary>Bit 11: the linear address is execute-disabled (advanced information).</summary>
    public const ulong ExecuteDisableLinearAddressBit = 1 << 11;
    /// <summary>Bit 12: NMI unblocking due to IRET.</summary>
    public const ulong NmiUnblockingBit = 1 << 12;

    /// <summary>Data read.</summary>
    public bool Read => (Value & ReadBit) != 0;

    /// <summary>Data write.</summary>
    public bool Write => (Value & WriteBit) != 0;

    /// <summary>Instruction fetch.</summary>
    public bool Fetch => (Value & FetchBit) != 0;

    /// <summary>Bits 5:3 together: whether the address had any right (it was present).</summary>
    public bool Present => (Value & (ReadableBit | WritableBit | ExecutableBit)) != 0;

    /// <summary>Bit 7.</summary>
    public bool LinearAddressValid => (Value & LinearAddressValidBit) != 0;

    /// <summary>Bit 8.</summary>
    public bool FinalTranslation => (Value & FinalTranslationBit) != 0;
}
