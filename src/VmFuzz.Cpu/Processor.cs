using System.Runtime.InteropServices;
using VmFuzz.Arch;
using VmFuzz.Cpu.Regions;
using VmFuzz.Memory;

namespace VmFuzz.Cpu;

/// <summary>
/// A deterministic model of one x86-64 processor. Executes guest code from decoded blocks; single-threaded.
/// </summary>
/// <remarks>
/// Slow handlers ("microcode") are methods over this class and a decoded instruction; they see exact RIP (of the
/// current instruction) and an exact <see cref="Retired"/>, and commit nothing before everything that can fault was done.
/// </remarks>
public sealed unsafe partial class Processor : IPageObserver, IDisposable
{
    private readonly CpuState* _state;
    private GCHandle _handle;
    private bool _disposed;

    /// <summary>Creates a processor in its reset state.</summary>
    /// <param name="model">CPUID and features.</param>
    /// <param name="memory">Guest-physical memory.</param>
    /// <param name="bus">Ports and MMIO.</param>
    /// <param name="clock">Virtual time.</param>
    /// <param name="inputs">The door.</param>
    /// <param name="index">Number of the VCPU, from 0.</param>
    /// <param name="instructions">The instruction table; the default one when null.</param>
    public Processor(CpuModel model, GuestMemory memory, IBus bus, IClock clock, IInputSource inputs, int index = 0, InstructionTable? instructions = null)
    {
        Model = model;
        Memory = memory;
        Bus = bus;
        Clock = clock;
        Index = index;
        Door = new InputDoor(inputs, this);
        Instructions = instructions ?? InstructionTable.Default;
        _state = (CpuState*)NativeMemory.AlignedAlloc((nuint)sizeof(CpuState), 4096);
        NativeMemory.Clear(_state, (nuint)sizeof(CpuState));
        _handle = GCHandle.Alloc(this);
        _state->Handle = GCHandle.ToIntPtr(_handle);
        memory.PageObserver = this;
        _ownRow = HasOwnRow;
        _scout = new RegionScout(_blocks);
        InitializeBlocks();
        Reset();
    }

    /// <summary>The hot state. Valid until <see cref="Dispose"/>.</summary>
    public CpuState* State => _state;

    /// <summary>The model.</summary>
    public CpuModel Model { get; }

    /// <summary>Guest-physical memory.</summary>
    public GuestMemory Memory { get; }

    /// <summary>Ports and MMIO.</summary>
    public IBus Bus { get; }

    /// <summary>Virtual time.</summary>
    public IClock Clock { get; }

    /// <summary>Number of the VCPU.</summary>
    public int Index { get; }

    /// <summary>The one door for inputs of this VCPU.</summary>
    public InputDoor Door { get; }

    /// <summary>The instruction rows in force.</summary>
    public InstructionTable Instructions { get; }

    /// <summary>What changes in VMX non-root operation; null in root operation.</summary>
    public INonRootPolicy? NonRoot { get; set; }

    /// <summary>EPT, when in force.</summary>
    public ISecondStage? SecondStage { get; set; }

    /// <summary>VMX instructions in root operation.</summary>
    public IVmxInstructions? Vmx { get; set; }

    /// <summary>The interrupt controller whose INTR line this processor has.</summary>
    public IInterruptController? Interrupts { get; set; }

    /// <summary>Called when the budget is used up, or <see cref="DeliveryLimit"/> events were delivered in place.</summary>
    public IBoundary? Boundary { get; set; }

    /// <summary>Watches event deliveries.</summary>
    public IProcessorObserver? Observer { get; set; }

    /// <summary>An NMI waits (edge-latched, at most one).</summary>
    public bool NmiPending { get; private set; }

    /// <summary>What <see cref="CpuStop.Unimplemented"/> is about.</summary>
    public string UnimplementedText { get; private set; } = "";

    /// <summary>Instructions retired so far.</summary>
    public ulong Retired => _state->RetireLimit - (ulong)_state->Budget;

    /// <summary>RIP, an offset in CS. Exact outside of handlers.</summary>
    public ref ulong Rip => ref _state->Gpr[CpuState.RipSlot];

    /// <summary>Current privilege level, 0 to 3.</summary>
    public int Cpl => (_state->Cr0 & Cr0.Pe) == 0 ? 0 : _state->Ss.Dpl;

    /// <summary>A general register.</summary>
    public ulong GetGpr(Gpr register) => _state->Gpr[(int)register & 15];

    /// <summary>Shadows and blocking, as in the guest's interruptibility state (SDM "Guest Non-Register State").</summary>
    public ulong Interruptibility => _state->Interruptibility;

    /// <summary>Whether IA32_EFER.LMA is set.</summary>
    public bool LongMode => (_state->Efer & Efer.Lma) != 0;

    /// <summary>Whether the code segment is 64-bit.</summary>
    public bool Code64 => LongMode && (_state->Cs.Attributes & SegmentAttributes.L) != 0;

    /// <summary>Whether in protected mode (virtual-8086 mode included).</summary>
    public bool Protected => (_state->Cr0 & Cr0.Pe) != 0;

    /// <summary>Whether in virtual-8086 mode.</summary>
    public bool Virtual8086 => (_state->Flags & RFlags.Vm) != 0;

    /// <summary>The TSC in root operation: virtual time plus the offset register.</summary>
    public ulong Tsc => Clock.Now + _state->TscOffset;

    /// <summary>The segment register.</summary>
    public ref SegmentState Segment(SegmentRegister register) => ref (&_state->Es)[(int)register];

    /// <summary>A general register, full width.</summary>
    public ref ulong this[Gpr register] => ref _state->Gpr[(int)register];

    /// <summary>Latches an NMI.</summary>
    public void RaiseNmi()
    {
        NmiPending = true;
        _state->Attention |= AttentionBits.Events;
    }

    /// <summary>Takes a latched NMI back (save and restore, tests).</summary>
    public void ClearNmi() => NmiPending = false;

    /// <summary>Something about events changed: lines, priorities, windows.</summary>
    public void Look() => _state->Attention |= AttentionBits.Events;

    /// <summary>An event was scheduled that may be due before the limit: the boundary handler is asked again.</summary>
    public void RecomputeLimit() => _state->Attention |= AttentionBits.Limit;

    /// <summary>Asks <see cref="Run"/> to return at the next boundary that is looked at.</summary>
    public void RequestStop() => _state->Attention |= AttentionBits.Stop;

    /// <summary>Counts instructions that a hypervisor's handler or emulator completed.</summary>
    public void RetireEmulated(ulong count) => _state->Budget -= (long)count;

    /// <summary>Sets the retired count (restore).</summary>
    public void SetRetired(ulong retired)
    {
        _state->RetireLimit = retired;
        _state->Budget = 0;
        DeliveriesInPlace = 0;
        UnimplementedText = "";
    }

    /// <summary>Ends an instruction with a fault: the dispatcher delivers it. Nothing may have been committed.</summary>
    public ExecResult Fault(in GuestFault fault)
    {
        RaiseFault(fault);
        return ExecResult.Abort;
    }

    /// <summary>Notes a pending fault; for methods that report success as a boolean.</summary>
    /// <returns>Always false.</returns>
    public bool RaiseFault(in GuestFault fault)
    {
        CpuState* s = _state;
        s->Stop = StopKind.Fault;
        s->FaultVector = fault.Vector;
        s->FaultErrorCode = fault.ErrorCode;
        s->FaultHasErrorCode = Vector.HasErrorCode(fault.Vector) ? 1UL : 0;
        s->FaultAddress = fault.Address;
        return false;
    }

    /// <summary>Ends an instruction because the policy recorded a VM exit.</summary>
    public ExecResult Exit()
    {
        _state->Stop = StopKind.Exit;
        return ExecResult.Abort;
    }

    /// <summary>Ends an instruction that is not modelled.</summary>
    public ExecResult Unimplemented(string what)
    {
        UnimplementedText = what;
        _state->Stop = StopKind.Unimplemented;
        return ExecResult.Abort;
    }

    /// <summary>RFLAGS with the arithmetic flags worked out. Setting it makes them explicit.</summary>
    public ulong RFlagsValue
    {
        get => LazyFlags.Materialize(_state);
        set
        {
            _state->Flags = (value & RFlags.Defined) | RFlags.Reserved1;
            _state->Lazy = LazyKind.Explicit;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }

        _disposed = true;
        DisposeBlocks();
        if (_handle.IsAllocated)
        {
            _handle.Free();
        }

        NativeMemory.AlignedFree(_state);
    }

    internal static Processor From(CpuState* state) =>
        (Processor)GCHandle.FromIntPtr(state->Handle).Target!;
}
