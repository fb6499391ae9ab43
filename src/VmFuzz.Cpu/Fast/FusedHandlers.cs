using System.Runtime.CompilerServices;
using VmFuzz.Arch;
using VmFuzz.Cpu.Blocks;

namespace VmFuzz.Cpu.Fast;

/// <summary>A condition code behind CMP or TEST, decided from the operands; TEST is the comparison of its result with 0.</summary>
internal interface IComparison
{
    /// <summary>Whether it holds.</summary>
    /// <param name="left">Left operand, zero-extended.</param>
    /// <param name="right">Right operand, zero-extended.</param>
    /// <param name="signedLeft">Left operand, sign-extended.</param>
    /// <param name="signedRight">Right operand, sign-extended.</param>
    static abstract bool Holds(ulong left, ulong right, long signedLeft, long signedRight);
}

internal struct IsEqual : IComparison
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Holds(ulong left, ulong right, long signedLeft, long signedRight) => left == right;
}

internal struct IsBelow : IComparison
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Holds(ulong left, ulong right, long signedLeft, long signedRight) => left < right;
}

internal struct IsBelowOrEqual : IComparison
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Holds(ulong left, ulong right, long signedLeft, long signedRight) => left <= right;
}

internal struct IsLess : IComparison
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Holds(ulong left, ulong right, long signedLeft, long signedRight) => signedLeft < signedRight;
}

internal struct IsLessOrEqual : IComparison
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Holds(ulong left, ulong right, long signedLeft, long signedRight) => signedLeft <= signedRight;
}

/// <summary>The opposite of a comparison.</summary>
internal struct IsNot<TComparison> : IComparison
    where TComparison : struct, IComparison
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Holds(ulong left, ulong right, long signedLeft, long signedRight) => !TComparison.Holds(left, right, signedLeft, signedRight);
}

/// <summary>
/// CMP or TEST of registers and immediates with the Jcc behind it, as one op: neither can fault. The fall-through link follows,
/// then the taken link.
/// </summary>
// SAFETY: register offsets come from the builder.
internal static unsafe class CompareAndBranch<TThread, TAlu, T, TComparison>
    where TThread : struct, IThreading
    where TAlu : struct, IAlu
    where T : unmanaged
    where TComparison : struct, IComparison
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RegReg(CpuState* s, Op* op) => Do(s, op, Wide.Load<T>((byte*)s + op->R1));

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RegImm(CpuState* s, Op* op) => Do(s, op, Wide.Cut<T>((ulong)op->Immediate));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Op* Do(CpuState* s, Op* op, ulong right)
    {
        ulong left = Wide.Load<T>((byte*)s + op->R0);
        ulong result = TAlu.Run(s, left, right);
        AluFlags.Set<TAlu, T>(s, result, left, right);
        bool holds = TAlu.Logic
            ? TComparison.Holds(result, 0, Wide.Sign<T>(result), 0)
            : TComparison.Holds(left, right, Wide.Sign<T>(left), Wide.Sign<T>(right));
        return Branch<TThread>.Follow(s, holds ? op + 3 : op + 1);
    }
}

/// <summary>INC or DEC of a register with the JE or JNE behind it, as one op.</summary>
internal static unsafe class CountAndBranch<TThread, T, TDown>
    where TThread : struct, IThreading
    where T : unmanaged
    where TDown : struct, IFlag
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Equal(CpuState* s, Op* op) => Branch<TThread>.Follow(s, IncDec<TThread, T, TDown>.Count(s, op) == 0 ? op + 3 : op + 1);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* NotEqual(CpuState* s, Op* op) => Branch<TThread>.Follow(s, IncDec<TThread, T, TDown>.Count(s, op) == 0 ? op + 1 : op + 3);
}
