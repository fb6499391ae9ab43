using System.Reflection.Emit;
using Iced.Intel;

namespace VmFuzz.Cpu.Regions;

/// <summary>An operation of two operands.</summary>
internal enum BinaryOperation
{
    Add,
    AddCarry,
    Sub,
    SubBorrow,
    Compare,
    And,
    Or,
    Xor,
    Test,
}

/// <summary>A shift.</summary>
internal enum ShiftOperation
{
    Left,
    Right,
    RightSigned,
}

// Code of integer instructions. Each checks first whether it knows the form, then probes memory, then does it, flags last.
internal sealed unsafe partial class RegionCompiler
{
    /// <summary>MOV.</summary>
    public bool Move(in Instruction instruction)
    {
        if (!Plain(instruction, 0) || !Plain(instruction, 1))
        {
            return false;
        }

        int size = Processor.OperandSize(instruction, 0);
        ProbeOperands(instruction, size, write: true);
        LoadOperand(instruction, 1, size);
        _il.Emit(OpCodes.Stloc, _value);
        StoreOperand(instruction, 0, size, _value);
        return true;
    }

    /// <summary>MOVZX, MOVSX and MOVSXD.</summary>
    public bool Extend(in Instruction instruction, bool signed)
    {
        if (!Plain(instruction, 0) || !Plain(instruction, 1))
        {
            return false;
        }

        int from = Processor.OperandSize(instruction, 1);
        ProbeOperands(instruction, from, write: false);
        LoadOperand(instruction, 1, from);
        if (signed)
        {
            Sign(from);
        }

        _il.Emit(OpCodes.Stloc, _value);
        StoreRegister(instruction.Op0Register, _value);
        return true;
    }

    /// <summary>LEA.</summary>
    public bool LoadAddress(in Instruction instruction)
    {
        if (!PlainAddress(instruction, segmented: false))
        {
            return false;
        }

        Address(instruction);
        _il.Emit(OpCodes.Stloc, _value);
        StoreRegister(instruction.Op0Register, _value);
        return true;
    }

    /// <summary>XCHG of registers.</summary>
    public bool Exchange(in Instruction instruction)
    {
        if (instruction.Op0Kind != OpKind.Register || instruction.Op1Kind != OpKind.Register)
        {
            return false;
        }

        LoadRegister(instruction.Op0Register);
        _il.Emit(OpCodes.Stloc, _first);
        LoadRegister(instruction.Op1Register);
        _il.Emit(OpCodes.Stloc, _second);
        StoreRegister(instruction.Op0Register, _second);
        StoreRegister(instruction.Op1Register, _first);
        return true;
    }

    /// <summary>ADD to TEST.</summary>
    public bool Binary(in Instruction instruction, BinaryOperation operation)
    {
        if (!Plain(instruction, 0) || !Plain(instruction, 1))
        {
            return false;
        }

        int size = Processor.OperandSize(instruction, 0);
        bool writes = operation is not (BinaryOperation.Compare or BinaryOperation.Test);
        bool carries = operation is BinaryOperation.AddCarry or BinaryOperation.SubBorrow;
        ProbeOperands(instruction, size, writes);
        if (carries)
        {
            CarryInto(_more);
        }

        LoadOperand(instruction, 0, size);
        _il.Emit(OpCodes.Stloc, _first);
        LoadOperand(instruction, 1, size);
        _il.Emit(OpCodes.Stloc, _second);
        _il.Emit(OpCodes.Ldloc, _first);
        _il.Emit(OpCodes.Ldloc, _second);
        OpCode code = operation switch
        {
            BinaryOperation.Add or BinaryOperation.AddCarry => OpCodes.Add,
            BinaryOperation.Sub or BinaryOperation.SubBorrow or BinaryOperation.Compare => OpCodes.Sub,
            BinaryOperation.Or => OpCodes.Or,
            BinaryOperation.Xor => OpCodes.Xor,
            _ => OpCodes.And,
        };
        _il.Emit(code);
        if (carries)
        {
            _il.Emit(OpCodes.Ldloc, _more);
            _il.Emit(code);
        }

        _il.Emit(OpCodes.Stloc, _value);
        if (writes)
        {
            StoreOperand(instruction, 0, size, _value);
        }

        SetFlags(RegionInstructions.Sets(instruction), size);
        return true;
    }

    /// <summary>INC and DEC: CF stays.</summary>
    public bool Count(in Instruction instruction, bool down)
    {
        if (!Plain(instruction, 0))
        {
            return false;
        }

        int size = Processor.OperandSize(instruction, 0);
        ProbeOperands(instruction, size, write: true);
        if (_needFlags && _known is not (KnownFlags.Inc or KnownFlags.Dec))
        {
            CarryInto(_carry);
        }

        LoadOperand(instruction, 0, size);
        _il.Emit(OpCodes.Stloc, _first);
        Constant(1);
        _il.Emit(OpCodes.Stloc, _second);
        _il.Emit(OpCodes.Ldloc, _first);
        _il.Emit(OpCodes.Ldloc, _second);
        _il.Emit(down ? OpCodes.Sub : OpCodes.Add);
        _il.Emit(OpCodes.Stloc, _value);
        StoreOperand(instruction, 0, size, _value);
        SetFlags(down ? KnownFlags.Dec : KnownFlags.Inc, size);
        return true;
    }

    /// <summary>NEG: 0 minus the operand.</summary>
    public bool Negate(in Instruction instruction)
    {
        if (!Plain(instruction, 0))
        {
            return false;
        }

        int size = Processor.OperandSize(instruction, 0);
        ProbeOperands(instruction, size, write: true);
        LoadOperand(instruction, 0, size);
        _il.Emit(OpCodes.Stloc, _second);
        Constant(0);
        _il.Emit(OpCodes.Stloc, _first);
        _il.Emit(OpCodes.Ldloc, _second);
        _il.Emit(OpCodes.Neg);
        _il.Emit(OpCodes.Stloc, _value);
        StoreOperand(instruction, 0, size, _value);
        SetFlags(KnownFlags.Compare, size);
        return true;
    }

    /// <summary>NOT.</summary>
    public bool Invert(in Instruction instruction)
    {
        if (!Plain(instruction, 0))
        {
            return false;
        }

        int size = Processor.OperandSize(instruction, 0);
        ProbeOperands(instruction, size, write: true);
        LoadOperand(instruction, 0, size);
        _il.Emit(OpCodes.Not);
        _il.Emit(OpCodes.Stloc, _value);
        StoreOperand(instruction, 0, size, _value);
        return true;
    }

    /// <summary>SHL, SHR and SAR by a count that is not 0 and smaller than the operand; other counts are left to the op.</summary>
    public bool Shift(in Instruction instruction, ShiftOperation operation)
    {
        int size = Processor.OperandSize(instruction, 0);
        if (!Plain(instruction, 0) || !PlainCount(instruction, size))
        {
            return false;
        }

        ProbeOperands(instruction, size, write: true);
        CountInto(instruction, size);
        LoadOperand(instruction, 0, size);
        if (operation == ShiftOperation.RightSigned)
        {
            Sign(size);
        }

        _il.Emit(OpCodes.Stloc, _first);
        _il.Emit(OpCodes.Ldloc, _first);
        PushCount();
        OpCode code = operation switch { ShiftOperation.Left => OpCodes.Shl, ShiftOperation.Right => OpCodes.Shr_Un, _ => OpCodes.Shr };
        _il.Emit(code);
        _il.Emit(OpCodes.Stloc, _value);
        StoreOperand(instruction, 0, size, _value);
        if (!_needFlags)
        {
            return true;
        }

        if (operation == ShiftOperation.Left)
        {
            // CF is the last bit out, OF whether the sign is another.
            _il.Emit(OpCodes.Ldloc, _first);
            _il.Emit(OpCodes.Ldc_I4, size * 8);
            PushCount();
            _il.Emit(OpCodes.Sub);
            _il.Emit(OpCodes.Shr_Un);
            Constant(1);
            _il.Emit(OpCodes.And);
            _il.Emit(OpCodes.Stloc, _more);
            _il.Emit(OpCodes.Ldloc, _value);
            Sign(size);
            TopBit();
            _il.Emit(OpCodes.Ldloc, _more);
            _il.Emit(OpCodes.Xor);
        }
        else
        {
            // CF is the last bit out, OF the sign before the last step, which SAR keeps.
            _il.Emit(OpCodes.Ldloc, _first);
            PushCount();
            _il.Emit(OpCodes.Ldc_I4_1);
            _il.Emit(OpCodes.Sub);
            _il.Emit(code);
            _il.Emit(OpCodes.Stloc, _second);
            _il.Emit(OpCodes.Ldloc, _second);
            Constant(1);
            _il.Emit(OpCodes.And);
            _il.Emit(OpCodes.Stloc, _more);
            if (operation == ShiftOperation.Right)
            {
                _il.Emit(OpCodes.Ldloc, _second);
                Sign(size);
                TopBit();
            }
            else
            {
                Constant(0);
            }
        }

        _il.Emit(OpCodes.Ldc_I4_1);
        _il.Emit(OpCodes.Shl);
        _il.Emit(OpCodes.Ldloc, _more);
        _il.Emit(OpCodes.Or);
        _il.Emit(OpCodes.Stloc, _more);
        SetGiven(size);
        return true;
    }

    /// <summary>ROL and ROR whose flags nobody reads.</summary>
    public bool Rotate(in Instruction instruction, bool left)
    {
        int size = Processor.OperandSize(instruction, 0);
        if (_needFlags || !Plain(instruction, 0) || !PlainCount(instruction, size))
        {
            return false;
        }

        ProbeOperands(instruction, size, write: true);
        CountInto(instruction, size);
        LoadOperand(instruction, 0, size);
        _il.Emit(OpCodes.Stloc, _first);
        _il.Emit(OpCodes.Ldloc, _first);
        PushCount();
        _il.Emit(left ? OpCodes.Shl : OpCodes.Shr_Un);
        _il.Emit(OpCodes.Ldloc, _first);
        _il.Emit(OpCodes.Ldc_I4, size * 8);
        PushCount();
        _il.Emit(OpCodes.Sub);
        _il.Emit(left ? OpCodes.Shr_Un : OpCodes.Shl);
        _il.Emit(OpCodes.Or);
        _il.Emit(OpCodes.Stloc, _value);
        StoreOperand(instruction, 0, size, _value);
        return true;
    }

    /// <summary>CDQ and CQO.</summary>
    public bool SignInto(Register target, Register source)
    {
        LoadRegister(source);
        Sign(Processor.GprSize(source));
        _il.Emit(OpCodes.Ldc_I4, 63);
        _il.Emit(OpCodes.Shr);
        _il.Emit(OpCodes.Stloc, _value);
        StoreRegister(target, _value);
        return true;
    }

    /// <summary>CWDE and CDQE.</summary>
    public bool Widen(Register target, Register source)
    {
        LoadRegister(source);
        Sign(Processor.GprSize(source));
        _il.Emit(OpCodes.Stloc, _value);
        StoreRegister(target, _value);
        return true;
    }

    private void ProbeOperands(in Instruction instruction, int bytes, bool write)
    {
        bool first = instruction.Op0Kind == OpKind.Memory;
        if (first || (instruction.OpCount > 1 && instruction.Op1Kind == OpKind.Memory))
        {
            Probe(instruction, bytes, write && first);
        }
    }

    private static bool PlainCount(in Instruction instruction, int size)
    {
        if (instruction.Op1Kind == OpKind.Register)
        {
            return instruction.Op1Register == Register.CL;
        }

        int count = (int)instruction.GetImmediate(1) & (size == 8 ? 63 : 31);
        return count != 0 && count < size * 8;
    }

    // The count, masked, into _place. A count of CL that is 0, or as wide as the operand, leaves the instruction to its op.
    private void CountInto(in Instruction instruction, int size)
    {
        int mask = size == 8 ? 63 : 31;
        if (instruction.Op1Kind != OpKind.Register)
        {
            _il.Emit(OpCodes.Ldc_I4, (int)instruction.GetImmediate(1) & mask);
            _il.Emit(OpCodes.Stloc, _place);
            return;
        }

        LoadRegister(Register.CL);
        _il.Emit(OpCodes.Conv_I4);
        _il.Emit(OpCodes.Ldc_I4, mask);
        _il.Emit(OpCodes.And);
        _il.Emit(OpCodes.Stloc, _place);
        PushCount();
        _il.Emit(OpCodes.Ldc_I4_1);
        _il.Emit(OpCodes.Sub);
        _il.Emit(OpCodes.Ldc_I4, (size * 8) - 1);
        _il.Emit(OpCodes.Bge_Un, ExitLabel());
    }

    private void PushCount() => _il.Emit(OpCodes.Ldloc, _place);
}
