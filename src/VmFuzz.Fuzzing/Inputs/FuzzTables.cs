using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>What mutators choose from.</summary>
internal static class FuzzTables
{
    /// <summary>Fields of the guest-state area.</summary>
    public static readonly ImmutableArray<VmcsField> GuestFields =
        [.. VmcsFieldInfo.All.Where(static f => f.Group == VmcsFieldGroup.Guest).Select(static f => f.Field)];

    /// <summary>Fields that a VM entry reads: all but the exit information.</summary>
    public static readonly ImmutableArray<VmcsFieldInfo> EntryFields =
        [.. VmcsFieldInfo.All.Where(static f => f.Group != VmcsFieldGroup.ReadOnly)];

    /// <summary>Fields that some entry check reads, a field once, in the order of encodings.</summary>
    public static readonly ImmutableArray<VmcsFieldInfo> CheckedFields =
        [.. VmcsFieldInfo.All.Where(static f => EntryChecks.Default.Rows.Any(r => r.Reads.Contains(f.Field)))];

    /// <summary>Checks that say how to break them.</summary>
    public static readonly ImmutableArray<EntryCheck> Breakable =
        [.. EntryChecks.Default.Rows.Where(static r => !r.Violate.IsDefaultOrEmpty)];

    /// <summary>Exit reasons that exist.</summary>
    public static readonly ImmutableArray<ExitReason> Reasons = [.. Enum.GetValues<ExitReason>()];

    /// <summary>Values at which something changes: widths, signs, canonical addresses, well-known bits.</summary>
    public static readonly ImmutableArray<ulong> Boundaries =
    [
        0, 1, 2, 3, 4, 7, 8, 0xF, 0x10, 0x1F, 0x20, 0x3F, 0x40, 0x7F, 0x80, 0xFE, 0xFF, 0x100, 0x1FF, 0xFFF, 0x1000, 0x1001,
        0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 0x1_0000, 0x1F_FFFF, 0x20_0000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_F000, 0xFFFF_FFFE,
        0xFFFF_FFFF, 0x1_0000_0000, 0x3FFF_FFFF_F000, 0x4000_0000_0000, 0x7FFF_FFFF_FFFF, 0x8000_0000_0000, 0xF_FFFF_FFFF_FFFF,
        0x10_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, 0xFFFF_7FFF_FFFF_FFFF, 0xFFFF_8000_0000_0000,
        0xFFFF_FFFF_0000_0000, 0xFFFF_FFFF_8000_0000, 0xFFFF_FFFF_FFFF_F000, 0xFFFF_FFFF_FFFF_FFFE, 0xFFFF_FFFF_FFFF_FFFF,
    ];

    /// <summary>Numbers of MSRs: known ones, the ends of their ranges and what lies beside them.</summary>
    public static readonly ImmutableArray<ulong> Msrs =
    [
        Msr.Tsc, Msr.ApicBase, Msr.FeatureControl, Msr.TscAdjust, Msr.SpecCtrl, Msr.SysenterCs, Msr.SysenterEsp, Msr.SysenterEip,
        Msr.MiscEnable, Msr.DebugCtl, Msr.MtrrPhysBase0, 0x20F, 0x210, Msr.MtrrFix64K, 0x258, 0x26F, 0x2F8, Msr.Pat, Msr.MtrrDefType,
        Msr.VmxBasic, 0x493, 0x802, 0x808, 0x80B, 0x830, 0x83F, Msr.Xss, Msr.Efer, Msr.Star, Msr.Lstar, Msr.Cstar, Msr.Fmask, Msr.FsBase,
        Msr.GsBase, Msr.KernelGsBase, Msr.TscAux, 0x4000_0000, 0x4000_0001, 0x4B56_4D00, 0x4B56_4D01, 0x4B56_4D02, 0x4B56_4D03, 0x4B56_4D04,
    ];

    /// <summary>Words that mean something: MSR numbers, CPUID leaves, control-register values, addresses of devices.</summary>
    public static readonly ImmutableArray<ulong> Words =
    [
        .. Msrs, 0x8000_0000, 0x8000_0008, 0xD,
        Cr0.Pe, Cr0.Pe | Cr0.Pg, Cr0.Pe | Cr0.Ne | Cr0.Et | Cr0.Pg | Cr0.Wp, Cr0.Nw, Cr0.Cd | Cr0.Nw, Cr4.Pae, Cr4.Vmxe, Cr4.Pcide,
        Cr4.Smep | Cr4.Smap, Cr4.La57, Efer.Lme, Efer.Lme | Efer.Lma, Efer.Nxe | Efer.Sce, RFlags.Tf, RFlags.If, RFlags.Vm, RFlags.Ac,
        0xFEE0_0000, 0xFEE0_00B0, 0xFEE0_0300, 0xFEC0_0000, 0x0007_0406_0007_0406, 0xFFFF_0FF0, 0x400,
    ];

    /// <summary>I/O ports with something behind them, and their neighbours.</summary>
    public static readonly ImmutableArray<ushort> Ports =
    [
        0, 0x20, 0x21, 0x40, 0x42, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0x92, 0xA0, 0xA1, 0xE9, 0xF4, 0x3F8, 0x3F9, 0x3FD,
        0x402, 0x4D0, 0x510, 0x511, 0x514, 0x608, 0xCF8, 0xCF9, 0xCFC, 0xFFFE, 0xFFFF,
    ];

    /// <summary>Values that a field may sensibly have.</summary>
    public static readonly ImmutableArray<(VmcsField Field, ImmutableArray<ulong> Values)> FieldValues =
    [
        (VmcsField.GuestActivity, [0, 1, 2, 3, 4]),
        (VmcsField.GuestInterruptibility, [0, 1, 2, 3, 4, 8, 0x10, 0x1F]),
        (VmcsField.GuestRflags, [2, 2 | RFlags.If, 2 | RFlags.Tf, 2 | RFlags.Vm, 2 | RFlags.Vm | RFlags.If, 2 | RFlags.Rf, 2 | RFlags.Iopl, 0]),
        (VmcsField.GuestPendingDebug, [0, 1, 0xF, 1 << 12, 1 << 14, 1 << 16, (1 << 12) | (1 << 14)]),
        (VmcsField.EntryInterruptionInfo,
        [
            0, 0x8000_0000, 0x8000_0020, 0x8000_00FF, 0x8000_0202, 0x8000_0203, 0x8000_0301, 0x8000_0306, 0x8000_0B08, 0x8000_0B0D,
            0x8000_0B0E, 0x8000_030E, 0x8000_0480, 0x8000_0501, 0x8000_0603, 0x8000_0604, 0x8000_0700, 0x8000_0100, 0x8000_1020,
        ]),
        (VmcsField.EntryInstructionLength, [0, 1, 2, 15, 16, 0xFFFF_FFFF]),
        (VmcsField.EptPointer, [0, 6, 0x11_001E, 0x11_005E, 0x11_0018, 0x11_001A, 0x11_0026, 0x11_0F9E, ulong.MaxValue]),
        (VmcsField.VmcsLinkPointer, [ulong.MaxValue, 0, 0x1000, 0x1001, 0x12_0000, 1UL << 51]),
        (VmcsField.GuestCr0, [0, Cr0.Pe, Cr0.Ne, Cr0.Pe | Cr0.Pg | Cr0.Ne, Cr0.Pe | Cr0.Pg | Cr0.Ne | Cr0.Nw, 0x8005_0033, 0x6000_0010]),
        (VmcsField.GuestCr4, [0, Cr4.Vmxe, Cr4.Pae | Cr4.Vmxe, Cr4.Pae | Cr4.Vmxe | Cr4.Pcide, Cr4.Vmxe | Cr4.La57 | Cr4.Pae]),
        (VmcsField.GuestEfer, [0, Efer.Lme, Efer.Lma, Efer.Lme | Efer.Lma, Efer.Nxe, Efer.Defined]),
        (VmcsField.GuestCsAccessRights, [0xA09B, 0xC09B, 0xA09F, 0x9B, 0xF3, 0xA0FB, 0xE09B, 0x1_0000, 0x93, 0xC093]),
        (VmcsField.GuestSsAccessRights, [0xC093, 0x93, 0xF3, 0xC0F3, 0x1_0000, 0xC097, 0xC09B]),
        (VmcsField.GuestTrAccessRights, [0x8B, 0x83, 0x89, 0x1_0000, 0x808B]),
        (VmcsField.GuestLdtrAccessRights, [0x1_0000, 0x82, 0x8082, 0x92]),
        (VmcsField.GuestPat, [0x0007_0406_0007_0406, 0, 2, 3, 0x0808_0808_0808_0808]),
        (VmcsField.GuestDebugCtl, [0, 1, 2, 4, 0xFFFF]),
        (VmcsField.GuestDr7, [0x400, 0, 0x401, 0x2400, 1UL << 32, 0xFFFF_FFFF]),
        (VmcsField.Cr3TargetCount, [0, 1, 4, 5, 256]),
        (VmcsField.EntryMsrLoadCount, [0, 1, 2, 512, 513, 0xFFFF_FFFF]),
        (VmcsField.ExitMsrLoadCount, [0, 1, 2, 512, 513]),
        (VmcsField.ExitMsrStoreCount, [0, 1, 2, 512, 513]),
        (VmcsField.VirtualProcessorIdentifier, [0, 1, 0xFFFF]),
    ];
}
