using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>
/// Packs the VM-exit instruction-information field (SDM "Format of the VM-Exit Instruction-Information Field" tables):
/// one function for all formats, because equal parts stand at equal places.
/// </summary>
internal static class InstructionInformation
{
    /// <summary>For INVEPT, INVVPID, INVPCID, VMCLEAR, VMPTRLD, VMPTRST, VMXON, VMREAD, VMWRITE.</summary>
    /// <param name="ins">The instruction.</param>
    /// <param name="operand">The operand that may be in memory.</param>
    /// <param name="second">The operand that is always a register (bits 31:28), or -1.</param>
    public static uint Vmx(in Instruction ins, int operand, int second) =>
        Operand(ins, operand) | (second < 0 ? 0 : (uint)Number(ins.GetOpRegister(second)) << 28);

    /// <summary>For LGDT, LIDT, SGDT, SIDT; identity 0 SGDT, 1 SIDT, 2 LGDT, 3 LIDT.</summary>
    public static uint GdtrIdtr(in Instruction ins, bool operand16, uint identity) =>
        Operand(ins, 0) | (operand16 ? 0 : 1U << 11) | (identity << 28);

    /// <summary>For LLDT, LTR, SLDT, STR; identity 0 SLDT, 1 STR, 2 LLDT, 3 LTR.</summary>
    public static uint LdtrTr(in Instruction ins, uint identity) => Operand(ins, 0) | (identity << 28);

    /// <summary>For RDRAND and RDSEED.</summary>
    public static uint Random(Register destination)
    {
        uint size = Processor.GprSize(destination) switch
        {
            2 => 0,
            4 => 1,
            _ => 2,
        };
        return ((uint)Number(destination) << 3) | (size << 11);
    }

    /// <summary>
    /// The exit qualification of instructions with a memory operand: the displacement, sign-extended; for RIP-relative
    /// operands the address.
    /// </summary>
    public static ulong Displacement(in Instruction ins)
    {
        if (ins.MemoryBase is Register.RIP or Register.EIP)
        {
            return ins.MemoryDisplacement64;
        }

        return ins.MemoryDisplSize switch
        {
            0 => 0,
            1 or 2 or 4 => (ulong)(int)ins.MemoryDisplacement32 is var wide && Processor.AddressMask(ins) == 0xFFFF
                ? (ulong)(short)wide
                : (ulong)(int)ins.MemoryDisplacement32,
            _ => ins.MemoryDisplacement64,
        };
    }

    internal static int Number(Register register) => Processor.GprOffset(register) >> 3;

    private static uint Operand(in Instruction ins, int operand)
    {
        if (ins.GetOpKind(operand) == OpKind.Register)
        {
            return ((uint)Number(ins.GetOpRegister(operand)) << 3) | (1U << 10);
        }

        uint scale = ins.MemoryIndexScale switch
        {
            2 => 1,
            4 => 2,
            8 => 3,
            _ => 0,
        };
        uint addressSize = Processor.AddressMask(ins) switch
        {
            0xFFFF => 0,
            uint.MaxValue => 1,
            _ => 2,
        };
        uint info = scale | (addressSize << 7) | ((uint)Processor.ToSegment(ins.MemorySegment) << 15);
        info |= Reference(ins.MemoryIndex, 18);
        return info | Reference(ins.MemoryBase, 23);
    }

    // Four bits of register number, then one that says there is none. RIP counts as none.
    private static uint Reference(Register register, int shift) => register is Register.None or Register.RIP or Register.EIP
        ? 1U << (shift + 4)
        : (uint)Number(register) << shift;
}
