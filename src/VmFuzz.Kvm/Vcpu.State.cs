using System.Collections.Immutable;
using VmFuzz.Arch;

namespace VmFuzz.Kvm;

// The run path's own state of a VCPU, listed once. Between passes nothing waits in the emulator, so it is not listed.
public sealed partial class Vcpu
{
    private const int ScalarFields = 20;
    private static readonly ImmutableArray<StateField> FieldTable = [.. MakeFields()];

    /// <inheritdoc/>
    public ComponentId Component => ComponentId.KvmVcpu + (ushort)(Index * 16);

    /// <inheritdoc/>
    public ReadOnlySpan<StateField> Fields => FieldTable.AsSpan();

    /// <inheritdoc/>
    public void ReadField(int index, Span<byte> destination)
    {
        if (index < ScalarFields)
        {
            StateFields.Put(destination, GetScalar(index));
        }
        else
        {
            Vmx.SaveSwitched(index - ScalarFields, destination);
        }
    }

    /// <inheritdoc/>
    public void WriteField(int index, ReadOnlySpan<byte> source)
    {
        if (index < ScalarFields)
        {
            SetScalar(index, StateFields.Take(source));
        }
        else
        {
            Vmx.RestoreSwitched(index - ScalarFields, source);
        }

        ForgetPass();
    }

    /// <inheritdoc/>
    public IStateCopy CopyState() => new Copied(this);

    // What the last run call left and no field says: the next one shows nothing of it, not even when it fails.
    private void ForgetPass()
    {
        Emulator.Clear();
        StoppedInGuest = false;
        KvmRun.ExitReason = KvmExitReason.Unknown;
    }

    private ulong GetScalar(int index) => index switch
    {
        0 => Requests,
        1 => (ulong)MpState,
        2 => Cr8,
        3 or 4 or 5 => Events.Save(index - 3),
        6 => (ulong)GuestDebug,
        7 => LastGuestTsc,
        8 => (AsyncPageHalted ? 1UL : 0) | (_pageReady ? 2UL : 0) | (_initPending ? 4UL : 0) | (_debugTrapPending ? 8UL : 0)
            | (_machineCheckPending ? 16UL : 0) | (PvUnhalted ? 32UL : 0),
        9 => (ulong)(_sipiVector + 1),
        10 => _stealDelay,
        11 => StealTimeAddress,
        12 => PvClockAddress,
        13 => KvmRun.RequestInterruptWindow ? 1UL : 0,
        14 => KvmRun.Cr8,
        15 => KvmRun.ReadyForInterruptInjection ? 1UL : 0,
        16 => Stats.Exits,
        17 => Stats.RequestIrqExits,
        18 => Stats.SignalExits,
        _ => (ulong)Mode,
    };

    private void SetScalar(int index, ulong value)
    {
        switch (index)
        {
            case 0: Requests = (uint)value; break;
            case 1: MpState = (MpState)value; break;
            case 2: Cr8 = value; break;
            case 3 or 4 or 5: Events.Restore(index - 3, value); break;
            case 6: GuestDebug = (GuestDebug)value; break;
            case 7: LastGuestTsc = value; break;
            case 8:
                AsyncPageHalted = (value & 1) != 0;
                _pageReady = (value & 2) != 0;
                _initPending = (value & 4) != 0;
                _debugTrapPending = (value & 8) != 0;
                _machineCheckPending = (value & 16) != 0;
                PvUnhalted = (value & 32) != 0;
                break;
            case 9: _sipiVector = (int)value - 1; break;
            case 10: _stealDelay = value; break;
            case 11: StealTimeAddress = value; break;
            case 12: PvClockAddress = value; break;
            case 13: KvmRun.RequestInterruptWindow = value != 0; break;
            case 14: KvmRun.Cr8 = value; break;
            case 15: KvmRun.ReadyForInterruptInjection = value != 0; break;
            case 16: Stats.Exits = value; break;
            case 17: Stats.RequestIrqExits = value; break;
            case 18: Stats.SignalExits = value; break;
            default: Mode = (VcpuMode)value; break;
        }
    }

    private static StateField[] MakeFields()
    {
        string[] scalars =
        [
            "requests", "mpState", "cr8", "exception", "interrupt", "nmi", "guestDebug", "lastGuestTsc", "flags", "sipi",
            "stealDelay", "stealTimeAddress", "pvClockAddress", "requestInterruptWindow", "runCr8", "readyForInterrupt",
            "exits", "requestIrqExits", "signalExits", "mode",
        ];
        List<StateField> fields = [];
        for (int i = 0; i < scalars.Length; i++)
        {
            fields.Add(new((ushort)i, scalars[i], 8));
        }

        foreach ((string name, int width) in VmxVcpu.SwitchedFields)
        {
            fields.Add(new((ushort)fields.Count, name, width));
        }

        return [.. fields];
    }

    /// <summary>
    /// Where in a pass the VCPU stands when the machine was stopped in the middle of the guest (<see cref="StoppedInGuest"/>).
    /// It is in no digest; a machine that goes on elsewhere has it restored behind everything else.
    /// </summary>
    public IStateful Pass => _pass ??= new PassState(this);

    private PassState? _pass;

    private sealed class PassState(Vcpu vcpu) : IStateful
    {
        private static readonly ImmutableArray<StateField> PassFields =
        [
            new(0, "stoppedInGuest", 8), new(1, "maskBefore", 8), new(2, "debugCtlBefore", 8), new(3, "softNmiEntry", 8),
            new(4, "guestSince", 8),
        ];

        public ComponentId Component => ComponentId.KvmPass + (ushort)(vcpu.Index * 16);

        public ReadOnlySpan<StateField> Fields => PassFields.AsSpan();

        public void ReadField(int index, Span<byte> destination) => StateFields.Put(destination, index switch
        {
            0 => vcpu.StoppedInGuest ? 1UL : 0,
            1 => vcpu._maskBefore,
            2 => vcpu.Vmx.DebugCtlBefore,
            3 => vcpu.Vmx.SoftNmiEntry,
            _ => vcpu.Host.GuestSince,
        });

        public void WriteField(int index, ReadOnlySpan<byte> source)
        {
            ulong value = StateFields.Take(source);
            switch (index)
            {
                case 0:
                    vcpu.StoppedInGuest = value != 0;
                    break;
                case 1:
                    vcpu._maskBefore = value;
                    break;
                case 2:
                    vcpu.Vmx.DebugCtlBefore = value;
                    break;
                case 3:
                    vcpu.Vmx.SoftNmiEntry = value;
                    break;
                default:
                    vcpu.Host.GuestSince = value;
                    break;
            }
        }
    }

    private sealed class Copied : IStateCopy
    {
        private readonly Vcpu _vcpu;
        private readonly ulong[] _scalars = new ulong[ScalarFields];
        private readonly IStateCopy _switched;

        public Copied(Vcpu vcpu)
        {
            _vcpu = vcpu;
            _switched = vcpu.Vmx.CopySwitched();
            for (int i = 0; i < _scalars.Length; i++)
            {
                _scalars[i] = vcpu.GetScalar(i);
            }
        }

        public void Restore()
        {
            for (int i = 0; i < _scalars.Length; i++)
            {
                _vcpu.SetScalar(i, _scalars[i]);
            }

            _switched.Restore();
            _vcpu.ForgetPass();
        }
    }
}
