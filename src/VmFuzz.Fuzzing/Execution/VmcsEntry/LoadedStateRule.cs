using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>
/// A rule that every guest state obeys which an entry has accepted, judged from the fields themselves and without the
/// entry checks: a check that is missing is seen here.
/// </summary>
/// <param name="Id">Unique id.</param>
/// <param name="Text">One line: what must hold.</param>
/// <param name="Source">SDM section title.</param>
/// <param name="Holds">The rule; true when it holds.</param>
internal sealed record LoadedStateRule(string Id, string Text, string Source, Func<Vmcs, VmxCapabilities, bool> Holds)
{
    private const string Registers = "SDM: Checks on Guest Control Registers, Debug Registers, and MSRs";
    private const string Segments = "SDM: Checks on Guest Segment Registers";
    private const string Tables = "SDM: Checks on Guest Descriptor-Table Registers";
    private const string Flow = "SDM: Checks on Guest RIP, RFLAGS, and SSP";
    private const string NonRegister = "SDM: Checks on Guest Non-Register State";
    private const ulong FlagsReserved = ~0x3F_7FD7UL;
    private const uint Present = SegmentAttributes.P;

    /// <summary>The rules.</summary>
    public static readonly ImmutableArray<LoadedStateRule> All =
    [
        new("loaded.cr0.pe-with-pg", "paging needs protected mode", Registers, static (v, _) => !v.Has(VmcsField.GuestCr0, Cr0.Pg) || v.Has(VmcsField.GuestCr0, Cr0.Pe)),
        new("loaded.cr0.fixed", "CR0 has the bits that VMX operation fixes", Registers, static (v, c) =>
        {
            ulong free = Unrestricted(v) ? Cr0.Pe | Cr0.Pg : 0;
            ulong cr0 = v[VmcsField.GuestCr0];
            // NW and CD are not checked.
            const ulong Unchecked = Cr0.Nw | Cr0.Cd;
            return ((~cr0 & c.Cr0Fixed0) & ~free) == 0 && (cr0 & ~c.Cr0Fixed1 & ~Unchecked) == 0;
        }),
        new("loaded.cr4.fixed", "CR4 has the bits that VMX operation fixes and no others than exist", Registers, static (v, c) =>
            (~v[VmcsField.GuestCr4] & c.Cr4Fixed0) == 0 && (v[VmcsField.GuestCr4] & ~c.Cr4Fixed1) == 0),
        new("loaded.long-mode.paging", "a guest in IA-32e mode has paging and PAE", Registers, static (v, _) =>
            !LongMode(v) || (v.Has(VmcsField.GuestCr0, Cr0.Pg) && v.Has(VmcsField.GuestCr4, Cr4.Pae))),
        new("loaded.long-mode.pcid", "PCIDE only in IA-32e mode", Registers, static (v, _) => LongMode(v) || !v.Has(VmcsField.GuestCr4, Cr4.Pcide)),
        new("loaded.cr3.width", "CR3 has no bit beyond the physical addresses", Registers, static (v, c) => (v[VmcsField.GuestCr3] & c.PhysicalReserved) == 0),
        new("loaded.sysenter.canonical", "SYSENTER_ESP and SYSENTER_EIP are canonical", Registers, static (v, _) =>
            Canonical(v[VmcsField.GuestSysenterEsp]) && Canonical(v[VmcsField.GuestSysenterEip])),
        new("loaded.dr7.high", "DR7 has 32 bits when it is loaded", Registers, static (v, _) => !Loads(v, EntryControls.LoadDebugControls) || v[VmcsField.GuestDr7] <= uint.MaxValue),
        new("loaded.efer.lma", "EFER.LMA is as the entry says when EFER is loaded", Registers, static (v, _) =>
            !Loads(v, EntryControls.LoadEfer) || v.Has(VmcsField.GuestEfer, Efer.Lma) == LongMode(v)),
        new("loaded.efer.lme", "with paging EFER.LME is EFER.LMA when EFER is loaded", Registers, static (v, _) =>
            !Loads(v, EntryControls.LoadEfer) || !v.Has(VmcsField.GuestCr0, Cr0.Pg) || v.Has(VmcsField.GuestEfer, Efer.Lme) == v.Has(VmcsField.GuestEfer, Efer.Lma)),
        new("loaded.pat.types", "PAT holds memory types when it is loaded", Registers, static (v, _) => !Loads(v, EntryControls.LoadPat) || PatIsFine(v[VmcsField.GuestPat])),
        new("loaded.segments.bases", "bases of FS, GS and TR, and of a usable LDTR, are canonical", Segments, static (v, _) =>
            Canonical(v[VmcsField.GuestFsBase]) && Canonical(v[VmcsField.GuestGsBase]) && Canonical(v[VmcsField.GuestTrBase])
            && (!Usable(v, 6) || Canonical(v[VmcsField.GuestLdtrBase]))),
        new("loaded.segments.low-bases", "bases of CS, and of usable ES, SS and DS, have 32 bits", Segments, static (v, _) =>
            v[VmcsField.GuestCsBase] <= uint.MaxValue && Low(v, 0, VmcsField.GuestEsBase) && Low(v, 2, VmcsField.GuestSsBase) && Low(v, 3, VmcsField.GuestDsBase)),
        new("loaded.cs.code", "CS is present accessed code, or data of a real-mode kind for an unrestricted guest", Segments, static (v, _) =>
        {
            uint rights = Rights(v, 1);
            uint type = rights & 15;
            bool code = type is 9 or 11 or 13 or 15 || (type == 3 && Unrestricted(v)) || (Virtual8086(v) && type == 3);
            return code && (rights & (SegmentAttributes.S | Present)) == (SegmentAttributes.S | Present) && (rights & SegmentAttributes.Unusable) == 0;
        }),
        new("loaded.cs.modes", "CS is not both 64-bit and 32-bit code in IA-32e mode", Segments, static (v, _) =>
            !LongMode(v) || (Rights(v, 1) & (SegmentAttributes.L | SegmentAttributes.Db)) != (SegmentAttributes.L | SegmentAttributes.Db)),
        new("loaded.segments.reserved", "reserved bits of access rights are 0", Segments, static (v, _) =>
        {
            for (int i = 0; i < 8; i++)
            {
                if (Usable(v, i) && (Rights(v, i) & SegmentAttributes.Reserved) != 0)
                {
                    return false;
                }
            }

            return true;
        }),
        new("loaded.segments.granularity", "limits fit their granularity", Segments, static (v, _) =>
        {
            for (int i = 0; i < 8; i++)
            {
                ulong limit = v[VmcsField.GuestEsLimit + (uint)(2 * i)];
                bool pages = (Rights(v, i) & SegmentAttributes.G) != 0;
                if (Usable(v, i) && ((pages && (limit & 0xFFF) != 0xFFF) || (!pages && (limit >> 20) != 0)))
                {
                    return false;
                }
            }

            return true;
        }),
        new("loaded.tr.busy", "TR is a busy task, present and usable", Segments, static (v, _) =>
        {
            uint rights = Rights(v, 7);
            uint type = rights & 15;
            return (type == 11 || (type == 3 && !LongMode(v))) && (rights & (SegmentAttributes.S | Present | SegmentAttributes.Unusable)) == Present
                && (v[VmcsField.GuestTrSelector] & 4) == 0;
        }),
        new("loaded.ldtr.type", "a usable LDTR is a present local table", Segments, static (v, _) =>
            !Usable(v, 6) || ((Rights(v, 6) & (15 | SegmentAttributes.S | Present)) == (2 | Present) && (v[VmcsField.GuestLdtrSelector] & 4) == 0)),
        new("loaded.tables.bases", "bases of GDTR and IDTR are canonical", Tables, static (v, _) => Canonical(v[VmcsField.GuestGdtrBase]) && Canonical(v[VmcsField.GuestIdtrBase])),
        new("loaded.tables.limits", "limits of GDTR and IDTR have 16 bits", Tables, static (v, _) => v[VmcsField.GuestGdtrLimit] <= 0xFFFF && v[VmcsField.GuestIdtrLimit] <= 0xFFFF),
        new("loaded.flags.reserved", "reserved bits of RFLAGS are 0, bit 1 is 1", Flow, static (v, _) => (v[VmcsField.GuestRflags] & FlagsReserved) == 0 && (v[VmcsField.GuestRflags] & 2) != 0),
        new("loaded.flags.vm", "virtual-8086 mode needs protected mode outside IA-32e mode", Flow, static (v, _) => !Virtual8086(v) || (!LongMode(v) && v.Has(VmcsField.GuestCr0, Cr0.Pe))),
        new("loaded.rip.width", "RIP has 32 bits outside 64-bit code, and is an address within it", Flow, static (v, _) =>
            LongMode(v) && (Rights(v, 1) & SegmentAttributes.L) != 0
                ? (ulong)((long)(v[VmcsField.GuestRip] << 15) >> 15) == v[VmcsField.GuestRip]
                : v[VmcsField.GuestRip] <= uint.MaxValue),
        new("loaded.activity.known", "the activity state exists", NonRegister, static (v, _) => v[VmcsField.GuestActivity] <= 3),
        new("loaded.blocking.reserved", "reserved bits of the interruptibility state are 0", NonRegister, static (v, _) => (v[VmcsField.GuestInterruptibility] & ~0x1FUL) == 0),
        new("loaded.blocking.both", "STI and MOV SS do not block at once", NonRegister, static (v, _) => (v[VmcsField.GuestInterruptibility] & 3) != 3),
    ];

    private static bool LongMode(Vmcs v) => v.Has(VmcsField.EntryControls, EntryControls.Ia32eModeGuest);

    private static bool Loads(Vmcs v, uint control) => v.Has(VmcsField.EntryControls, control);

    private static bool Unrestricted(Vmcs v) =>
        v.Has(VmcsField.PrimaryControls, PrimaryControls.ActivateSecondaryControls) && v.Has(VmcsField.SecondaryControls, SecondaryControls.UnrestrictedGuest);

    private static bool Virtual8086(Vmcs v) => v.Has(VmcsField.GuestRflags, RFlags.Vm);

    private static uint Rights(Vmcs v, int segment) => (uint)v[VmcsField.GuestEsAccessRights + (uint)(2 * segment)];

    private static bool Usable(Vmcs v, int segment) => (Rights(v, segment) & SegmentAttributes.Unusable) == 0;

    private static bool Low(Vmcs v, int segment, VmcsField based) => !Usable(v, segment) || v[based] <= uint.MaxValue;

    private static bool Canonical(ulong value) => (ulong)((long)(value << 16) >> 16) == value;

    private static bool PatIsFine(ulong pat)
    {
        for (; pat != 0; pat >>= 8)
        {
            if ((byte)pat is 2 or 3 or > 7)
            {
                return false;
            }
        }

        return true;
    }
}
