using VmFuzz.Arch;
using VmFuzz.Kvm;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>A run as invariants see it: the VCPU now, and what it was when the exit went to its handler.</summary>
public sealed class RunView
{
    private readonly ulong[] _gprs = new ulong[16];
    private readonly ulong[] _guestArea = new ulong[Vmcs.GuestAreaWords];
    private ulong _emulated;
    private ulong _exitsBefore;
    private ulong _exitsAtEntry;
    private long _owedBefore;
    private long _handedOver;

    internal RunView(Vcpu vcpu)
    {
        Vcpu = vcpu;
        Vmcs = vcpu.Vmx.Unit.Current;
    }

    /// <summary>The VCPU.</summary>
    public Vcpu Vcpu { get; }

    /// <summary>Its VMCS. Registers may be newer in the VCPU's cache.</summary>
    public Vmcs Vmcs { get; }

    /// <summary>The exit that is handled or was handled last.</summary>
    public VmExit Exit { get; private set; }

    /// <summary>Its row; meaningless before the first exit.</summary>
    public ExitRow Row { get; private set; } = null!;

    /// <summary>What the handler decided.</summary>
    public ExitOutcome Outcome { get; internal set; }

    /// <summary>The entry that is about to happen or happened last.</summary>
    public EntryRecord Entry { get; private set; }

    /// <summary>Whether an entry happened in this run.</summary>
    public bool Entered { get; internal set; }

    /// <summary>Whether the last entry of this run failed, by what the processor says.</summary>
    public bool EntryFailed => Entered && (ExitsMade == _exitsAtEntry || Vcpu.Vmx.Unit.LastExit.IsEntryFailure);

    /// <summary>Whether the handler completed the instruction.</summary>
    public bool Retires => Outcome.Verdict is ExitVerdict.RetireInstruction or ExitVerdict.RetireToUserspace;

    /// <summary>Whether the handler completed an instruction by emulating it.</summary>
    public bool Emulates => !Retires && (Row.Writes & ExitWrites.Memory) != 0 && Vcpu.Stats.Emulated != _emulated;

    /// <summary>Exits seen in this run.</summary>
    public ulong Exits { get; private set; }

    /// <summary>Exits of the processor in this run.</summary>
    public ulong ExitsMade => Vcpu.Vmx.Unit.Exits - _exitsBefore;

    /// <summary>Vectors of the host that its interrupt controller and exits handed over in this run, less those that ran.</summary>
    public long VectorsOwed => Vcpu.Host.VectorsOwed - _owedBefore + _handedOver;

    /// <summary>RIP before the handler.</summary>
    public ulong Rip { get; private set; }

    /// <summary>
    /// Whether the trap of a single step over the instruction that the handler completed makes this change: it ends general
    /// detect and what IA32_DEBUGCTL records (SDM "Debug Exceptions").
    /// </summary>
    /// <param name="field">The field.</param>
    /// <param name="changed">Its bits that changed.</param>
    public bool IsOfStep(VmcsField field, ulong changed) => (Retires || Emulates) && (RFlags & Arch.RFlags.Tf) != 0 && field switch
    {
        VmcsField.GuestDr7 => changed == Dr7.Gd,
        VmcsField.GuestDebugCtl => (changed & ~DebugCtl.EndsWithDebug) == 0,
        _ => false,
    };

    /// <summary>RFLAGS before the handler.</summary>
    public ulong RFlags { get; private set; }

    /// <summary>Interruptibility state before the handler.</summary>
    public ulong Interruptibility { get; private set; }

    /// <summary>CPL before the handler.</summary>
    public int Cpl { get; private set; }

    /// <summary>Whether code was 64-bit code before the handler.</summary>
    public bool Code64 { get; private set; }

    /// <summary>Retired count before the handler.</summary>
    public ulong Retired { get; private set; }

    /// <summary>Pages written since the last reset, before the handler.</summary>
    public int DirtyPages { get; private set; }

    /// <summary>The exception queue before the handler.</summary>
    public QueuedException Exception { get; private set; }

    /// <summary>The interrupt queue before the handler.</summary>
    public QueuedInterrupt Interrupt { get; private set; }

    /// <summary>Whether an NMI was being injected, before the handler.</summary>
    public bool NmiInjected { get; private set; }

    /// <summary>NMIs that waited, before the handler.</summary>
    public int NmiPending { get; private set; }

    /// <summary>Registers of debugging, paging and extended state before the handler: CR2, CR8, DR6, XCR0.</summary>
    public (ulong Cr2, ulong Cr8, ulong Dr6, ulong Xcr0) Others { get; private set; }

    /// <summary>The same registers now.</summary>
    public (ulong Cr2, ulong Cr8, ulong Dr6, ulong Xcr0) OthersNow => (Vcpu.Vmx.Cr2, Vcpu.Cr8, Vcpu.Vmx.Dr6, Vcpu.Vmx.Xcr0);

    /// <summary>A general register before the handler.</summary>
    public ulong Gpr(Gpr register) => _gprs[(int)register];

    /// <summary>The first word of the guest-state area, from a place on, that the handler changed; or -1.</summary>
    public int FirstChange(int from = 0) => Vmcs.FirstGuestDifference(_guestArea, from);

    /// <summary>A word of the guest-state area before the handler.</summary>
    public ulong Before(int word) => _guestArea[word];

    /// <summary>A run begins.</summary>
    internal void Begin()
    {
        Entered = false;
        Exits = 0;
        _exitsBefore = Vcpu.Vmx.Unit.Exits;
        _owedBefore = Vcpu.Host.VectorsOwed;
        _handedOver = 0;
    }

    /// <summary>An entry is about to happen.</summary>
    internal void Take(in EntryRecord entry)
    {
        Entry = entry;
        _exitsAtEntry = ExitsMade;
    }

    /// <summary>An exit was seen.</summary>
    internal void See(in VmExit exit)
    {
        Exits++;
        InterruptionInfo info = exit.InterruptionInfo;
        bool machineCheck = exit.IsEntryFailure && exit.Basic == ExitReason.EntryFailureMachineCheck;
        bool exception = exit.Reason == (uint)ExitReason.ExceptionOrNmi && info.Valid
            && (info.Type == InterruptionType.Nmi || (info.Type == InterruptionType.HardwareException && info.Vector == Vector.Mc));
        _handedOver += machineCheck || exception ? 1 : 0;
    }

    internal void Take(ExitRow row, in VmExit exit)
    {
        Vcpu vcpu = Vcpu;
        VmxVcpu vmx = vcpu.Vmx;
        Row = row;
        Exit = exit;
        Rip = vmx.Rip;
        RFlags = vmx.RFlags;
        Interruptibility = Vmcs[VmcsField.GuestInterruptibility];
        _emulated = vcpu.Stats.Emulated;
        Cpl = vmx.Cpl;
        Code64 = vmx.Code64;
        Retired = vcpu.Processor.Retired;
        DirtyPages = vcpu.Processor.Memory.DirtyPages.Count;
        PendingEvents events = vcpu.Events;
        Exception = events.Exception;
        Interrupt = events.Interrupt;
        NmiInjected = events.NmiInjected;
        NmiPending = events.NmiPending;
        Others = OthersNow;
        for (int i = 0; i < 16; i++)
        {
            _gprs[i] = vcpu[(Gpr)i];
        }

        Vmcs.CopyGuestArea(_guestArea);
    }
}
