using VmFuzz.Arch;
using VmFuzz.Kvm;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>What tells two exits of one reason apart, without addresses and values.</summary>
internal static class QualificationClass
{
    /// <summary>The class, below 2^28.</summary>
    public static ulong Of(in VmExit exit, Vcpu vcpu) => exit.Basic switch
    {
        ExitReason.ExceptionOrNmi => OfEvent(exit.InterruptionInfo.Value),
        ExitReason.ControlRegisterAccess => exit.Qualification & 0x3F,
        ExitReason.MovDr => exit.Qualification & 0x17,
        ExitReason.IoInstruction => (exit.Qualification & 0x7F) | (KnownPort(exit.Qualification >> 16) << 8),
        ExitReason.Rdmsr or ExitReason.Wrmsr => MsrClass((uint)vcpu.Rcx),
        ExitReason.Cpuid => LeafClass((uint)vcpu.Rax),
        ExitReason.EptViolation => exit.Qualification & 0x1FFF,
        ExitReason.TaskSwitch => (exit.Qualification >> 30) & 3,
        _ => 0,
    } | ((ulong)vcpu.Vmx.Cpl << 26);

    /// <summary>Type, vector and error-code bit of an event; one interrupt is as good as another. Below 2^12.</summary>
    /// <param name="information">In the layout of VM-exit interruption information.</param>
    public static ulong OfEvent(uint information) => (information & 0xE0) == 0 ? information & 0xFFF : (information & 0xF00) | 0x20;

    // Basic, hypervisor and extended leaves that may have a row; of all others one class for each range.
    private static ulong LeafClass(uint leaf) => ((leaf >> 30) << 6) | Math.Min(leaf & 0x3FFF_FFFF, 0x3F);

    // Numbers that mean something are told apart; of all others there is one class for each order of magnitude.
    private static ulong MsrClass(uint msr) =>
        msr is < 0x400 or (>= 0xC000_0080 and < 0xC000_0110) or (>= 0x4B56_4D00 and < 0x4B56_4D10)
            ? (msr & 0x3FF) | ((ulong)(msr >> 30) << 13)
            : 0x1_0000UL + (ulong)System.Numerics.BitOperations.Log2(msr);

    private static ulong KnownPort(ulong port) => (port & 0xFFFF) switch
    {
        0x3F8 or 0x3F9 or 0x3FA or 0x3FB or 0x3FC or 0x3FD or 0xE9 or 0xF4 => port & 0xFF,
        var other => 0x100UL + (ulong)System.Numerics.BitOperations.Log2((uint)other | 1),
    };
}
