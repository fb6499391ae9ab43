using System.Collections.Immutable;
using VmFuzz.Arch;
using static VmFuzz.Vmx.Rule;

namespace VmFuzz.Vmx;

// SDM "Checks on Guest Page-Directory-Pointer-Table Entries".
internal static class PdpteChecks
{
    private static readonly ImmutableArray<VmcsField> PagingReads =
        [VmcsField.GuestCr0, VmcsField.GuestCr4, VmcsField.EntryControls, .. SecondaryReads];

    private static bool Pae(in EntryContext c) => (c.V(VmcsField.GuestCr0) & Cr0.Pg) != 0 && (c.V(VmcsField.GuestCr4) & Cr4.Pae) != 0 && !c.LongGuest();

    private static bool IsValid(in EntryContext c, ulong entry) =>
        (entry & 1) == 0 || (entry & (0x1E6 | c.Capabilities.PhysicalReserved)) == 0;

    private static EntryCheck Field(int i)
    {
        VmcsField field = VmcsField.GuestPdpte0 + (uint)(2 * i);
        return new($"guest.pdpte{i}.vmcs", Sdm.GuestPdptes, EntryCheckStage.Guest, [field, .. PagingReads],
            (in EntryContext c) => !Pae(c) || !c.Secondary(SecondaryControls.EnableEpt) || IsValid(c, c.V(field)),
            [Set(field, 3), NoEntry(EntryControls.Ia32eModeGuest), Set(VmcsField.GuestEfer, 0), Set(VmcsField.GuestCsAccessRights, 0xC09B)],
            ExitQualification.EntryFailurePdpte);
    }

    public static readonly ImmutableArray<EntryCheck> Rows =
    [
        Field(0),
        Field(1),
        Field(2),
        Field(3),
        new("guest.pdptes.memory", Sdm.GuestPdptes, EntryCheckStage.Guest, [VmcsField.GuestCr3, .. PagingReads],
            static (in EntryContext c) =>
            {
                if (!Pae(c) || c.Secondary(SecondaryControls.EnableEpt))
                {
                    return true;
                }

                ulong table = c.V(VmcsField.GuestCr3) & 0xFFFF_FFE0;
                return IsValid(c, c.Quad(table)) && IsValid(c, c.Quad(table + 8)) && IsValid(c, c.Quad(table + 16)) && IsValid(c, c.Quad(table + 24));
            },
            [NoSecondary(SecondaryControls.EnableEpt | SecondaryControls.UnrestrictedGuest), NoEntry(EntryControls.Ia32eModeGuest),
                Set(VmcsField.GuestEfer, 0), Set(VmcsField.GuestCsAccessRights, 0xC09B), Set(VmcsField.GuestCr3, 0xFFFF_F000)],
            ExitQualification.EntryFailurePdpte, ReadsMemory: true,
            Gate: new EntryGate(VmcsField.EntryControls, EntryControls.Ia32eModeGuest, 0)),
    ];
}
