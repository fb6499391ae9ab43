using System.Numerics;
using VmFuzz.Arch;

namespace VmFuzz.Cpu;

/// <summary>
/// Arithmetic flags kept as kind, result and operands. All values are sign-extended to 64 bits, so that one formula
/// serves every operand size.
/// </summary>
public static unsafe class LazyFlags
{
    /// <summary>RFLAGS with all flags worked out; the state is not changed.</summary>
    public static ulong Materialize(CpuState* s) => s->Lazy == LazyKind.Explicit
        ? s->Flags
        : (s->Flags & ~RFlags.Arithmetic) | Arithmetic(s);

    /// <summary>Works the flags out into <see cref="CpuState.Flags"/>.</summary>
    public static void Settle(CpuState* s)
    {
        if (s->Lazy != LazyKind.Explicit)
        {
            s->Flags = (s->Flags & ~RFlags.Arithmetic) | Arithmetic(s);
            s->Lazy = LazyKind.Explicit;
        }
    }

    /// <summary>CF.</summary>
    public static bool Carry(CpuState* s)
    {
        long a = s->LazyLeft, b = s->LazyRight, r = s->LazyResult;
        return s->Lazy switch
        {
            LazyKind.Explicit => (s->Flags & RFlags.Cf) != 0,
            LazyKind.Add => ((a & b) | ((a | b) & ~r)) < 0,
            LazyKind.Sub => ((~a & b) | ((~a | b) & r)) < 0,
            _ => (s->LazyCarry & 1) != 0,
        };
    }

    /// <summary>ZF.</summary>
    public static bool Zero(CpuState* s) =>
        s->Lazy == LazyKind.Explicit ? (s->Flags & RFlags.Zf) != 0 : s->LazyResult == 0;

    /// <summary>SF.</summary>
    public static bool Sign(CpuState* s) =>
        s->Lazy == LazyKind.Explicit ? (s->Flags & RFlags.Sf) != 0 : s->LazyResult < 0;

    /// <summary>OF.</summary>
    public static bool Overflow(CpuState* s)
    {
        long a = s->LazyLeft, b = s->LazyRight, r = s->LazyResult;
        return s->Lazy switch
        {
            LazyKind.Explicit => (s->Flags & RFlags.Of) != 0,
            LazyKind.Add or LazyKind.Inc => ((a ^ r) & (b ^ r)) < 0,
            LazyKind.Given => (s->LazyCarry & 2) != 0,
            _ => ((a ^ b) & (a ^ r)) < 0,
        };
    }

    /// <summary>PF: even parity of the low byte.</summary>
    public static bool Parity(CpuState* s) => s->Lazy == LazyKind.Explicit
        ? (s->Flags & RFlags.Pf) != 0
        : (BitOperations.PopCount((byte)s->LazyResult) & 1) == 0;

    /// <summary>Whether a condition code (the low four bits of Jcc, SETcc, CMOVcc opcodes) holds.</summary>
    /// <param name="s">The state.</param>
    /// <param name="code">0 to 15: O, NO, B, AE, E, NE, BE, A, S, NS, P, NP, L, GE, LE, G.</param>
    public static bool Condition(CpuState* s, int code)
    {
        bool holds = (code >> 1) switch
        {
            0 => Overflow(s),
            1 => Carry(s),
            2 => Zero(s),
            3 => Carry(s) || Zero(s),
            4 => Sign(s),
            5 => Parity(s),
            6 => Sign(s) != Overflow(s),
            _ => Zero(s) || Sign(s) != Overflow(s),
        };
        return holds != ((code & 1) != 0);
    }

    private static ulong Arithmetic(CpuState* s)
    {
        long a = s->LazyLeft, b = s->LazyRight, r = s->LazyResult;
        ulong flags = Carry(s) ? RFlags.Cf : 0;
        flags |= Parity(s) ? RFlags.Pf : 0;
        flags |= (ulong)(a ^ b ^ r) & RFlags.Af;
        flags |= r == 0 ? RFlags.Zf : 0;
        flags |= r < 0 ? RFlags.Sf : 0;
        flags |= Overflow(s) ? RFlags.Of : 0;
        return flags;
    }
}
