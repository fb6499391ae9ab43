using VmFuzz.Arch;
using VmFuzz.Vmx;

namespace VmFuzz.Kvm;

/// <summary>Virtual time as the run path spends it.</summary>
public interface IVirtualTime
{
    /// <summary>Lets virtual time pass.</summary>
    /// <param name="nanoseconds">How much.</param>
    void Charge(ulong nanoseconds);
}

/// <summary>One pass into the guest, as the trace shows it. Which controls changed an observer sees in the VMCS.</summary>
/// <param name="Vcpu">Index of the VCPU.</param>
/// <param name="Rip">Where the guest goes on.</param>
/// <param name="Injected">The entry's interruption information; bit 31 clear when nothing is injected.</param>
/// <param name="ErrorCode">Its error code.</param>
/// <param name="InstructionLength">Its instruction length.</param>
/// <param name="Launch">VMLAUNCH rather than VMRESUME.</param>
/// <param name="Emulates">The pass emulates instead of entering.</param>
public readonly record struct EntryRecord(
    int Vcpu,
    ulong Rip,
    InterruptionInfo Injected,
    uint ErrorCode,
    uint InstructionLength,
    bool Launch,
    bool Emulates);

/// <summary>Watches the run path; the recorder implements it. Costs one test when absent.</summary>
public interface IKvmObserver
{
    /// <summary>S49: a pass begins. Called for every pass, also one that emulates.</summary>
    void OnEntry(Vcpu vcpu, in EntryRecord entry);

    /// <summary>S72: a real exit, before it is handled.</summary>
    void OnExit(Vcpu vcpu, in VmExit exit, ulong rip);

    /// <summary>An exit goes to the handler of its row.</summary>
    void OnHandling(Vcpu vcpu, ExitRow row, in VmExit exit)
    {
    }

    /// <summary>The handler of a row has decided, and the dispatcher has done what it decided.</summary>
    /// <param name="vcpu">The VCPU.</param>
    /// <param name="row">The row.</param>
    /// <param name="exit">The exit.</param>
    /// <param name="outcome">What the handler decided.</param>
    void OnHandled(Vcpu vcpu, ExitRow row, in VmExit exit, ExitOutcome outcome)
    {
    }

    /// <summary>An event was put into the entry's event field.</summary>
    void OnInjected(Vcpu vcpu, InterruptionInfo info, uint errorCode, bool again);

    /// <summary>S05: the arch run returned.</summary>
    void OnUserspaceExit(Vcpu vcpu, KvmExitReason reason, int result);

    /// <summary>A request was raised or served.</summary>
    void OnRequest(Vcpu vcpu, Request request, bool served);
}
