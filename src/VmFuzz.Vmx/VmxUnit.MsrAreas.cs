using VmFuzz.Arch;

namespace VmFuzz.Vmx;

// MSR-load and MSR-store areas (SDM "Loading MSRs", "Saving MSRs").
public sealed unsafe partial class VmxUnit
{
    // 1-based number of the entry that failed, or 0.
    private uint LoadEntryMsrs()
    {
        uint count = (uint)_vmcs[VmcsField.EntryMsrLoadCount];
        if (count == 0)
        {
            return 0;
        }

        ulong at = _vmcs[VmcsField.EntryMsrLoadAddress];
        for (uint i = 0; i < count; i++, at += 16)
        {
            ulong index = ReadWord(at);
            if (!MayLoad(index) || !TryWriteGuestMsr((uint)index, ReadWord(at + 8)))
            {
                return i + 1;
            }
        }

        return 0;
    }

    private bool StoreExitMsrs()
    {
        uint count = (uint)_vmcs[VmcsField.ExitMsrStoreCount];
        ulong at = _vmcs[VmcsField.ExitMsrStoreAddress];
        for (uint i = 0; i < count; i++, at += 16)
        {
            ulong index = ReadWord(at);
            if (index >> 32 != 0 || (index >> 8) == 8 || !TryReadGuestMsr((uint)index, out ulong value))
            {
                return AbortExit(VmxAbort.SavingGuestMsrs);
            }

            WriteWord(at + 8, value);
        }

        return true;
    }

    private bool LoadExitMsrs()
    {
        uint count = (uint)_vmcs[VmcsField.ExitMsrLoadCount];
        ulong at = _vmcs[VmcsField.ExitMsrLoadAddress];
        for (uint i = 0; i < count; i++, at += 16)
        {
            ulong index = ReadWord(at);
            if (!MayLoad(index) || !Host.TryWriteMsr((uint)index, ReadWord(at + 8)))
            {
                return AbortExit(VmxAbort.LoadingHostMsrs);
            }
        }

        return true;
    }

    // What no MSR-load area may name: reserved bits, FS and GS base, x2APIC registers, IA32_SMM_MONITOR_CTL, and the
    // microcode-update MSRs.
    internal static bool MayLoad(ulong index) => index >> 32 == 0
        && index is not (Msr.FsBase or Msr.GsBase or 0x9B or Msr.BiosUpdateTrigger or Msr.BiosSignId)
        && index >> 8 != 8;

    private bool TryWriteGuestMsr(uint msr, ulong value)
    {
        Cpu.CpuState* s = _state;
        switch (msr)
        {
            case Msr.Efer:
                // LMA follows the entry; LME cannot change while paging is on.
                if ((value & ~Efer.Defined) != 0 || ((s->Cr0 & Cr0.Pg) != 0 && ((value ^ s->Efer) & Efer.Lme) != 0))
                {
                    return false;
                }

                s->Efer = (value & ~Efer.Lma) | (s->Efer & Efer.Lma);
                return true;
            case Msr.Pat when PatIsValid(value): s->Pat = value; return true;
            case Msr.DebugCtl: s->DebugCtl = value; return true;
            case Msr.SysenterCs: s->SysenterCs = value; return true;
            case Msr.SysenterEsp when Capabilities.IsCanonical(value): s->SysenterEsp = value; return true;
            case Msr.SysenterEip when Capabilities.IsCanonical(value): s->SysenterEip = value; return true;
            case Msr.KernelGsBase when Capabilities.IsCanonical(value): s->KernelGsBase = value; return true;
            case Msr.Star: s->Star = value; return true;
            case Msr.Lstar when Capabilities.IsCanonical(value): s->Lstar = value; return true;
            case Msr.Cstar when Capabilities.IsCanonical(value): s->Cstar = value; return true;
            case Msr.Fmask when value >> 32 == 0: s->Fmask = value; return true;
            case Msr.TscAux when value >> 32 == 0: s->TscAux = value; return true;
            case Msr.Tsc: s->TscOffset = value - _cpu.Clock.Now; return true;
            case Msr.MiscEnable: s->MiscEnable = value; return true;
            case Msr.Xss when value == 0: s->Xss = value; return true;
            default: return false;
        }
    }

    private bool TryReadGuestMsr(uint msr, out ulong value)
    {
        Cpu.CpuState* s = _state;
        ulong? found = msr switch
        {
            Msr.Efer => s->Efer,
            Msr.Pat => s->Pat,
            Msr.DebugCtl => s->DebugCtl,
            Msr.SysenterCs => s->SysenterCs,
            Msr.SysenterEsp => s->SysenterEsp,
            Msr.SysenterEip => s->SysenterEip,
            Msr.KernelGsBase => s->KernelGsBase,
            Msr.Star => s->Star,
            Msr.Lstar => s->Lstar,
            Msr.Cstar => s->Cstar,
            Msr.Fmask => s->Fmask,
            Msr.TscAux => s->TscAux,
            Msr.Tsc => _cpu.Tsc,
            Msr.FsBase => s->Fs.Base,
            Msr.GsBase => s->Gs.Base,
            Msr.MiscEnable => s->MiscEnable,
            Msr.ApicBase => s->ApicBase,
            Msr.FeatureControl => s->FeatureControl,
            Msr.Xss => s->Xss,
            _ => null,
        };
        value = found ?? 0;
        return found is not null;
    }

    /// <summary>Whether each byte of a PAT value is a memory type: 0, 1, 4, 5, 6 or 7.</summary>
    internal static bool PatIsValid(ulong value)
    {
        for (int i = 0; i < 8; i++)
        {
            if (((value >> (8 * i)) & 0xFF) is not (0 or 1 or 4 or 5 or 6 or 7))
            {
                return false;
            }
        }

        return true;
    }
}
