using VmFuzz.Arch;

namespace VmFuzz.Kvm;

/// <summary>Which queue filled the entry's event field.</summary>
public enum InjectedFrom : byte
{
    /// <summary>None: nothing is injected.</summary>
    Nothing,
    /// <summary>The exception queue.</summary>
    Exception,
    /// <summary>An NMI.</summary>
    Nmi,
    /// <summary>The interrupt queue.</summary>
    Interrupt,
}

/// <summary>An exception that waits to be injected.</summary>
/// <param name="Pending">Whether there is one.</param>
/// <param name="Vector">Its vector.</param>
/// <param name="HasErrorCode">Whether it has an error code.</param>
/// <param name="ErrorCode">The error code.</param>
/// <param name="Reinjected">Its delivery was interrupted and is repeated.</param>
/// <param name="Type">Type of a repeated event; hardware or software exception.</param>
public readonly record struct QueuedException(
    bool Pending, byte Vector, bool HasErrorCode, uint ErrorCode, bool Reinjected, InterruptionType Type);

/// <summary>An interrupt that waits to be injected.</summary>
/// <param name="Pending">Whether there is one.</param>
/// <param name="Vector">Its vector.</param>
/// <param name="Software">INT n whose delivery was interrupted.</param>
public readonly record struct QueuedInterrupt(bool Pending, byte Vector, bool Software);

/// <summary>What a VCPU's events look like from outside (KVM_GET_VCPU_EVENTS).</summary>
/// <param name="Exception">The exception queue.</param>
/// <param name="Interrupt">The interrupt queue.</param>
/// <param name="NmiInjected">An NMI is being injected.</param>
/// <param name="NmiPending">NMIs that wait, 0 to 2.</param>
/// <param name="NmiMasked">The guest blocks NMIs.</param>
/// <param name="InterruptShadow">Bit 0 STI, bit 1 MOV SS.</param>
/// <param name="InstructionLength">Length for repeated software events.</param>
public readonly record struct VcpuEvents(
    QueuedException Exception,
    QueuedInterrupt Interrupt,
    bool NmiInjected,
    int NmiPending,
    bool NmiMasked,
    byte InterruptShadow,
    byte InstructionLength);

/// <summary>
/// The queues of events of one VCPU: what is decided and must be delivered (exception, NMI being injected, interrupt)
/// and what waits until the guest allows it (NMIs).
/// </summary>
public sealed class PendingEvents
{
    private readonly Vcpu _vcpu;

    internal PendingEvents(Vcpu vcpu) => _vcpu = vcpu;

    /// <summary>The exception queue.</summary>
    public QueuedException Exception { get; private set; }

    /// <summary>The interrupt queue.</summary>
    public QueuedInterrupt Interrupt { get; private set; }

    /// <summary>An NMI is being injected.</summary>
    public bool NmiInjected { get; internal set; }

    /// <summary>NMIs that wait for the guest to allow them, 0 to 2.</summary>
    public int NmiPending { get; internal set; }

    /// <summary>NMIs that arrived and were not looked at yet (see <see cref="Request.Nmi"/>).</summary>
    public int NmiQueued { get; private set; }

    /// <summary>Instruction length for repeated software events.</summary>
    public byte InstructionLength { get; internal set; }

    /// <summary>Which queue filled the entry's event field in this pass.</summary>
    public InjectedFrom Placed { get; internal set; }

    /// <summary>Whether something decided waits to be delivered (kvm_event_needs_reinjection).</summary>
    public bool NeedsReinjection => Exception.Pending || Interrupt.Pending || NmiInjected;

    /// <summary>Whether the interrupt queue holds one that did not get into the entry's event field.</summary>
    public bool InterruptWaits => Interrupt.Pending && Placed != InjectedFrom.Interrupt;

    /// <summary>Queues an exception as an exit handler raises it; merges with one that waits (SDM "Double Fault").</summary>
    public void QueueException(byte vector, bool hasErrorCode = false, uint errorCode = 0)
    {
        bool withCode = hasErrorCode && _vcpu.Protected;
        _vcpu.Raise(Request.Event);
        if (!Exception.Pending)
        {
            Exception = new(true, vector, withCode, errorCode, false, TypeOf(vector));
            return;
        }

        byte previous = Exception.Vector;
        if (previous == Vector.Df)
        {
            ClearException();
            _vcpu.Raise(Request.TripleFault);
            return;
        }

        bool contributory = IsContributory(previous) && IsContributory(vector);
        if (contributory || (previous == Vector.Pf && (IsContributory(vector) || vector == Vector.Pf)))
        {
            Exception = new(true, Vector.Df, _vcpu.Protected, 0, false, InterruptionType.HardwareException);
            return;
        }

        Exception = new(true, vector, withCode, errorCode, false, TypeOf(vector));
    }

    /// <summary>Queues an exception again whose delivery was interrupted.</summary>
    public void RequeueException(byte vector, InterruptionType type, bool hasErrorCode, uint errorCode) =>
        Exception = new(true, vector, hasErrorCode, errorCode, true, type);

    /// <summary>Queues an interrupt.</summary>
    public void QueueInterrupt(byte vector, bool software) => Interrupt = new(true, vector, software);

    /// <summary>An NMI arrives; it is looked at by the next pass.</summary>
    public void QueueNmi()
    {
        // More than two collapse anyway when they are served (S33).
        NmiQueued = Math.Min(NmiQueued + 1, byte.MaxValue);
        _vcpu.Raise(Request.Nmi);
    }

    /// <summary>Empties the exception queue.</summary>
    public void ClearException() => Exception = default;

    /// <summary>Empties the interrupt queue.</summary>
    public void ClearInterrupt() => Interrupt = default;

    /// <summary>Empties everything.</summary>
    public void Clear()
    {
        Exception = default;
        Interrupt = default;
        NmiInjected = false;
        NmiPending = 0;
        NmiQueued = 0;
        InstructionLength = 0;
        Placed = InjectedFrom.Nothing;
    }

    /// <summary>
    /// S33 (process_nmi): moves arrived NMIs to the pending ones. Two may wait while NMIs are open, one while they are
    /// masked or one is being injected; more collapse.
    /// </summary>
    public void AcceptQueuedNmis()
    {
        int limit = _vcpu.Vmx.NmiMasked || NmiInjected ? 1 : 2;
        NmiPending = Math.Min(NmiPending + NmiQueued, limit);
        NmiQueued = 0;
        _vcpu.Raise(Request.Event);
    }

    /// <summary>Takes the queue that filled the entry's event field out: its event was delivered, or is queued again.</summary>
    internal void ClearPlaced()
    {
        switch (Placed)
        {
            case InjectedFrom.Exception:
                Exception = default;
                break;
            case InjectedFrom.Nmi:
                NmiInjected = false;
                break;
            case InjectedFrom.Interrupt:
                Interrupt = default;
                break;
        }

        Placed = InjectedFrom.Nothing;
    }

    internal void Set(in VcpuEvents events)
    {
        Exception = events.Exception;
        Interrupt = events.Interrupt;
        NmiInjected = events.NmiInjected;
        NmiPending = events.NmiPending;
        InstructionLength = events.InstructionLength;
    }

    internal void Restore(int index, ulong value)
    {
        switch (index)
        {
            case 0:
                Exception = new((value & 1) != 0, (byte)(value >> 8), (value & 2) != 0, (uint)(value >> 32), (value & 4) != 0, (InterruptionType)((value >> 16) & 7));
                break;
            case 1:
                Interrupt = new((value & 1) != 0, (byte)(value >> 8), (value & 2) != 0);
                break;
            default:
                NmiInjected = (value & 1) != 0;
                NmiPending = (int)(value >> 8) & 0xFF;
                NmiQueued = (int)(value >> 16) & 0xFF;
                InstructionLength = (byte)(value >> 24);
                Placed = (InjectedFrom)(byte)(value >> 32);
                break;
        }
    }

    internal ulong Save(int index) => index switch
    {
        0 => (Exception.Pending ? 1UL : 0) | (Exception.HasErrorCode ? 2UL : 0) | (Exception.Reinjected ? 4UL : 0)
            | ((ulong)Exception.Vector << 8) | ((ulong)Exception.Type << 16) | ((ulong)Exception.ErrorCode << 32),
        1 => (Interrupt.Pending ? 1UL : 0) | (Interrupt.Software ? 2UL : 0) | ((ulong)Interrupt.Vector << 8),
        _ => (NmiInjected ? 1UL : 0) | ((ulong)NmiPending << 8) | ((ulong)NmiQueued << 16)
            | ((ulong)InstructionLength << 24) | ((ulong)Placed << 32),
    };

    private static bool IsContributory(byte vector) => vector is Vector.De or Vector.Ts or Vector.Np or Vector.Ss or Vector.Gp;

    private static InterruptionType TypeOf(byte vector) =>
        vector is Vector.Bp or Vector.Of ? InterruptionType.SoftwareException : InterruptionType.HardwareException;
}
