using System.Collections.Immutable;
using VmFuzz.Arch;
using static VmFuzz.Vmx.Rule;

namespace VmFuzz.Vmx;

// SDM "Checks on Guest Descriptor-Table Registers".
internal static class GuestDescriptorTableChecks
{
    private static EntryCheck Base(string id, VmcsField field) => new(id, Sdm.GuestDescriptorTables, EntryCheckStage.Guest, [field],
        (in EntryContext c) => c.Canonical(field), [Set(field, 1UL << 62)]);

    private static EntryCheck Limit(string id, VmcsField field) => new(id, Sdm.GuestDescriptorTables, EntryCheckStage.Guest, [field],
        (in EntryContext c) => c.V(field) >> 16 == 0, [Or(field, 0x1_0000)]);

    public static readonly ImmutableArray<EntryCheck> Rows =
    [
        Base("guest.gdtr.base.canonical", VmcsField.GuestGdtrBase),
        Base("guest.idtr.base.canonical", VmcsField.GuestIdtrBase),
        Limit("guest.gdtr.limit", VmcsField.GuestGdtrLimit),
        Limit("guest.idtr.limit", VmcsField.GuestIdtrLimit),
    ];
}
