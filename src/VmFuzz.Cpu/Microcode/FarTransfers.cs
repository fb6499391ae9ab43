using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>Far JMP, CALL, RET and IRET.</summary>
internal static class FarTransfers
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        .. Segments.Forms(
            Mnemonic.Jmp, Jump, InstructionTraits.EndsBlock,
            Code.Jmp_ptr1616, Code.Jmp_ptr1632, Code.Jmp_m1616, Code.Jmp_m1632, Code.Jmp_m1664),
        .. Segments.Forms(
            Mnemonic.Call, Call, InstructionTraits.EndsBlock,
            Code.Call_ptr1616, Code.Call_ptr1632, Code.Call_m1616, Code.Call_m1632, Code.Call_m1664),
        new(Mnemonic.Retf, Return, InstructionTraits.EndsBlock),
        new(Mnemonic.Iret, InterruptReturn, InstructionTraits.EndsBlock),
        new(Mnemonic.Iretd, InterruptReturn, InstructionTraits.EndsBlock),
        new(Mnemonic.Iretq, InterruptReturn, InstructionTraits.EndsBlock),
    ];

    /// <summary>Reads a far pointer: immediate, or offset and selector in memory.</summary>
    internal static bool ReadPointer(Processor cpu, in Instruction ins, int operand, out ushort selector, out ulong offset, out int size)
    {
        selector = 0;
        switch (ins.GetOpKind(operand))
        {
            case OpKind.FarBranch16:
                selector = ins.FarBranchSelector;
                offset = ins.FarBranch16;
                size = 2;
                return true;
            case OpKind.FarBranch32:
                selector = ins.FarBranchSelector;
                offset = ins.FarBranch32;
                size = 4;
                return true;
        }

        size = ins.MemorySize.GetSize() - 2;
        ulong at = cpu.EffectiveAddress(ins, out SegmentRegister segment);
        if (!cpu.ReadMemory(segment, at, size, out offset)
            || !cpu.ReadMemory(segment, (at + (ulong)size) & Processor.AddressMask(ins), 2, out ulong word))
        {
            return false;
        }

        selector = (ushort)word;
        return true;
    }

    private static ExecResult Jump(Processor cpu, in Instruction ins) =>
        ReadPointer(cpu, ins, 0, out ushort selector, out ulong offset, out int size)
            ? cpu.FarJump(selector, offset, size, ins.Length)
            : ExecResult.Abort;

    private static ExecResult Call(Processor cpu, in Instruction ins) =>
        ReadPointer(cpu, ins, 0, out ushort selector, out ulong offset, out int size)
            ? cpu.FarCall(selector, offset, size, cpu.Rip + (ulong)ins.Length, ins.Length)
            : ExecResult.Abort;

    private static ExecResult Return(Processor cpu, in Instruction ins)
    {
        int size = ins.Code switch
        {
            Code.Retfw or Code.Retfw_imm16 => 2,
            Code.Retfd or Code.Retfd_imm16 => 4,
            _ => 8,
        };
        return cpu.FarReturn(size, ins.OpCount == 1 ? ins.Immediate16 : 0);
    }

    private static ExecResult InterruptReturn(Processor cpu, in Instruction ins) => cpu.InterruptReturn(
        ins.Mnemonic switch
        {
            Mnemonic.Iret => 2,
            Mnemonic.Iretd => 4,
            _ => 8,
        },
        ins.Length);
}
