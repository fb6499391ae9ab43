using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Kvm;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzz.SampleHandlers;

/// <summary>
/// Hypercalls of one's own: VMCALL with 8 and up in RAX sets an address register of a 64-bit guest to RBX, cheaper than
/// the instructions that exit one by one. The answer in RAX is 0, or -1 when the hypervisor refuses.
/// </summary>
internal static class AddressHypercalls
{
    private const ulong First = 8;
    private const ulong Done = 0;
    private const ulong Refused = ulong.MaxValue;

    private static readonly ImmutableArray<VmcsField> Registers =
    [
        VmcsField.GuestFsBase, VmcsField.GuestGsBase, VmcsField.GuestGdtrBase, VmcsField.GuestIdtrBase,
        VmcsField.GuestSysenterEsp, VmcsField.GuestSysenterEip,
    ];

    // A handler gets the VCPU and the exit as data. It says what happens next and leaves RIP alone: RetireInstruction has
    // the dispatcher move RIP behind the instruction, end the shadow of STI, and raise the single-step trap.
    public static ExitOutcome Handle(Vcpu vcpu, in VmExit exit) =>
        !IsOurs(vcpu) ? Other(vcpu, exit)
        : IsCanonical(vcpu.Rbx) ? Set(vcpu)
        : Refuse(vcpu);

    // The bug: the address is taken as it comes. A processor never holds a non-canonical one there, and the next VM entry
    // fails: a guest ends its VM with one instruction. A handler of WRMSR had this bug once (CVE-2014-3610).
    public static ExitOutcome HandleWithoutCheck(Vcpu vcpu, in VmExit exit) =>
        IsOurs(vcpu) ? Set(vcpu) : Other(vcpu, exit);

    // The kernel of a 64-bit guest may, its programs may not.
    private static bool IsOurs(Vcpu vcpu) =>
        vcpu.Vmx.Code64 && vcpu.Vmx.Cpl == 0 && vcpu.Rax - First < (ulong)Registers.Length;

    // Every other hypercall is the hypervisor's own.
    private static ExitOutcome Other(Vcpu vcpu, in VmExit exit) =>
        ExitTable.Default.Find((ushort)ExitReason.Vmcall)!.Handler(vcpu, exit);

    private static ExitOutcome Set(Vcpu vcpu)
    {
        vcpu.Vmx.Write(Registers[(int)(vcpu.Rax - First)], vcpu.Rbx);
        vcpu.Rax = Done;
        return ExitOutcome.RetireInstruction;
    }

    private static ExitOutcome Refuse(Vcpu vcpu)
    {
        vcpu.Rax = Refused;
        return ExitOutcome.RetireInstruction;
    }

    // SDM "Canonical Addressing": bits 63 to 47 are the same.
    private static bool IsCanonical(ulong address) => (ulong)((long)(address << 16) >> 16) == address;
}
