using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Kvm;

namespace VmFuzz.Fuzzing;

/// <summary>What less privileged code cannot do, and values that no register ever holds.</summary>
internal static class PrivilegeInvariants
{
    private static readonly ImmutableArray<VmcsField> CanonicalFields =
        [VmcsField.GuestSysenterEsp, VmcsField.GuestSysenterEip, VmcsField.GuestFsBase, VmcsField.GuestGsBase, VmcsField.GuestGdtrBase, VmcsField.GuestIdtrBase];

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
                if (Vmx.Vmcs.GuestFieldAt(word) is { } field && IsSystem(field))
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
                ulong value = v.Vmcs[field];
                if ((ulong)((long)(value << 16) >> 16) != value)
                {
                    return $"{field} is 0x{value:x}";
                }
            }

            return null;
        }),
        new("privilege.xcr0", OracleKind.Privilege, InvariantMoment.Handled, "XCR0 holds only combinations that XSETBV accepts", "SDM: XSETBV", static v =>
        {
            ulong xcr0 = v.Vcpu.Vmx.Xcr0;
            return (xcr0 & 1) != 0 && (xcr0 & 6) != 4 ? null : $"XCR0 is 0x{xcr0:x}";
        }),
    ];

    private static bool IsSystem(VmcsField field) => field is
        VmcsField.GuestCr0 or VmcsField.GuestCr3 or VmcsField.GuestCr4 or VmcsField.GuestDr7 or VmcsField.GuestEfer or VmcsField.GuestPat
        or VmcsField.GuestDebugCtl or VmcsField.GuestSysenterCs or VmcsField.GuestSysenterEsp or VmcsField.GuestSysenterEip
        or VmcsField.GuestGdtrBase or VmcsField.GuestGdtrLimit or VmcsField.GuestIdtrBase or VmcsField.GuestIdtrLimit;
}
