using System.Collections.Immutable;
using VmFuzz.Arch;

namespace VmFuzz.Cpu;

/// <summary>Reads a model-specific register.</summary>
internal delegate ulong MsrRead(Processor cpu, uint msr);

/// <summary>Writes a model-specific register; false is #GP(0).</summary>
internal delegate bool MsrWrite(Processor cpu, uint msr, ulong value);

/// <summary>One row: a register or a run of registers with one meaning.</summary>
/// <param name="First">First number.</param>
/// <param name="Last">Last number.</param>
/// <param name="Name">Name as in SDM volume 4.</param>
/// <param name="Read">How it is read.</param>
/// <param name="Write">How it is written; null when a write is #GP.</param>
/// <param name="Feature">Feature without which the register does not exist.</param>
internal sealed record MsrRow(uint First, uint Last, string Name, MsrRead Read, MsrWrite? Write, CpuFeatures Feature = CpuFeatures.None);

/// <summary>The model-specific registers of the processor, in rising order (SDM volume 4, "Architectural MSRs").</summary>
internal static unsafe class MsrTable
{
    /// <summary>IA32_MTRRCAP: eight variable ranges, fixed ranges, write-combining.</summary>
    public const ulong MtrrCapabilities = 0x508;

    private static readonly MsrRead Zero = static (cpu, msr) => 0;
    private static readonly MsrWrite Ignore = static (cpu, msr, value) => true;

    public static readonly ImmutableArray<MsrRow> Rows =
    [
        Row(Msr.Tsc, "IA32_TIME_STAMP_COUNTER", static (c, _) => c.Tsc, WriteTsc),
        Row(Msr.PlatformId, "IA32_PLATFORM_ID", Zero, null),
        Row(Msr.ApicBase, "IA32_APIC_BASE", static (c, _) => c.State->ApicBase, WriteApicBase, CpuFeatures.Apic),
        Row(Msr.FeatureControl, "IA32_FEATURE_CONTROL", static (c, _) => c.State->FeatureControl, WriteFeatureControl, CpuFeatures.Vmx),
        Row(Msr.TscAdjust, "IA32_TSC_ADJUST", static (c, _) => c.State->TscAdjust, WriteTscAdjust),
        Row(Msr.SpecCtrl, "IA32_SPEC_CTRL", static (c, _) => c.State->SpecCtrl, WriteSpecCtrl),
        Row(Msr.BiosUpdateTrigger, "IA32_BIOS_UPDT_TRIG", Zero, Ignore),
        Row(Msr.BiosSignId, "IA32_BIOS_SIGN_ID", static (_, _) => 0x1_0000_0000, Ignore),
        Row(0xCE, "MSR_PLATFORM_INFO", Zero, null),
        Row(Msr.MtrrCap, "IA32_MTRRCAP", static (_, _) => MtrrCapabilities, null, CpuFeatures.Mtrr),
        Row(0x140, "MSR_MISC_FEATURES_ENABLES", Zero, static (_, _, value) => value == 0),
        Row(Msr.SysenterCs, "IA32_SYSENTER_CS", static (c, _) => c.State->SysenterCs, static (c, _, v) => Set(ref c.State->SysenterCs, (uint)v), CpuFeatures.Sep),
        Row(Msr.SysenterEsp, "IA32_SYSENTER_ESP", static (c, _) => c.State->SysenterEsp, static (c, _, v) => c.IsCanonical(v) && Set(ref c.State->SysenterEsp, v), CpuFeatures.Sep),
        Row(Msr.SysenterEip, "IA32_SYSENTER_EIP", static (c, _) => c.State->SysenterEip, static (c, _, v) => c.IsCanonical(v) && Set(ref c.State->SysenterEip, v), CpuFeatures.Sep),
        Row(Msr.McgCap, "IA32_MCG_CAP", Zero, null, CpuFeatures.Mca),
        Row(Msr.McgStatus, "IA32_MCG_STATUS", static (c, _) => c.State->McgStatus, static (c, _, v) => (v & ~7UL) == 0 && Set(ref c.State->McgStatus, v), CpuFeatures.Mca),
        Row(Msr.MiscEnable, "IA32_MISC_ENABLE", static (c, _) => c.State->MiscEnable, WriteMiscEnable),
        Row(Msr.DebugCtl, "IA32_DEBUGCTL", static (c, _) => c.State->DebugCtl, static (c, _, v) => (v & ~3UL) == 0 && Set(ref c.State->DebugCtl, v)),
        new(Msr.MtrrPhysBase0, Msr.MtrrPhysBase0 + 15, "IA32_MTRR_PHYSBASE, PHYSMASK", static (c, n) => c.State->MtrrVariable[n - Msr.MtrrPhysBase0], WriteMtrrVariable, CpuFeatures.Mtrr),
        new(Msr.MtrrFix64K, Msr.MtrrFix64K, "IA32_MTRR_FIX64K", ReadMtrrFixed, WriteMtrrFixed, CpuFeatures.Mtrr),
        new(Msr.MtrrFix16K80000, Msr.MtrrFix16KA0000, "IA32_MTRR_FIX16K", ReadMtrrFixed, WriteMtrrFixed, CpuFeatures.Mtrr),
        new(Msr.MtrrFix4KC0000, Msr.MtrrFix4KC0000 + 7, "IA32_MTRR_FIX4K", ReadMtrrFixed, WriteMtrrFixed, CpuFeatures.Mtrr),
        Row(Msr.Pat, "IA32_PAT", static (c, _) => c.State->Pat, WritePat, CpuFeatures.Pat),
        Row(Msr.MtrrDefType, "IA32_MTRR_DEF_TYPE", static (c, _) => c.State->MtrrDefType, WriteMtrrDefType, CpuFeatures.Mtrr),
        Row(Msr.Pkrs, "IA32_PKRS", static (c, _) => c.State->Pkrs, static (c, _, v) => v >> 32 == 0 && c.SetPageKeys(ref c.State->Pkrs, v), CpuFeatures.Pks),
        Row(Msr.Xss, "IA32_XSS", static (c, _) => c.State->Xss, static (_, _, v) => v == 0, CpuFeatures.Xsave),
        Row(Msr.Efer, "IA32_EFER", static (c, _) => c.State->Efer, static (c, _, v) => c.TryLoadEfer(v)),
        Row(Msr.Star, "IA32_STAR", static (c, _) => c.State->Star, static (c, _, v) => Set(ref c.State->Star, v), CpuFeatures.Syscall),
        Row(Msr.Lstar, "IA32_LSTAR", static (c, _) => c.State->Lstar, static (c, _, v) => c.IsCanonical(v) && Set(ref c.State->Lstar, v), CpuFeatures.Syscall),
        Row(Msr.Cstar, "IA32_CSTAR", static (c, _) => c.State->Cstar, static (c, _, v) => c.IsCanonical(v) && Set(ref c.State->Cstar, v), CpuFeatures.Syscall),
        Row(Msr.Fmask, "IA32_FMASK", static (c, _) => c.State->Fmask, static (c, _, v) => v >> 32 == 0 && Set(ref c.State->Fmask, v), CpuFeatures.Syscall),
        Row(Msr.FsBase, "IA32_FS_BASE", static (c, _) => c.State->Fs.Base, static (c, _, v) => c.IsCanonical(v) && Set(ref c.State->Fs.Base, v), CpuFeatures.LongMode),
        Row(Msr.GsBase, "IA32_GS_BASE", static (c, _) => c.State->Gs.Base, static (c, _, v) => c.IsCanonical(v) && Set(ref c.State->Gs.Base, v), CpuFeatures.LongMode),
        Row(Msr.KernelGsBase, "IA32_KERNEL_GS_BASE", static (c, _) => c.State->KernelGsBase, static (c, _, v) => c.IsCanonical(v) && Set(ref c.State->KernelGsBase, v), CpuFeatures.LongMode),
        Row(Msr.TscAux, "IA32_TSC_AUX", static (c, _) => c.State->TscAux, static (c, _, v) => v >> 32 == 0 && Set(ref c.State->TscAux, v), CpuFeatures.Rdtscp),
    ];

    /// <summary>Reads a register; false is #GP(0).</summary>
    public static bool TryRead(Processor cpu, uint msr, out ulong value)
    {
        value = 0;
        if (cpu.MsrExtension is { } extension && extension.TryRead(msr, out value, out bool fault))
        {
            return !fault;
        }

        if (IsApic(cpu, msr))
        {
            return cpu.Interrupts is { } apic && apic.TryReadApicMsr(msr, out value);
        }

        if (Find(cpu, msr) is not { } row)
        {
            return false;
        }

        value = row.Read(cpu, msr);
        return true;
    }

    /// <summary>Writes a register; false is #GP(0) and nothing has changed.</summary>
    public static bool TryWrite(Processor cpu, uint msr, ulong value)
    {
        if (cpu.MsrExtension is { } extension && extension.TryWrite(msr, value, out bool fault))
        {
            return !fault;
        }

        if (IsApic(cpu, msr))
        {
            return cpu.Interrupts is { } apic && apic.TryWriteApicMsr(msr, value);
        }

        return Find(cpu, msr) is { Write: { } write } && write(cpu, msr, value);
    }

    /// <summary>Whether a register is the local APIC's, which stands outside this table.</summary>
    public static bool IsApic(Processor cpu, uint msr) =>
        msr is >= 0x800 and <= 0x8FF || (msr == Msr.TscDeadline && cpu.Model.Has(CpuFeatures.TscDeadline));

    private static MsrRow? Find(Processor cpu, uint msr)
    {
        int low = 0, high = Rows.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            MsrRow row = Rows[middle];
            if (msr < row.First)
            {
                high = middle - 1;
            }
            else if (msr > row.Last)
            {
                low = middle + 1;
            }
            else
            {
                return cpu.Model.Has(row.Feature) ? row : null;
            }
        }

        return null;
    }

    private static MsrRow Row(uint number, string name, MsrRead read, MsrWrite? write, CpuFeatures feature = CpuFeatures.None) =>
        new(number, number, name, read, write, feature);

    private static bool Set(ref ulong field, ulong value)
    {
        field = value;
        return true;
    }

    private static ulong PhysicalReserved(Processor cpu) => ~((1UL << cpu.Model.PhysicalBits) - 1);

    private static bool WriteTsc(Processor cpu, uint msr, ulong value)
    {
        ulong change = value - cpu.Tsc;
        cpu.State->TscOffset += change;
        cpu.State->TscAdjust += change;
        cpu.Interrupts?.ProcessorMsrWritten();
        return true;
    }

    private static bool WriteTscAdjust(Processor cpu, uint msr, ulong value)
    {
        cpu.State->TscOffset += value - cpu.State->TscAdjust;
        cpu.State->TscAdjust = value;
        cpu.Interrupts?.ProcessorMsrWritten();
        return true;
    }

    private static bool WriteSpecCtrl(Processor cpu, uint msr, ulong value) =>
        (value & ~7UL) == 0 && Set(ref cpu.State->SpecCtrl, value);

    // SDM "Local APIC Status and Location" and "x2APIC State Transitions".
    private static bool WriteApicBase(Processor cpu, uint msr, ulong value)
    {
        bool hasX2Apic = (cpu.Model.Lookup(1, 0).Ecx & (1U << 21)) != 0;
        ulong reserved = 0x2FFUL | (hasX2Apic ? 0 : 1UL << 10) | PhysicalReserved(cpu);
        ulong mode = (value >> 10) & 3;
        ulong old = (cpu.State->ApicBase >> 10) & 3;
        bool wrongMode = mode == 1 || (old == 3 && mode == 2) || (old == 0 && mode == 3);
        if ((value & reserved) != 0 || wrongMode)
        {
            return false;
        }

        cpu.State->ApicBase = value;
        cpu.Interrupts?.ProcessorMsrWritten();
        cpu.Look();
        return true;
    }

    private static bool WriteFeatureControl(Processor cpu, uint msr, ulong value) =>
        (cpu.State->FeatureControl & 1) == 0 && (value & ~7UL) == 0 && Set(ref cpu.State->FeatureControl, value);

    // Writable: fast strings, thermal control, performance monitoring, SpeedStep, MONITOR, CPUID limit, xTPR, XD disable.
    private static bool WriteMiscEnable(Processor cpu, uint msr, ulong value)
    {
        const ulong Writable = 1UL | (1 << 3) | (1 << 16) | (1 << 18) | (1 << 22) | (1 << 23) | (1UL << 34) | (1UL << 38);
        const ulong ReadOnly = (1 << 7) | (1 << 11) | (1 << 12);
        if ((value & ~(Writable | ReadOnly)) != 0)
        {
            return false;
        }

        return Set(ref cpu.State->MiscEnable, (value & Writable) | (cpu.State->MiscEnable & ReadOnly));
    }

    private static bool IsMtrrType(ulong type) => type is 0 or 1 or 4 or 5 or 6;

    private static bool WriteMtrrVariable(Processor cpu, uint msr, ulong value)
    {
        bool isMask = (msr & 1) != 0;
        ulong reserved = PhysicalReserved(cpu) | (isMask ? 0x7FFUL : 0xF00UL);
        if ((value & reserved) != 0 || (!isMask && !IsMtrrType(value & 0xFF)))
        {
            return false;
        }

        cpu.State->MtrrVariable[msr - Msr.MtrrPhysBase0] = value;
        return true;
    }

    private static int FixedIndex(uint msr) => msr switch
    {
        Msr.MtrrFix64K => 0,
        Msr.MtrrFix16K80000 => 1,
        Msr.MtrrFix16KA0000 => 2,
        _ => 3 + (int)(msr - Msr.MtrrFix4KC0000),
    };

    private static ulong ReadMtrrFixed(Processor cpu, uint msr) => cpu.State->MtrrFixed[FixedIndex(msr)];

    private static bool WriteMtrrFixed(Processor cpu, uint msr, ulong value)
    {
        for (int i = 0; i < 64; i += 8)
        {
            if (!IsMtrrType((value >> i) & 0xFF))
            {
                return false;
            }
        }

        cpu.State->MtrrFixed[FixedIndex(msr)] = value;
        return true;
    }

    private static bool WriteMtrrDefType(Processor cpu, uint msr, ulong value) =>
        (value & ~0xCFFUL) == 0 && IsMtrrType(value & 0xFF) && Set(ref cpu.State->MtrrDefType, value);

    private static bool WritePat(Processor cpu, uint msr, ulong value)
    {
        for (int i = 0; i < 64; i += 8)
        {
            if (((value >> i) & 0xFF) is not (0 or 1 or 4 or 5 or 6 or 7))
            {
                return false;
            }
        }

        return Set(ref cpu.State->Pat, value);
    }
}
