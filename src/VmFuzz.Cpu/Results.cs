using VmFuzz.Arch;

namespace VmFuzz.Cpu;

/// <summary>How an instruction ended. A value, never an exception.</summary>
public enum ExecResult : byte
{
    /// <summary>Completed; RIP moves to the next instruction.</summary>
    Next,

    /// <summary>Completed; the handler has set RIP.</summary>
    Jump,

    /// <summary>One REP iteration completed and retired; RIP stays, the instruction goes on at the next boundary.</summary>
    Repeat,

    /// <summary>Completed like Next, and state that blocks depend on (mode, segments, events) may have changed.</summary>
    NextAndLook,

    /// <summary>The state says why it did not complete (<see cref="CpuState.Stop"/>: Fault, Exit, Shutdown, Unimplemented); nothing has changed.</summary>
    Abort,

    /// <summary>HLT completed: RIP moves on and the processor halts.</summary>
    Halt,
}

/// <summary>A fault that an instruction or a memory access raises.</summary>
/// <param name="Vector">Exception vector, see <see cref="Arch.Vector"/>.</param>
/// <param name="ErrorCode">Error code, for vectors that have one.</param>
/// <param name="Address">Linear address for #PF (goes to CR2).</param>
public readonly record struct GuestFault(byte Vector, uint ErrorCode = 0, ulong Address = 0)
{
    /// <summary>#UD.</summary>
    public static GuestFault Ud => new(Arch.Vector.Ud);

    /// <summary>#NM.</summary>
    public static GuestFault Nm => new(Arch.Vector.Nm);

    /// <summary>#DE.</summary>
    public static GuestFault De => new(Arch.Vector.De);

    /// <summary>#GP with an error code.</summary>
    public static GuestFault Gp(uint errorCode = 0) => new(Arch.Vector.Gp, errorCode);

    /// <summary>#SS with an error code.</summary>
    public static GuestFault Ss(uint errorCode = 0) => new(Arch.Vector.Ss, errorCode);

    /// <summary>#NP with an error code.</summary>
    public static GuestFault Np(uint errorCode) => new(Arch.Vector.Np, errorCode);

    /// <summary>#TS with an error code.</summary>
    public static GuestFault Ts(uint errorCode) => new(Arch.Vector.Ts, errorCode);
}

/// <summary>Event types in the layout of the interruption-information fields (SDM "VM-Entry Controls for Event Injection").</summary>
public enum EventType : byte
{
    /// <summary>External interrupt.</summary>
    ExternalInterrupt = 0,
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
    /// <summary>Other event (MTF).</summary>
    Other = 7,
}

/// <summary>An event to deliver through the IDT.</summary>
/// <param name="Vector">The vector.</param>
/// <param name="Type">Its type.</param>
/// <param name="HasErrorCode">Whether an error code is pushed.</param>
/// <param name="ErrorCode">The error code.</param>
/// <param name="InstructionLength">Bytes of the causing instruction, for software events; 0 otherwise.</param>
/// <param name="Address">For #PF the linear address that goes to CR2; for #DB the DR6 bits.</param>
public readonly record struct GuestEvent(
    byte Vector,
    EventType Type,
    bool HasErrorCode = false,
    uint ErrorCode = 0,
    byte InstructionLength = 0,
    ulong Address = 0)
{
    /// <summary>The event in the layout of the interruption-information fields, valid bit set.</summary>
    public uint Information => 0x8000_0000U | (HasErrorCode ? 1U << 11 : 0) | ((uint)Type << 8) | Vector;

    /// <summary>Whether pushing the return address points past the instruction (software events).</summary>
    public bool IsSoftware => Type is EventType.SoftwareInterrupt or EventType.SoftwareException or EventType.PrivilegedSoftwareException;
}

/// <summary>Why <see cref="Processor.Run"/> returned.</summary>
public enum CpuStop : byte
{
    /// <summary>The boundary handler asked to stop.</summary>
    Requested,
    /// <summary>HLT; activity is 1 and nothing deliverable is pending.</summary>
    Halted,
    /// <summary>Triple fault; activity is 2.</summary>
    Shutdown,
    /// <summary>A VM exit was recorded by the non-root policy.</summary>
    Exit,
    /// <summary>The processor met an instruction it does not model; the text is in <see cref="Processor.UnimplementedText"/>.</summary>
    Unimplemented,
    /// <summary>An event was reported instead of delivered: <see cref="Processor.ReportedEvent"/>.</summary>
    Event,
}
