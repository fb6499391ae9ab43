using VmFuzz.Arch;
using VmFuzz.Kvm;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>The few bits of an exit's information that handlers tell apart, for features.</summary>
internal static class ExitClasses
{
    /// <summary>A small number; equal for exits that are handled alike.</summary>
    public static ulong Of(Vcpu vcpu, in VmExit exit) => exit.Basic switch
    {
        ExitReason.ExceptionOrNmi => exit.InterruptionInfo.Value & 0xFFF,
        // Access, register and LMSW's operand; not the general register.
        ExitReason.ControlRegisterAccess => exit.Qualification & 0x7F,
        ExitReason.MovDr => exit.Qualification & 0x17,
        // Size, direction, string, REP; a few ports have something behind them.
        ExitReason.IoInstruction => (exit.Qualification & 0x7F) | (PortClass((exit.Qualification >> 16) & 0xFFFF) << 8),
        ExitReason.EptViolation => exit.Qualification & 0xFFF,
        ExitReason.Rdmsr or ExitReason.Wrmsr => (uint)vcpu.Rcx * 0x9E37_79B1U >> 16,
        ExitReason.Cpuid => Math.Min((uint)vcpu.Rax & 0xFFFF, 0x40U) | ((uint)vcpu.Rax >> 24),
        ExitReason.Vmcall => Math.Min(vcpu.Rax, 16),
        ExitReason.TaskSwitch => exit.Qualification >> 30,
        _ => 0,
    };

    private static ulong PortClass(ulong port) => port switch
    {
        0xE9 => 1,
        0xF4 => 2,
        >= 0x3F8 and <= 0x3FF => 8 + (port & 7),
        _ => 0,
    };
}
