using System.Reflection.Emit;
using Iced.Intel;
using Label = System.Reflection.Emit.Label;

namespace VmFuzz.Cpu.Regions;

// Stack and branches. A branch that stays inside is a jump; others go by the links behind the op.
internal sealed unsafe partial class RegionCompiler
{
    private int StackBytes => Is64 ? 8 : 4;

    private Register StackPointer => Is64 ? Register.RSP : Register.ESP;

    /// <summary>Jcc, SETcc and CMOVcc.</summary>
    public bool Conditional(in Instruction instruction)
    {
        int code = instruction.ConditionCode - ConditionCode.o;
        if (instruction.IsJccShortOrNear)
        {
            if (!_specialised || !TryCondition(code))
            {
                return false;
            }

            _il.Emit(OpCodes.Brtrue, LabelOf(instruction.NearBranchTarget, _op + 3));
            GoTo(_block->Rip + (ulong)_block->Bytes, _op + 1);
            return true;
        }

        int size = Processor.OperandSize(instruction, 0);
        int from = instruction.OpCount - 1;
        if (!Plain(instruction, 0) || !Plain(instruction, from) || !CanTell(code))
        {
            return false;
        }

        ProbeOperands(instruction, size, write: from == 0);
        TryCondition(code);
        _il.Emit(OpCodes.Conv_U8);
        _il.Emit(OpCodes.Stloc, _value);
        if (from == 1)
        {
            // value = target ^ ((target ^ source) & -condition): 32-bit forms cut in any case.
            LoadOperand(instruction, 0, size);
            _il.Emit(OpCodes.Stloc, _first);
            _il.Emit(OpCodes.Ldloc, _first);
            _il.Emit(OpCodes.Ldloc, _first);
            LoadOperand(instruction, 1, size);
            _il.Emit(OpCodes.Xor);
            _il.Emit(OpCodes.Ldloc, _value);
            _il.Emit(OpCodes.Neg);
            _il.Emit(OpCodes.And);
            _il.Emit(OpCodes.Xor);
            _il.Emit(OpCodes.Stloc, _value);
        }

        StoreOperand(instruction, 0, size, _value);
        return true;
    }

    /// <summary>PUSH of a register or an immediate.</summary>
    public bool Push(in Instruction instruction)
    {
        if (!_specialised || instruction.Op0Kind == OpKind.Memory || !Plain(instruction, 0))
        {
            return false;
        }

        LoadOperand(instruction, 0, StackBytes);
        _il.Emit(OpCodes.Stloc, _value);
        ProbePush();
        Pushed();
        return true;
    }

    /// <summary>POP of a register.</summary>
    public bool Pop(in Instruction instruction)
    {
        if (!_specialised)
        {
            return false;
        }

        ProbePop();
        LoadProbed(StackBytes);
        _il.Emit(OpCodes.Stloc, _value);
        Popped();
        StoreRegister(instruction.Op0Register, _value);
        return true;
    }

    /// <summary>JMP.</summary>
    public bool Jump(in Instruction instruction)
    {
        if (!_specialised)
        {
            return false;
        }

        if (IsDirect(instruction))
        {
            GoTo(instruction.NearBranchTarget, _op + 3);
            return true;
        }

        if (!Plain(instruction, 0))
        {
            return false;
        }

        TargetInto(instruction);
        FindTarget();
        GoToTarget();
        return true;
    }

    /// <summary>CALL.</summary>
    public bool Call(in Instruction instruction)
    {
        bool direct = IsDirect(instruction);
        if (!_specialised || (!direct && !Plain(instruction, 0)))
        {
            return false;
        }

        if (!direct)
        {
            TargetInto(instruction);
            FindTarget();
        }

        Constant(_op->Immediate);
        _il.Emit(OpCodes.Stloc, _value);
        ProbePush();
        Pushed();
        if (direct)
        {
            GoTo(instruction.NearBranchTarget, _op + 3);
        }
        else
        {
            GoToTarget();
        }

        return true;
    }

    /// <summary>RET.</summary>
    public bool Return(in Instruction instruction)
    {
        if (!_specialised || instruction.OpCount != 0)
        {
            return false;
        }

        ProbePop();
        LoadProbed(StackBytes);
        _il.Emit(OpCodes.Stloc, _first);
        FindTarget();
        Popped();
        GoToTarget();
        return true;
    }

    private static bool IsDirect(in Instruction instruction) => instruction.Op0Kind is OpKind.NearBranch32 or OpKind.NearBranch64;

    // The target of an indirect branch into _first.
    private void TargetInto(in Instruction instruction)
    {
        ProbeOperands(instruction, StackBytes, write: false);
        LoadOperand(instruction, 0, StackBytes);
        _il.Emit(OpCodes.Stloc, _first);
    }

    // The entry of the address in _first, plus 1, into _place; an address outside leaves the instruction to its op.
    private void FindTarget()
    {
        Label exit = ExitLabel();
        byte* targets = Targets();
        _il.Emit(OpCodes.Ldloc, _first);
        Constant((long)(_block->Rip & ~0xFFFUL));
        _il.Emit(OpCodes.Sub);
        _il.Emit(OpCodes.Stloc, _second);
        _il.Emit(OpCodes.Ldloc, _second);
        Constant(4096);
        _il.Emit(OpCodes.Bge_Un, exit);
        Constant((long)targets);
        _il.Emit(OpCodes.Ldloc, _second);
        _il.Emit(OpCodes.Add);
        _il.Emit(OpCodes.Conv_I);
        _il.Emit(OpCodes.Ldind_U1);
        _il.Emit(OpCodes.Stloc, _place);
        _il.Emit(OpCodes.Ldloc, _place);
        _il.Emit(OpCodes.Brfalse, exit);
    }

    // Every block may be named: the map names those that may be entered.
    private void GoToTarget()
    {
        _il.Emit(OpCodes.Ldloc, _place);
        _il.Emit(OpCodes.Ldc_I4_1);
        _il.Emit(OpCodes.Sub);
        _il.Emit(OpCodes.Switch, _labels);
        _il.Emit(OpCodes.Br, _labels[0]);
    }

    private byte* Targets()
    {
        if (_targets == null)
        {
            _targets = Region.AllocateTargets();
            for (int i = 0; i < _labels.Length; i++)
            {
                if (_flow.IsEntry(i))
                {
                    _targets[_scout.Blocks[i].Block->Rip & 0xFFF] = (byte)(i + 1);
                }
            }
        }

        return _targets;
    }

    private void ProbePush()
    {
        LoadRegister(StackPointer);
        Constant(StackBytes);
        _il.Emit(OpCodes.Sub);
        Cut(StackBytes);
        Probe(StackBytes, write: true);
    }

    private void Pushed()
    {
        StoreProbed(StackBytes, _value);
        StoreRegister(StackPointer, _address);
    }

    private void ProbePop()
    {
        LoadRegister(StackPointer);
        Probe(StackBytes, write: false);
    }

    private void Popped()
    {
        _il.Emit(OpCodes.Ldloc, _address);
        Constant(StackBytes);
        _il.Emit(OpCodes.Add);
        _il.Emit(OpCodes.Stloc, _address);
        StoreRegister(StackPointer, _address);
    }
}
