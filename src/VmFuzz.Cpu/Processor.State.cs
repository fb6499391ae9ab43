using VmFuzz.Arch;

namespace VmFuzz.Cpu;

// Reset state and the list of fields.
public sealed unsafe partial class Processor
{
    // IA32_APIC_BASE.BSP: the bootstrap processor.
    private const ulong ApicBaseBsp = 1 << 8;

    /// <summary>Puts the processor into its state after RESET (SDM "Processor State After Reset").</summary>
    public void Reset()
    {
        CpuState* s = _state;
        nint handle = s->Handle;
        void* jumpCache = s->JumpCache;
        void* edges = s->Edges;
        ulong generation = s->Generation;
        ulong codeGeneration = s->CodeGeneration;
        ulong retired = Retired;
        new Span<byte>(s, sizeof(CpuState)).Clear();
        s->Handle = handle;
        s->JumpCache = jumpCache;
        s->Edges = edges;
        s->Generation = generation;
        s->CodeGeneration = codeGeneration;
        s->RetireLimit = retired;
        s->Cr0 = Cr0.Cd | Cr0.Nw | Cr0.Et;
        SetInitialRegisters();
        s->Xcr0 = 1;
        s->Pat = 0x0007_0406_0007_0406;
        s->ApicBase = 0xFEE0_0000 | (1 << 11) | (Index == 0 ? ApicBaseBsp : 0);
        s->MiscEnable = 1;
        s->Fcw = 0x0040;
        s->Ftw = 0x5555;
        s->Mxcsr = 0x1F80;
        NmiPending = false;
        _tlbGroups = AllTlbGroups;
        FlushTlb();
        StateChanged();
    }

    // What RESET and INIT set alike, of registers that are otherwise zero.
    private void SetInitialRegisters()
    {
        CpuState* s = _state;
        s->Gpr[(int)Gpr.Rdx] = CpuidSignature;
        s->Gpr[CpuState.RipSlot] = 0xFFF0;
        s->Flags = RFlags.Reserved1;
        for (int i = 0; i < 6; i++)
        {
            (&s->Es)[i] = new SegmentState { Limit = 0xFFFF, Attributes = 0x93 };
        }

        s->Cs = new SegmentState { Base = 0xFFFF_0000, Limit = 0xFFFF, Attributes = 0x9B, Selector = 0xF000 };
        s->Ldtr = new SegmentState { Limit = 0xFFFF, Attributes = 0x82 };
        s->Tr = new SegmentState { Limit = 0xFFFF, Attributes = 0x8B };
        s->Gdtr = new TableState { Limit = 0xFFFF };
        s->Idtr = new TableState { Limit = 0xFFFF };
        s->Dr6 = 0xFFFF_0FF0;
        s->Dr7 = 0x400;
    }

    /// <summary>The architectural state as a list of fields.</summary>
    public ProcessorState Fields => _fields ??= new ProcessorState(this);

    private ProcessorState? _fields;

    /// <summary>A field was set from outside: drop what was derived from it.</summary>
    internal void StateRestored()
    {
        FlushTlb();
        StateChanged();
    }

    private uint CpuidSignature => Model.Lookup(1, 0).Eax;

    /// <summary>
    /// Recomputes what is derived from the architectural state (mode bits, tag context, attention) after it was
    /// changed from outside or by an instruction that changes the mode.
    /// </summary>
    public void StateChanged()
    {
        UpdateTlbContext();
        UpdateMode();
        UpdateBreakpoints();

        // The next block may start elsewhere than where the last one ended: it is not its successor.
        _state->PendingLink = null;
        _state->Attention |= AttentionBits.Events;
    }
}
