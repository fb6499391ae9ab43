using System.Collections.Immutable;
using VmFuzz.Arch;
using static VmFuzz.Vmx.Rule;

namespace VmFuzz.Vmx;

// SDM "VM-Exit Control Fields" of "Checks on VMX Controls".
internal static class ExitControlChecks
{
    private static EntryCheck Row(string id, ImmutableArray<VmcsField> reads, EntryPredicate holds, params ImmutableArray<FieldChange> violate) =>
        new(id, Sdm.VmExitControlFields, EntryCheckStage.Controls, reads, holds, violate);

    internal static bool Area(in EntryContext c, VmcsField count, VmcsField address, bool alignment)
    {
        ulong entries = c.V(count);
        if (entries == 0)
        {
            return true;
        }

        ulong first = c.V(address);
        ulong last = first + (entries * 16) - 1;
        return alignment ? (first & 0xF) == 0 : (first & c.Capabilities.PhysicalReserved) == 0 && (last & c.Capabilities.PhysicalReserved) == 0;
    }

    public static readonly ImmutableArray<EntryCheck> Rows =
    [
        Row("exit.controls.required", [VmcsField.ExitControls],
            static (in EntryContext c) => (c.Capabilities.Exit.Required & ~(uint)c.V(VmcsField.ExitControls)) == 0,
            NoExit(1)),
        Row("exit.controls.allowed", [VmcsField.ExitControls],
            static (in EntryContext c) => ((uint)c.V(VmcsField.ExitControls) & ~c.Capabilities.Exit.Allowed) == 0,
            Exit(1U << 31)),
        Row("exit.preemption-timer.save-needs-activate", [VmcsField.PinBasedControls, VmcsField.ExitControls],
            static (in EntryContext c) => c.Pin(PinBasedControls.ActivatePreemptionTimer) || !c.Exit(ExitControls.SavePreemptionTimer),
            Exit(ExitControls.SavePreemptionTimer)),
        Row("exit.msr-store.alignment", [VmcsField.ExitMsrStoreCount, VmcsField.ExitMsrStoreAddress],
            static (in EntryContext c) => Area(c, VmcsField.ExitMsrStoreCount, VmcsField.ExitMsrStoreAddress, true),
            Set(VmcsField.ExitMsrStoreCount, 1), Set(VmcsField.ExitMsrStoreAddress, 8)),
        Row("exit.msr-store.width", [VmcsField.ExitMsrStoreCount, VmcsField.ExitMsrStoreAddress],
            static (in EntryContext c) => Area(c, VmcsField.ExitMsrStoreCount, VmcsField.ExitMsrStoreAddress, false),
            Set(VmcsField.ExitMsrStoreCount, 1), Set(VmcsField.ExitMsrStoreAddress, 1UL << 60)),
        Row("exit.msr-load.alignment", [VmcsField.ExitMsrLoadCount, VmcsField.ExitMsrLoadAddress],
            static (in EntryContext c) => Area(c, VmcsField.ExitMsrLoadCount, VmcsField.ExitMsrLoadAddress, true),
            Set(VmcsField.ExitMsrLoadCount, 1), Set(VmcsField.ExitMsrLoadAddress, 8)),
        Row("exit.msr-load.width", [VmcsField.ExitMsrLoadCount, VmcsField.ExitMsrLoadAddress],
            static (in EntryContext c) => Area(c, VmcsField.ExitMsrLoadCount, VmcsField.ExitMsrLoadAddress, false),
            Set(VmcsField.ExitMsrLoadCount, 1), Set(VmcsField.ExitMsrLoadAddress, 1UL << 60)),
    ];
}
