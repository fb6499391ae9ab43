using VmFuzz.Cpu.Blocks;

namespace VmFuzz.Cpu;

// Edges of guest code, counted at the heads of blocks.
public sealed unsafe partial class Processor
{
    private GuestEdgeMap? _edges;

    /// <summary>
    /// Where edges of guest code are counted; null, as at first, counts none and costs nothing. A change drops decoded
    /// code, so it is made while the processor does not run. Never visible to the guest.
    /// </summary>
    public GuestEdgeMap? Edges
    {
        get => _edges;
        set
        {
            _edges = value;
            _state->Edges = value is null ? null : value.State;
            DropBlocks();
        }
    }

    /// <summary>A block starts, whose first op this is; RIP stands there.</summary>
    // SAFETY: only heads of blocks that were made with a map call this, and the blocks go when the map does.
    internal static void CountEdge(CpuState* s, Op* head)
    {
        Block* block = Block.Of(head);
        ulong rip = s->Gpr[CpuState.RipSlot];
        bool jumps = head->R0 != 0;
        ((EdgeState*)s->Edges)->Enter(Linear(s, block, rip), jumps ? EdgeState.Nowhere : Linear(s, block, rip + (ulong)block->Bytes));
    }

    // A block is left behind an instruction that is not its last: what comes is not a new place.
    private void CutBlock(Op* op, ulong next)
    {
        if (_state->Edges != null && op->Remaining > 1)
        {
            ((EdgeState*)_state->Edges)->Continues = Linear(_state, Block.Of(op), next);
        }
    }

    // A block is left by a fault or an exit: where code goes on is a new place, be it the same instruction or the next.
    private void BreakBlock()
    {
        if (_state->Edges != null)
        {
            ((EdgeState*)_state->Edges)->Continues = EdgeState.Nowhere;
        }
    }

    // A block is left between two iterations.
    private void CutRepetition(Block* block, ulong rip)
    {
        if (_state->Edges != null)
        {
            ((EdgeState*)_state->Edges)->Continues = Linear(_state, block, rip);
        }
    }

    private static ulong Linear(CpuState* s, Block* block, ulong rip) =>
        (block->Mode & BlockMode.Code64) != 0 ? rip : (uint)(s->Cs.Base + (rip & RipMask(block->Mode)));
}
