using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu;

// Operands of decoded instructions, for microcode. A method that returns false has noted a fault or an exit.
public sealed unsafe partial class Processor
{
    /// <summary>Whether a register is one of AL to R15 in any width.</summary>
    internal static bool IsGpr(Register register) => register is >= Register.AL and <= Register.R15;

    /// <summary>Bytes of a general register.</summary>
    internal static int GprSize(Register register) => register switch
    {
        <= Register.R15L => 1,
        <= Register.R15W => 2,
        <= Register.R15D => 4,
        _ => 8,
    };

    /// <summary>Byte offset of a general register (of any width) in the register file; AH is 1.</summary>
    internal static int GprOffset(Register register)
    {
        if (register >= Register.RAX)
        {
            return (register - Register.RAX) * 8;
        }

        if (register >= Register.EAX)
        {
            return (register - Register.EAX) * 8;
        }

        if (register >= Register.AX)
        {
            return (register - Register.AX) * 8;
        }

        // Iced's order: AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8L ...
        int number = register - Register.AL;
        return number switch
        {
            < 4 => number * 8,
            < 8 => ((number - 4) * 8) + 1,
            _ => (number - 4) * 8,
        };
    }

    /// <summary>Reads a general register of any width, zero-extended.</summary>
    public ulong ReadGpr(Register register)
    {
        byte* at = (byte*)_state->Gpr + GprOffset(register);
        return GprSize(register) switch
        {
            1 => *at,
            2 => *(ushort*)at,
            4 => *(uint*)at,
            _ => *(ulong*)at,
        };
    }

    /// <summary>Writes a general register of any width; 32-bit writes clear the upper half.</summary>
    public void WriteGpr(Register register, ulong value)
    {
        byte* at = (byte*)_state->Gpr + GprOffset(register);
        switch (GprSize(register))
        {
            case 1:
                *at = (byte)value;
                break;
            case 2:
                *(ushort*)at = (ushort)value;
                break;
            case 4:
                *(ulong*)at = (uint)value;
                break;
            default:
                *(ulong*)at = value;
                break;
        }
    }

    /// <summary>Bytes of an operand: a general register's width, the memory size, or the immediate's target width.</summary>
    public static int OperandSize(in Instruction instruction, int operand)
    {
        switch (instruction.GetOpKind(operand))
        {
            case OpKind.Register:
                Register register = instruction.GetOpRegister(operand);
                return IsGpr(register) ? GprSize(register) : register.GetSize();
            case OpKind.Memory:
            case OpKind.MemoryESDI:
            case OpKind.MemoryESEDI:
            case OpKind.MemoryESRDI:
            case OpKind.MemorySegSI:
            case OpKind.MemorySegESI:
            case OpKind.MemorySegRSI:
            case OpKind.MemorySegDI:
            case OpKind.MemorySegEDI:
            case OpKind.MemorySegRDI:
                return instruction.MemorySize.GetSize();
            case OpKind.Immediate8:
            case OpKind.Immediate8_2nd:
                return 1;
            case OpKind.Immediate16:
            case OpKind.Immediate8to16:
                return 2;
            case OpKind.Immediate32:
            case OpKind.Immediate8to32:
                return 4;
            default:
                return 8;
        }
    }

    /// <summary>The offset part of the memory operand and its segment.</summary>
    /// <returns>The effective address, cut to the address size.</returns>
    public ulong EffectiveAddress(in Instruction instruction, out SegmentRegister segment)
    {
        segment = ToSegment(instruction.MemorySegment);
        Register based = instruction.MemoryBase;
        ulong address = instruction.MemoryDisplacement64;
        if (based is Register.RIP or Register.EIP)
        {
            return based == Register.EIP ? (uint)address : address; // Iced has added RIP already.
        }

        if (based != Register.None)
        {
            address += ReadGpr(based);
        }

        Register index = instruction.MemoryIndex;
        if (index != Register.None)
        {
            address += ReadGpr(index) * (ulong)instruction.MemoryIndexScale;
        }

        return AddressMask(instruction) & address;
    }

    /// <summary>Mask of the instruction's address size: 16, 32 or 64 ones.</summary>
    public static ulong AddressMask(in Instruction instruction)
    {
        Register register = instruction.MemoryBase != Register.None ? instruction.MemoryBase : instruction.MemoryIndex;
        if (register != Register.None)
        {
            if (register is Register.RIP)
            {
                return ulong.MaxValue;
            }

            return register is Register.EIP ? uint.MaxValue : MaskOfSize(GprSize(register));
        }

        return instruction.MemoryDisplSize switch
        {
            2 => 0xFFFF,
            8 => ulong.MaxValue,
            4 => instruction.CodeSize == CodeSize.Code64 ? ulong.MaxValue : uint.MaxValue,
            _ => instruction.CodeSize switch
            {
                CodeSize.Code16 => 0xFFFF,
                CodeSize.Code32 => uint.MaxValue,
                _ => ulong.MaxValue,
            },
        };
    }

    /// <summary>All ones in the given number of bytes.</summary>
    internal static ulong MaskOfSize(int bytes) => bytes >= 8 ? ulong.MaxValue : (1UL << (bytes * 8)) - 1;

    /// <summary>Sign-extends a value of the given number of bytes.</summary>
    internal static long SignExtend(ulong value, int bytes) => bytes switch
    {
        1 => (sbyte)value,
        2 => (short)value,
        4 => (int)value,
        _ => (long)value,
    };

    /// <summary>Iced's segment register as ours.</summary>
    internal static SegmentRegister ToSegment(Register register) => (SegmentRegister)(register - Register.ES);

    /// <summary>Reads an operand of at most eight bytes, zero-extended (immediates sign-extended as encoded, then cut).</summary>
    public bool ReadOperand(in Instruction instruction, int operand, out ulong value)
    {
        switch (instruction.GetOpKind(operand))
        {
            case OpKind.Register:
                Register register = instruction.GetOpRegister(operand);
                value = IsGpr(register) ? ReadGpr(register) : ReadSpecial(register);
                return true;
            case OpKind.Memory:
                ulong offset = EffectiveAddress(instruction, out SegmentRegister segment);
                return ReadMemory(segment, offset, instruction.MemorySize.GetSize(), out value);
            default:
                value = instruction.GetImmediate(operand);
                return true;
        }
    }

    /// <summary>
    /// Reads an operand that will be written back: memory is checked for writing first, so that
    /// <see cref="WriteOperand"/> cannot fail afterwards.
    /// </summary>
    public bool ReadForWrite(in Instruction instruction, int operand, out ulong value)
    {
        if (instruction.GetOpKind(operand) != OpKind.Memory)
        {
            return ReadOperand(instruction, operand, out value);
        }

        ulong offset = EffectiveAddress(instruction, out SegmentRegister segment);
        int size = instruction.MemorySize.GetSize();
        value = 0;
        return ProbeWrite(segment, offset, size) && ReadMemory(segment, offset, size, out value);
    }

    /// <summary>Writes an operand: a general register (32-bit writes clear the upper half) or memory.</summary>
    public bool WriteOperand(in Instruction instruction, int operand, ulong value)
    {
        if (instruction.GetOpKind(operand) == OpKind.Register)
        {
            WriteGpr(instruction.GetOpRegister(operand), value);
            return true;
        }

        ulong offset = EffectiveAddress(instruction, out SegmentRegister segment);
        return WriteMemory(segment, offset, instruction.MemorySize.GetSize(), value);
    }

    /// <summary>Sets the arithmetic flags as of <c>result = left + right (+ carry)</c> at a size in bytes.</summary>
    public void FlagsAdd(int size, ulong result, ulong left, ulong right) => SetLazy(LazyKind.Add, size, result, left, right);

    /// <summary>Sets the arithmetic flags as of <c>result = left - right (- borrow)</c>.</summary>
    public void FlagsSub(int size, ulong result, ulong left, ulong right) => SetLazy(LazyKind.Sub, size, result, left, right);

    /// <summary>Sets the arithmetic flags as of a logic operation: CF = OF = AF = 0.</summary>
    public void FlagsLogic(int size, ulong result) => SetLazy(LazyKind.Add, size, result, result, 0);

    /// <summary>Replaces some arithmetic flags and keeps the others.</summary>
    /// <param name="mask">Which, see <see cref="RFlags"/>.</param>
    /// <param name="value">Their new values.</param>
    public void FlagsSet(ulong mask, ulong value)
    {
        LazyFlags.Settle(_state);
        _state->Flags = (_state->Flags & ~mask) | (value & mask);
    }

    /// <summary>ZF, SF and PF of a result, as bits of RFLAGS.</summary>
    internal static ulong ZeroSignParity(int size, ulong result)
    {
        long extended = SignExtend(result, size);
        return (extended == 0 ? RFlags.Zf : 0) | (extended < 0 ? RFlags.Sf : 0)
            | ((System.Numerics.BitOperations.PopCount((byte)result) & 1) == 0 ? RFlags.Pf : 0);
    }

    private void SetLazy(LazyKind kind, int size, ulong result, ulong left, ulong right)
    {
        CpuState* s = _state;
        s->Lazy = kind;
        s->LazyResult = SignExtend(result, size);
        s->LazyLeft = SignExtend(left, size);
        s->LazyRight = SignExtend(right, size);
    }

    private ulong ReadSpecial(Register register) => register switch
    {
        >= Register.ES and <= Register.GS => Segment(ToSegment(register)).Selector,
        Register.CR0 => _state->Cr0,
        Register.CR2 => _state->Cr2,
        Register.CR3 => _state->Cr3,
        Register.CR4 => _state->Cr4,
        _ => throw new InvalidOperationException($"{register} is not an operand of this kind."),
    };
}
