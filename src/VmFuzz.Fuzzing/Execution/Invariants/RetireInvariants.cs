using System.Collections.Immutable;
using VmFuzz.Arch;

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
            (v.RFlags & RFlags.Tf) == 0 || v.Vcpu.Events.Exception.Pending
            || (v.Vmcs[VmcsField.GuestPendingDebug] & StepBit) != 0 || v.Vcpu.KvmRun.ExitReason == KvmExitReason.Debug
                ? null : "the single-step trap of a completed instruction is lost"),
        new("retire.resume", OracleKind.Retire, InvariantMoment.Handled, "an exit without a completed instruction retires none", "one clock: retired instructions", static v =>
            v.Retires || (v.Row.Writes & Kvm.ExitWrites.Flow) != 0 || v.Vcpu.Processor.Retired == v.Retired ? null : "an instruction was counted that the handler did not complete"),
    ];

    private static Invariant Row(string id, string text, string source, InvariantCheck check) =>
        new(id, OracleKind.Retire, InvariantMoment.Handled, text, source, v => v.Retires ? check(v) : null);
}
