using System.Collections.Immutable;
using VmFuzz.Arch;
using static VmFuzz.Vmx.Rule;

namespace VmFuzz.Vmx;

// SDM "Checks on Guest Segment Registers". A rule that holds for several registers is a row for each.
internal static class GuestSegmentChecks
{
    private static readonly ImmutableArray<string> Names = ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"];

    private static readonly ImmutableArray<FieldChange> V8086 =
    [
        Or(VmcsField.GuestRflags, RFlags.Vm), NoEntry(EntryControls.Ia32eModeGuest), Set(VmcsField.GuestEfer, 0),
        .. Enumerable.Range(0, 6).SelectMany(static i => new[]
        {
            Set(Field(VmcsField.GuestEsSelector, i), 0x100), Set(Field(VmcsField.GuestEsBase, i), 0x1000),
            Set(Field(VmcsField.GuestEsLimit, i), 0xFFFF), Set(Field(VmcsField.GuestEsAccessRights, i), 0xF3),
        }),
    ];

    private static readonly ImmutableArray<FieldChange> Protected32 =
    [
        NoEntry(EntryControls.Ia32eModeGuest), Set(VmcsField.GuestEfer, 0), Set(VmcsField.GuestCsAccessRights, 0xC09B),
    ];

    private static VmcsField Field(VmcsField first, int index) => first + (uint)(2 * index);

    private static ulong Rights(in EntryContext c, int index) => c.V(Field(VmcsField.GuestEsAccessRights, index));

    private static bool IsUsable(in EntryContext c, int index) => (Rights(c, index) & Usable) == 0;

    private static ulong Dpl(in EntryContext c, int index) => (Rights(c, index) >> 5) & 3;

    private static ulong Rpl(in EntryContext c, int index) => c.V(Field(VmcsField.GuestEsSelector, index)) & 3;

    private static ulong TypeOf(in EntryContext c, int index) => Rights(c, index) & 0xF;

    private static EntryCheck Row(string id, ImmutableArray<VmcsField> reads, EntryPredicate holds, params ImmutableArray<FieldChange> violate) =>
        new(id, Sdm.GuestSegments, EntryCheckStage.Guest, reads, holds, violate, OnlyVmFlag: true);

    public static readonly ImmutableArray<EntryCheck> Rows =
    [
        Row("guest.tr.selector.ti", [VmcsField.GuestTrSelector],
            static (in EntryContext c) => (c.V(VmcsField.GuestTrSelector) & 4) == 0, Or(VmcsField.GuestTrSelector, 4)),
        Row("guest.ldtr.selector.ti", [VmcsField.GuestLdtrSelector, VmcsField.GuestLdtrAccessRights],
            static (in EntryContext c) => !IsUsable(c, 6) || (c.V(VmcsField.GuestLdtrSelector) & 4) == 0,
            Set(VmcsField.GuestLdtrAccessRights, 0x82), Set(VmcsField.GuestLdtrSelector, 4)),
        Row("guest.ss.selector.rpl", [VmcsField.GuestSsSelector, VmcsField.GuestCsSelector, VmcsField.GuestRflags, .. SecondaryReads],
            static (in EntryContext c) => c.Virtual8086() || c.Unrestricted() || Rpl(c, 2) == Rpl(c, 1),
            NoSecondary(SecondaryControls.UnrestrictedGuest), Or(VmcsField.GuestCsSelector, 1)),
        .. ForEach([1, 2, 3, 0, 4, 5], V8086Base),
        .. ForEach([7, 4, 5], CanonicalBase),
        Row("guest.ldtr.base.canonical", [VmcsField.GuestLdtrBase, VmcsField.GuestLdtrAccessRights],
            static (in EntryContext c) => !IsUsable(c, 6) || c.Canonical(VmcsField.GuestLdtrBase),
            Set(VmcsField.GuestLdtrAccessRights, 0x82), Set(VmcsField.GuestLdtrBase, 1UL << 62)),
        Row("guest.cs.base.high", [VmcsField.GuestCsBase],
            static (in EntryContext c) => c.V(VmcsField.GuestCsBase) >> 32 == 0, Set(VmcsField.GuestCsBase, 1UL << 40)),
        .. ForEach([2, 3, 0], HighBase),
        .. ForEach([1, 2, 3, 0, 4, 5], V8086Limit),
        .. ForEach([1, 2, 3, 0, 4, 5], V8086Rights),
        Row("guest.cs.type", [VmcsField.GuestCsAccessRights, VmcsField.GuestRflags, .. SecondaryReads],
            static (in EntryContext c) => c.Virtual8086() || TypeOf(c, 1) is 9 or 11 or 13 or 15 || (TypeOf(c, 1) == 3 && c.Unrestricted()),
            And(VmcsField.GuestCsAccessRights, ~1UL)),
        Row("guest.ss.type", [VmcsField.GuestSsAccessRights, VmcsField.GuestRflags],
            static (in EntryContext c) => c.Virtual8086() || !IsUsable(c, 2) || TypeOf(c, 2) is 3 or 7,
            Set(VmcsField.GuestSsAccessRights, 0xC091)),
        .. ForEach([3, 0, 4, 5], DataAccessed),
        .. ForEach([3, 0, 4, 5], DataReadable),
        .. ForEach([1, 2, 3, 0, 4, 5], CodeOrData),
        Row("guest.cs.dpl.data-type", [VmcsField.GuestCsAccessRights, VmcsField.GuestRflags],
            static (in EntryContext c) => c.Virtual8086() || TypeOf(c, 1) != 3 || Dpl(c, 1) == 0,
            [.. Protected32, Set(VmcsField.GuestCsAccessRights, 0xC0F3)]),
        Row("guest.cs.dpl.nonconforming", [VmcsField.GuestCsAccessRights, VmcsField.GuestSsAccessRights, VmcsField.GuestRflags],
            static (in EntryContext c) => c.Virtual8086() || TypeOf(c, 1) is not (9 or 11) || Dpl(c, 1) == Dpl(c, 2),
            Or(VmcsField.GuestCsAccessRights, 1 << 5)),
        Row("guest.cs.dpl.conforming", [VmcsField.GuestCsAccessRights, VmcsField.GuestSsAccessRights, VmcsField.GuestRflags],
            static (in EntryContext c) => c.Virtual8086() || TypeOf(c, 1) is not (13 or 15) || Dpl(c, 1) <= Dpl(c, 2),
            Or(VmcsField.GuestCsAccessRights, 4 | (1 << 5))),
        Row("guest.ss.dpl.rpl", [VmcsField.GuestSsAccessRights, VmcsField.GuestSsSelector, VmcsField.GuestRflags, .. SecondaryReads],
            static (in EntryContext c) => c.Virtual8086() || c.Unrestricted() || Dpl(c, 2) == Rpl(c, 2),
            NoSecondary(SecondaryControls.UnrestrictedGuest), Or(VmcsField.GuestSsSelector, 3), Or(VmcsField.GuestCsSelector, 3)),
        Row("guest.ss.dpl.zero", [VmcsField.GuestSsAccessRights, VmcsField.GuestCsAccessRights, VmcsField.GuestCr0, VmcsField.GuestRflags],
            static (in EntryContext c) => c.Virtual8086() || (TypeOf(c, 1) != 3 && (c.V(VmcsField.GuestCr0) & Cr0.Pe) != 0) || Dpl(c, 2) == 0,
            [.. Protected32, Set(VmcsField.GuestCsAccessRights, 0xC093), Set(VmcsField.GuestSsAccessRights, 0xC0F3)]),
        .. ForEach([3, 0, 4, 5], DataDpl),
        .. ForEach([1, 2, 3, 0, 4, 5], Present),
        .. ForEach([1, 2, 3, 0, 4, 5], ReservedLow),
        .. ForEach([1, 2, 3, 0, 4, 5], ReservedHigh),
        .. ForEach([1, 2, 3, 0, 4, 5], GranularityLow),
        .. ForEach([1, 2, 3, 0, 4, 5], GranularityHigh),
        Row("guest.cs.db-with-l", [VmcsField.GuestCsAccessRights, VmcsField.EntryControls, VmcsField.GuestRflags],
            static (in EntryContext c) => c.Virtual8086() || !c.LongGuest() || (Rights(c, 1) & 0x6000) != 0x6000,
            Or(VmcsField.GuestCsAccessRights, 0x4000)),
        Row("guest.tr.type", [VmcsField.GuestTrAccessRights, VmcsField.EntryControls],
            static (in EntryContext c) => TypeOf(c, 7) == 11 || (TypeOf(c, 7) == 3 && !c.LongGuest()),
            Set(VmcsField.GuestTrAccessRights, 0x89)),
        Row("guest.tr.system", [VmcsField.GuestTrAccessRights],
            static (in EntryContext c) => (Rights(c, 7) & SegmentAttributes.S) == 0, Or(VmcsField.GuestTrAccessRights, SegmentAttributes.S)),
        Row("guest.tr.present", [VmcsField.GuestTrAccessRights],
            static (in EntryContext c) => (Rights(c, 7) & SegmentAttributes.P) != 0, And(VmcsField.GuestTrAccessRights, ~(ulong)SegmentAttributes.P)),
        Row("guest.tr.reserved-low", [VmcsField.GuestTrAccessRights],
            static (in EntryContext c) => (Rights(c, 7) & 0xF00) == 0, Or(VmcsField.GuestTrAccessRights, 0x100)),
        Row("guest.tr.reserved-high", [VmcsField.GuestTrAccessRights],
            static (in EntryContext c) => (Rights(c, 7) & 0xFFFE_0000) == 0, Or(VmcsField.GuestTrAccessRights, 1 << 17)),
        Row("guest.tr.granularity-low", [VmcsField.GuestTrAccessRights, VmcsField.GuestTrLimit],
            static (in EntryContext c) => (c.V(VmcsField.GuestTrLimit) & 0xFFF) == 0xFFF || (Rights(c, 7) & SegmentAttributes.G) == 0,
            Or(VmcsField.GuestTrAccessRights, SegmentAttributes.G)),
        Row("guest.tr.granularity-high", [VmcsField.GuestTrAccessRights, VmcsField.GuestTrLimit],
            static (in EntryContext c) => (c.V(VmcsField.GuestTrLimit) & 0xFFF0_0000) == 0 || (Rights(c, 7) & SegmentAttributes.G) != 0,
            Set(VmcsField.GuestTrLimit, 0x10_0FFF)),
        Row("guest.tr.usable", [VmcsField.GuestTrAccessRights],
            static (in EntryContext c) => IsUsable(c, 7), Or(VmcsField.GuestTrAccessRights, Usable)),
        Ldtr("type", [VmcsField.GuestLdtrAccessRights], static (in EntryContext c) => TypeOf(c, 6) == 2, 0x83, 0),
        Ldtr("system", [VmcsField.GuestLdtrAccessRights], static (in EntryContext c) => (Rights(c, 6) & SegmentAttributes.S) == 0, 0x92, 0),
        Ldtr("present", [VmcsField.GuestLdtrAccessRights], static (in EntryContext c) => (Rights(c, 6) & SegmentAttributes.P) != 0, 0x02, 0),
        Ldtr("reserved-low", [VmcsField.GuestLdtrAccessRights], static (in EntryContext c) => (Rights(c, 6) & 0xF00) == 0, 0x182, 0),
        Ldtr("reserved-high", [VmcsField.GuestLdtrAccessRights], static (in EntryContext c) => (Rights(c, 6) & 0xFFFE_0000) == 0, 0x20082, 0),
        Ldtr("granularity-low", [VmcsField.GuestLdtrAccessRights, VmcsField.GuestLdtrLimit],
            static (in EntryContext c) => (c.V(VmcsField.GuestLdtrLimit) & 0xFFF) == 0xFFF || (Rights(c, 6) & SegmentAttributes.G) == 0, 0x8082, 0),
        Ldtr("granularity-high", [VmcsField.GuestLdtrAccessRights, VmcsField.GuestLdtrLimit],
            static (in EntryContext c) => (c.V(VmcsField.GuestLdtrLimit) & 0xFFF0_0000) == 0 || (Rights(c, 6) & SegmentAttributes.G) != 0, 0x82, 0x10_0FFF),
    ];

    private static IEnumerable<EntryCheck> ForEach(int[] registers, Func<int, EntryCheck> row) => registers.Select(row);

    private static EntryCheck Ldtr(string name, ImmutableArray<VmcsField> reads, EntryPredicate holds, ulong rights, ulong limit) =>
        Row($"guest.ldtr.{name}", reads, (in EntryContext c) => !IsUsable(c, 6) || holds(c),
            Set(VmcsField.GuestLdtrAccessRights, rights), Set(VmcsField.GuestLdtrLimit, limit));

    private static EntryCheck V8086Base(int i) =>
        Row($"guest.{Names[i]}.base.v8086", [VmcsField.GuestRflags, Field(VmcsField.GuestEsBase, i), Field(VmcsField.GuestEsSelector, i)],
            (in EntryContext c) => !c.Virtual8086() || c.V(Field(VmcsField.GuestEsBase, i)) == c.V(Field(VmcsField.GuestEsSelector, i)) << 4,
            [.. V8086, Set(Field(VmcsField.GuestEsBase, i), 0x2000)]);

    private static EntryCheck V8086Limit(int i) =>
        Row($"guest.{Names[i]}.limit.v8086", [VmcsField.GuestRflags, Field(VmcsField.GuestEsLimit, i)],
            (in EntryContext c) => !c.Virtual8086() || c.V(Field(VmcsField.GuestEsLimit, i)) == 0xFFFF,
            [.. V8086, Set(Field(VmcsField.GuestEsLimit, i), 0xFFFE)]);

    private static EntryCheck V8086Rights(int i) =>
        Row($"guest.{Names[i]}.access-rights.v8086", [VmcsField.GuestRflags, Field(VmcsField.GuestEsAccessRights, i)],
            (in EntryContext c) => !c.Virtual8086() || Rights(c, i) == 0xF3,
            [.. V8086, Set(Field(VmcsField.GuestEsAccessRights, i), 0x93)]);

    private static EntryCheck CanonicalBase(int i) =>
        Row($"guest.{Names[i]}.base.canonical", [Field(VmcsField.GuestEsBase, i)],
            (in EntryContext c) => c.Canonical(Field(VmcsField.GuestEsBase, i)), Set(Field(VmcsField.GuestEsBase, i), 1UL << 62));

    private static EntryCheck HighBase(int i) =>
        Row($"guest.{Names[i]}.base.high", [Field(VmcsField.GuestEsBase, i), Field(VmcsField.GuestEsAccessRights, i)],
            (in EntryContext c) => !IsUsable(c, i) || c.V(Field(VmcsField.GuestEsBase, i)) >> 32 == 0,
            Set(Field(VmcsField.GuestEsBase, i), 1UL << 40));

    private static EntryCheck DataAccessed(int i) =>
        Row($"guest.{Names[i]}.type.accessed", [VmcsField.GuestRflags, Field(VmcsField.GuestEsAccessRights, i)],
            (in EntryContext c) => c.Virtual8086() || !IsUsable(c, i) || (TypeOf(c, i) & 1) != 0,
            And(Field(VmcsField.GuestEsAccessRights, i), ~1UL));

    private static EntryCheck DataReadable(int i) =>
        Row($"guest.{Names[i]}.type.readable", [VmcsField.GuestRflags, Field(VmcsField.GuestEsAccessRights, i)],
            (in EntryContext c) => c.Virtual8086() || !IsUsable(c, i) || (TypeOf(c, i) & 8) == 0 || (TypeOf(c, i) & 2) != 0,
            Set(Field(VmcsField.GuestEsAccessRights, i), 0xC099));

    private static EntryCheck CodeOrData(int i) =>
        Row($"guest.{Names[i]}.code-or-data", [VmcsField.GuestRflags, Field(VmcsField.GuestEsAccessRights, i)],
            (in EntryContext c) => c.Virtual8086() || (i != 1 && !IsUsable(c, i)) || (Rights(c, i) & SegmentAttributes.S) != 0,
            And(Field(VmcsField.GuestEsAccessRights, i), ~(ulong)SegmentAttributes.S));

    private static EntryCheck DataDpl(int i) =>
        Row($"guest.{Names[i]}.dpl", [VmcsField.GuestRflags, Field(VmcsField.GuestEsAccessRights, i), Field(VmcsField.GuestEsSelector, i), .. SecondaryReads],
            (in EntryContext c) => c.Virtual8086() || c.Unrestricted() || !IsUsable(c, i) || TypeOf(c, i) > 11 || Dpl(c, i) >= Rpl(c, i),
            NoSecondary(SecondaryControls.UnrestrictedGuest), Or(Field(VmcsField.GuestEsSelector, i), 3));

    private static EntryCheck Present(int i) =>
        Row($"guest.{Names[i]}.present", [VmcsField.GuestRflags, Field(VmcsField.GuestEsAccessRights, i)],
            (in EntryContext c) => c.Virtual8086() || (i != 1 && !IsUsable(c, i)) || (Rights(c, i) & SegmentAttributes.P) != 0,
            And(Field(VmcsField.GuestEsAccessRights, i), ~(ulong)SegmentAttributes.P));

    private static EntryCheck ReservedLow(int i) =>
        Row($"guest.{Names[i]}.reserved-low", [VmcsField.GuestRflags, Field(VmcsField.GuestEsAccessRights, i)],
            (in EntryContext c) => c.Virtual8086() || (i != 1 && !IsUsable(c, i)) || (Rights(c, i) & 0xF00) == 0,
            Or(Field(VmcsField.GuestEsAccessRights, i), 0x400));

    private static EntryCheck ReservedHigh(int i) =>
        Row($"guest.{Names[i]}.reserved-high", [VmcsField.GuestRflags, Field(VmcsField.GuestEsAccessRights, i)],
            (in EntryContext c) => c.Virtual8086() || (i != 1 && !IsUsable(c, i)) || (Rights(c, i) & 0xFFFE_0000) == 0,
            Or(Field(VmcsField.GuestEsAccessRights, i), 1 << 20));

    private static EntryCheck GranularityLow(int i) =>
        Row($"guest.{Names[i]}.granularity-low", [VmcsField.GuestRflags, Field(VmcsField.GuestEsAccessRights, i), Field(VmcsField.GuestEsLimit, i)],
            (in EntryContext c) => c.Virtual8086() || (i != 1 && !IsUsable(c, i)) || (c.V(Field(VmcsField.GuestEsLimit, i)) & 0xFFF) == 0xFFF
                || (Rights(c, i) & SegmentAttributes.G) == 0,
            Set(Field(VmcsField.GuestEsLimit, i), 0xFFFF_FFFE));

    private static EntryCheck GranularityHigh(int i) =>
        Row($"guest.{Names[i]}.granularity-high", [VmcsField.GuestRflags, Field(VmcsField.GuestEsAccessRights, i), Field(VmcsField.GuestEsLimit, i)],
            (in EntryContext c) => c.Virtual8086() || (i != 1 && !IsUsable(c, i)) || (c.V(Field(VmcsField.GuestEsLimit, i)) & 0xFFF0_0000) == 0
                || (Rights(c, i) & SegmentAttributes.G) != 0,
            And(Field(VmcsField.GuestEsAccessRights, i), ~(ulong)SegmentAttributes.G));
}
