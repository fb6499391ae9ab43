using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Kvm;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>What completing an instruction outside the guest must do (skip_emulated_instruction).</summary>
internal static class RetireInvariants
{
    private const ulong StepBit = 1UL << 14;
    private const ulong Shadows = InterruptibilityState.BlockingBySti | InterruptibilityState.BlockingByMovSs;

    public static readonly ImmutableArray<Invariant> Rows =
    [
        Row("retire.rip", "RIP moves by the instruction's length", "SDM: VM-exit instruction length", static v =>
        {
            ulong next = v.Rip + v.Exit.InstructionLength;
            next = v.Code64 ? next : (uint)next;
            return v.Vcpu.Rip == next ? null : $"RIP is 0x{v.Vcpu.Rip:x} and not 0x{next:x} after an instruction of {v.Exit.InstructionLength} bytes at 0x{v.Rip:x}";
        }),
        Row("retire.shadow", "the shadows of STI and MOV SS end", "SDM: Interruptibility State", static v =>
            (v.Vmcs[VmcsField.GuestInterruptibility] & Shadows) == 0 ? null : "a shadow outlives the instruction behind the one that made it"),
        Row("retire.rf", "RF is cleared", "SDM: Resume Flag", static v =>
            (v.Vcpu.RFlags & RFlags.Rf) == 0 ? null : "RF outlives an instruction"),
        Row("retire.count", "one instruction is counted", "one clock: retired instructions", static v =>
            v.Vcpu.Processor.Retired == v.Retired + 1 ? null : $"{v.Vcpu.Processor.Retired - v.Retired} instructions were counted for one"),
        Row("retire.single-step", "TF makes a debug exception", "SDM: Single-Step Exception Condition", static v =>
            Steps(v) ? null : "the single-step trap of a completed instruction is lost"),
        new("retire.resume", OracleKind.Retire, InvariantMoment.Handled, "an exit without a completed instruction retires none", "one clock: retired instructions", static v =>
            v.Retires || (v.Row.Writes & ExitWrites.Flow) != 0 || v.Vcpu.Processor.Retired == v.Retired ? null : "an instruction was counted that the handler did not complete"),
        new("retire.event", OracleKind.Retire, InvariantMoment.Handled, "an exit that no instruction caused completes none", "SDM: VM-exit instruction length", static v =>
            !IsOutside(v.Exit) || (v.Vcpu.Rip == v.Rip && v.Vcpu.Processor.Retired == v.Retired)
                ? null : $"RIP became 0x{v.Vcpu.Rip:x}, it was 0x{v.Rip:x}, and {v.Vcpu.Processor.Retired - v.Retired} instructions were counted"),
        new("retire.software-event", OracleKind.Retire, InvariantMoment.Handled, "INT1, INT3 and INTO that exit are delivered behind themselves", "SDM: INT n/INTO/INT3/INT1", static v =>
        {
            InterruptionInfo info = v.Exit.InterruptionInfo;
            QueuedException queued = v.Vcpu.Events.Exception;
            bool software = info.Type is InterruptionType.SoftwareException or InterruptionType.PrivilegedSoftwareException;
            if (v.Exit.Basic != ExitReason.ExceptionOrNmi || !software || !queued.Pending || queued.Vector != info.Vector)
            {
                return null;
            }

            ulong next = v.Rip + v.Exit.InstructionLength;
            next = v.Code64 ? next : (uint)next;
            return queued.Type != InterruptionType.HardwareException || v.Vcpu.Rip == next
                ? null : $"exception {info.Vector} returns to 0x{v.Vcpu.Rip:x} and not to 0x{next:x}";
        }),
        Emulated("retire.emulated-rf", "RF is cleared by an emulated instruction too", "SDM: Resume Flag", static v =>
            (v.Vcpu.RFlags & RFlags.Rf) == 0 || v.Vcpu.Rip == v.Rip ? null : "RF outlives an emulated instruction"),
        Emulated("retire.emulated-shadow", "the shadow of STI ends with an emulated instruction too", "SDM: Interruptibility State", static v =>
        {
            const ulong Sti = InterruptibilityState.BlockingBySti;
            return (v.Interruptibility & Sti) == 0 || (v.Vmcs[VmcsField.GuestInterruptibility] & Sti) == 0
                ? null : "the shadow of STI outlives an emulated instruction";
        }),
        Emulated("retire.emulated-step", "TF makes a debug exception behind an emulated instruction too", "SDM: Single-Step Exception Condition", static v =>
            Steps(v) ? null : "the single-step trap of an emulated instruction is lost"),
    ];

    // Exceptions, interrupts and windows.
    private static bool IsOutside(in VmExit exit) => exit.Basic switch
    {
        ExitReason.ExceptionOrNmi => exit.InterruptionInfo.Type is InterruptionType.HardwareException or InterruptionType.Nmi,
        ExitReason.ExternalInterrupt or ExitReason.InterruptWindow or ExitReason.NmiWindow => true,
        _ => false,
    };

    // Under BTF only branches trap.
    private static bool Steps(RunView v) => (v.RFlags & RFlags.Tf) == 0 || (v.Vmcs[VmcsField.GuestDebugCtl] & DebugCtl.Btf) != 0 || v.Vcpu.Events.Exception.Pending
        || (v.Vmcs[VmcsField.GuestPendingDebug] & StepBit) != 0 || v.Vcpu.KvmRun.ExitReason == KvmExitReason.Debug;

    private static Invariant Emulated(string id, string text, string source, InvariantCheck check) =>
        new(id, OracleKind.Retire, InvariantMoment.Handled, text, source, v => v.Emulates ? check(v) : null);

    private static Invariant Row(string id, string text, string source, InvariantCheck check) =>
        new(id, OracleKind.Retire, InvariantMoment.Handled, text, source, v => v.Retires ? check(v) : null);
}
