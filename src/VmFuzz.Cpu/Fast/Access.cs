using System.Numerics;
using System.Runtime.CompilerServices;
using VmFuzz.Arch;
using VmFuzz.Cpu.Blocks;

namespace VmFuzz.Cpu.Fast;

/// <summary>Registers and memory at a width given by a type: byte, ushort, uint or ulong.</summary>
internal static unsafe class Wide
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Bytes<T>()
        where T : unmanaged => sizeof(T);

    /// <summary>Loads, zero-extended.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Load<T>(byte* at)
        where T : unmanaged
    {
        if (typeof(T) == typeof(byte))
        {
            return *at;
        }

        if (typeof(T) == typeof(ushort))
        {
            return Unsafe.ReadUnaligned<ushort>(at);
        }

        return typeof(T) == typeof(uint) ? Unsafe.ReadUnaligned<uint>(at) : Unsafe.ReadUnaligned<ulong>(at);
    }

    /// <summary>Stores to memory.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void Store<T>(byte* at, ulong value)
        where T : unmanaged
    {
        if (typeof(T) == typeof(byte))
        {
            *at = (byte)value;
        }
        else if (typeof(T) == typeof(ushort))
        {
            Unsafe.WriteUnaligned(at, (ushort)value);
        }
        else if (typeof(T) == typeof(uint))
        {
            Unsafe.WriteUnaligned(at, (uint)value);
        }
        else
        {
            Unsafe.WriteUnaligned(at, value);
        }
    }

    /// <summary>Stores to a register: 32 bits clear the upper half.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void StoreRegister<T>(byte* at, ulong value)
        where T : unmanaged
    {
        if (typeof(T) == typeof(uint))
        {
            *(ulong*)at = (uint)value;
        }
        else
        {
            Store<T>(at, value);
        }
    }

    /// <summary>Sign-extends to 64 bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static long Sign<T>(ulong value)
        where T : unmanaged
    {
        if (typeof(T) == typeof(byte))
        {
            return (sbyte)value;
        }

        if (typeof(T) == typeof(ushort))
        {
            return (short)value;
        }

        return typeof(T) == typeof(uint) ? (int)value : (long)value;
    }

    /// <summary>Cuts to the width.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Cut<T>(ulong value)
        where T : unmanaged
    {
        if (typeof(T) == typeof(byte))
        {
            return (byte)value;
        }

        if (typeof(T) == typeof(ushort))
        {
            return (ushort)value;
        }

        return typeof(T) == typeof(uint) ? (uint)value : value;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Bits<T>()
        where T : unmanaged => sizeof(T) * 8;
}

/// <summary>How an op forms its linear address. All ones (never in a look-aside buffer) sends the op to its slow path.</summary>
internal unsafe interface IAddress
{
    static abstract ulong Linear(CpuState* s, Op* op, int bytes);
}

/// <summary>64-bit address without segment base.</summary>
internal unsafe struct Address64 : IAddress
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Linear(CpuState* s, Op* op, int bytes)
    {
        byte* registers = (byte*)s;
        return *(ulong*)(registers + op->Base) + (*(ulong*)(registers + op->Index) << op->Scale) + (ulong)(long)op->Displacement;
    }
}

/// <summary>64-bit address without segment base and index.</summary>
internal unsafe struct Address64Base : IAddress
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Linear(CpuState* s, Op* op, int bytes) => *(ulong*)((byte*)s + op->Base) + (ulong)(long)op->Displacement;
}

/// <summary>64-bit address in FS or GS.</summary>
internal unsafe struct Address64Segment : IAddress
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Linear(CpuState* s, Op* op, int bytes) =>
        Address64.Linear(s, op, bytes) + (&s->Es)[op->Segment].Base;
}

/// <summary>32-bit address in a flat segment.</summary>
internal unsafe struct Address32Flat : IAddress
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Linear(CpuState* s, Op* op, int bytes) => (uint)Address64.Linear(s, op, bytes);
}

/// <summary>16- or 32-bit address in a plain writable data segment; others go the slow way.</summary>
internal unsafe struct AddressSegmented<TMask> : IAddress
    where TMask : unmanaged
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Linear(CpuState* s, Op* op, int bytes)
    {
        ulong offset = Wide.Cut<TMask>(Address64.Linear(s, op, bytes));
        SegmentState* segment = &s->Es + op->Segment;
        return segment->IsPlainData && offset + (ulong)(bytes - 1) <= segment->Limit ? (uint)(segment->Base + offset) : ulong.MaxValue;
    }
}

// SAFETY: an entry holds the host address of a whole page of GuestMemory, which is never freed before the processor. Its tag
// matches only when first and last byte of the access lie in that page. Pages in the write buffer are prepared (their old
// bytes are kept) and hold neither decoded code nor paging structures; whoever ends a condition drops the buffer first.
/// <summary>Look-ups in the look-aside buffers. Null: the slow path must do it.</summary>
internal static unsafe class Tlb
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static byte* Read(CpuState* s, ulong linear, int bytes) => Find(s->ReadTlb, s, linear, bytes);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static byte* Write(CpuState* s, ulong linear, int bytes) => Find(s->WriteTlb, s, linear, bytes);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static byte* Find(ulong* tlb, CpuState* s, ulong linear, int bytes)
    {
        ulong* entry = tlb + (((linear >> 12) & (CpuState.TlbSize - 1)) * 2);
        // An access that crosses the page compares the tag of the next page and misses.
        return entry[0] == (((linear + (ulong)(bytes - 1)) & ~0xFFFUL) | s->TlbContext) ? (byte*)(linear + entry[1]) : null;
    }
}

/// <summary>An operation on two values that sets the arithmetic flags lazily.</summary>
internal unsafe interface IAlu
{
    static abstract ulong Run(CpuState* s, ulong left, ulong right);

    static abstract LazyKind Kind { get; }

    static abstract bool Logic { get; }

    static abstract bool Writes { get; }
}

internal unsafe struct AluAdd : IAlu
{
    public static LazyKind Kind => LazyKind.Add;

    public static bool Logic => false;

    public static bool Writes => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Run(CpuState* s, ulong left, ulong right) => left + right;
}

internal unsafe struct AluAdc : IAlu
{
    public static LazyKind Kind => LazyKind.Add;

    public static bool Logic => false;

    public static bool Writes => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Run(CpuState* s, ulong left, ulong right) => left + right + (LazyFlags.Carry(s) ? 1UL : 0);
}

internal unsafe struct AluSub : IAlu
{
    public static LazyKind Kind => LazyKind.Sub;

    public static bool Logic => false;

    public static bool Writes => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Run(CpuState* s, ulong left, ulong right) => left - right;
}

internal unsafe struct AluSbb : IAlu
{
    public static LazyKind Kind => LazyKind.Sub;

    public static bool Logic => false;

    public static bool Writes => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Run(CpuState* s, ulong left, ulong right) => left - right - (LazyFlags.Carry(s) ? 1UL : 0);
}

internal unsafe struct AluCmp : IAlu
{
    public static LazyKind Kind => LazyKind.Sub;

    public static bool Logic => false;

    public static bool Writes => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Run(CpuState* s, ulong left, ulong right) => left - right;
}

internal unsafe struct AluAnd : IAlu
{
    public static LazyKind Kind => LazyKind.Add;

    public static bool Logic => true;

    public static bool Writes => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Run(CpuState* s, ulong left, ulong right) => left & right;
}

internal unsafe struct AluTest : IAlu
{
    public static LazyKind Kind => LazyKind.Add;

    public static bool Logic => true;

    public static bool Writes => false;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Run(CpuState* s, ulong left, ulong right) => left & right;
}

internal unsafe struct AluOr : IAlu
{
    public static LazyKind Kind => LazyKind.Add;

    public static bool Logic => true;

    public static bool Writes => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Run(CpuState* s, ulong left, ulong right) => left | right;
}

internal unsafe struct AluXor : IAlu
{
    public static LazyKind Kind => LazyKind.Add;

    public static bool Logic => true;

    public static bool Writes => true;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Run(CpuState* s, ulong left, ulong right) => left ^ right;
}

/// <summary>A yes or no as a type, so that the JIT specialises on it.</summary>
internal interface IFlag
{
    static abstract bool Value { get; }
}

internal struct Yes : IFlag
{
    public static bool Value => true;
}

internal struct No : IFlag
{
    public static bool Value => false;
}

/// <summary>One of the eight pairs of condition codes.</summary>
internal static unsafe class Conditions
{
    /// <summary>Whether a condition code holds; the common kinds first.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool Holds(CpuState* s, int code)
    {
        if (s->Lazy == LazyKind.Sub)
        {
            long left = s->LazyLeft, right = s->LazyRight, result = s->LazyResult;
            // Exact for subtractions without borrow and for those with: the signs and the result decide.
            switch (code)
            {
                case 4:
                    return result == 0;
                case 5:
                    return result != 0;
                case 2:
                    return ((~left & right) | ((~left | right) & result)) < 0;
                case 3:
                    return ((~left & right) | ((~left | right) & result)) >= 0;
                case 12:
                    return (result ^ ((left ^ right) & (left ^ result))) < 0;
                case 13:
                    return (result ^ ((left ^ right) & (left ^ result))) >= 0;
            }
        }

        return LazyFlags.Condition(s, code);
    }
}
