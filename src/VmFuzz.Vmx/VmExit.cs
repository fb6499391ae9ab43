using VmFuzz.Arch;

namespace VmFuzz.Vmx;

/// <summary>
/// A VM exit as data: everything the SDM says an exit records (SDM "Recording VM-Exit Information and Updating
/// VM-Entry Control Fields"). The VMCS holds the same values.
/// </summary>
/// <param name="Reason">The 32 bits of the exit reason, bit 31 (VM-entry failure) included.</param>
/// <param name="Qualification">Exit qualification.</param>
/// <param name="GuestLinear">Guest-linear address.</param>
/// <param name="GuestPhysical">Guest-physical address.</param>
/// <param name="InterruptionInfo">VM-exit interruption information.</param>
/// <param name="InterruptionError">VM-exit interruption error code.</param>
/// <param name="IdtVectoringInfo">IDT-vectoring information.</param>
/// <param name="IdtVectoringError">IDT-vectoring error code.</param>
/// <param name="InstructionLength">Bytes.</param>
/// <param name="InstructionInfo">VM-exit instruction information.</param>
public readonly record struct VmExit(
    uint Reason,
    ulong Qualification = 0,
    ulong GuestLinear = 0,
    ulong GuestPhysical = 0,
    InterruptionInfo InterruptionInfo = default,
    uint InterruptionError = 0,
    InterruptionInfo IdtVectoringInfo = default,
    uint IdtVectoringError = 0,
    uint InstructionLength = 0,
    uint InstructionInfo = 0)
{
    /// <summary>Bit 31 of the reason: the entry failed.</summary>
    public const uint EntryFailureBit = 1U << 31;

    /// <summary>The basic exit reason.</summary>
    public ExitReason Basic => (ExitReason)(ushort)Reason;

    /// <summary>Whether the exit is a failed VM entry.</summary>
    public bool IsEntryFailure => (Reason & EntryFailureBit) != 0;
}

/// <summary>Watches VM entries and exits; costs nothing when absent.</summary>
public interface IVmxObserver
{
    /// <summary>An entry passed its checks and the guest is about to run.</summary>
    void OnEntry(bool launch);

    /// <summary>An exit was recorded (failed entries included).</summary>
    void OnExit(in VmExit exit);

    /// <summary>An event is injected by the entry.</summary>
    void OnInjected(InterruptionInfo info, uint errorCode, uint instructionLength);
}

/// <summary>How <see cref="VmxUnit.Enter(bool, out VmxResult)"/> ended.</summary>
public enum EntryOutcome : byte
{
    /// <summary>VMfail: no entry happened.</summary>
    Failed,
    /// <summary>A VM exit (or a failed entry that looks like one) was recorded.</summary>
    Exited,
    /// <summary>The boundary asked to stop: nothing was saved, <see cref="VmxUnit.Continue()"/> resumes.</summary>
    Stopped,
    /// <summary>The guest is inactive (HLT, shutdown, wait for SIPI) and nothing wakes it yet; <see cref="VmxUnit.Continue()"/> resumes.</summary>
    Halted,
    /// <summary>The processor met something it does not model; nothing was saved.</summary>
    Unimplemented,
    /// <summary>VMX abort: see <see cref="VmxUnit.Abort"/>.</summary>
    Aborted,
}
