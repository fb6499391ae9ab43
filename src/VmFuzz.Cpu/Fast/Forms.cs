using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.Blocks;

namespace VmFuzz.Cpu.Fast;

/// <summary>
/// Chooses a specialised form for a decoded instruction. Everything not chosen here runs its reference microcode.
/// </summary>
/// <remarks>
/// Handlers are picked by nested generic methods, so that a start-up compiles only the forms that the guest uses.
/// </remarks>
internal static unsafe partial class Forms<TThread>
    where TThread : struct, IThreading
{
    private enum AddressForm
    {
        None,
        A64,
        A64Base,
        A64Segment,
        A32Flat,
        Segmented32,
        Segmented16,
    }

    /// <summary>Fills the op for a specialised form.</summary>
    /// <param name="instruction">The instruction.</param>
    /// <param name="mode">Mode bits of the block.</param>
    /// <param name="needFlags">Whether anybody reads the flags it sets.</param>
    /// <param name="op">The op to fill; offset, length and place are set.</param>
    /// <param name="links">Links that follow the op: 0, or 2 (fall-through, then branch target).</param>
    /// <returns>False: only the reference form exists.</returns>
    public static bool TrySelect(in Instruction instruction, ulong mode, bool needFlags, Op* op, out int links)
    {
        links = 0;
        if (instruction.HasLockPrefix || instruction.HasRepnePrefix)
        {
            return false;
        }

        if (instruction.HasRepPrefix)
        {
            op->Handler = SelectRepeat(instruction, mode);
            return op->Handler != null;
        }

        delegate* managed<CpuState*, Op*, Op*> handler = instruction.FlowControl == FlowControl.Next
            ? SelectPlain(instruction, mode, needFlags, op)
            : SelectBranch(instruction, mode, op, out links);
        if (handler == null)
        {
            links = 0;
            return false;
        }

        op->Handler = handler;
        return true;
    }

    /// <summary>Whether the instruction can neither fault nor exit in a specialised form: it touches registers only.</summary>
    public static bool CannotFault(in Instruction instruction)
    {
        switch (instruction.Mnemonic)
        {
            case Mnemonic.Add:
            case Mnemonic.Adc:
            case Mnemonic.Sub:
            case Mnemonic.Sbb:
            case Mnemonic.And:
            case Mnemonic.Or:
            case Mnemonic.Xor:
            case Mnemonic.Cmp:
            case Mnemonic.Test:
            case Mnemonic.Mov:
            case Mnemonic.Movzx:
            case Mnemonic.Movsx:
            case Mnemonic.Movsxd:
            case Mnemonic.Inc:
            case Mnemonic.Dec:
            case Mnemonic.Shl:
            case Mnemonic.Sal:
            case Mnemonic.Shr:
            case Mnemonic.Sar:
            case Mnemonic.Rol:
            case Mnemonic.Ror:
                return !instruction.HasLockPrefix && instruction.Op0Kind == OpKind.Register && Processor.IsGpr(instruction.Op0Register)
                    && (instruction.Op1Kind != OpKind.Register || Processor.IsGpr(instruction.Op1Register)) && instruction.Op1Kind != OpKind.Memory;
            case Mnemonic.Neg:
            case Mnemonic.Not:
                return instruction.Op0Kind == OpKind.Register;
            case Mnemonic.Lea:
            case Mnemonic.Cdq:
            case Mnemonic.Cqo:
                return true;
            default:
                return false;
        }
    }

    private static delegate* managed<CpuState*, Op*, Op*> SelectPlain(in Instruction instruction, ulong mode, bool needFlags, Op* op)
    {
        switch (instruction.Mnemonic)
        {
            case Mnemonic.Mov:
                return SelectMove(instruction, mode, op);
            case Mnemonic.Add:
                return SelectAlu<AluAdd>(instruction, mode, needFlags, op);
            case Mnemonic.Adc:
                return SelectAlu<AluAdc>(instruction, mode, needFlags, op);
            case Mnemonic.Sub:
                return SelectAlu<AluSub>(instruction, mode, needFlags, op);
            case Mnemonic.Sbb:
                return SelectAlu<AluSbb>(instruction, mode, needFlags, op);
            case Mnemonic.And:
                return SelectAlu<AluAnd>(instruction, mode, needFlags, op);
            case Mnemonic.Or:
                return SelectAlu<AluOr>(instruction, mode, needFlags, op);
            case Mnemonic.Xor:
                return SelectAlu<AluXor>(instruction, mode, needFlags, op);
            case Mnemonic.Cmp:
                return SelectAlu<AluCmp>(instruction, mode, needFlags, op);
            case Mnemonic.Test:
                return SelectAlu<AluTest>(instruction, mode, needFlags, op);
            case Mnemonic.Movzx:
                return SelectExtend<No>(instruction, mode, op);
            case Mnemonic.Movsx:
            case Mnemonic.Movsxd:
                return SelectExtend<Yes>(instruction, mode, op);
            case Mnemonic.Lea:
                return SelectLea(instruction, op);
            case Mnemonic.Inc:
                return SelectIncDec<No>(instruction, needFlags, op);
            case Mnemonic.Dec:
                return SelectIncDec<Yes>(instruction, needFlags, op);
            case Mnemonic.Shl:
            case Mnemonic.Sal:
            case Mnemonic.Shr:
            case Mnemonic.Sar:
            case Mnemonic.Rol:
            case Mnemonic.Ror:
                return SelectShift(instruction, needFlags, op);
            case Mnemonic.Neg:
            case Mnemonic.Not:
                return SelectInvert(instruction, op);
            case Mnemonic.Imul:
                return SelectImul(instruction, op);
            case Mnemonic.Mul:
            case Mnemonic.Div:
            case Mnemonic.Idiv:
                return SelectWideMultiplyDivide(instruction, op);
            case Mnemonic.Cdq:
                return &SignOfAccumulator<TThread, uint>.IntoRdx;
            case Mnemonic.Cqo:
                return &SignOfAccumulator<TThread, ulong>.IntoRdx;
            case Mnemonic.Push:
                return SelectPush(instruction, mode, op);
            case Mnemonic.Pop:
                return SelectPop(instruction, mode, op);
            case Mnemonic.Nop:
                return &Nothing<TThread>.Run;
            default:
                return SelectConditional(instruction, op);
        }
    }

    private static delegate* managed<CpuState*, Op*, Op*> SelectMove(in Instruction instruction, ulong mode, Op* op)
    {
        int size = Processor.OperandSize(instruction, 0);
        if (instruction.Op0Kind == OpKind.Register)
        {
            if (!Processor.IsGpr(instruction.Op0Register))
            {
                return null;
            }

            op->R0 = (byte)Processor.GprOffset(instruction.Op0Register);
            switch (instruction.Op1Kind)
            {
                case OpKind.Register:
                    if (!Processor.IsGpr(instruction.Op1Register))
                    {
                        return null;
                    }

                    op->R1 = (byte)Processor.GprOffset(instruction.Op1Register);
                    return size switch
                    {
                        1 => &Move<TThread, byte>.RegReg,
                        2 => &Move<TThread, ushort>.RegReg,
                        4 => &Move<TThread, uint>.RegReg,
                        _ => &Move<TThread, ulong>.RegReg,
                    };
                case OpKind.Memory:
                    return SelectMoveMemory(size, SelectAddress(instruction, mode, op), 0);
                default:
                    op->Immediate = (long)instruction.GetImmediate(1);
                    return size switch
                    {
                        1 => &Move<TThread, byte>.RegImm,
                        2 => &Move<TThread, ushort>.RegImm,
                        4 => &Move<TThread, uint>.RegImm,
                        _ => &Move<TThread, ulong>.RegImm,
                    };
            }
        }

        if (instruction.Op0Kind != OpKind.Memory)
        {
            return null;
        }

        if (instruction.Op1Kind == OpKind.Register)
        {
            if (!Processor.IsGpr(instruction.Op1Register))
            {
                return null;
            }

            op->R1 = (byte)Processor.GprOffset(instruction.Op1Register);
            return SelectMoveMemory(size, SelectAddress(instruction, mode, op), 1);
        }

        op->Immediate = (long)instruction.GetImmediate(1);
        return SelectMoveMemory(size, SelectAddress(instruction, mode, op), 2);
    }

    private static delegate* managed<CpuState*, Op*, Op*> SelectMoveMemory(int size, AddressForm address, int form) => size switch
    {
        1 => MoveMemoryAt<byte>(address, form),
        2 => MoveMemoryAt<ushort>(address, form),
        4 => MoveMemoryAt<uint>(address, form),
        _ => MoveMemoryAt<ulong>(address, form),
    };

    private static delegate* managed<CpuState*, Op*, Op*> MoveMemoryAt<T>(AddressForm address, int form)
        where T : unmanaged
    {
        return address switch
        {
            AddressForm.A64 => MoveMemoryForm<T, Address64>(form),
            AddressForm.A64Base => MoveMemoryForm<T, Address64Base>(form),
            AddressForm.A64Segment => MoveMemoryForm<T, Address64Segment>(form),
            AddressForm.A32Flat => MoveMemoryForm<T, Address32Flat>(form),
            AddressForm.Segmented32 => MoveMemoryForm<T, AddressSegmented<uint>>(form),
            AddressForm.Segmented16 => MoveMemoryForm<T, AddressSegmented<ushort>>(form),
            _ => null,
        };
    }

    private static delegate* managed<CpuState*, Op*, Op*> MoveMemoryForm<T, TAddress>(int form)
        where T : unmanaged
        where TAddress : struct, IAddress
    {
        return form switch
        {
            0 => &MoveMemory<TThread, T, TAddress>.RegMem,
            1 => &MoveMemory<TThread, T, TAddress>.MemReg,
            _ => &MoveMemory<TThread, T, TAddress>.MemImm,
        };
    }

    private static delegate* managed<CpuState*, Op*, Op*> SelectAlu<TAlu>(in Instruction instruction, ulong mode, bool needFlags, Op* op)
        where TAlu : struct, IAlu
    {
        int size = Processor.OperandSize(instruction, 0);
        return size switch
        {
            1 => SelectAlu<TAlu, byte>(instruction, mode, needFlags, op),
            2 => SelectAlu<TAlu, ushort>(instruction, mode, needFlags, op),
            4 => SelectAlu<TAlu, uint>(instruction, mode, needFlags, op),
            _ => SelectAlu<TAlu, ulong>(instruction, mode, needFlags, op),
        };
    }

    private static delegate* managed<CpuState*, Op*, Op*> SelectAlu<TAlu, T>(in Instruction instruction, ulong mode, bool needFlags, Op* op)
        where TAlu : struct, IAlu
        where T : unmanaged
    {
        OpKind right = instruction.Op1Kind;
        if (right == OpKind.Register)
        {
            op->R1 = (byte)Processor.GprOffset(instruction.Op1Register);
        }
        else if (right != OpKind.Memory)
        {
            op->Immediate = (long)instruction.GetImmediate(1);
        }

        if (instruction.Op0Kind == OpKind.Memory)
        {
            AddressForm address = SelectAddress(instruction, mode, op);
            return AluMemoryAt<TAlu, T>(address, right == OpKind.Register ? 1 : 2);
        }

        op->R0 = (byte)Processor.GprOffset(instruction.Op0Register);
        if (right == OpKind.Memory)
        {
            return AluMemoryAt<TAlu, T>(SelectAddress(instruction, mode, op), 0);
        }

        return needFlags ? AluRegister<TAlu, T, Yes>(right == OpKind.Register) : AluRegister<TAlu, T, No>(right == OpKind.Register);
    }

    private static delegate* managed<CpuState*, Op*, Op*> AluRegister<TAlu, T, TFlags>(bool register)
        where TAlu : struct, IAlu
        where T : unmanaged
        where TFlags : struct, IFlag
    {
        if (register)
        {
            return &Alu<TThread, TAlu, T, TFlags>.RegReg;
        }

        return &Alu<TThread, TAlu, T, TFlags>.RegImm;
    }

    private static delegate* managed<CpuState*, Op*, Op*> AluMemoryAt<TAlu, T>(AddressForm address, int form)
        where TAlu : struct, IAlu
        where T : unmanaged
    {
        return address switch
        {
            AddressForm.A64 => AluMemoryForm<TAlu, T, Address64>(form),
            AddressForm.A64Base => AluMemoryForm<TAlu, T, Address64Base>(form),
            AddressForm.A64Segment => AluMemoryForm<TAlu, T, Address64Segment>(form),
            AddressForm.A32Flat => AluMemoryForm<TAlu, T, Address32Flat>(form),
            AddressForm.Segmented32 => AluMemoryForm<TAlu, T, AddressSegmented<uint>>(form),
            AddressForm.Segmented16 => AluMemoryForm<TAlu, T, AddressSegmented<ushort>>(form),
            _ => null,
        };
    }

    private static delegate* managed<CpuState*, Op*, Op*> AluMemoryForm<TAlu, T, TAddress>(int form)
        where TAlu : struct, IAlu
        where T : unmanaged
        where TAddress : struct, IAddress
    {
        return form switch
        {
            0 => &AluMemory<TThread, TAlu, T, TAddress>.RegMem,
            1 => &AluMemory<TThread, TAlu, T, TAddress>.MemReg,
            _ => &AluMemory<TThread, TAlu, T, TAddress>.MemImm,
        };
    }

    private static delegate* managed<CpuState*, Op*, Op*> SelectExtend<TSigned>(in Instruction instruction, ulong mode, Op* op)
        where TSigned : struct, IFlag
    {
        int to = Processor.OperandSize(instruction, 0);
        int from = Processor.OperandSize(instruction, 1);
        op->R0 = (byte)Processor.GprOffset(instruction.Op0Register);
        return (from, to) switch
        {
            (1, 2) => Extended<byte, ushort, TSigned>(instruction, mode, op),
            (1, 4) => Extended<byte, uint, TSigned>(instruction, mode, op),
            (1, 8) => Extended<byte, ulong, TSigned>(instruction, mode, op),
            (2, 4) => Extended<ushort, uint, TSigned>(instruction, mode, op),
            (2, 8) => Extended<ushort, ulong, TSigned>(instruction, mode, op),
            (4, 8) => Extended<uint, ulong, TSigned>(instruction, mode, op),
            _ => null,
        };
    }

    private static delegate* managed<CpuState*, Op*, Op*> Extended<TFrom, TTo, TSigned>(in Instruction instruction, ulong mode, Op* op)
        where TFrom : unmanaged
        where TTo : unmanaged
        where TSigned : struct, IFlag
    {
        if (instruction.Op1Kind == OpKind.Register)
        {
            op->R1 = (byte)Processor.GprOffset(instruction.Op1Register);
            return &Extend<TThread, TFrom, TTo, TSigned>.RegReg;
        }

        return SelectAddress(instruction, mode, op) switch
        {
            AddressForm.A64 => &ExtendMemory<TThread, TFrom, TTo, TSigned, Address64>.RegMem,
            AddressForm.A64Base => &ExtendMemory<TThread, TFrom, TTo, TSigned, Address64Base>.RegMem,
            AddressForm.A32Flat => &ExtendMemory<TThread, TFrom, TTo, TSigned, Address32Flat>.RegMem,
            AddressForm.Segmented16 => &ExtendMemory<TThread, TFrom, TTo, TSigned, AddressSegmented<ushort>>.RegMem,
            AddressForm.Segmented32 => &ExtendMemory<TThread, TFrom, TTo, TSigned, AddressSegmented<uint>>.RegMem,
            _ => null,
        };
    }

    private static delegate* managed<CpuState*, Op*, Op*> SelectLea(in Instruction instruction, Op* op)
    {
        if (!FillAddress(instruction, op))
        {
            return null;
        }

        op->R0 = (byte)Processor.GprOffset(instruction.Op0Register);
        ulong mask = Processor.AddressMask(instruction);
        return (Processor.OperandSize(instruction, 0), mask) switch
        {
            (8, ulong.MaxValue) => &Lea<TThread, ulong, ulong>.Run,
            (4, ulong.MaxValue) => &Lea<TThread, uint, ulong>.Run,
            (4, uint.MaxValue) => &Lea<TThread, uint, uint>.Run,
            (4, 0xFFFF) => &Lea<TThread, uint, ushort>.Run,
            (2, 0xFFFF) => &Lea<TThread, ushort, ushort>.Run,
            (2, uint.MaxValue) => &Lea<TThread, ushort, uint>.Run,
            _ => null,
        };
    }

    private static delegate* managed<CpuState*, Op*, Op*> SelectIncDec<TDown>(in Instruction instruction, bool needFlags, Op* op)
        where TDown : struct, IFlag
    {
        if (instruction.Op0Kind != OpKind.Register)
        {
            return null;
        }

        op->R0 = (byte)Processor.GprOffset(instruction.Op0Register);
        return Processor.OperandSize(instruction, 0) switch
        {
            1 => needFlags ? &IncDec<TThread, byte, TDown>.Reg : &IncDec<TThread, byte, TDown>.RegQuiet,
            2 => needFlags ? &IncDec<TThread, ushort, TDown>.Reg : &IncDec<TThread, ushort, TDown>.RegQuiet,
            4 => needFlags ? &IncDec<TThread, uint, TDown>.Reg : &IncDec<TThread, uint, TDown>.RegQuiet,
            _ => needFlags ? &IncDec<TThread, ulong, TDown>.Reg : &IncDec<TThread, ulong, TDown>.RegQuiet,
        };
    }

    private static delegate* managed<CpuState*, Op*, Op*> SelectShift(in Instruction instruction, bool needFlags, Op* op)
    {
        if (instruction.Op0Kind != OpKind.Register || instruction.Op1Kind == OpKind.Register)
        {
            return null;
        }

        int size = Processor.OperandSize(instruction, 0);
        int count = (int)instruction.GetImmediate(1) & (size == 8 ? 63 : 31);
        if (count == 0 || count >= size * 8)
        {
            return null;
        }

        op->R0 = (byte)Processor.GprOffset(instruction.Op0Register);
        op->Immediate = count;
        return needFlags ? ShiftOf<Yes>(instruction.Mnemonic, size) : ShiftOf<No>(instruction.Mnemonic, size);
    }

    private static delegate* managed<CpuState*, Op*, Op*> ShiftOf<TFlags>(Mnemonic mnemonic, int size)
        where TFlags : struct, IFlag
    {
        return size switch
        {
            1 => ShiftOf<byte, TFlags>(mnemonic),
            2 => ShiftOf<ushort, TFlags>(mnemonic),
            4 => ShiftOf<uint, TFlags>(mnemonic),
            _ => ShiftOf<ulong, TFlags>(mnemonic),
        };
    }

    private static delegate* managed<CpuState*, Op*, Op*> ShiftOf<T, TFlags>(Mnemonic mnemonic)
        where T : unmanaged
        where TFlags : struct, IFlag
    {
        return mnemonic switch
        {
            Mnemonic.Shr => &Shift<TThread, T, TFlags>.Right,
            Mnemonic.Sar => &Shift<TThread, T, TFlags>.RightSigned,
            Mnemonic.Rol => &Rotate<TThread, T, TFlags>.Left,
            Mnemonic.Ror => &Rotate<TThread, T, TFlags>.Right,
            _ => &Shift<TThread, T, TFlags>.Left,
        };
    }

    private static delegate* managed<CpuState*, Op*, Op*> SelectInvert(in Instruction instruction, Op* op)
    {
        if (instruction.Op0Kind != OpKind.Register)
        {
            return null;
        }

        op->R0 = (byte)Processor.GprOffset(instruction.Op0Register);
        bool negate = instruction.Mnemonic == Mnemonic.Neg;
        return Processor.OperandSize(instruction, 0) switch
        {
            1 => negate ? &Invert<TThread, byte>.Neg : &Invert<TThread, byte>.Not,
            2 => negate ? &Invert<TThread, ushort>.Neg : &Invert<TThread, ushort>.Not,
            4 => negate ? &Invert<TThread, uint>.Neg : &Invert<TThread, uint>.Not,
            _ => negate ? &Invert<TThread, ulong>.Neg : &Invert<TThread, ulong>.Not,
        };
    }

    // Two registers, or two and an immediate, of 32 or 64 bits.
    private static delegate* managed<CpuState*, Op*, Op*> SelectImul(in Instruction instruction, Op* op)
    {
        int size = Processor.OperandSize(instruction, 0);
        if (instruction.OpCount < 2 || instruction.Op1Kind != OpKind.Register || size < 4)
        {
            return null;
        }

        op->R0 = (byte)Processor.GprOffset(instruction.Op0Register);
        op->R1 = (byte)Processor.GprOffset(instruction.Op1Register);
        if (instruction.OpCount == 2)
        {
            return size == 4 ? &MultiplyDivide<TThread, uint>.RegReg : &MultiplyDivide<TThread, ulong>.RegReg;
        }

        op->Immediate = (long)instruction.GetImmediate(2);
        return size == 4 ? &MultiplyDivide<TThread, uint>.RegRegImm : &MultiplyDivide<TThread, ulong>.RegRegImm;
    }

    private static delegate* managed<CpuState*, Op*, Op*> SelectWideMultiplyDivide(in Instruction instruction, Op* op)
    {
        int size = Processor.OperandSize(instruction, 0);
        if (instruction.Op0Kind != OpKind.Register || size < 4)
        {
            return null;
        }

        op->R0 = (byte)Processor.GprOffset(instruction.Op0Register);
        return (instruction.Mnemonic, size) switch
        {
            (Mnemonic.Mul, 4) => &MultiplyDivide<TThread, uint>.Unsigned,
            (Mnemonic.Mul, _) => &MultiplyDivide<TThread, ulong>.Unsigned,
            (Mnemonic.Div, 4) => &MultiplyDivide<TThread, uint>.Divide,
            (Mnemonic.Div, _) => &MultiplyDivide<TThread, ulong>.Divide,
            (_, 4) => &MultiplyDivide<TThread, uint>.DivideSigned,
            _ => &MultiplyDivide<TThread, ulong>.DivideSigned,
        };
    }

    // The stack is flat and as wide as the operand.
    private static int PlainStack(ulong mode) => (mode & (BlockMode.Flat | BlockMode.Stack32)) != (BlockMode.Flat | BlockMode.Stack32) ? 0
        : (mode & BlockMode.Code64) != 0 ? 8 : (mode & BlockMode.Code32) != 0 ? 4 : 0;

    private static delegate* managed<CpuState*, Op*, Op*> SelectPush(in Instruction instruction, ulong mode, Op* op)
    {
        int width = PlainStack(mode);
        if (width == 0 || instruction.StackPointerIncrement != -width)
        {
            return null;
        }

        if (instruction.Op0Kind == OpKind.Register)
        {
            if (!Processor.IsGpr(instruction.Op0Register))
            {
                return null;
            }

            op->R0 = (byte)Processor.GprOffset(instruction.Op0Register);
            return width == 8 ? &Stack<TThread, ulong>.PushReg : &Stack<TThread, uint>.PushReg;
        }

        if (instruction.Op0Kind == OpKind.Memory)
        {
            return null;
        }

        op->Immediate = (long)instruction.GetImmediate(0);
        return width == 8 ? &Stack<TThread, ulong>.PushImm : &Stack<TThread, uint>.PushImm;
    }

    private static delegate* managed<CpuState*, Op*, Op*> SelectPop(in Instruction instruction, ulong mode, Op* op)
    {
        int width = PlainStack(mode);
        if (width == 0 || instruction.StackPointerIncrement != width
            || instruction.Op0Kind != OpKind.Register || !Processor.IsGpr(instruction.Op0Register))
        {
            return null;
        }

        op->R0 = (byte)Processor.GprOffset(instruction.Op0Register);
        return width == 8 ? &Stack<TThread, ulong>.PopReg : &Stack<TThread, uint>.PopReg;
    }

    private static delegate* managed<CpuState*, Op*, Op*> SelectConditional(in Instruction instruction, Op* op)
    {
        if (instruction.ConditionCode == ConditionCode.None || instruction.Op0Kind != OpKind.Register)
        {
            return null;
        }

        op->Scale = (byte)(instruction.ConditionCode - ConditionCode.o);
        op->R0 = (byte)Processor.GprOffset(instruction.Op0Register);
        if (instruction.OpCount == 1)
        {
            return &Select<TThread, byte>.SetIf;
        }

        if (instruction.Op1Kind != OpKind.Register || !Processor.IsGpr(instruction.Op1Register))
        {
            return null;
        }

        op->R1 = (byte)Processor.GprOffset(instruction.Op1Register);
        return Processor.OperandSize(instruction, 0) switch
        {
            2 => &Select<TThread, ushort>.MoveIf,
            4 => &Select<TThread, uint>.MoveIf,
            _ => &Select<TThread, ulong>.MoveIf,
        };
    }

    private static delegate* managed<CpuState*, Op*, Op*> SelectBranch(in Instruction instruction, ulong mode, Op* op, out int links)
    {
        links = 2;
        if (instruction.Op0Kind is OpKind.NearBranch16 or OpKind.NearBranch32 or OpKind.NearBranch64)
        {
            if (!PlainTarget(instruction, mode))
            {
                return null;
            }

            if (instruction.IsJccShortOrNear)
            {
                op->R0 = (byte)(instruction.ConditionCode - ConditionCode.o);
                return op->R0 switch
                {
                    4 => &Branch<TThread>.Equal,
                    5 => &Branch<TThread>.NotEqual,
                    _ => &Branch<TThread>.Conditional,
                };
            }

            if (instruction.Mnemonic == Mnemonic.Jmp)
            {
                return &Branch<TThread>.Jump;
            }

            int width = PlainStack(mode);
            if (instruction.Mnemonic != Mnemonic.Call || width == 0 || instruction.StackPointerIncrement != -width)
            {
                return null;
            }

            op->Immediate = (long)(instruction.NextIP & Processor.RipMask(mode));
            return width == 8 ? &Stack<TThread, ulong>.Call : &Stack<TThread, uint>.Call;
        }

        links = 0;
        int stack = PlainStack(mode);
        if (instruction.Mnemonic == Mnemonic.Ret && instruction.OpCount == 0 && stack != 0 && instruction.StackPointerIncrement == stack)
        {
            return stack == 8 ? &Stack<TThread, ulong>.Return : &Stack<TThread, uint>.Return;
        }

        bool call = instruction.Mnemonic == Mnemonic.Call;
        if ((!call && instruction.Mnemonic != Mnemonic.Jmp) || instruction.IsJmpFarIndirect || instruction.IsCallFarIndirect
            || stack == 0 || Processor.OperandSize(instruction, 0) != stack)
        {
            return null;
        }

        op->Immediate = (long)instruction.NextIP;
        return SelectIndirect(instruction, mode, stack, call, op);
    }

    // Targets in registers, or in memory without a segment's base.
    private static delegate* managed<CpuState*, Op*, Op*> SelectIndirect(in Instruction instruction, ulong mode, int width, bool call, Op* op)
    {
        if (instruction.Op0Kind == OpKind.Register)
        {
            op->R0 = (byte)Processor.GprOffset(instruction.Op0Register);
            return width == 8
                ? call ? &Stack<TThread, ulong>.CallReg : &Branch<TThread>.JumpReg<ulong>
                : call ? &Stack<TThread, uint>.CallReg : &Branch<TThread>.JumpReg<uint>;
        }

        if (instruction.Op0Kind != OpKind.Memory)
        {
            return null;
        }

        return SelectAddress(instruction, mode, op) switch
        {
            AddressForm.A64 => call ? &Stack<TThread, ulong>.CallMem<Address64> : &Branch<TThread>.JumpMem<ulong, Address64>,
            AddressForm.A64Base => call ? &Stack<TThread, ulong>.CallMem<Address64Base> : &Branch<TThread>.JumpMem<ulong, Address64Base>,
            AddressForm.A32Flat => call ? &Stack<TThread, uint>.CallMem<Address32Flat> : &Branch<TThread>.JumpMem<uint, Address32Flat>,
            _ => null,
        };
    }

    // The target needs no check when it is reached: within the limit, canonical, of the code's own width.
    private static bool PlainTarget(in Instruction instruction, ulong mode)
    {
        ulong target = instruction.NearBranchTarget;
        switch (mode & BlockMode.CodeMask)
        {
            case 0:
                return instruction.Op0Kind == OpKind.NearBranch16 && (mode & BlockMode.Limit64K) != 0;
            case BlockMode.Code32:
                return instruction.Op0Kind == OpKind.NearBranch32 && (mode & (BlockMode.Limit64K | BlockMode.OddLimit)) == 0;
            default:
                return instruction.Op0Kind == OpKind.NearBranch64 && (ulong)((long)(target << 16) >> 16) == target;
        }
    }

    private static AddressForm SelectAddress(in Instruction instruction, ulong mode, Op* op)
    {
        if (!FillAddress(instruction, op))
        {
            return AddressForm.None;
        }

        SegmentRegister segment = Processor.ToSegment(instruction.MemorySegment);
        op->Segment = (byte)segment;
        ulong mask = Processor.AddressMask(instruction);
        bool based = segment is SegmentRegister.Fs or SegmentRegister.Gs;
        if ((mode & BlockMode.Code64) != 0)
        {
            return mask != ulong.MaxValue ? AddressForm.None
                : based ? AddressForm.A64Segment
                : instruction.MemoryIndex == Register.None ? AddressForm.A64Base : AddressForm.A64;
        }

        if (segment == SegmentRegister.Cs)
        {
            return AddressForm.None;
        }

        if (mask == 0xFFFF)
        {
            return AddressForm.Segmented16;
        }

        return (mode & BlockMode.Flat) != 0 && !based ? AddressForm.A32Flat : AddressForm.Segmented32;
    }

    private static bool FillAddress(in Instruction instruction, Op* op)
    {
        const byte Zero = CpuState.ZeroSlot * 8;
        ulong displacement = instruction.MemoryDisplacement64;
        Register based = instruction.MemoryBase;
        op->Base = Zero;
        op->Index = Zero;
        if (based == Register.RIP)
        {
            op->Base = CpuState.RipSlot * 8;
            displacement -= instruction.IP - op->Offset;
        }
        else if (based != Register.None)
        {
            if (!Processor.IsGpr(based))
            {
                return false;
            }

            op->Base = (byte)Processor.GprOffset(based);
        }

        if (instruction.MemoryIndex != Register.None)
        {
            if (!Processor.IsGpr(instruction.MemoryIndex))
            {
                return false;
            }

            op->Index = (byte)Processor.GprOffset(instruction.MemoryIndex);
            op->Scale = (byte)System.Numerics.BitOperations.TrailingZeroCount(instruction.MemoryIndexScale);
        }

        long signed = (long)displacement;
        if (signed != (int)signed && displacement > uint.MaxValue)
        {
            return false;
        }

        // Without a 64-bit address a displacement above 2 GiB is cut to the address size later.
        if (signed != (int)signed && Processor.AddressMask(instruction) == ulong.MaxValue)
        {
            return false;
        }

        op->Displacement = (int)displacement;
        return true;
    }
}
