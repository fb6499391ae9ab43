using VmFuzz.Arch;

namespace VmFuzz.Cpu;

// Several processors of one machine: what they share, and how one is started by another.
public sealed unsafe partial class Processor
{
    // SDM "Guest Non-Register State", activity.
    private const ulong ActivityHalted = 1;
    private const ulong ActivityWaitForSipi = 3;

    private Processor[] _peers = [];

    /// <summary>
    /// Whether it would execute or take an event if it ran now: it is active, or it is halted and an event is there that
    /// ends the halt.
    /// </summary>
    public bool CanRun
    {
        get
        {
            CpuState* s = _state;
            if (s->Activity != ActivityHalted)
            {
                return s->Activity == 0;
            }

            bool shadow = (s->Interruptibility & 3) != 0;
            bool nmi = NmiPending && (s->Interruptibility & 8) == 0;
            return !shadow && (nmi || ((s->Flags & RFlags.If) != 0 && Interrupts is { InterruptPending: true }));
        }
    }

    /// <summary>Whether an interrupt could end its halt.</summary>
    public bool CanBeWoken => _state->Activity == ActivityHalted && (_state->Flags & RFlags.If) != 0;

    /// <summary>
    /// Makes processors of one memory drop together what they derived from it: decoded code, translations. Only one of
    /// them runs at a time.
    /// </summary>
    /// <param name="processors">All of them, in any order.</param>
    public static void Share(IReadOnlyList<Processor> processors)
    {
        ArgumentNullException.ThrowIfNull(processors);
        foreach (Processor processor in processors)
        {
            processor._peers = [.. processors.Where(other => other != processor)];
        }
    }

    /// <summary>Lets the processor wait for a start-up IPI, as all but the first do after RESET (SDM "MP Initialization Protocol Algorithm").</summary>
    public void WaitForSipi() => _state->Activity = ActivityWaitForSipi;

    /// <summary>
    /// INIT (SDM "Processor State After Reset", column INIT): the caches' bits of CR0, the x87 and vector state, the TSC and
    /// the MSRs but IA32_EFER keep their values. Its local APIC is the caller's. The bootstrap processor starts at the reset
    /// vector, any other one waits for a start-up IPI.
    /// </summary>
    /// <remarks>Called between instructions.</remarks>
    public void Init()
    {
        CpuState* s = _state;
        new Span<ulong>(s->Gpr, 16).Clear();
        s->Lazy = LazyKind.Explicit;
        s->Cr0 = (s->Cr0 & (Cr0.Cd | Cr0.Nw)) | Cr0.Et;
        s->Cr2 = 0;
        s->Cr3 = 0;
        s->Cr4 = 0;
        s->Efer = 0;
        new Span<ulong>(s->Pdpte, 4).Clear();
        s->Dr0 = 0;
        s->Dr1 = 0;
        s->Dr2 = 0;
        s->Dr3 = 0;
        s->Interruptibility = 0;
        s->PendingDebug = 0;
        SetInitialRegisters();
        s->Activity = (s->ApicBase & ApicBaseBsp) != 0 ? 0 : ActivityWaitForSipi;
        NmiPending = false;
        FlushTlb();
        StateChanged();
    }

    /// <summary>A start-up IPI: a processor that waits for one starts in real mode at vector * 4096; any other ignores it.</summary>
    /// <remarks>Called between instructions.</remarks>
    public void StartUp(byte vector)
    {
        CpuState* s = _state;
        if (s->Activity != ActivityWaitForSipi)
        {
            return;
        }

        s->Cs.Selector = (ulong)vector << 8;
        s->Cs.Base = (ulong)vector << 12;
        s->Gpr[CpuState.RipSlot] = 0;
        s->Activity = 0;
        StateChanged();
    }

    private bool PeersHoldCode(int page)
    {
        foreach (Processor peer in _peers)
        {
            if (peer._blocks.Holds(page))
            {
                return true;
            }
        }

        return false;
    }

    private bool PeersOverlap(int page, int offset)
    {
        foreach (Processor peer in _peers)
        {
            if (peer._blocks.Overlaps(page, offset, 32))
            {
                return true;
            }
        }

        return false;
    }
}
