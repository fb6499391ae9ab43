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
                // The VMCS may not have got RSP and RIP yet when the state was saved.
                _available = RspBit;
                _dirty = RspBit;
                for (int i = 0; i < 16; i++)
                {
                    _gprs[i] = StateFields.Take(from.Slice(i * 8, 8));
                }

                Launched = _vmcs.Launched;
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
}
