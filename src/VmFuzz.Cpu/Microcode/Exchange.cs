using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>XCHG and compare-and-exchange. One processor runs at a time, so every access is atomic as it stands.</summary>
internal static unsafe class Exchange
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Xchg, Xchg),
        new(Mnemonic.Cmpxchg, Cmpxchg),
        new(Mnemonic.Cmpxchg8b, Cmpxchg8, Feature: CpuFeatures.Cx8),
        new(Mnemonic.Cmpxchg16b, Cmpxchg16, Feature: CpuFeatures.Cx16),
    ];

    private static ExecResult Xchg(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadForWrite(ins, 0, out ulong left))
        {
            return ExecResult.Abort;
        }

        ulong right = cpu.ReadGpr(ins.Op1Register);
        if (!cpu.WriteOperand(ins, 0, right))
        {
            return ExecResult.Abort;
        }

        cpu.WriteGpr(ins.Op1Register, left);
        return ExecResult.Next;
    }

    // A memory destination is written in both outcomes; a register one keeps even its upper half when they differ.
    private static ExecResult Cmpxchg(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadForWrite(ins, 0, out ulong current))
        {
            return ExecResult.Abort;
        }

        int size = Processor.OperandSize(ins, 0);
        ulong expected = Ops.Read(cpu, Gpr.Rax, size);
        bool equal = expected == current;
        if ((equal || ins.Op0Kind == OpKind.Memory)
            && !cpu.WriteOperand(ins, 0, equal ? cpu.ReadGpr(ins.Op1Register) : current))
        {
            return ExecResult.Abort;
        }

        if (!equal)
        {
            Ops.Write(cpu, Gpr.Rax, size, current);
        }

        cpu.FlagsSub(size, expected - current, expected, current);
        return ExecResult.Next;
    }

    private static ExecResult Cmpxchg8(Processor cpu, in Instruction ins)
    {
        if (!cpu.ReadForWrite(ins, 0, out ulong current))
        {
            return ExecResult.Abort;
        }

        ulong expected = (cpu[Gpr.Rdx] << 32) | (uint)cpu[Gpr.Rax];
        bool equal = expected == current;
        ulong replacement = (cpu[Gpr.Rcx] << 32) | (uint)cpu[Gpr.Rbx];
        if (!cpu.WriteOperand(ins, 0, equal ? replacement : current))
        {
            return ExecResult.Abort;
        }

        if (!equal)
        {
            cpu[Gpr.Rax] = (uint)current;
            cpu[Gpr.Rdx] = current >> 32;
        }

        cpu.FlagsSet(RFlags.Zf, Ops.Bit(equal, RFlags.Zf));
        return ExecResult.Next;
    }

    private static ExecResult Cmpxchg16(Processor cpu, in Instruction ins)
    {
        ulong offset = cpu.EffectiveAddress(ins, out SegmentRegister segment);
        if (!cpu.Linearize(segment, offset, 16, write: true, out ulong linear))
        {
            return ExecResult.Abort;
        }

        if ((linear & 15) != 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        if (!cpu.ProbeLinear(linear, 16, AccessKind.Write)
            || !cpu.ReadLinear(linear, 8, out ulong low) || !cpu.ReadLinear(linear + 8, 8, out ulong high))
        {
            return ExecResult.Abort;
        }

        bool equal = low == cpu[Gpr.Rax] && high == cpu[Gpr.Rdx];
        if (!cpu.WriteLinear(linear, 8, equal ? cpu[Gpr.Rbx] : low)
            || !cpu.WriteLinear(linear + 8, 8, equal ? cpu[Gpr.Rcx] : high))
        {
            return ExecResult.Abort;
        }

        if (!equal)
        {
            cpu[Gpr.Rax] = low;
            cpu[Gpr.Rdx] = high;
        }

        cpu.FlagsSet(RFlags.Zf, Ops.Bit(equal, RFlags.Zf));
        return ExecResult.Next;
    }
}
