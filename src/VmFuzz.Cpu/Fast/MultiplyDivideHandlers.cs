using System.Runtime.CompilerServices;
using VmFuzz.Arch;
using VmFuzz.Cpu.Blocks;

namespace VmFuzz.Cpu.Fast;

/// <summary>Products and quotients of 32 and 64 bits in registers. What ends in #DE, or needs more, goes to the reference form.</summary>
// SAFETY: register offsets come from the builder.
internal static unsafe class MultiplyDivide<TThread, T>
    where TThread : struct, IThreading
    where T : unmanaged
{
    /// <summary>IMUL of two registers, into the first.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RegReg(CpuState* s, Op* op)
    {
        byte* registers = (byte*)s;
        Signed(s, op, Wide.Load<T>(registers + op->R0), Wide.Load<T>(registers + op->R1));
        return TThread.Go(s, op + 1);
    }

    /// <summary>IMUL of a register by an immediate, into another.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RegRegImm(CpuState* s, Op* op)
    {
        Signed(s, op, Wide.Load<T>((byte*)s + op->R1), (ulong)op->Immediate);
        return TThread.Go(s, op + 1);
    }

    /// <summary>MUL: rAX by a register, into rDX:rAX.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Unsigned(CpuState* s, Op* op)
    {
        ulong left = Wide.Load<T>((byte*)(s->Gpr + (int)Gpr.Rax));
        ulong high = Math.BigMul(left, Wide.Load<T>((byte*)s + op->R0), out ulong low);
        if (sizeof(T) == 4)
        {
            high = low >> 32;
            low = (uint)low;
        }

        s->Gpr[(int)Gpr.Rax] = low;
        s->Gpr[(int)Gpr.Rdx] = high;
        ulong wide = high == 0 ? 0UL : 1;
        GivenFlags.Set<T>(s, low, wide, wide);
        return TThread.Go(s, op + 1);
    }

    /// <summary>DIV of rDX:rAX, whose quotient fits when rDX is smaller than the divisor. Flags stay.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Divide(CpuState* s, Op* op)
    {
        ulong divisor = Wide.Load<T>((byte*)s + op->R0);
        ulong high = Wide.Cut<T>(s->Gpr[(int)Gpr.Rdx]);
        ulong low = Wide.Cut<T>(s->Gpr[(int)Gpr.Rax]);
        if (high >= divisor || (sizeof(T) == 8 && high != 0))
        {
            return Ops<TThread>.RunReference(s, op);
        }

        ulong dividend = sizeof(T) == 4 ? (high << 32) | low : low;
        ulong quotient = dividend / divisor;
        s->Gpr[(int)Gpr.Rax] = quotient;
        s->Gpr[(int)Gpr.Rdx] = dividend - (quotient * divisor);
        return TThread.Go(s, op + 1);
    }

    /// <summary>IDIV of a dividend that rAX holds alone, the usual one. Flags stay.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* DivideSigned(CpuState* s, Op* op)
    {
        long divisor = Wide.Sign<T>(Wide.Load<T>((byte*)s + op->R0));
        long dividend = Wide.Sign<T>(s->Gpr[(int)Gpr.Rax]);
        if (divisor is 0 or -1 || Wide.Sign<T>(s->Gpr[(int)Gpr.Rdx]) != dividend >> 63)
        {
            return Ops<TThread>.RunReference(s, op);
        }

        long quotient = dividend / divisor;
        s->Gpr[(int)Gpr.Rax] = Wide.Cut<T>((ulong)quotient);
        s->Gpr[(int)Gpr.Rdx] = Wide.Cut<T>((ulong)(dividend - (quotient * divisor)));
        return TThread.Go(s, op + 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Signed(CpuState* s, Op* op, ulong left, ulong right)
    {
        ulong low;
        bool fits;
        if (sizeof(T) == 4)
        {
            long product = (long)(int)left * (int)right;
            low = (uint)product;
            fits = product == (int)product;
        }
        else
        {
            long high = Math.BigMul((long)left, (long)right, out long product);
            low = (ulong)product;
            fits = high == product >> 63;
        }

        Wide.StoreRegister<T>((byte*)s + op->R0, low);
        ulong wide = fits ? 0UL : 1;
        GivenFlags.Set<T>(s, low, wide, wide);
    }
}

/// <summary>The sign of rAX.</summary>
internal static unsafe class SignOfAccumulator<TThread, T>
    where TThread : struct, IThreading
    where T : unmanaged
{
    /// <summary>CDQ and CQO: into every bit of rDX.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* IntoRdx(CpuState* s, Op* op)
    {
        Wide.StoreRegister<T>((byte*)(s->Gpr + (int)Gpr.Rdx), (ulong)(Wide.Sign<T>(s->Gpr[(int)Gpr.Rax]) >> 63));
        return TThread.Go(s, op + 1);
    }
}

/// <summary>ROL and ROR of a register by an immediate that is not 0 and smaller than the operand.</summary>
internal static unsafe class Rotate<TThread, T, TFlags>
    where TThread : struct, IThreading
    where T : unmanaged
    where TFlags : struct, IFlag
{
    /// <summary>To the left; a rotation to the right by a count is one to the left by the rest.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Left(CpuState* s, Op* op)
    {
        ulong result = Turn(s, op, (int)op->Immediate);
        if (TFlags.Value)
        {
            ulong carry = result & 1;
            SetFlags(s, carry, carry ^ ((ulong)Wide.Sign<T>(result) >> 63));
        }

        return TThread.Go(s, op + 1);
    }

    /// <summary>To the right.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Right(CpuState* s, Op* op)
    {
        ulong result = Turn(s, op, Wide.Bits<T>() - (int)op->Immediate);
        if (TFlags.Value)
        {
            ulong carry = (ulong)Wide.Sign<T>(result) >> 63;
            SetFlags(s, carry, carry ^ ((result >> (Wide.Bits<T>() - 2)) & 1));
        }

        return TThread.Go(s, op + 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong Turn(CpuState* s, Op* op, int left)
    {
        byte* target = (byte*)s + op->R0;
        ulong value = Wide.Load<T>(target);
        ulong result = Wide.Cut<T>((value << left) | (value >> (Wide.Bits<T>() - left)));
        Wide.StoreRegister<T>(target, result);
        return result;
    }

    // The other flags stay.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void SetFlags(CpuState* s, ulong carry, ulong overflow)
    {
        LazyFlags.Settle(s);
        s->Flags = (s->Flags & ~(RFlags.Cf | RFlags.Of)) | carry | (overflow << 11);
    }
}

/// <summary>NEG and NOT of a register.</summary>
internal static unsafe class Invert<TThread, T>
    where TThread : struct, IThreading
    where T : unmanaged
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Neg(CpuState* s, Op* op)
    {
        byte* target = (byte*)s + op->R0;
        ulong right = Wide.Load<T>(target);
        AluFlags.Set<AluSub, T>(s, 0 - right, 0, right);
        Wide.StoreRegister<T>(target, 0 - right);
        return TThread.Go(s, op + 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Not(CpuState* s, Op* op)
    {
        byte* target = (byte*)s + op->R0;
        Wide.StoreRegister<T>(target, ~Wide.Load<T>(target));
        return TThread.Go(s, op + 1);
    }
}

/// <summary>Flags of shifts and products: CF and OF as they are told, ZF, SF and PF of the result, AF 0.</summary>
internal static unsafe class GivenFlags
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Set<T>(CpuState* s, ulong result, ulong carry, ulong overflow)
        where T : unmanaged
    {
        long extended = Wide.Sign<T>(result);
        s->Lazy = LazyKind.Given;
        s->LazyCarry = carry | (overflow << 1);
        s->LazyResult = extended;
        s->LazyLeft = extended;
        s->LazyRight = 0;
    }
}
