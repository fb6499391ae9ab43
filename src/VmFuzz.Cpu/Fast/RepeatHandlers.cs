using System.Runtime.CompilerServices;
using VmFuzz.Arch;
using VmFuzz.Cpu.Blocks;

namespace VmFuzz.Cpu.Fast;

/// <summary>
/// REP STOS and REP MOVS upwards in flat segments, as a whole: when all elements lie in one page, all iterations fit the
/// budget and nothing misses. Everything else goes to the reference form, an iteration at a time.
/// </summary>
// SAFETY: the ranges lie within the pages of matching entries of the look-aside buffers: the first and the last byte are looked up
// as one access of less than a page.
internal static unsafe class Repeat<TThread, T, TMask>
    where TThread : struct, IThreading
    where T : unmanaged
    where TMask : unmanaged
{
    /// <summary>REP STOS.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Store(CpuState* s, Op* op)
    {
        int bytes = Bytes(s);
        byte* to = bytes == 0 ? null : Tlb.Write(s, Wide.Cut<TMask>(s->Gpr[(int)Gpr.Rdi]), bytes);
        if (to == null)
        {
            return Ops<TThread>.RunReference(s, op);
        }

        ulong value = s->Gpr[(int)Gpr.Rax];
        for (int i = 0; i < bytes; i += sizeof(T))
        {
            Wide.Store<T>(to + i, value);
        }

        Finish(s, bytes);
        return TThread.Go(s, op + 1);
    }

    /// <summary>REP MOVS.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Move(CpuState* s, Op* op)
    {
        int bytes = Bytes(s);
        byte* from = bytes == 0 ? null : Tlb.Read(s, Wide.Cut<TMask>(s->Gpr[(int)Gpr.Rsi]), bytes);
        byte* to = from == null ? null : Tlb.Write(s, Wide.Cut<TMask>(s->Gpr[(int)Gpr.Rdi]), bytes);
        if (to == null)
        {
            return Ops<TThread>.RunReference(s, op);
        }

        // One by one: what is written may be read by the next.
        for (int i = 0; i < bytes; i += sizeof(T))
        {
            Wide.Store<T>(to + i, Wide.Load<T>(from + i));
        }

        s->Gpr[(int)Gpr.Rsi] = Wide.Cut<TMask>(s->Gpr[(int)Gpr.Rsi] + (ulong)bytes);
        Finish(s, bytes);
        return TThread.Go(s, op + 1);
    }

    // How many bytes all iterations take; 0 when they cannot be done here.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Bytes(CpuState* s)
    {
        ulong count = Wide.Cut<TMask>(s->Gpr[(int)Gpr.Rcx]);
        bool fits = count - 1 < 4096 / (ulong)sizeof(T) && s->Budget >= (long)count - 1 && (s->Flags & RFlags.Df) == 0;
        return fits ? (int)count * sizeof(T) : 0;
    }

    // Each iteration retires; the block's head has counted one.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Finish(CpuState* s, int bytes)
    {
        s->Budget -= (bytes / sizeof(T)) - 1;
        s->Gpr[(int)Gpr.Rcx] = 0;
        s->Gpr[(int)Gpr.Rdi] = Wide.Cut<TMask>(s->Gpr[(int)Gpr.Rdi] + (ulong)bytes);
    }
}
