using System.Runtime.CompilerServices;
using VmFuzz.Arch;
using VmFuzz.Cpu.Blocks;

namespace VmFuzz.Cpu.Fast;

// Specialised forms. Each does the common case and leaves everything else to the reference microcode: a miss in the
// look-aside buffer, a page crossing, a device, a fault.

// SAFETY: every host pointer here comes from Tlb.Read or Tlb.Write of the same op and is used at once; register offsets
// come from the builder.

internal static unsafe class Alu<TThread, TAlu, T, TFlags>
    where TThread : struct, IThreading
    where TAlu : struct, IAlu
    where T : unmanaged
    where TFlags : struct, IFlag
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RegReg(CpuState* s, Op* op)
    {
        byte* registers = (byte*)s;
        Do(s, registers + op->R0, Wide.Load<T>(registers + op->R1));
        return TThread.Go(s, op + 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RegImm(CpuState* s, Op* op)
    {
        Do(s, (byte*)s + op->R0, (ulong)op->Immediate);
        return TThread.Go(s, op + 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Do(CpuState* s, byte* target, ulong right)
    {
        ulong left = Wide.Load<T>(target);
        ulong result = TAlu.Run(s, left, right);
        if (TFlags.Value)
        {
            AluFlags.Set<TAlu, T>(s, result, left, right);
        }

        if (TAlu.Writes)
        {
            Wide.StoreRegister<T>(target, result);
        }
    }
}

internal static unsafe class AluFlags
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Set<TAlu, T>(CpuState* s, ulong result, ulong left, ulong right)
        where TAlu : struct, IAlu
        where T : unmanaged
    {
        long extended = Wide.Sign<T>(result);
        s->Lazy = TAlu.Kind;
        s->LazyResult = extended;
        s->LazyLeft = TAlu.Logic ? extended : Wide.Sign<T>(left);
        s->LazyRight = TAlu.Logic ? 0 : Wide.Sign<T>(right);
    }
}

internal static unsafe class AluMemory<TThread, TAlu, T, TAddress>
    where TThread : struct, IThreading
    where TAlu : struct, IAlu
    where T : unmanaged
    where TAddress : struct, IAddress
{
    /// <summary>Register op= memory.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RegMem(CpuState* s, Op* op)
    {
        byte* at = Tlb.Read(s, TAddress.Linear(s, op, sizeof(T)), sizeof(T));
        if (at == null)
        {
            return Ops<TThread>.RunReference(s, op);
        }

        byte* target = (byte*)s + op->R0;
        ulong left = Wide.Load<T>(target);
        ulong right = Wide.Load<T>(at);
        ulong result = TAlu.Run(s, left, right);
        AluFlags.Set<TAlu, T>(s, result, left, right);
        if (TAlu.Writes)
        {
            Wide.StoreRegister<T>(target, result);
        }

        return TThread.Go(s, op + 1);
    }

    /// <summary>Memory op= register.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* MemReg(CpuState* s, Op* op)
    {
        ulong linear = TAddress.Linear(s, op, sizeof(T));
        byte* at = TAlu.Writes ? Tlb.Write(s, linear, sizeof(T)) : Tlb.Read(s, linear, sizeof(T));
        if (at == null)
        {
            return Ops<TThread>.RunReference(s, op);
        }

        Do(s, at, Wide.Load<T>((byte*)s + op->R1));
        return TThread.Go(s, op + 1);
    }

    /// <summary>Memory op= immediate.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* MemImm(CpuState* s, Op* op)
    {
        ulong linear = TAddress.Linear(s, op, sizeof(T));
        byte* at = TAlu.Writes ? Tlb.Write(s, linear, sizeof(T)) : Tlb.Read(s, linear, sizeof(T));
        if (at == null)
        {
            return Ops<TThread>.RunReference(s, op);
        }

        Do(s, at, (ulong)op->Immediate);
        return TThread.Go(s, op + 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Do(CpuState* s, byte* at, ulong right)
    {
        ulong left = Wide.Load<T>(at);
        ulong result = TAlu.Run(s, left, right);
        AluFlags.Set<TAlu, T>(s, result, left, right);
        if (TAlu.Writes)
        {
            Wide.Store<T>(at, result);
        }
    }
}

internal static unsafe class Move<TThread, T>
    where TThread : struct, IThreading
    where T : unmanaged
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RegReg(CpuState* s, Op* op)
    {
        byte* registers = (byte*)s;
        Wide.StoreRegister<T>(registers + op->R0, Wide.Load<T>(registers + op->R1));
        return TThread.Go(s, op + 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RegImm(CpuState* s, Op* op)
    {
        Wide.StoreRegister<T>((byte*)s + op->R0, (ulong)op->Immediate);
        return TThread.Go(s, op + 1);
    }
}

internal static unsafe class MoveMemory<TThread, T, TAddress>
    where TThread : struct, IThreading
    where T : unmanaged
    where TAddress : struct, IAddress
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RegMem(CpuState* s, Op* op)
    {
        byte* at = Tlb.Read(s, TAddress.Linear(s, op, sizeof(T)), sizeof(T));
        if (at == null)
        {
            return Ops<TThread>.RunReference(s, op);
        }

        Wide.StoreRegister<T>((byte*)s + op->R0, Wide.Load<T>(at));
        return TThread.Go(s, op + 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* MemReg(CpuState* s, Op* op)
    {
        byte* at = Tlb.Write(s, TAddress.Linear(s, op, sizeof(T)), sizeof(T));
        if (at == null)
        {
            return Ops<TThread>.RunReference(s, op);
        }

        Wide.Store<T>(at, Wide.Load<T>((byte*)s + op->R1));
        return TThread.Go(s, op + 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* MemImm(CpuState* s, Op* op)
    {
        byte* at = Tlb.Write(s, TAddress.Linear(s, op, sizeof(T)), sizeof(T));
        if (at == null)
        {
            return Ops<TThread>.RunReference(s, op);
        }

        Wide.Store<T>(at, (ulong)op->Immediate);
        return TThread.Go(s, op + 1);
    }
}

/// <summary>NOP, with an operand or without.</summary>
internal static unsafe class Nothing<TThread>
    where TThread : struct, IThreading
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Run(CpuState* s, Op* op) => TThread.Go(s, op + 1);
}

/// <summary>MOVZX, MOVSX and MOVSXD: from a narrow type to a wide register.</summary>
internal static unsafe class Extend<TThread, TFrom, TTo, TSigned>
    where TThread : struct, IThreading
    where TFrom : unmanaged
    where TTo : unmanaged
    where TSigned : struct, IFlag
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RegReg(CpuState* s, Op* op)
    {
        byte* registers = (byte*)s;
        ulong value = Wide.Load<TFrom>(registers + op->R1);
        Wide.StoreRegister<TTo>(registers + op->R0, TSigned.Value ? (ulong)Wide.Sign<TFrom>(value) : value);
        return TThread.Go(s, op + 1);
    }
}

internal static unsafe class ExtendMemory<TThread, TFrom, TTo, TSigned, TAddress>
    where TThread : struct, IThreading
    where TFrom : unmanaged
    where TTo : unmanaged
    where TSigned : struct, IFlag
    where TAddress : struct, IAddress
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RegMem(CpuState* s, Op* op)
    {
        byte* at = Tlb.Read(s, TAddress.Linear(s, op, sizeof(TFrom)), sizeof(TFrom));
        if (at == null)
        {
            return Ops<TThread>.RunReference(s, op);
        }

        ulong value = Wide.Load<TFrom>(at);
        Wide.StoreRegister<TTo>((byte*)s + op->R0, TSigned.Value ? (ulong)Wide.Sign<TFrom>(value) : value);
        return TThread.Go(s, op + 1);
    }
}

/// <summary>LEA; the address is formed without segment, cut to the address size by the type.</summary>
internal static unsafe class Lea<TThread, T, TMask>
    where TThread : struct, IThreading
    where T : unmanaged
    where TMask : unmanaged
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Run(CpuState* s, Op* op)
    {
        Wide.StoreRegister<T>((byte*)s + op->R0, Wide.Cut<TMask>(Address64.Linear(s, op, 1)));
        return TThread.Go(s, op + 1);
    }
}

/// <summary>INC and DEC of a register: CF stays.</summary>
internal static unsafe class IncDec<TThread, T, TDown>
    where TThread : struct, IThreading
    where T : unmanaged
    where TDown : struct, IFlag
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Reg(CpuState* s, Op* op)
    {
        Count(s, op);
        return TThread.Go(s, op + 1);
    }

    /// <summary>Does it, flags included.</summary>
    /// <returns>The result, sign-extended.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static long Count(CpuState* s, Op* op)
    {
        byte* target = (byte*)s + op->R0;

        // A row of them keeps the carry where it is.
        if (s->Lazy is not (LazyKind.Inc or LazyKind.Dec))
        {
            s->LazyCarry = LazyFlags.Carry(s) ? 1UL : 0;
        }

        ulong left = Wide.Load<T>(target);
        ulong result = TDown.Value ? left - 1 : left + 1;
        long extended = Wide.Sign<T>(result);
        s->Lazy = TDown.Value ? LazyKind.Dec : LazyKind.Inc;
        s->LazyResult = extended;
        s->LazyLeft = Wide.Sign<T>(left);
        s->LazyRight = 1;
        Wide.StoreRegister<T>(target, result);
        return extended;
    }

    /// <summary>Nobody reads the flags.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RegQuiet(CpuState* s, Op* op)
    {
        byte* target = (byte*)s + op->R0;
        ulong left = Wide.Load<T>(target);
        Wide.StoreRegister<T>(target, TDown.Value ? left - 1 : left + 1);
        return TThread.Go(s, op + 1);
    }
}

/// <summary>Shifts by an immediate that is not 0 and smaller than the operand.</summary>
internal static unsafe class Shift<TThread, T, TFlags>
    where TThread : struct, IThreading
    where T : unmanaged
    where TFlags : struct, IFlag
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Left(CpuState* s, Op* op)
    {
        byte* target = (byte*)s + op->R0;
        ulong left = Wide.Load<T>(target);
        int count = (int)op->Immediate;
        ulong result = left << count;
        Wide.StoreRegister<T>(target, result);
        if (TFlags.Value)
        {
            ulong carry = (left >> (Wide.Bits<T>() - count)) & 1;
            ulong sign = (ulong)Wide.Sign<T>(result) >> 63;
            GivenFlags.Set<T>(s, result, carry, sign ^ carry);
        }

        return TThread.Go(s, op + 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Right(CpuState* s, Op* op)
    {
        byte* target = (byte*)s + op->R0;
        ulong left = Wide.Load<T>(target);
        int count = (int)op->Immediate;
        ulong result = left >> count;
        Wide.StoreRegister<T>(target, result);
        if (TFlags.Value)
        {
            // OF is the sign before the last step.
            ulong step = left >> (count - 1);
            GivenFlags.Set<T>(s, result, step & 1, (ulong)Wide.Sign<T>(step) >> 63);
        }

        return TThread.Go(s, op + 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* RightSigned(CpuState* s, Op* op)
    {
        byte* target = (byte*)s + op->R0;
        long left = Wide.Sign<T>(Wide.Load<T>(target));
        int count = (int)op->Immediate;
        ulong result = (ulong)(left >> count);
        Wide.StoreRegister<T>(target, result);
        if (TFlags.Value)
        {
            GivenFlags.Set<T>(s, result, (ulong)(left >> (count - 1)) & 1, 0);
        }

        return TThread.Go(s, op + 1);
    }
}

/// <summary>Stack operations of 4 or 8 bytes where the stack is as wide and flat.</summary>
internal static unsafe class Stack<TThread, T>
    where TThread : struct, IThreading
    where T : unmanaged
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* PushReg(CpuState* s, Op* op)
    {
        if (!Push(s, Wide.Load<T>((byte*)s + op->R0)))
        {
            return Ops<TThread>.RunReference(s, op);
        }

        return TThread.Go(s, op + 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* PushImm(CpuState* s, Op* op)
    {
        if (!Push(s, (ulong)op->Immediate))
        {
            return Ops<TThread>.RunReference(s, op);
        }

        return TThread.Go(s, op + 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* PopReg(CpuState* s, Op* op)
    {
        ulong top = Wide.Cut<T>(s->Gpr[(int)Gpr.Rsp]);
        byte* at = Tlb.Read(s, top, sizeof(T));
        if (at == null)
        {
            return Ops<TThread>.RunReference(s, op);
        }

        ulong value = Wide.Load<T>(at);
        s->Gpr[(int)Gpr.Rsp] = Wide.Cut<T>(top + (ulong)sizeof(T));
        Wide.StoreRegister<T>((byte*)s + op->R0, value);
        return TThread.Go(s, op + 1);
    }

    /// <summary>CALL with a relative target: pushes the return address, goes on with the link behind it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Call(CpuState* s, Op* op)
    {
        if (!Push(s, (ulong)op->Immediate))
        {
            return Ops<TThread>.RunReference(s, op);
        }

        return Branch<TThread>.Follow(s, op + 3);
    }

    /// <summary>RET without immediate.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Return(CpuState* s, Op* op)
    {
        ulong top = Wide.Cut<T>(s->Gpr[(int)Gpr.Rsp]);
        byte* at = Tlb.Read(s, top, sizeof(T));
        if (at == null)
        {
            return Ops<TThread>.RunReference(s, op);
        }

        ulong target = Wide.Load<T>(at);
        Op* next = Branches.Find(s, target);
        if (next == null)
        {
            return Ops<TThread>.RunReference(s, op);
        }

        s->Gpr[(int)Gpr.Rsp] = Wide.Cut<T>(top + (ulong)sizeof(T));
        return Branch<TThread>.Enter(s, next, target);
    }

    /// <summary>CALL of an address in a register.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* CallReg(CpuState* s, Op* op) => CallTo(s, op, Wide.Load<T>((byte*)s + op->R0));

    /// <summary>CALL of an address in memory.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* CallMem<TAddress>(CpuState* s, Op* op)
        where TAddress : struct, IAddress
    {
        byte* at = Tlb.Read(s, TAddress.Linear(s, op, sizeof(T)), sizeof(T));
        return at == null ? Ops<TThread>.RunReference(s, op) : CallTo(s, op, Wide.Load<T>(at));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Op* CallTo(CpuState* s, Op* op, ulong target)
    {
        Op* next = Branches.Find(s, target);
        return next == null || !Push(s, (ulong)op->Immediate) ? Ops<TThread>.RunReference(s, op) : Branch<TThread>.Enter(s, next, target);
    }

    // False: the slow path must do it, and nothing has changed.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool Push(CpuState* s, ulong value)
    {
        ulong top = Wide.Cut<T>(s->Gpr[(int)Gpr.Rsp] - (ulong)sizeof(T));
        byte* at = Tlb.Write(s, top, sizeof(T));
        if (at == null)
        {
            return false;
        }

        Wide.Store<T>(at, value);
        s->Gpr[(int)Gpr.Rsp] = top;
        return true;
    }
}

/// <summary>Near branches.</summary>
internal static unsafe class Branches
{
    /// <summary>The block at an indirect target, if the cache knows it; the reference form checks the others.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Op* Find(CpuState* s, ulong target)
    {
        JumpEntry* entry = Processor.JumpSlot(s, target);
        return entry->Rip == target && entry->Mode == s->Mode && entry->Generation == s->Generation ? entry->Target : null;
    }
}

internal static unsafe class Branch<TThread>
    where TThread : struct, IThreading
{
    /// <summary>Jcc: the fall-through link follows, then the taken link.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Conditional(CpuState* s, Op* op) =>
        Follow(s, Conditions.Holds(s, op->R0) ? op + 3 : op + 1);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Equal(CpuState* s, Op* op) =>
        Follow(s, LazyFlags.Zero(s) ? op + 3 : op + 1);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* NotEqual(CpuState* s, Op* op) =>
        Follow(s, LazyFlags.Zero(s) ? op + 1 : op + 3);

    /// <summary>JMP with a relative target: the taken link is the second.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* Jump(CpuState* s, Op* op) => Follow(s, op + 3);

    /// <summary>JMP to an address in a register.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* JumpReg<T>(CpuState* s, Op* op)
        where T : unmanaged => JumpTo(s, op, Wide.Load<T>((byte*)s + op->R0));

    /// <summary>JMP to an address in memory.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* JumpMem<T, TAddress>(CpuState* s, Op* op)
        where T : unmanaged
        where TAddress : struct, IAddress
    {
        byte* at = Tlb.Read(s, TAddress.Linear(s, op, sizeof(T)), sizeof(T));
        return at == null ? Ops<TThread>.RunReference(s, op) : JumpTo(s, op, Wide.Load<T>(at));
    }

    /// <summary>Goes through a link. The usual kind, into the same page and valid, is done here; the link's own op does the others.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Op* Follow(CpuState* s, Op* link) => (uint)link->Displacement == (uint)s->CodeGeneration && link->R0 != 0
        ? Enter(s, (Op*)link->Immediate, (ulong)link[1].Immediate)
        : TThread.Go(s, link);

    /// <summary>Starts a block; what a plain head does is done here.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Op* Enter(CpuState* s, Op* head, ulong rip)
    {
        s->Gpr[CpuState.RipSlot] = rip;
        if (head->R1 == 0)
        {
            return TThread.Go(s, head);
        }

        long left = s->Budget - head->Immediate;
        if (left < 0)
        {
            return null;
        }

        s->Budget = left;
        return TThread.Go(s, head + 1);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Op* JumpTo(CpuState* s, Op* op, ulong target)
    {
        Op* next = Branches.Find(s, target);
        return next == null ? Ops<TThread>.RunReference(s, op) : Enter(s, next, target);
    }
}

internal static unsafe class Select<TThread, T>
    where TThread : struct, IThreading
    where T : unmanaged
{
    /// <summary>CMOVcc between registers; a 32-bit form clears the upper half even when the condition is false.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* MoveIf(CpuState* s, Op* op)
    {
        byte* registers = (byte*)s;
        byte* from = registers + (Conditions.Holds(s, op->Scale) ? op->R1 : op->R0);
        Wide.StoreRegister<T>(registers + op->R0, Wide.Load<T>(from));
        return TThread.Go(s, op + 1);
    }

    /// <summary>SETcc of a register.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static Op* SetIf(CpuState* s, Op* op)
    {
        *((byte*)s + op->R0) = Conditions.Holds(s, op->Scale) ? (byte)1 : (byte)0;
        return TThread.Go(s, op + 1);
    }
}
