using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Vmx;

// Guest state between the VMCS and the registers. While C# is in root operation the registers keep the guest's values:
// when loading them from the VMCS and saving them back once changed neither, and nobody has touched either since, only
// what execution alone changes is moved ("restless": Vmcs.IsRestless). The rest is compared, not moved.
public sealed unsafe partial class VmxUnit
{
    // ES to IA32_SYSENTER_EIP in CpuState.
    private const int CalmWords = 50;

    // The registers after the last whole load, and what that load depended on.
    private readonly ulong[] _loaded = new ulong[CalmWords];
    private ulong _loadedPat;
    private ulong _loadedDebugCtl;
    private ulong _loadedGuest;
    private uint _loadedEntryControls;
    private uint _loadedSecondary;
    private ulong _loadedHostRegisters;

    // Saving them as they were loaded changed no field, under these exit controls.
    private bool _settled;
    private uint _settledExitControls;

    // SDM "Loading Guest State".
    private void LoadGuest()
    {
        if (_settled && IsAsLoaded() && HasLoadInputs())
        {
            LoadRestless();
            return;
        }

        LoadAll();
        _settled = false;
        CalmRegisters(_state).CopyTo(_loaded);
        _loadedPat = _state->Pat;
        _loadedDebugCtl = _state->DebugCtl;
        _loadedGuest = _vmcs.GuestVersion;
        _loadedEntryControls = (uint)_vmcs[VmcsField.EntryControls];
        _loadedSecondary = SecondaryOf(_vmcs);
        _loadedHostRegisters = Host.Version;
    }

    // SDM "Saving Guest State".
    private void SaveGuest()
    {
        uint exit = (uint)_vmcs[VmcsField.ExitControls];
        bool asLoaded = IsAsLoaded();
        if (asLoaded && _settled && _settledExitControls == exit
            && _loadedEntryControls == (uint)_vmcs[VmcsField.EntryControls] && _loadedSecondary == _secondary)
        {
            SaveRestless();
            return;
        }

        bool changed = SaveAll(exit);
        CpuState* s = _state;
        bool ept = (_secondary & SecondaryControls.EnableEpt) != 0;
        bool readsMemory = !ept && (s->Cr0 & Cr0.Pg) != 0 && (s->Cr4 & Cr4.Pae) != 0 && (s->Efer & Efer.Lma) == 0;
        _settled = asLoaded && !changed && !readsMemory;
        _settledExitControls = exit;
    }

    private void LoadRestless()
    {
        CpuState* s = _state;
        Vmcs v = _vmcs;
        s->Gpr[(int)Gpr.Rsp] = v[VmcsField.GuestRsp];
        s->Gpr[CpuState.RipSlot] = v[VmcsField.GuestRip];
        _cpu.RFlagsValue = v[VmcsField.GuestRflags];
        s->Interruptibility = v[VmcsField.GuestInterruptibility];
        s->Activity = v[VmcsField.GuestActivity];
        s->PendingDebug = v[VmcsField.GuestPendingDebug];
    }

    private void LoadAll()
    {
        CpuState* s = _state;
        Vmcs v = _vmcs;
        LoadRestless();
        uint entry = (uint)v[VmcsField.EntryControls];
        bool longMode = (entry & EntryControls.Ia32eModeGuest) != 0;
        s->Cr0 = (v[VmcsField.GuestCr0] & ~Cr0Kept) | (Host.Cr0 & Cr0Kept);
        s->Cr3 = v[VmcsField.GuestCr3];
        s->Cr4 = v[VmcsField.GuestCr4];
        if ((entry & EntryControls.LoadDebugControls) != 0)
        {
            s->Dr7 = (v[VmcsField.GuestDr7] & 0xFFFF_2FFF & ~0x1000UL) | 0x400;
            s->DebugCtl = v[VmcsField.GuestDebugCtl];
        }
        else
        {
            s->Dr7 = Host.Dr7;
            s->DebugCtl = Host.DebugCtl;
        }

        s->SysenterCs = v[VmcsField.GuestSysenterCs];
        s->SysenterEsp = v[VmcsField.GuestSysenterEsp];
        s->SysenterEip = v[VmcsField.GuestSysenterEip];
        if ((entry & EntryControls.LoadEfer) != 0)
        {
            s->Efer = v[VmcsField.GuestEfer];
        }
        else
        {
            ulong efer = Host.Efer & ~Efer.Lma;
            if ((s->Cr0 & Cr0.Pg) != 0)
            {
                efer &= ~Efer.Lme;
            }

            s->Efer = efer | (longMode ? Efer.Lma | Efer.Lme : 0);
        }

        s->Pat = (entry & EntryControls.LoadPat) != 0 ? v[VmcsField.GuestPat] : Host.Pat;
        ulong* slots = v.Slots;
        int selector = VmcsFieldInfo.Slot(VmcsField.GuestEsSelector);
        int limit = VmcsFieldInfo.Slot(VmcsField.GuestEsLimit);
        int rights = VmcsFieldInfo.Slot(VmcsField.GuestEsAccessRights);
        int segmentBase = VmcsFieldInfo.Slot(VmcsField.GuestEsBase);
        SegmentState* segment = &s->Es;
        for (int i = 0; i < 8; i++)
        {
            segment[i].Selector = slots[selector + i];
            segment[i].Base = slots[segmentBase + i];
            segment[i].Limit = (uint)slots[limit + i];
            segment[i].Attributes = (uint)slots[rights + i];
        }

        s->Gdtr.Base = v[VmcsField.GuestGdtrBase];
        s->Gdtr.Limit = v[VmcsField.GuestGdtrLimit];
        s->Idtr.Base = v[VmcsField.GuestIdtrBase];
        s->Idtr.Limit = v[VmcsField.GuestIdtrLimit];
        bool pae = (s->Cr0 & Cr0.Pg) != 0 && (s->Cr4 & Cr4.Pae) != 0 && !longMode;
        if (pae)
        {
            bool ept = (SecondaryOf(v) & SecondaryControls.EnableEpt) != 0;
            for (int i = 0; i < 4; i++)
            {
                s->Pdpte[i] = ept
                    ? v[VmcsField.GuestPdpte0 + (uint)(2 * i)]
                    : ReadWord((s->Cr3 & 0xFFFF_FFE0) + (ulong)(8 * i));
            }
        }
    }

    private void SaveRestless()
    {
        CpuState* s = _state;
        ulong* slots = _vmcs.Slots;
        ulong doubles = 0;
        ulong naturals = 0;
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestRsp), s->Gpr[(int)Gpr.Rsp], ref naturals);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestRip), s->Gpr[CpuState.RipSlot], ref naturals);
        ulong flags = _cpu.RFlagsValue;
        flags = _savedRf == SavedRf.Clear ? flags & ~RFlags.Rf : _savedRf == SavedRf.Set ? flags | RFlags.Rf : flags;
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestRflags), flags, ref naturals);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestInterruptibility), (uint)s->Interruptibility, ref doubles);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestActivity), (uint)s->Activity, ref doubles);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestPendingDebug), s->PendingDebug & PendingDebugExceptions.Defined, ref naturals);
        _vmcs.AddDirty(VmcsFieldInfo.Slot(VmcsField.GuestEsLimit) >> 6, doubles);
        _vmcs.AddDirty(VmcsFieldInfo.Slot(VmcsField.GuestCr0) >> 6, naturals);
    }

    // The guest area is four words of slots, one for each width. True: a field changed that is not restless.
    private bool SaveAll(uint exit)
    {
        SaveRestless();
        CpuState* s = _state;
        Vmcs v = _vmcs;
        ulong* slots = v.Slots;
        ulong words = 0;
        ulong quads = 0;
        ulong doubles = 0;
        ulong naturals = 0;
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestCr0), s->Cr0, ref naturals);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestCr3), s->Cr3, ref naturals);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestCr4), s->Cr4, ref naturals);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestSysenterCs), (uint)s->SysenterCs, ref doubles);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestSysenterEsp), s->SysenterEsp, ref naturals);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestSysenterEip), s->SysenterEip, ref naturals);
        if ((exit & ExitControls.SaveDebugControls) != 0)
        {
            Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestDr7), s->Dr7, ref naturals);
            Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestDebugCtl), s->DebugCtl, ref quads);
        }

        if ((exit & ExitControls.SavePat) != 0)
        {
            Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestPat), s->Pat, ref quads);
        }

        if ((exit & ExitControls.SaveEfer) != 0)
        {
            Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestEfer), s->Efer, ref quads);
        }

        if ((Capabilities.Misc & (1UL << 5)) != 0)
        {
            ulong entry = v[VmcsField.EntryControls] & ~(ulong)EntryControls.Ia32eModeGuest;
            v[VmcsField.EntryControls] = entry | ((s->Efer & Efer.Lma) != 0 ? EntryControls.Ia32eModeGuest : 0);
        }

        int selector = VmcsFieldInfo.Slot(VmcsField.GuestEsSelector);
        int limit = VmcsFieldInfo.Slot(VmcsField.GuestEsLimit);
        int rights = VmcsFieldInfo.Slot(VmcsField.GuestEsAccessRights);
        int segmentBase = VmcsFieldInfo.Slot(VmcsField.GuestEsBase);
        SegmentState* segment = &s->Es;
        for (int i = 0; i < 8; i++)
        {
            Vmcs.Store(slots, selector + i, (ushort)segment[i].Selector, ref words);
            Vmcs.Store(slots, limit + i, segment[i].Limit, ref doubles);
            Vmcs.Store(slots, rights + i, segment[i].Attributes & ~SegmentAttributes.Reserved, ref doubles);
            Vmcs.Store(slots, segmentBase + i, segment[i].Base, ref naturals);
        }

        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestGdtrBase), s->Gdtr.Base, ref naturals);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestGdtrLimit), (uint)s->Gdtr.Limit, ref doubles);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestIdtrBase), s->Idtr.Base, ref naturals);
        Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestIdtrLimit), (uint)s->Idtr.Limit, ref doubles);
        if ((_secondary & SecondaryControls.EnableEpt) != 0
            && (s->Cr0 & Cr0.Pg) != 0 && (s->Cr4 & Cr4.Pae) != 0 && (s->Efer & Efer.Lma) == 0)
        {
            for (int i = 0; i < 4; i++)
            {
                Vmcs.Store(slots, VmcsFieldInfo.Slot(VmcsField.GuestPdpte0) + i, s->Pdpte[i], ref quads);
            }
        }

        v.AddDirty(VmcsFieldInfo.Slot(VmcsField.GuestEsSelector) >> 6, words);
        v.AddDirty(VmcsFieldInfo.Slot(VmcsField.GuestPat) >> 6, quads);
        v.AddDirty(VmcsFieldInfo.Slot(VmcsField.GuestEsLimit) >> 6, doubles);
        v.AddDirty(VmcsFieldInfo.Slot(VmcsField.GuestCr0) >> 6, naturals);
        bool changed = (words | quads | doubles | naturals) != 0;
        if (changed)
        {
            v.MoveGuestVersion();
        }

        return changed;
    }

    private bool IsAsLoaded() => _loadedGuest == _vmcs.GuestVersion
        && _loadedPat == _state->Pat && _loadedDebugCtl == _state->DebugCtl
        && CalmRegisters(_state).SequenceEqual(_loaded);

    private bool HasLoadInputs() => _loadedEntryControls == (uint)_vmcs[VmcsField.EntryControls]
        && _loadedSecondary == SecondaryOf(_vmcs) && _loadedHostRegisters == Host.Version;

    // SAFETY: the fields from Es to SysenterEip lie one behind another in CpuState.
    private static ReadOnlySpan<ulong> CalmRegisters(CpuState* s) => new(&s->Es, (int)(&s->SysenterEip + 1 - (ulong*)&s->Es));
}
