using System.Runtime.CompilerServices;
using VmFuzz.Cpu.Blocks;

namespace VmFuzz.Cpu.Fast;

/// <summary>Ops that every block has: head, reference, links.</summary>
internal static unsafe class Ops<TThread>
    where TThread : struct, IThreading
{
    public static delegate* managed<CpuState*, Op*, Op*> Head => &RunHead;

    public static delegate* managed<CpuState*, Op*, Op*> CountingHead => &RunCountingHead;

    public static delegate* managed<CpuState*, Op*, Op*> HotHead => &RunHotHead;

    public static delegate* managed<CpuState*, Op*, Op*> Reference => &RunReference;

    public static delegate* managed<CpuState*, Op*, Op*> NearLink => &RunNearLink;

    public static delegate* managed<CpuState*, Op*, Op*> FarLink => &RunFarLink;

    public static delegate* managed<CpuState*, Op*, Op*> NoLink => &RunNoLink;

    /// <summary>Takes the whole block's instructions off the budget; back to the dispatcher when they do not fit.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RunHead(CpuState* s, Op* op)
    {
        long left = s->Budget - op->Immediate;
        if (left < 0)
        {
            return null;
        }

        s->Budget = left;
        return TThread.Go(s, op + 1);
    }

    /// <summary>The head while edges are counted: nothing is counted of a block that does not fit.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RunCountingHead(CpuState* s, Op* op)
    {
        long left = s->Budget - op->Immediate;
        if (left < 0)
        {
            return null;
        }

        s->Budget = left;
        Processor.CountEdge(s, op);
        return TThread.Go(s, op + 1);
    }

    /// <summary>The head of a place that code comes back to: counts down to its compilation.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RunHotHead(CpuState* s, Op* op)
    {
        if (--op->Displacement < 0)
        {
            return Promote(s, op);
        }

        return RunHead(s, op);
    }

    /// <summary>Executes the reference microcode of the instruction.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RunReference(CpuState* s, Op* op)
    {
        Op* next = Slow(s, op);
        return next == null ? null : TThread.Go(s, next);
    }

    /// <summary>A link whose target lies in the same page: valid until decoded code changes.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RunNearLink(CpuState* s, Op* op)
    {
        s->Gpr[CpuState.RipSlot] = (ulong)op[1].Immediate;
        if ((uint)op->Displacement == (uint)s->CodeGeneration)
        {
            return TThread.Go(s, (Op*)op->Immediate);
        }

        s->PendingLink = op;
        return null;
    }

    /// <summary>A link into another page: valid until translations change.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RunFarLink(CpuState* s, Op* op)
    {
        s->Gpr[CpuState.RipSlot] = (ulong)op[1].Immediate;
        if ((uint)op->Displacement == (uint)s->Generation)
        {
            return TThread.Go(s, (Op*)op->Immediate);
        }

        s->PendingLink = op;
        return null;
    }

    /// <summary>The end of a block that is never linked.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RunNoLink(CpuState* s, Op* op)
    {
        s->Gpr[CpuState.RipSlot] = (ulong)op[1].Immediate;
        return null;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static Op* Promote(CpuState* s, Op* op)
    {
        Processor.From(s).Promote(op);
        return TThread.Go(s, op);
    }

    /// <summary>The slow path of every op: the reference microcode, which finds faults, devices and exits.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public static Op* Slow(CpuState* s, Op* op) => Processor.From(s).ExecuteReference(op);
}
