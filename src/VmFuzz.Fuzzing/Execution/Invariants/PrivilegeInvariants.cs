using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Kvm;

namespace VmFuzz.Fuzzing;

/// <summary>What less privileged code cannot do, and values that no register ever holds.</summary>
internal static class PrivilegeInvariants
{
    private static readonly ImmutableArray<VmcsField> CanonicalFields =
        [VmcsField.GuestSysenterEsp, VmcsField.GuestSysenterEip, VmcsField.GuestFsBase, VmcsField.GuestGsBase, VmcsField.GuestGdtrBase, VmcsField.GuestIdtrBase];

    // KVM_EPERM, whatever the number.
    private const long NotPermitted = -1;

    public static readonly ImmutableArray<Invariant> Rows =
    [
        new("privilege.system-registers", OracleKind.Privilege, InvariantMoment.Handled, "an instruction at CPL 1 to 3 changes no system register", "SDM: Privileged Instructions", static v =>
        {
            if (v.Cpl == 0 || !v.Retires)
            {
                return null;
            }

            for (int word = v.FirstChange(); word >= 0; word = v.FirstChange(word + 1))
            {
                if (Vmx.Vmcs.GuestFieldAt(word) is { } field && IsSystem(field) && !v.IsOfStep(field, v.Vmcs[field] ^ v.Before(word)))
                {
                    return $"{field} became 0x{v.Vmcs[field]:x} at CPL {v.Cpl}, it was 0x{v.Before(word):x}";
                }
            }

            var now = v.OthersNow;
            bool trap = (v.RFlags & RFlags.Tf) != 0;
            return now.Cr8 != v.Others.Cr8 || now.Xcr0 != v.Others.Xcr0 || (now.Dr6 != v.Others.Dr6 && !trap) ? $"CR8, DR6 or XCR0 changed at CPL {v.Cpl}" : null;
        }),
        new("privilege.canonical", OracleKind.Privilege, InvariantMoment.Handled, "no address register of a 64-bit guest is ever loaded with a non-canonical value", "SDM: Canonical Addressing", static v =>
        {
            if ((v.Row.Writes & (ExitWrites.System | ExitWrites.Flow)) == 0 || !v.Vcpu.Vmx.LongMode)
            {
                return null;
            }

            foreach (VmcsField field in CanonicalFields)
            {
                if (!IsCanonical(v.Vmcs[field]))
                {
                    return $"{field} is 0x{v.Vmcs[field]:x}";
                }
            }

            (ulong lstar, ulong cstar, ulong gs) = v.Vcpu.Vmx.AddressMsrs;
            return IsCanonical(lstar) && IsCanonical(cstar) && IsCanonical(gs) ? null : $"LSTAR is 0x{lstar:x}, CSTAR 0x{cstar:x}, KERNEL_GS_BASE 0x{gs:x}";
        }),
        new("privilege.hypercall", OracleKind.Privilege, InvariantMoment.Handled, "a hypercall at CPL 1 to 3 is refused", "kvm_emulate_hypercall", static v =>
        {
            if (v.Cpl == 0 || !v.Retires || v.Exit.Basic != ExitReason.Vmcall)
            {
                return null;
            }

            long result = v.Code64 ? (long)v.Vcpu.Rax : (int)v.Vcpu.Rax;
            return result == NotPermitted ? null : $"hypercall 0x{v.Gpr(Gpr.Rax):x} at CPL {v.Cpl} answered {result}";
        }),
        new("privilege.mode", OracleKind.Privilege, InvariantMoment.Handled, "a completed instruction of 64-bit code is followed by 64-bit code", "SDM: Switching Out of IA-32e Mode Operation", static v =>
            !v.Retires || !v.Code64 || v.Vcpu.Vmx.Code64 ? null : "64-bit code was left without a far transfer"),
        new("privilege.xcr0", OracleKind.Privilege, InvariantMoment.Handled, "XCR0 holds only combinations that XSETBV accepts", "SDM: XSETBV", static v =>
        {
            ulong xcr0 = v.Vcpu.Vmx.Xcr0;
            return (xcr0 & 1) != 0 && (xcr0 & 6) != 4 ? null : $"XCR0 is 0x{xcr0:x}";
        }),
    ];

    private static bool IsCanonical(ulong value) => (ulong)((long)(value << 16) >> 16) == value;

    private static bool IsSystem(VmcsField field) => field is
        VmcsField.GuestCr0 or VmcsField.GuestCr3 or VmcsField.GuestCr4 or VmcsField.GuestDr7 or VmcsField.GuestEfer or VmcsField.GuestPat
        or VmcsField.GuestDebugCtl or VmcsField.GuestSysenterCs or VmcsField.GuestSysenterEsp or VmcsField.GuestSysenterEip
        or VmcsField.GuestGdtrBase or VmcsField.GuestGdtrLimit or VmcsField.GuestIdtrBase or VmcsField.GuestIdtrLimit;
}
