using System.Numerics;
using System.Reflection.Emit;
using Iced.Intel;
using VmFuzz.Cpu.Blocks;

namespace VmFuzz.Cpu.Regions;

// Guest memory: through the look-aside buffers, or by the op of the instruction.
internal sealed unsafe partial class RegionCompiler
{
    private bool Is64 => (_block->Mode & BlockMode.Code64) != 0;

    /// <summary>Whether an operand is a general register, an immediate, or memory at an address that code can be made for.</summary>
    public bool Plain(in Instruction instruction, int operand) => instruction.GetOpKind(operand) switch
    {
        OpKind.Register => Processor.IsGpr(instruction.GetOpRegister(operand)),
        OpKind.Memory => PlainAddress(instruction, segmented: true),
        >= OpKind.Immediate8 and <= OpKind.Immediate32to64 => true,
        _ => false,
    };

    /// <summary>Whether the address of the memory operand is formed of general registers, and its segment adds at most a base.</summary>
    public bool PlainAddress(in Instruction instruction, bool segmented)
    {
        if ((instruction.MemoryBase is not (Register.None or Register.RIP) && !Processor.IsGpr(instruction.MemoryBase))
            || (instruction.MemoryIndex != Register.None && !Processor.IsGpr(instruction.MemoryIndex)))
        {
            return false;
        }

        ulong mask = Processor.AddressMask(instruction);
        if (!segmented)
        {
            return mask != 0xFFFF;
        }

        bool based = instruction.MemorySegment is Register.FS or Register.GS;
        return Is64
            ? mask == ulong.MaxValue
            : mask == uint.MaxValue && (_block->Mode & BlockMode.Flat) != 0 && !based && instruction.MemorySegment != Register.CS;
    }

    /// <summary>Pushes the address of the memory operand, without its segment, cut to the address size.</summary>
    public void Address(in Instruction instruction)
    {
        if (instruction.MemoryBase == Register.RIP)
        {
            Constant((long)instruction.IPRelativeMemoryAddress);
            return;
        }

        bool first = true;
        if (instruction.MemoryBase != Register.None)
        {
            LoadRegister(instruction.MemoryBase);
            first = false;
        }

        if (instruction.MemoryIndex != Register.None)
        {
            LoadRegister(instruction.MemoryIndex);
            int scale = BitOperations.TrailingZeroCount(instruction.MemoryIndexScale);
            if (scale != 0)
            {
                _il.Emit(OpCodes.Ldc_I4, scale);
                _il.Emit(OpCodes.Shl);
            }

            Join(ref first);
        }

        if (instruction.MemoryDisplacement64 != 0 || first)
        {
            Constant((long)instruction.MemoryDisplacement64);
            Join(ref first);
        }

        Cut(Processor.AddressMask(instruction) == ulong.MaxValue ? 8 : 4);
    }

    /// <summary>Finds the host address of the memory operand; a miss leaves the instruction to its op.</summary>
    public void Probe(in Instruction instruction, int bytes, bool write)
    {
        Address(instruction);
        if (instruction.MemorySegment is Register.FS or Register.GS)
        {
            LoadField(StateLayout.BaseOf(instruction.MemorySegment));
            _il.Emit(OpCodes.Add);
        }

        Probe(bytes, write);
    }

    /// <summary>Takes a linear address from the stack and finds its host address.</summary>
    public void Probe(int bytes, bool write)
    {
        int tlb = write ? StateLayout.WriteTlb : StateLayout.ReadTlb;
        _il.Emit(OpCodes.Stloc, _address);

        // entry = s + ((address >> 12) & (size - 1)) * 16
        _il.Emit(OpCodes.Ldarg_0);
        _il.Emit(OpCodes.Ldloc, _address);
        _il.Emit(OpCodes.Ldc_I4_8);
        _il.Emit(OpCodes.Shr_Un);
        Constant((CpuState.TlbSize - 1) * 16);
        _il.Emit(OpCodes.And);
        _il.Emit(OpCodes.Conv_I);
        _il.Emit(OpCodes.Add);
        _il.Emit(OpCodes.Conv_I8);
        _il.Emit(OpCodes.Stloc, _entry);

        // The tag of the page of the last byte, as in Tlb.Find.
        EntryWord(tlb);
        _il.Emit(OpCodes.Ldloc, _address);
        if (bytes != 1)
        {
            Constant(bytes - 1);
            _il.Emit(OpCodes.Add);
        }

        Constant(~0xFFFL);
        _il.Emit(OpCodes.And);
        _il.Emit(OpCodes.Ldloc, _context);
        _il.Emit(OpCodes.Or);
        _il.Emit(OpCodes.Bne_Un, ExitLabel());
        _il.Emit(OpCodes.Ldloc, _address);
        EntryWord(tlb + 8);
        _il.Emit(OpCodes.Add);
        _il.Emit(OpCodes.Stloc, _host);
    }

    /// <summary>Pushes what the probed memory holds, zero-extended.</summary>
    public void LoadProbed(int size)
    {
        _il.Emit(OpCodes.Ldloc, _host);
        _il.Emit(OpCodes.Conv_I);
        _il.Emit(OpCodes.Unaligned, (byte)1);
        _il.Emit(size switch { 1 => OpCodes.Ldind_U1, 2 => OpCodes.Ldind_U2, 4 => OpCodes.Ldind_U4, _ => OpCodes.Ldind_I8 });
        if (size != 8)
        {
            _il.Emit(OpCodes.Conv_U8);
        }
    }

    /// <summary>Stores a local to the probed memory.</summary>
    public void StoreProbed(int size, LocalBuilder value)
    {
        _il.Emit(OpCodes.Ldloc, _host);
        _il.Emit(OpCodes.Conv_I);
        _il.Emit(OpCodes.Ldloc, value);
        _il.Emit(size switch { 1 => OpCodes.Conv_U1, 2 => OpCodes.Conv_U2, 4 => OpCodes.Conv_U4, _ => OpCodes.Conv_U8 });
        _il.Emit(OpCodes.Unaligned, (byte)1);
        _il.Emit(size switch { 1 => OpCodes.Stind_I1, 2 => OpCodes.Stind_I2, 4 => OpCodes.Stind_I4, _ => OpCodes.Stind_I8 });
    }

    /// <summary>Pushes an operand, zero-extended (immediates sign-extended); memory must have been probed.</summary>
    public void LoadOperand(in Instruction instruction, int operand, int size)
    {
        switch (instruction.GetOpKind(operand))
        {
            case OpKind.Register:
                LoadRegister(instruction.GetOpRegister(operand));
                break;
            case OpKind.Memory:
                LoadProbed(size);
                break;
            default:
                Constant((long)instruction.GetImmediate(operand));
                break;
        }
    }

    /// <summary>Stores a local to a register or to the probed memory.</summary>
    public void StoreOperand(in Instruction instruction, int operand, int size, LocalBuilder value)
    {
        if (instruction.GetOpKind(operand) == OpKind.Register)
        {
            StoreRegister(instruction.GetOpRegister(operand), value);
        }
        else
        {
            StoreProbed(size, value);
        }
    }

    private void EntryWord(int offset)
    {
        _il.Emit(OpCodes.Ldloc, _entry);
        Constant(offset);
        _il.Emit(OpCodes.Add);
        _il.Emit(OpCodes.Conv_I);
        _il.Emit(OpCodes.Ldind_I8);
    }

    private void Join(ref bool first)
    {
        if (!first)
        {
            _il.Emit(OpCodes.Add);
        }

        first = false;
    }
}
