using System.Runtime.CompilerServices;

namespace VmFuzz.Cpu.Blocks;

/// <summary>How a handler goes on with the next op.</summary>
internal unsafe interface IThreading
{
    /// <summary>Executes <paramref name="next"/> or hands it back to the dispatcher's loop.</summary>
    static abstract Op* Go(CpuState* s, Op* next);
}

/// <summary>Calls the next handler in tail position; optimised code turns that into a jump.</summary>
internal unsafe struct TailThreading : IThreading
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Op* Go(CpuState* s, Op* next) => next->Handler(s, next);
}

/// <summary>Returns the next op to a loop: slower, but never grows the stack, whatever the JIT does.</summary>
internal unsafe struct LoopThreading : IThreading
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Op* Go(CpuState* s, Op* next) => next;
}
