using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>MOVS, STOS, LODS, CMPS, SCAS: one iteration per call.</summary>
internal static unsafe class StringOps
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        // MOVSD and CMPSD are also names of SSE2 instructions: these rows are for the string forms only.
        new(Mnemonic.Movsb, static (Processor cpu, in Instruction ins) => Movs(cpu, ins, 1)),
        new(Mnemonic.Movsw, static (Processor cpu, in Instruction ins) => Movs(cpu, ins, 2)),
        new(Mnemonic.Movsd, static (Processor cpu, in Instruction ins) => Movs(cpu, ins, 4), Form: Code.Movsd_m32_m32),
        new(Mnemonic.Movsq, static (Processor cpu, in Instruction ins) => Movs(cpu, ins, 8)),
        new(Mnemonic.Stosb, static (Processor cpu, in Instruction ins) => Stos(cpu, ins, 1)),
        new(Mnemonic.Stosw, static (Processor cpu, in Instruction ins) => Stos(cpu, ins, 2)),
        new(Mnemonic.Stosd, static (Processor cpu, in Instruction ins) => Stos(cpu, ins, 4)),
        new(Mnemonic.Stosq, static (Processor cpu, in Instruction ins) => Stos(cpu, ins, 8)),
        new(Mnemonic.Lodsb, static (Processor cpu, in Instruction ins) => Lods(cpu, ins, 1)),
        new(Mnemonic.Lodsw, static (Processor cpu, in Instruction ins) => Lods(cpu, ins, 2)),
        new(Mnemonic.Lodsd, static (Processor cpu, in Instruction ins) => Lods(cpu, ins, 4)),
        new(Mnemonic.Lodsq, static (Processor cpu, in Instruction ins) => Lods(cpu, ins, 8)),
        new(Mnemonic.Cmpsb, static (Processor cpu, in Instruction ins) => Cmps(cpu, ins, 1)),
        new(Mnemonic.Cmpsw, static (Processor cpu, in Instruction ins) => Cmps(cpu, ins, 2)),
        new(Mnemonic.Cmpsd, static (Processor cpu, in Instruction ins) => Cmps(cpu, ins, 4), Form: Code.Cmpsd_m32_m32),
        new(Mnemonic.Cmpsq, static (Processor cpu, in Instruction ins) => Cmps(cpu, ins, 8)),
        new(Mnemonic.Scasb, static (Processor cpu, in Instruction ins) => Scas(cpu, ins, 1)),
        new(Mnemonic.Scasw, static (Processor cpu, in Instruction ins) => Scas(cpu, ins, 2)),
        new(Mnemonic.Scasd, static (Processor cpu, in Instruction ins) => Scas(cpu, ins, 4)),
        new(Mnemonic.Scasq, static (Processor cpu, in Instruction ins) => Scas(cpu, ins, 8)),
    ];

    /// <summary>Bytes of the index registers and of the counter: 2, 4 or 8.</summary>
    internal static int AddressSize(in Instruction ins)
    {
        for (int i = 0; i < ins.OpCount; i++)
        {
            switch (ins.GetOpKind(i))
            {
                case OpKind.MemoryESDI or OpKind.MemorySegSI or OpKind.MemorySegDI:
                    return 2;
                case OpKind.MemoryESEDI or OpKind.MemorySegESI or OpKind.MemorySegEDI:
                    return 4;
                case OpKind.MemoryESRDI or OpKind.MemorySegRSI or OpKind.MemorySegRDI:
                    return 8;
                default:
                    break;
            }
        }

        return 8;
    }

    /// <summary>Moves an index register by one element, by DF.</summary>
    internal static void Advance(Processor cpu, Gpr index, int addressSize, int size)
    {
        bool down = (cpu.State->Flags & RFlags.Df) != 0;
        Ops.Write(cpu, index, addressSize, down ? cpu[index] - (ulong)size : cpu[index] + (ulong)size);
    }

    /// <summary>Whether a REP-prefixed instruction has nothing to do.</summary>
    internal static bool IsDone(Processor cpu, in Instruction ins, int addressSize) =>
        IsRepeated(ins) && Ops.Read(cpu, Gpr.Rcx, addressSize) == 0;

    /// <summary>Ends an iteration: counts down and says whether another follows.</summary>
    internal static ExecResult EndIteration(Processor cpu, in Instruction ins, int addressSize, bool compares)
    {
        if (!IsRepeated(ins))
        {
            return ExecResult.Next;
        }

        ulong count = Ops.Cut(cpu[Gpr.Rcx] - 1, addressSize);
        Ops.Write(cpu, Gpr.Rcx, addressSize, count);
        bool more = count != 0 && (!compares || LazyFlags.Zero(cpu.State) == !ins.HasRepnePrefix);
        return more ? ExecResult.Repeat : ExecResult.Next;
    }

    private static bool IsRepeated(in Instruction ins) => ins.HasRepPrefix || ins.HasRepnePrefix;

    private static bool ReadSource(Processor cpu, in Instruction ins, int addressSize, int size, out ulong value) =>
        cpu.ReadMemory(Processor.ToSegment(ins.MemorySegment), Ops.Read(cpu, Gpr.Rsi, addressSize), size, out value);

    private static ExecResult Movs(Processor cpu, in Instruction ins, int size)
    {
        int addressSize = AddressSize(ins);
        if (IsDone(cpu, ins, addressSize))
        {
            return ExecResult.Next;
        }

        if (!ReadSource(cpu, ins, addressSize, size, out ulong value)
            || !cpu.WriteMemory(SegmentRegister.Es, Ops.Read(cpu, Gpr.Rdi, addressSize), size, value))
        {
            return ExecResult.Abort;
        }

        Advance(cpu, Gpr.Rsi, addressSize, size);
        Advance(cpu, Gpr.Rdi, addressSize, size);
        return EndIteration(cpu, ins, addressSize, compares: false);
    }

    private static ExecResult Stos(Processor cpu, in Instruction ins, int size)
    {
        int addressSize = AddressSize(ins);
        if (IsDone(cpu, ins, addressSize))
        {
            return ExecResult.Next;
        }

        if (!cpu.WriteMemory(SegmentRegister.Es, Ops.Read(cpu, Gpr.Rdi, addressSize), size, Ops.Read(cpu, Gpr.Rax, size)))
        {
            return ExecResult.Abort;
        }

        Advance(cpu, Gpr.Rdi, addressSize, size);
        return EndIteration(cpu, ins, addressSize, compares: false);
    }

    private static ExecResult Lods(Processor cpu, in Instruction ins, int size)
    {
        int addressSize = AddressSize(ins);
        if (IsDone(cpu, ins, addressSize))
        {
            return ExecResult.Next;
        }

        if (!ReadSource(cpu, ins, addressSize, size, out ulong value))
        {
            return ExecResult.Abort;
        }

        Ops.Write(cpu, Gpr.Rax, size, value);
        Advance(cpu, Gpr.Rsi, addressSize, size);
        return EndIteration(cpu, ins, addressSize, compares: false);
    }

    private static ExecResult Cmps(Processor cpu, in Instruction ins, int size)
    {
        int addressSize = AddressSize(ins);
        if (IsDone(cpu, ins, addressSize))
        {
            return ExecResult.Next;
        }

        if (!ReadSource(cpu, ins, addressSize, size, out ulong left)
            || !cpu.ReadMemory(SegmentRegister.Es, Ops.Read(cpu, Gpr.Rdi, addressSize), size, out ulong right))
        {
            return ExecResult.Abort;
        }

        Advance(cpu, Gpr.Rsi, addressSize, size);
        Advance(cpu, Gpr.Rdi, addressSize, size);
        cpu.FlagsSub(size, left - right, left, right);
        return EndIteration(cpu, ins, addressSize, compares: true);
    }

    private static ExecResult Scas(Processor cpu, in Instruction ins, int size)
    {
        int addressSize = AddressSize(ins);
        if (IsDone(cpu, ins, addressSize))
        {
            return ExecResult.Next;
        }

        if (!cpu.ReadMemory(SegmentRegister.Es, Ops.Read(cpu, Gpr.Rdi, addressSize), size, out ulong right))
        {
            return ExecResult.Abort;
        }

        ulong left = Ops.Read(cpu, Gpr.Rax, size);
        Advance(cpu, Gpr.Rdi, addressSize, size);
        cpu.FlagsSub(size, left - right, left, right);
        return EndIteration(cpu, ins, addressSize, compares: true);
    }
}
