using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Kvm;
using VmFuzz.Machines;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>
/// Watches one machine of the guest-code target: counts features that <see cref="ExitMonitor"/> does not, keeps the
/// facts that oracles ask for at the end, and ends runs that do nothing but take events.
/// </summary>
internal sealed class RunMonitor : IMachineObserver
{
    // Deliveries and passes of one run, after which it is over; more than any run of this many instructions needs.
    private const int MostPasses = 16384;

    private readonly Machine _machine;
    private readonly FuzzSource _source;
    private readonly FeatureMap _features;
    private ulong _failuresBefore;
    private int _passes;
    private bool _int1;
    private ulong _nmiAt;
    private ulong _consoleHash;

    public RunMonitor(Machine machine, FuzzSource source, FeatureMap features)
    {
        _machine = machine;
        _source = source;
        _features = features;
    }

    /// <summary>Called at every exit, after everything else.</summary>
    public Action<Vcpu>? AtExit { get; set; }

    /// <summary>Called at every pass, after everything else.</summary>
    public Action<Vcpu>? AtEntry { get; set; }

    /// <summary>Exits of the run.</summary>
    public ulong Exits { get; private set; }

    /// <summary>An allocation of the host failed.</summary>
    public bool AllocationFailed { get; private set; }

    /// <summary>Two NMIs waited, or came, at once.</summary>
    public bool TwoNmis { get; private set; }

    /// <summary>An NMI waited behind STI.</summary>
    public bool NmiBehindSti { get; private set; }

    /// <summary>An NMI waited while an interrupt was injected.</summary>
    public bool NmiBehindInterrupt { get; private set; }

    /// <summary>A fault came in the place of the trap of INT1.</summary>
    public bool TrapOfInt1Faulted { get; private set; }

    /// <summary>Traps that MOV SS held back waited at INT1.</summary>
    public bool TrapsBehindInt1 { get; private set; }

    /// <summary>The hypervisor may have completed an access to a port or a device that data or I/O breakpoints watch.</summary>
    public bool EmulatedUnderBreakpoints { get; private set; }

    /// <summary>The hypervisor may have fetched an instruction that the processor changed in between: one in a paging structure.</summary>
    public bool EmulatedFromTables { get; private set; }

    /// <summary>An unmasked x87 exception waited while CR0.NE is clear.</summary>
    public bool X87ErrorWithoutNe { get; private set; }

    /// <summary>The emulator met an instruction that it does not know.</summary>
    public bool EmulationFailed => Failures != _failuresBefore;

    private ulong Failures => _machine.Kvm?.Vcpu.Stats.EmulationFailures ?? 0;

    /// <summary>Retired count at the last input; all ones when there was none.</summary>
    public ulong InputAt { get; private set; }

    /// <summary>Retired count at the last pass that injected something; all ones when none did.</summary>
    public ulong InjectedAt { get; private set; }

    /// <summary>The run was ended because its guest does nothing but take events.</summary>
    public bool TooManyPasses { get; private set; }

    /// <summary>Exit reasons seen, one bit each, up to 63.</summary>
    public ulong Reasons { get; private set; }

    /// <summary>Running hash of console bytes; survives a move to another machine.</summary>
    public ulong ConsoleHash => _consoleHash;

    /// <summary>Begins a new run.</summary>
    public void Begin()
    {
        _failuresBefore = Failures;
        _passes = 0;
        _consoleHash = 0;
        Exits = 0;
        Reasons = 0;
        AllocationFailed = false;
        TwoNmis = false;
        NmiBehindSti = false;
        NmiBehindInterrupt = false;
        TrapOfInt1Faulted = false;
        TrapsBehindInt1 = false;
        EmulatedUnderBreakpoints = false;
        EmulatedFromTables = false;
        X87ErrorWithoutNe = false;
        _int1 = false;
        _nmiAt = ulong.MaxValue;
        TooManyPasses = false;
        InjectedAt = ulong.MaxValue;
        InputAt = ulong.MaxValue;
    }

    /// <summary>Goes on where the watched run of another machine stood.</summary>
    public void ContinueFrom(RunMonitor other)
    {
        Begin();
        _consoleHash = other._consoleHash;
        AllocationFailed = other.AllocationFailed;
        TwoNmis = other.TwoNmis;
        _nmiAt = other._nmiAt;
        NmiBehindSti = other.NmiBehindSti;
        NmiBehindInterrupt = other.NmiBehindInterrupt;
        TrapOfInt1Faulted = other.TrapOfInt1Faulted;
        TrapsBehindInt1 = other.TrapsBehindInt1;
        EmulatedUnderBreakpoints = other.EmulatedUnderBreakpoints;
        EmulatedFromTables = other.EmulatedFromTables;
        X87ErrorWithoutNe = other.X87ErrorWithoutNe;
        Reasons = other.Reasons;
    }

    public void OnInput(InputPoint point, in Position at, in Input input)
    {
        InputAt = at.Retired;
        AllocationFailed |= input.Kind == InputKind.AllocationFailure;
        if (input.Kind == InputKind.Nmi)
        {
            TwoNmis |= at.Retired == _nmiAt;
            _nmiAt = at.Retired;
        }
    }

    public void OnDelivered(in GuestEvent delivered, ulong returnRip)
    {
        Feature(2, (uint)QualificationClass.OfEvent(delivered.Information), (uint)_machine.Processor.Cpl);
        TrapOfInt1Faulted |= _int1 && delivered.Vector != Vector.Db;
        _int1 = false;
        LookAtX87();
        CountPass(); // A handler that faults at its first instruction goes round without an exit.
    }

    public void OnEntry(Vcpu vcpu, in EntryRecord entry)
    {
        if (entry.Injected.Valid)
        {
            InjectedAt = _machine.Processor.Retired;
        }

        TwoNmis |= vcpu.Events.NmiPending > 1 || (vcpu.Events.NmiInjected && vcpu.Events.NmiPending != 0 && !vcpu.Vmx.NmiMasked);
        NmiBehindInterrupt |= vcpu.Events.NmiPending != 0 && entry.Injected is { Valid: true, Type: InterruptionType.ExternalInterrupt };
        NmiBehindSti |= vcpu.Events.NmiPending != 0 && (vcpu.Vmx.InterruptShadow & InterruptibilityState.BlockingBySti) != 0;
        CountPass();
        AtEntry?.Invoke(vcpu);
    }

    public void OnExit(Vcpu vcpu, in VmExit exit, ulong rip)
    {
        Exits++;
        uint reason = exit.Reason & 0xFFFF;
        Reasons |= reason < 64 ? 1UL << (int)reason : 0;
        if (exit.IdtVectoringInfo.Valid)
        {
            Feature(4, reason, (uint)QualificationClass.OfEvent(exit.IdtVectoringInfo.Value));
        }

        TrapOfInt1Faulted |= _int1 && exit.Basic == ExitReason.TripleFault;
        bool device = exit.Basic is ExitReason.EptMisconfiguration or ExitReason.EptViolation;
        EmulatedUnderBreakpoints |= (device || exit.Basic == ExitReason.IoInstruction) && WatchesData(vcpu.Vmx.Dr7);
        EmulatedFromTables |= device && CodeInTables(vcpu, rip);
        bool int1 = exit.InterruptionInfo is { Valid: true, Type: InterruptionType.PrivilegedSoftwareException };
        TrapsBehindInt1 |= int1 && vcpu.Vmx.Read(VmcsField.GuestPendingDebug) != 0;
        _int1 |= int1;
        LookAtX87();
        AtExit?.Invoke(vcpu);
    }

    public void OnInjected(Vcpu vcpu, InterruptionInfo info, uint errorCode, bool again)
    {
    }

    public void OnUserspaceExit(Vcpu vcpu, KvmExitReason reason, int result)
    {
    }

    public void OnRequest(Vcpu vcpu, Request request, bool served)
    {
    }

    public void OnConsole(byte value) => _consoleHash = StateHash.Step(_consoleHash, value);

    public void OnFirstAccess(bool isPort, ulong address, bool write)
    {
    }

    public void OnSync()
    {
    }

    public void OnEnd(in MachineStop stop)
    {
        LookAtX87();
        Feature(9, (uint)stop.Kind, TooManyPasses ? 1U : 0);
    }

    private void LookAtX87()
    {
        const ulong ErrorSummary = 0x80;
        X87ErrorWithoutNe |= (GuestFields.Word(_machine, GuestFields.Fsw) & ErrorSummary) != 0
            && (GuestFields.Word(_machine, GuestFields.Cr0) & Cr0.Ne) == 0;
    }

    // The first or the last byte of an instruction.
    private static bool CodeInTables(Vcpu vcpu, ulong rip)
    {
        const ulong Longest = 15;
        ulong linear = vcpu.Vmx.Code64 ? rip : (uint)(rip + vcpu.Vmx.GetSegment(SegmentRegister.Cs).Base);
        return vcpu.Processor.IsPagingStructure(linear) || vcpu.Processor.IsPagingStructure(linear + Longest - 1);
    }

    // An enabled breakpoint that is not for execution.
    private static bool WatchesData(ulong dr7)
    {
        for (int i = 0; i < 4; i++)
        {
            if (((dr7 >> (i * 2)) & 3) != 0 && ((dr7 >> (16 + (i * 4))) & 3) != 0)
            {
                return true;
            }
        }

        return false;
    }

    private void Feature(uint kind, uint first, uint second) => _features.Add(((ulong)kind << 52) ^ ((ulong)first << 28) ^ second);

    private void CountPass()
    {
        if (++_passes > MostPasses && !TooManyPasses)
        {
            TooManyPasses = true;
            _source.Stop(_machine.Processor);
        }
    }
}
