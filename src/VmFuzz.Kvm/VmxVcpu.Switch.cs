using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Kvm;

// S43, S48, S50: state without a VMCS field. The physical registers are the processor's; while the guest's values are
// not in them, they are kept here, and while they are, the host's are kept in HostCpu.
public sealed unsafe partial class VmxVcpu
{
    private readonly ulong[] _guestMsrs = new ulong[GuestSwitch.MsrCount];
    private readonly byte[] _guestFpu = new byte[GuestSwitch.FpuBytes];
    private readonly ulong[] _guestDebug = new ulong[4];
    private readonly ulong[] _effectiveDebug = new ulong[4];
    private ulong _guestDebugDr7;
    private ulong _xcr0 = 1;

    /// <summary>The guest's XCR0.</summary>
    public ulong Xcr0
    {
        get => _xcr0;
        internal set
        {
            _xcr0 = value;
            if (_vcpu.Host.GuestXcr0Loaded)
            {
                _state->Xcr0 = value;
            }
        }
    }

    /// <summary>The guest's DR6.</summary>
    public ulong Dr6 { get; internal set; } = 0xFFFF_0FF0;

    /// <summary>The guest's DR7, as it sees it.</summary>
    public ulong Dr7
    {
        get => (_vcpu.GuestDebug & GuestDebug.UseHardwareBreakpoints) != 0 ? _guestDr7 : Read(VmcsField.GuestDr7);
        internal set
        {
            _guestDr7 = value;
            Write(VmcsField.GuestDr7, (_vcpu.GuestDebug & GuestDebug.UseHardwareBreakpoints) != 0 ? _guestDebugDr7 : value);
        }
    }

    private ulong _guestDr7 = 0x400;

    /// <summary>Whether DR0 to DR3 must be loaded for the guest (switch_db_regs).</summary>
    internal bool HasActiveBreakpoints => (_vmcs[VmcsField.GuestDr7] & 0xFF) != 0;

    /// <summary>DR0 to DR3 as the guest sees them.</summary>
    internal Span<ulong> DebugAddresses => _guestDebug;

    /// <summary>The guest's FPU while the host's is in the registers (<see cref="HostCpu.GuestFpuLoaded"/> false).</summary>
    internal ReadOnlySpan<byte> SavedFpu => _guestFpu;

    /// <summary>An MSR that is switched lazily: STAR, LSTAR, CSTAR, FMASK, KERNEL_GS_BASE, TSC_AUX (0 to 5).</summary>
    internal ulong GetSwitchedMsr(int index)
    {
        if (_vcpu.Host.GuestMsrsLoaded)
        {
            GuestSwitch.ReadMsrs(_state, _guestMsrs);
        }

        return _guestMsrs[index];
    }

    /// <summary>The guest's LSTAR, CSTAR and KERNEL_GS_BASE: addresses that no field of the VMCS holds.</summary>
    public (ulong Lstar, ulong Cstar, ulong KernelGsBase) AddressMsrs => (GetSwitchedMsr(1), GetSwitchedMsr(2), GetSwitchedMsr(4));

    internal void SetSwitchedMsr(int index, ulong value)
    {
        if (_vcpu.Host.GuestMsrsLoaded)
        {
            GuestSwitch.ReadMsrs(_state, _guestMsrs);
        }

        _guestMsrs[index] = value;
        if (_vcpu.Host.GuestMsrsLoaded)
        {
            GuestSwitch.WriteMsrs(_state, _guestMsrs);
        }
    }

    /// <summary>vcpu_load: nothing is loaded before the guest is about to run.</summary>
    internal void Load() => _vcpu.Host.DebugCtl = _unit.Host.DebugCtl;

    /// <summary>vcpu_put: the host's values come back.</summary>
    internal void Put()
    {
        HostCpu host = _vcpu.Host;
        if (host.GuestMsrsLoaded)
        {
            GuestSwitch.ReadMsrs(_state, _guestMsrs);
            GuestSwitch.WriteMsrs(_state, host.Msrs);
            host.GuestMsrsLoaded = false;
            host.Log(HostEvent.PutGuestMsrs);
        }

        if (host.GuestFpuLoaded)
        {
            Span<byte> fpu = GuestSwitch.Fpu(_state);
            fpu.CopyTo(_guestFpu);
            host.Fpu.CopyTo(fpu);
            host.GuestFpuLoaded = false;
            host.Log(HostEvent.PutGuestFpu);
        }

        if (host.GuestXcr0Loaded)
        {
            _xcr0 = _state->Xcr0;
            _state->Xcr0 = host.Xcr0;
            host.GuestXcr0Loaded = false;
            host.Log(HostEvent.PutGuestXcr0);
        }

        if (host.GuestDebugLoaded)
        {
            RestoreHostDebug();
        }
    }

    internal void LoadGuestMsrs()
    {
        HostCpu host = _vcpu.Host;
        if (!host.GuestMsrsLoaded)
        {
            GuestSwitch.ReadMsrs(_state, host.Msrs);
            GuestSwitch.WriteMsrs(_state, _guestMsrs);
            host.GuestMsrsLoaded = true;
            host.Log(HostEvent.LoadGuestMsrs);
        }
    }

    internal void LoadGuestFpu()
    {
        HostCpu host = _vcpu.Host;
        if (FpuActive && !host.GuestFpuLoaded)
        {
            Span<byte> fpu = GuestSwitch.Fpu(_state);
            fpu.CopyTo(host.Fpu);
            _guestFpu.CopyTo(fpu);
            host.GuestFpuLoaded = true;
            host.Log(HostEvent.LoadGuestFpu);
        }
    }

    internal void LoadGuestXcr0()
    {
        HostCpu host = _vcpu.Host;
        if (!host.GuestXcr0Loaded && (_vmcs[VmcsField.GuestCr4] & Arch.Cr4.Osxsave) != 0)
        {
            host.Xcr0 = _state->Xcr0;
            _state->Xcr0 = _xcr0;
            host.GuestXcr0Loaded = true;
            host.Log(HostEvent.LoadGuestXcr0);
        }
    }

    internal void LoadGuestDebug()
    {
        HostCpu host = _vcpu.Host;
        _state->Dr7 = 0;
        ReadOnlySpan<ulong> from = (_vcpu.GuestDebug & GuestDebug.UseHardwareBreakpoints) != 0 ? _effectiveDebug : _guestDebug;
        if (!host.GuestDebugLoaded)
        {
            ReadDebug(host.DebugAddresses);
        }

        WriteDebug(from);
        host.GuestDebugLoaded = true;
    }

    internal void RestoreHostDebug()
    {
        HostCpu host = _vcpu.Host;
        if (host.GuestDebugLoaded)
        {
            WriteDebug(host.DebugAddresses);
            host.GuestDebugLoaded = false;
        }

        _state->Dr7 = host.Dr7;
    }

    internal void SetGuestDebug(GuestDebug options, ReadOnlySpan<ulong> addresses, ulong dr7)
    {
        ulong guestDr7 = Dr7;
        _vcpu.GuestDebug = options;
        for (int i = 0; i < 4; i++)
        {
            _effectiveDebug[i] = i < addresses.Length ? addresses[i] : _guestDebug[i];
        }

        _guestDebugDr7 = dr7;
        Dr7 = guestDr7;
        UpdateExceptionBitmap();
        ulong flags = RFlags;
        RFlags = (options & GuestDebug.SingleStep) != 0 ? flags | Arch.RFlags.Tf : flags;
    }

    /// <summary>The processor's registers are the guest's start state; the host's are zero until it sets its own.</summary>
    private void TakeGuestSwitchState()
    {
        GuestSwitch.ReadMsrs(_state, _guestMsrs);
        GuestSwitch.Fpu(_state).CopyTo(_guestFpu);
        _xcr0 = _state->Xcr0;
        ReadDebug(_guestDebug);
        Dr6 = _state->Dr6;
        _guestDr7 = _state->Dr7;
        _vcpu.Host.GuestMsrsLoaded = false;
        _vcpu.Host.GuestFpuLoaded = false;
        _vcpu.Host.GuestXcr0Loaded = false;
        _vcpu.Host.GuestDebugLoaded = false;
    }

    private void ReadDebug(Span<ulong> to)
    {
        to[0] = _state->Dr0;
        to[1] = _state->Dr1;
        to[2] = _state->Dr2;
        to[3] = _state->Dr3;
    }

    private void WriteDebug(ReadOnlySpan<ulong> from)
    {
        _state->Dr0 = from[0];
        _state->Dr1 = from[1];
        _state->Dr2 = from[2];
        _state->Dr3 = from[3];
    }
}
