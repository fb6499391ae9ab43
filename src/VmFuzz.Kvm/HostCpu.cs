using System.Collections.Immutable;
using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Kvm;

/// <summary>What the modelled host does around the guest, in the order in which tests see it.</summary>
public enum HostEvent : byte
{
    /// <summary>Nothing.</summary>
    None,
    /// <summary>vcpu_load.</summary>
    VcpuLoad,
    /// <summary>vcpu_put.</summary>
    VcpuPut,
    /// <summary>srcu_read_lock.</summary>
    SrcuLock,
    /// <summary>srcu_read_unlock.</summary>
    SrcuUnlock,
    /// <summary>preempt_disable.</summary>
    PreemptDisable,
    /// <summary>preempt_enable.</summary>
    PreemptEnable,
    /// <summary>Host state is saved for the switch.</summary>
    PrepareGuestSwitch,
    /// <summary>The guest's FPU is loaded.</summary>
    LoadGuestFpu,
    /// <summary>The host's FPU is loaded.</summary>
    PutGuestFpu,
    /// <summary>The guest's XCR0 is loaded.</summary>
    LoadGuestXcr0,
    /// <summary>The host's XCR0 is loaded.</summary>
    PutGuestXcr0,
    /// <summary>Mode IN_GUEST_MODE.</summary>
    ModeInGuest,
    /// <summary>Mode OUTSIDE_GUEST_MODE.</summary>
    ModeOutside,
    /// <summary>local_irq_disable.</summary>
    IrqDisable,
    /// <summary>local_irq_enable.</summary>
    IrqEnable,
    /// <summary>Guest time starts.</summary>
    GuestEnter,
    /// <summary>Guest time ends.</summary>
    GuestExit,
    /// <summary>The guest's breakpoints are loaded.</summary>
    LoadGuestDebug,
    /// <summary>The host's breakpoints are restored.</summary>
    RestoreHostDebug,
    /// <summary>The entry instruction.</summary>
    Enter,
    /// <summary>Back from the guest, or the entry failed.</summary>
    Left,
    /// <summary>A host vector runs.</summary>
    Vector,
    /// <summary>The exit counter goes up.</summary>
    CountExit,
    /// <summary>The guest's MSRs are loaded.</summary>
    LoadGuestMsrs,
    /// <summary>The host's MSRs are loaded.</summary>
    PutGuestMsrs,
    /// <summary>The VCPU thread sleeps.</summary>
    Block,
    /// <summary>The host's DEBUGCTL is restored.</summary>
    RestoreDebugCtl,
}

/// <summary>Where a VCPU is, as other threads see it (<c>vcpu->mode</c>).</summary>
public enum VcpuMode : byte
{
    /// <summary>OUTSIDE_GUEST_MODE.</summary>
    OutsideGuest,
    /// <summary>IN_GUEST_MODE.</summary>
    InGuest,
    /// <summary>EXITING_GUEST_MODE: somebody wants it out.</summary>
    ExitingGuest,
}

/// <summary>
/// The modelled host processor around root mode: what the run path saves, loads and restores, and the physical
/// interrupt controller whose vectors cause external-interrupt exits. While a VM runs the physical registers are the
/// processor's; the values here are the host's own.
/// </summary>
public sealed unsafe class HostCpu : IInterruptController, IStateful, ICopiedState
{
    /// <summary>Vector with which the host's scheduler kicks a processor (RESCHEDULE_VECTOR).</summary>
    public const byte RescheduleVector = 0xFD;

    /// <summary>Vector of the host's timer (LOCAL_TIMER_VECTOR).</summary>
    public const byte TimerVector = 0xEF;

    private const int LogSize = 256;
    private static readonly ImmutableArray<StateField> FieldTable = [.. MakeFields()];
    private readonly ulong[] _pending = new ulong[4];
    private readonly ulong[] _msrs = new ulong[GuestSwitch.MsrCount];
    private readonly ulong[] _debug = new ulong[4];
    private readonly byte[] _fpu = new byte[GuestSwitch.FpuBytes];
    private readonly HostEvent[] _log = new HostEvent[LogSize];
    private readonly byte[] _vectors = new byte[LogSize];
    private int _logged;
    private ulong _vectorsRun;

    /// <summary>Whether the bracket events are kept (tests); costs nothing when off.</summary>
    public bool Tracing { get; set; }

    /// <summary>Depth of preempt_disable.</summary>
    public int PreemptCount { get; internal set; }

    /// <summary>Depth of the memory-slot read lock.</summary>
    public int SrcuDepth { get; internal set; }

    /// <summary>Depth of vcpu_load.</summary>
    public int LoadDepth { get; internal set; }

    /// <summary>Host RFLAGS.IF.</summary>
    public bool InterruptsEnabled { get; internal set; } = true;

    /// <summary>Whether guest FPU state is in the physical registers.</summary>
    public bool GuestFpuLoaded { get; internal set; }

    /// <summary>Whether the guest's XCR0 is in the physical register.</summary>
    public bool GuestXcr0Loaded { get; internal set; }

    /// <summary>Whether the guest's MSRs are in the physical registers.</summary>
    public bool GuestMsrsLoaded { get; internal set; }

    /// <summary>Whether the guest's breakpoints are in the physical registers.</summary>
    public bool GuestDebugLoaded { get; internal set; }

    /// <summary>The scheduler wants the processor.</summary>
    public bool NeedResched { get; set; }

    /// <summary>A signal waits for the VCPU's thread.</summary>
    public bool SignalPending { get; set; }

    /// <summary>The next vcpu_load is interrupted while it waits for the VCPU (S04).</summary>
    public bool LoadFails { get; set; }

    /// <summary>The thread's signal mask.</summary>
    public ulong SignalMask { get; set; }

    /// <summary>Whether the host has breakpoints of its own (DR7).</summary>
    public ulong Dr7 { get; set; }

    /// <summary>The host's DEBUGCTL.</summary>
    public ulong DebugCtl { get; set; }

    /// <summary>The host's XCR0.</summary>
    public ulong Xcr0 { get; set; } = 1;

    /// <summary>Host breakpoint addresses DR0 to DR3.</summary>
    public Span<ulong> DebugAddresses => _debug;

    /// <summary>Nanoseconds of virtual time spent in the guest, and when the present stay began.</summary>
    public ulong GuestTime { get; internal set; }

    /// <summary>Virtual time at which the guest was entered; only meaningful in guest mode.</summary>
    public ulong GuestSince { get; internal set; }

    /// <summary>Number of host vectors that ran.</summary>
    public ulong VectorsRun => _vectorsRun;

    /// <summary>
    /// Vectors that the interrupt controller handed over, less those that ran: never changes but for NMIs and machine
    /// checks, which come without it. Counts since the processor was made; no part of its state.
    /// </summary>
    public long VectorsOwed { get; private set; }

    /// <summary>The last events, oldest first. Empty unless <see cref="Tracing"/>.</summary>
    public IReadOnlyList<HostEvent> Trace
    {
        get
        {
            int count = Math.Min(_logged, LogSize);
            HostEvent[] events = new HostEvent[count];
            for (int i = 0; i < count; i++)
            {
                events[i] = _log[(_logged - count + i) % LogSize];
            }

            return events;
        }
    }

    /// <summary>The last host vectors that ran, oldest first, at most 256.</summary>
    public IReadOnlyList<byte> Vectors
    {
        get
        {
            int count = (int)Math.Min(_vectorsRun, LogSize);
            byte[] vectors = new byte[count];
            for (int i = 0; i < count; i++)
            {
                vectors[i] = _vectors[(int)((_vectorsRun - (ulong)count + (ulong)i) % LogSize)];
            }

            return vectors;
        }
    }

    /// <inheritdoc/>
    public bool InterruptPending => (_pending[0] | _pending[1] | _pending[2] | _pending[3]) != 0;

    /// <inheritdoc/>
    public byte TaskPriority { get; set; }

    /// <inheritdoc/>
    public ComponentId Component => ComponentId.HostCpu;

    /// <inheritdoc/>
    public ReadOnlySpan<StateField> Fields => FieldTable.AsSpan();

    internal Span<ulong> Msrs => _msrs;

    internal Span<byte> Fpu => _fpu;

    /// <summary>A host vector becomes pending; with interrupts on it runs at once.</summary>
    public void RaiseVector(byte vector)
    {
        _pending[vector >> 6] |= 1UL << (vector & 63);
        if (InterruptsEnabled)
        {
            RunPending();
        }
    }

    /// <inheritdoc/>
    public byte Acknowledge()
    {
        for (int word = 3; word >= 0; word--)
        {
            if (_pending[word] != 0)
            {
                int bit = 63 - System.Numerics.BitOperations.LeadingZeroCount(_pending[word]);
                _pending[word] &= ~(1UL << bit);
                VectorsOwed++;
                return (byte)((word << 6) | bit);
            }
        }

        return 0xFF;
    }

    /// <inheritdoc/>
    public bool TryReadApicMsr(uint msr, out ulong value)
    {
        value = 0;
        return false;
    }

    /// <inheritdoc/>
    public bool TryWriteApicMsr(uint msr, ulong value) => false;

    /// <summary>Forgets the kept events.</summary>
    public void ClearTrace() => _logged = 0;

    internal void Log(HostEvent what)
    {
        if (Tracing)
        {
            _log[_logged % LogSize] = what;
            _logged++;
        }
    }

    internal void DisablePreemption()
    {
        PreemptCount++;
        Log(HostEvent.PreemptDisable);
    }

    internal void EnablePreemption()
    {
        PreemptCount--;
        Log(HostEvent.PreemptEnable);
    }

    internal void DisableInterrupts()
    {
        InterruptsEnabled = false;
        Log(HostEvent.IrqDisable);
    }

    /// <summary>Enables interrupts: what is pending runs at once, highest vector first.</summary>
    internal void EnableInterrupts()
    {
        InterruptsEnabled = true;
        Log(HostEvent.IrqEnable);
        RunPending();
    }

    private void RunPending()
    {
        while (InterruptPending)
        {
            RunVector(Acknowledge());
        }
    }

    internal void LockSlots()
    {
        SrcuDepth++;
        Log(HostEvent.SrcuLock);
    }

    internal void UnlockSlots()
    {
        SrcuDepth--;
        Log(HostEvent.SrcuUnlock);
    }

    /// <summary>Runs a vector of the host's IDT.</summary>
    internal void RunVector(byte vector)
    {
        _vectors[(int)(_vectorsRun % LogSize)] = vector;
        _vectorsRun++;
        VectorsOwed--;
        Log(HostEvent.Vector);
    }

    /// <inheritdoc/>
    public void ReadField(int index, Span<byte> destination) => StateFields.Put(destination, Get(index));

    /// <inheritdoc/>
    public void WriteField(int index, ReadOnlySpan<byte> source)
    {
        ulong value = StateFields.Take(source);
        switch (index)
        {
            case < 4:
                _pending[index] = value;
                break;
            case 4:
                SignalPending = value != 0;
                break;
            case 5:
                NeedResched = value != 0;
                break;
            case 6:
                SignalMask = value;
                break;
            case 7:
                _vectorsRun = value;
                break;
            case 8:
                GuestTime = value;
                break;
            case 9:
                TaskPriority = (byte)value;
                break;
            case 10:
                PreemptCount = (int)value;
                break;
            case 11:
                SrcuDepth = (int)value;
                break;
            case 12:
                LoadDepth = (int)value;
                break;
            default:
                InterruptsEnabled = value != 0;
                break;
        }
    }

    /// <inheritdoc/>
    public IStateCopy CopyState() => new Copied(this);

    private ulong Get(int index) => index switch
    {
        < 4 => _pending[index],
        4 => SignalPending ? 1UL : 0,
        5 => NeedResched ? 1UL : 0,
        6 => SignalMask,
        7 => _vectorsRun,
        8 => GuestTime,
        9 => TaskPriority,
        10 => (ulong)PreemptCount,
        11 => (ulong)SrcuDepth,
        12 => (ulong)LoadDepth,
        _ => InterruptsEnabled ? 1UL : 0,
    };

    private static StateField[] MakeFields() =>
    [
        new(0, "pending0", 8), new(1, "pending1", 8), new(2, "pending2", 8), new(3, "pending3", 8),
        new(4, "signalPending", 8), new(5, "needResched", 8), new(6, "signalMask", 8), new(7, "vectorsRun", 8),
        new(8, "guestTime", 8), new(9, "taskPriority", 8),
        new(10, "preemptCount", 8), new(11, "srcuDepth", 8), new(12, "loadDepth", 8), new(13, "interruptsEnabled", 8),
    ];

    private sealed class Copied(HostCpu host) : IStateCopy
    {
        private readonly ulong[] _pending = [.. host._pending];
        private readonly bool _signalPending = host.SignalPending;
        private readonly bool _needResched = host.NeedResched;
        private readonly ulong _signalMask = host.SignalMask;
        private readonly ulong _vectorsRun = host._vectorsRun;
        private readonly ulong _guestTime = host.GuestTime;
        private readonly byte _taskPriority = host.TaskPriority;

        // Closed between run calls; a reset may come in the middle of one.
        private readonly (int Preempt, int Srcu, int Load, bool Interrupts) _brackets =
            (host.PreemptCount, host.SrcuDepth, host.LoadDepth, host.InterruptsEnabled);

        public void Restore()
        {
            _pending.CopyTo(host._pending, 0);
            host.SignalPending = _signalPending;
            host.NeedResched = _needResched;
            host.SignalMask = _signalMask;
            host._vectorsRun = _vectorsRun;
            host.GuestTime = _guestTime;
            host.TaskPriority = _taskPriority;
            (host.PreemptCount, host.SrcuDepth, host.LoadDepth, host.InterruptsEnabled) = _brackets;
        }
    }
}

/// <summary>Which physical state is switched lazily between host and guest: MSRs without a VMCS field, and the FPU.</summary>
// SAFETY: the registers named here lie next to one another in CpuState; the spans end where the last of them ends.
internal static unsafe class GuestSwitch
{
    /// <summary>STAR, LSTAR, CSTAR, FMASK, KERNEL_GS_BASE, TSC_AUX.</summary>
    public const int MsrCount = 6;

    /// <summary>From the x87 control word to the last vector register in <see cref="CpuState"/>.</summary>
    public const int FpuBytes = (7 + 16 + 64) * 8;

    public static void ReadMsrs(CpuState* s, Span<ulong> to)
    {
        to[0] = s->Star;
        to[1] = s->Lstar;
        to[2] = s->Cstar;
        to[3] = s->Fmask;
        to[4] = s->KernelGsBase;
        to[5] = s->TscAux;
    }

    public static void WriteMsrs(CpuState* s, ReadOnlySpan<ulong> from)
    {
        s->Star = from[0];
        s->Lstar = from[1];
        s->Cstar = from[2];
        s->Fmask = from[3];
        s->KernelGsBase = from[4];
        s->TscAux = from[5];
    }

    public static Span<byte> Fpu(CpuState* s) => new(&s->Fcw, FpuBytes);
}

/// <summary>Fields of eight bytes, little-endian.</summary>
internal static class StateFields
{
    public static void Put(Span<byte> destination, ulong value)
    {
        for (int i = 0; i < destination.Length; i++)
        {
            destination[i] = i < 8 ? (byte)(value >> (8 * i)) : (byte)0;
        }
    }

    public static ulong Take(ReadOnlySpan<byte> source)
    {
        ulong value = 0;
        for (int i = Math.Min(8, source.Length) - 1; i >= 0; i--)
        {
            value = (value << 8) | source[i];
        }

        return value;
    }
}
