using System.Collections.Immutable;
using VmFuzz.Arch;

namespace VmFuzz.Kvm;

// State of the VT-x part that neither the VMCS nor the processor's registers hold.
public sealed unsafe partial class VmxVcpu
{
    internal static readonly ImmutableArray<(string Name, int Width)> SwitchedFields =
    [
        ("gprs", 128), ("cr2", 8), ("dr6", 8), ("dr7", 8), ("xcr0", 8), ("msrs", GuestSwitch.MsrCount * 8),
        ("debug", 32), ("fpu", GuestSwitch.FpuBytes), ("hostMsrs", GuestSwitch.MsrCount * 8), ("hostFpu", GuestSwitch.FpuBytes),
        ("hostDebug", 32), ("loaded", 8), ("nmi", 8), ("hostStack", 8), ("hostXcr0", 8),
        ("softNmiTime", 8), ("rip", 8),
    ];

    internal void SaveSwitched(int index, Span<byte> to)
    {
        HostCpu host = _vcpu.Host;
        switch (index)
        {
            case 0:
                _ = GetGpr(Gpr.Rsp);
                for (int i = 0; i < 16; i++)
                {
                    StateFields.Put(to.Slice(i * 8, 8), _gprs[i]);
                }

                break;
            case 5: Words(_guestMsrs, to); break;
            case 6: Words(_guestDebug, to); break;
            case 7: _guestFpu.CopyTo(to); break;
            case 8: Words(host.Msrs, to); break;
            case 9: host.Fpu.CopyTo(to); break;
            case 10: Words(host.DebugAddresses, to); break;
            default: StateFields.Put(to, SaveWord(index)); break;
        }
    }

    internal void RestoreSwitched(int index, ReadOnlySpan<byte> from)
    {
        HostCpu host = _vcpu.Host;
        switch (index)
        {
            case 0:
                GprFile gprs = default;
                Words(from, gprs);
                RestoreGprs(gprs);
                break;
            case 5: Words(from, _guestMsrs); break;
            case 6: Words(from, _guestDebug); break;
            case 7: from.CopyTo(_guestFpu); break;
            case 8: Words(from, host.Msrs); break;
            case 9: from.CopyTo(host.Fpu); break;
            case 10: Words(from, host.DebugAddresses); break;
            default: RestoreWord(index, StateFields.Take(from)); break;
        }
    }

    internal IStateCopy CopySwitched() => new Copied(this);

    // The VMCS may not have got RSP and RIP yet when the state was saved.
    private void RestoreGprs(in GprFile gprs)
    {
        _gprs = gprs;
        _available = RspBit;
        _dirty = RspBit;
        Launched = _vmcs.Launched;
    }

    private ulong SaveWord(int index)
    {
        HostCpu host = _vcpu.Host;
        return index switch
        {
            1 => Cr2,
            2 => Dr6,
            3 => _guestDr7,
            4 => _xcr0,
            11 => (host.GuestMsrsLoaded ? 1UL : 0) | (host.GuestFpuLoaded ? 2UL : 0) | (host.GuestXcr0Loaded ? 4UL : 0)
                | (host.GuestDebugLoaded ? 8UL : 0) | (FpuActive ? 16UL : 0),
            12 => (_nmiKnownUnmasked ? 1UL : 0) | (_softNmiBlocked ? 2UL : 0),
            13 => _hostStack,
            14 => host.Xcr0,
            16 => (_available & RipBit) != 0 ? _rip : _vmcs[VmcsField.GuestRip],
            _ => _softNmiBlockedTime,
        };
    }

    private void RestoreWord(int index, ulong value)
    {
        HostCpu host = _vcpu.Host;
        switch (index)
        {
            case 1: Cr2 = value; break;
            case 2: Dr6 = value; break;
            case 3: _guestDr7 = value; break;
            case 4: _xcr0 = value; break;
            case 11:
                host.GuestMsrsLoaded = (value & 1) != 0;
                host.GuestFpuLoaded = (value & 2) != 0;
                host.GuestXcr0Loaded = (value & 4) != 0;
                host.GuestDebugLoaded = (value & 8) != 0;
                FpuActive = (value & 16) != 0;
                break;
            case 12:
                _nmiKnownUnmasked = (value & 1) != 0;
                _softNmiBlocked = (value & 2) != 0;
                break;
            case 13: _hostStack = value; break;
            case 14: host.Xcr0 = value; break;
            case 16: Rip = value; break;
            default: _softNmiBlockedTime = value; break;
        }
    }

    private static void Words(ReadOnlySpan<ulong> from, Span<byte> to)
    {
        for (int i = 0; i < from.Length; i++)
        {
            StateFields.Put(to.Slice(i * 8, 8), from[i]);
        }
    }

    private static void Words(ReadOnlySpan<byte> from, Span<ulong> to)
    {
        for (int i = 0; i < to.Length; i++)
        {
            to[i] = StateFields.Take(from.Slice(i * 8, 8));
        }
    }

    private sealed class Copied : IStateCopy
    {
        private readonly VmxVcpu _vmx;
        private readonly GprFile _gprs;
        private readonly ulong[] _guestMsrs;
        private readonly ulong[] _guestDebug;
        private readonly byte[] _guestFpu;
        private readonly ulong[] _hostMsrs;
        private readonly byte[] _hostFpu;
        private readonly ulong[] _hostDebug;
        private readonly ulong[] _words = new ulong[SwitchedFields.Length];

        public Copied(VmxVcpu vmx)
        {
            HostCpu host = vmx._vcpu.Host;
            _vmx = vmx;
            _ = vmx.GetGpr(Gpr.Rsp);
            _gprs = vmx._gprs;
            _guestMsrs = [.. vmx._guestMsrs];
            _guestDebug = [.. vmx._guestDebug];
            _guestFpu = [.. vmx._guestFpu];
            _hostMsrs = [.. host.Msrs];
            _hostFpu = [.. host.Fpu];
            _hostDebug = [.. host.DebugAddresses];
            for (int i = 0; i < _words.Length; i++)
            {
                _words[i] = SwitchedFields[i].Width == 8 ? vmx.SaveWord(i) : 0;
            }
        }

        public void Restore()
        {
            HostCpu host = _vmx._vcpu.Host;
            _vmx.RestoreGprs(_gprs);
            _guestMsrs.CopyTo(_vmx._guestMsrs, 0);
            _guestDebug.CopyTo(_vmx._guestDebug, 0);
            _guestFpu.CopyTo(_vmx._guestFpu, 0);
            _hostMsrs.CopyTo(host.Msrs);
            _hostFpu.CopyTo(host.Fpu);
            _hostDebug.CopyTo(host.DebugAddresses);
            for (int i = 0; i < _words.Length; i++)
            {
                if (SwitchedFields[i].Width == 8)
                {
                    _vmx.RestoreWord(i, _words[i]);
                }
            }
        }
    }
}
