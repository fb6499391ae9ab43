using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Kvm;

// The guest's registers: general ones are kept here, the others in the VMCS behind a cache that an exit empties (S61, S70).
public sealed unsafe partial class VmxVcpu
{
    private const uint RspBit = 1;
    private const uint RipBit = 2;
    private const uint FlagsBit = 4;
    private const uint Cr3Bit = 8;
    private const int SegmentShift = 16;

    /// <summary>CR4 bits that the guest changes without an exit.</summary>
    internal const ulong GuestOwnedCr4 = Arch.Cr4.Pvi | Arch.Cr4.De | Arch.Cr4.Pce | Arch.Cr4.Osfxsr | Arch.Cr4.Osxmmexcpt | Arch.Cr4.Tsd;

    private GprFile _gprs;
    private SegmentFile _segments;
    private ulong _rip;
    private ulong _flags;
    private ulong _cr3;
    private uint _available = RspBit;
    private uint _dirty;

    /// <summary>CR2.</summary>
    public ulong Cr2 { get; internal set; }

    /// <summary>Whether the guest may use the FPU without a trap (S30).</summary>
    public bool FpuActive { get; private set; } = true;

    /// <summary>RIP.</summary>
    public ulong Rip
    {
        get
        {
            if ((_available & RipBit) == 0)
            {
                _rip = Read(VmcsField.GuestRip);
                _available |= RipBit;
            }

            return _rip;
        }

        set
        {
            _rip = value;
            _available |= RipBit;
            _dirty |= RipBit;
        }
    }

    /// <summary>RFLAGS.</summary>
    public ulong RFlags
    {
        get
        {
            if ((_available & FlagsBit) == 0)
            {
                _flags = Read(VmcsField.GuestRflags);
                _available |= FlagsBit;
            }

            return _flags;
        }

        set
        {
            _flags = (value & Arch.RFlags.Defined) | Arch.RFlags.Reserved1;
            _available |= FlagsBit;
            Write(VmcsField.GuestRflags, _flags);
        }
    }

    /// <summary>CR0 as the guest sees it.</summary>
    public ulong Cr0
    {
        get
        {
            ulong owned = ~Read(VmcsField.Cr0GuestHostMask);
            return (Read(VmcsField.Cr0ReadShadow) & ~owned) | (Read(VmcsField.GuestCr0) & owned);
        }
    }

    /// <summary>CR4 as the guest sees it.</summary>
    public ulong Cr4
    {
        get
        {
            ulong owned = ~Read(VmcsField.Cr4GuestHostMask);
            return (Read(VmcsField.Cr4ReadShadow) & ~owned) | (Read(VmcsField.GuestCr4) & owned);
        }
    }

    /// <summary>CR3.</summary>
    public ulong Cr3
    {
        get
        {
            if ((_available & Cr3Bit) == 0)
            {
                _cr3 = Read(VmcsField.GuestCr3);
                _available |= Cr3Bit;
            }

            return _cr3;
        }

        internal set
        {
            _cr3 = value;
            _available |= Cr3Bit;
            Write(VmcsField.GuestCr3, value);
        }
    }

    /// <summary>IA32_EFER.</summary>
    public ulong Efer => Read(VmcsField.GuestEfer);

    /// <summary>Current privilege level, 0 to 3.</summary>
    public int Cpl => (Cr0 & Arch.Cr0.Pe) == 0 ? 0 : (RFlags & Arch.RFlags.Vm) != 0 ? 3 : CachedSegment(SegmentRegister.Ss).Dpl;

    /// <summary>Whether IA32_EFER.LMA is set.</summary>
    public bool LongMode => (Efer & Arch.Efer.Lma) != 0;

    /// <summary>Whether the code segment is 64-bit.</summary>
    public bool Code64 => LongMode && (CachedSegment(SegmentRegister.Cs).Attributes & SegmentAttributes.L) != 0;

    /// <summary>The guest's TSC now.</summary>
    public ulong GuestTsc => _vcpu.Processor.Tsc + Read(VmcsField.TscOffset);

    /// <summary>Blocking by STI (bit 0) and MOV SS (bit 1).</summary>
    public ulong InterruptShadow
    {
        get => Read(VmcsField.GuestInterruptibility) & 3;
        internal set
        {
            ulong old = Read(VmcsField.GuestInterruptibility);
            ulong changed = (old & ~3UL) | (value & 3);
            if (changed != old)
            {
                Write(VmcsField.GuestInterruptibility, changed);
            }
        }
    }

    internal ulong GetGpr(Gpr register)
    {
        if (register == Gpr.Rsp && (_available & RspBit) == 0)
        {
            _gprs[(int)Gpr.Rsp] = Read(VmcsField.GuestRsp);
            _available |= RspBit;
        }

        return _gprs[(int)register];
    }

    internal void SetGpr(Gpr register, ulong value)
    {
        _gprs[(int)register] = value;
        if (register == Gpr.Rsp)
        {
            _available |= RspBit;
            _dirty |= RspBit;
        }
    }

    /// <summary>A segment register.</summary>
    public SegmentState GetSegment(SegmentRegister register) => CachedSegment(register);

    private ref readonly SegmentState CachedSegment(SegmentRegister register)
    {
        uint bit = 1U << (SegmentShift + (int)register);
        if ((_available & bit) == 0)
        {
            _segments[(int)register] = new SegmentState
            {
                Selector = Read(VmcsField.GuestEsSelector + (2 * (uint)register)),
                Base = Read(VmcsField.GuestEsBase + (2 * (uint)register)),
                Limit = (uint)Read(VmcsField.GuestEsLimit + (2 * (uint)register)),
                Attributes = (uint)Read(VmcsField.GuestEsAccessRights + (2 * (uint)register)),
            };
            _available |= bit;
        }

        return ref _segments[(int)register];
    }

    /// <summary>Sets a segment register.</summary>
    public void SetSegment(SegmentRegister register, in SegmentState value)
    {
        _segments[(int)register] = value;
        _available |= 1U << (SegmentShift + (int)register);
        Write(VmcsField.GuestEsSelector + (2 * (uint)register), value.Selector);
        Write(VmcsField.GuestEsBase + (2 * (uint)register), value.Base);
        Write(VmcsField.GuestEsLimit + (2 * (uint)register), value.Limit);
        Write(VmcsField.GuestEsAccessRights + (2 * (uint)register), value.Attributes);
    }

    /// <summary>Loads CR0 as the guest wrote it; mode changes follow (vmx_set_cr0).</summary>
    internal void LoadCr0(ulong value)
    {
        ulong old = Cr0;
        value |= Arch.Cr0.Et;
        ulong efer = Efer;
        if ((efer & Arch.Efer.Lme) != 0 && ((old ^ value) & Arch.Cr0.Pg) != 0)
        {
            LoadEfer((value & Arch.Cr0.Pg) != 0 ? efer | Arch.Efer.Lma : efer & ~Arch.Efer.Lma);
        }

        Write(VmcsField.Cr0ReadShadow, value);
        Write(VmcsField.GuestCr0, (value & ~(Arch.Cr0.Nw | Arch.Cr0.Cd)) | Arch.Cr0.Ne | (FpuActive ? 0 : Arch.Cr0.Ts | Arch.Cr0.Mp));
        if (((old ^ value) & (Arch.Cr0.Pg | Arch.Cr0.Wp | Arch.Cr0.Pe)) != 0)
        {
            _unit.Processor.FlushTlb();
        }
    }

    /// <summary>Loads CR4 as the guest wrote it (vmx_set_cr4).</summary>
    internal void LoadCr4(ulong value)
    {
        ulong changed = Cr4 ^ value;
        Write(VmcsField.Cr4ReadShadow, value);
        Write(VmcsField.GuestCr4, value | Arch.Cr4.Vmxe);
        const ulong Paging = Arch.Cr4.Pae | Arch.Cr4.Pse | Arch.Cr4.Pge | Arch.Cr4.Smep | Arch.Cr4.Smap | Arch.Cr4.Pcide | Arch.Cr4.La57;
        if ((changed & Paging) != 0)
        {
            _unit.Processor.FlushTlb();
        }
    }

    /// <summary>Loads IA32_EFER and the entry control that goes with LMA (vmx_set_efer).</summary>
    internal void LoadEfer(ulong value)
    {
        Write(VmcsField.GuestEfer, value);
        bool lma = (value & Arch.Efer.Lma) != 0;
        Change(VmcsField.EntryControls, EntryControls.Ia32eModeGuest, lma);
        if (lma)
        {
            // An entry into IA-32e mode needs a busy 64-bit TSS; a 32-bit one has the same number.
            SegmentState tr = GetSegment(SegmentRegister.Tr);
            if ((tr.Attributes & SegmentAttributes.TypeMask) != 11)
            {
                tr.Attributes = (tr.Attributes & ~SegmentAttributes.TypeMask) | 11;
                SetSegment(SegmentRegister.Tr, tr);
            }
        }
    }

    /// <summary>Loads the four PDPTEs of PAE paging into the VMCS. False: reserved bits are set.</summary>
    internal bool TryLoadPdptes(ulong cr3)
    {
        Span<byte> table = stackalloc byte[32];
        if (!_vcpu.Vm.TryRead(cr3 & 0xFFFF_FFE0, table))
        {
            table.Fill(0xFF);
        }

        ulong reserved = 0x1E6 | (ulong.MaxValue & ~((1UL << _vcpu.Processor.Model.PhysicalBits) - 1));
        for (int i = 0; i < 4; i++)
        {
            ulong entry = StateFields.Take(table.Slice(i * 8, 8));
            if ((entry & 1) != 0 && (entry & reserved) != 0)
            {
                return false;
            }
        }

        for (uint i = 0; i < 4; i++)
        {
            Write(VmcsField.GuestPdpte0 + (2 * i), StateFields.Take(table.Slice((int)i * 8, 8)));
        }

        return true;
    }

    internal VcpuRegs GetRegs()
    {
        _ = GetGpr(Gpr.Rsp);
        return new VcpuRegs(_gprs, Rip, RFlags);
    }

    internal void SetRegs(in VcpuRegs regs)
    {
        for (int i = 0; i < 16; i++)
        {
            SetGpr((Gpr)i, regs.Gprs[i]);
        }

        Rip = regs.Rip;
        RFlags = regs.RFlags;
    }

    internal VcpuSregs GetSregs()
    {
        SegmentFile segments = default;
        for (int i = 0; i < 8; i++)
        {
            segments[i] = GetSegment((SegmentRegister)i);
        }

        return new VcpuSregs
        {
            Segments = segments,
            Gdtr = new TableState { Base = Read(VmcsField.GuestGdtrBase), Limit = Read(VmcsField.GuestGdtrLimit) },
            Idtr = new TableState { Base = Read(VmcsField.GuestIdtrBase), Limit = Read(VmcsField.GuestIdtrLimit) },
            Cr0 = Cr0,
            Cr2 = Cr2,
            Cr3 = Cr3,
            Cr4 = Cr4,
            Efer = Efer,
        };
    }

    internal void SetSregs(in VcpuSregs sregs)
    {
        for (int i = 0; i < 8; i++)
        {
            SetSegment((SegmentRegister)i, sregs.Segments[i]);
        }

        Write(VmcsField.GuestGdtrBase, sregs.Gdtr.Base);
        Write(VmcsField.GuestGdtrLimit, sregs.Gdtr.Limit);
        Write(VmcsField.GuestIdtrBase, sregs.Idtr.Base);
        Write(VmcsField.GuestIdtrLimit, sregs.Idtr.Limit);
        Cr2 = sregs.Cr2;
        Cr3 = sregs.Cr3;
        LoadEfer(sregs.Efer);
        LoadCr4(sregs.Cr4);
        LoadCr0(sregs.Cr0);
        LoadEfer(sregs.Efer);
        const ulong Pae = Arch.Cr4.Pae;
        if ((sregs.Cr0 & Arch.Cr0.Pg) != 0 && (sregs.Cr4 & Pae) != 0 && (sregs.Efer & Arch.Efer.Lma) == 0)
        {
            TryLoadPdptes(sregs.Cr3);
        }

        FlushTlb();
    }

    /// <summary>
    /// Takes the guest's state from the processor's registers, as a machine set them up for a start or reset.
    /// </summary>
    public void LoadFromProcessor()
    {
        CpuState* s = _state;
        for (int i = 0; i < 16; i++)
        {
            SetGpr((Gpr)i, s->Gpr[i]);
        }

        SegmentFile segments = default;
        for (int i = 0; i < 8; i++)
        {
            segments[i] = (&s->Es)[i];
        }

        SetSregs(new VcpuSregs
        {
            Segments = segments,
            Gdtr = s->Gdtr,
            Idtr = s->Idtr,
            Cr0 = s->Cr0,
            Cr2 = s->Cr2,
            Cr3 = s->Cr3,
            Cr4 = s->Cr4,
            Efer = s->Efer,
        });
        Rip = s->Gpr[CpuState.RipSlot];
        RFlags = _vcpu.Processor.RFlagsValue;
        Write(VmcsField.GuestSysenterCs, s->SysenterCs);
        Write(VmcsField.GuestSysenterEsp, s->SysenterEsp);
        Write(VmcsField.GuestSysenterEip, s->SysenterEip);
        Write(VmcsField.GuestPat, s->Pat);
        Write(VmcsField.GuestDebugCtl, s->DebugCtl);
        Write(VmcsField.GuestDr7, s->Dr7);
        Write(VmcsField.GuestInterruptibility, s->Interruptibility);
        Write(VmcsField.GuestActivity, 0);
        Write(VmcsField.GuestPendingDebug, s->PendingDebug);
        for (uint i = 0; i < 4; i++)
        {
            Write(VmcsField.GuestPdpte0 + (2 * i), s->Pdpte[i]);
        }

        WriteInjection(default, 0, 0);
        TakeGuestSwitchState();
    }

    /// <summary>INIT: the state after INIT (SDM "Processor State After Reset").</summary>
    internal void ResetState()
    {
        SegmentFile segments = default;
        for (int i = 0; i < 6; i++)
        {
            segments[i] = new SegmentState { Limit = 0xFFFF, Attributes = 0x93 };
        }

        segments[(int)SegmentRegister.Cs] = new SegmentState { Base = 0xFFFF_0000, Limit = 0xFFFF, Attributes = 0x9B, Selector = 0xF000 };
        segments[(int)SegmentRegister.Ldtr] = new SegmentState { Limit = 0xFFFF, Attributes = 0x82 };
        segments[(int)SegmentRegister.Tr] = new SegmentState { Limit = 0xFFFF, Attributes = 0x8B };
        ulong cachingBits = Cr0 & (Arch.Cr0.Cd | Arch.Cr0.Nw);
        SetSregs(new VcpuSregs
        {
            Segments = segments,
            Gdtr = new TableState { Limit = 0xFFFF },
            Idtr = new TableState { Limit = 0xFFFF },
            Cr0 = Arch.Cr0.Et | cachingBits,
        });
        for (int i = 0; i < 16; i++)
        {
            SetGpr((Gpr)i, i == (int)Gpr.Rdx ? _vcpu.Processor.Model.Lookup(1, 0).Eax : 0);
        }

        Rip = 0xFFF0;
        RFlags = Arch.RFlags.Reserved1;
        Write(VmcsField.GuestDr7, 0x400);
        Write(VmcsField.GuestInterruptibility, 0);
        Write(VmcsField.GuestActivity, 0);
        Write(VmcsField.GuestPendingDebug, 0);
        _vcpu.Events.Clear();
        WriteInjection(default, 0, 0);
    }

    /// <summary>SIPI: real mode at vector * 4096.</summary>
    internal void StartAt(byte vector)
    {
        SetSegment(SegmentRegister.Cs, new SegmentState
        {
            Selector = (ulong)vector << 8,
            Base = (ulong)vector << 12,
            Limit = 0xFFFF,
            Attributes = 0x9B,
        });
        Rip = 0;
    }

    /// <summary>S30: the next use of the FPU traps once.</summary>
    internal void DeactivateFpu()
    {
        FpuActive = false;
        ulong cr0 = Cr0;
        Write(VmcsField.Cr0GuestHostMask, ulong.MaxValue);
        LoadCr0(cr0);
        UpdateExceptionBitmap();
    }

    /// <summary>vmx_fpu_activate.</summary>
    internal void ActivateFpu()
    {
        ulong cr0 = Cr0;
        FpuActive = true;
        Write(VmcsField.Cr0GuestHostMask, ~Arch.Cr0.Ts);
        LoadCr0(cr0);
        UpdateExceptionBitmap();
    }
}
