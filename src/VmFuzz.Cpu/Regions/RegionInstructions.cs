using System.Collections.Frozen;
using Iced.Intel;

namespace VmFuzz.Cpu.Regions;

/// <summary>The instructions that regions are compiled of: one row a mnemonic.</summary>
internal static class RegionInstructions
{
    /// <summary>Makes code for an instruction.</summary>
    /// <returns>False: not for this form; nothing was emitted, and its op does it.</returns>
    internal delegate bool Emit(RegionCompiler to, in Instruction instruction);

    /// <param name="Code">Makes the code.</param>
    /// <param name="Sets">What is known of the flags behind it; <see cref="KnownFlags.Unreached"/> when it leaves them alone.</param>
    private readonly record struct Row(Emit Code, KnownFlags Sets = KnownFlags.Unreached);

    private static readonly FrozenDictionary<Mnemonic, Row> Rows = new Dictionary<Mnemonic, Row>
    {
        [Mnemonic.Mov] = new(static (to, in i) => to.Move(i)),
        [Mnemonic.Movzx] = new(static (to, in i) => to.Extend(i, signed: false)),
        [Mnemonic.Movsx] = new(static (to, in i) => to.Extend(i, signed: true)),
        [Mnemonic.Movsxd] = new(static (to, in i) => to.Extend(i, signed: true)),
        [Mnemonic.Lea] = new(static (to, in i) => to.LoadAddress(i)),
        [Mnemonic.Xchg] = new(static (to, in i) => to.Exchange(i)),
        [Mnemonic.Nop] = new(static (_, in _) => true),
        [Mnemonic.Add] = new(static (to, in i) => to.Binary(i, BinaryOperation.Add), KnownFlags.Add),
        [Mnemonic.Adc] = new(static (to, in i) => to.Binary(i, BinaryOperation.AddCarry), KnownFlags.Add),
        [Mnemonic.Sub] = new(static (to, in i) => to.Binary(i, BinaryOperation.Sub), KnownFlags.Compare),
        [Mnemonic.Sbb] = new(static (to, in i) => to.Binary(i, BinaryOperation.SubBorrow), KnownFlags.Borrow),
        [Mnemonic.Cmp] = new(static (to, in i) => to.Binary(i, BinaryOperation.Compare), KnownFlags.Compare),
        [Mnemonic.And] = new(static (to, in i) => to.Binary(i, BinaryOperation.And), KnownFlags.Logic),
        [Mnemonic.Or] = new(static (to, in i) => to.Binary(i, BinaryOperation.Or), KnownFlags.Logic),
        [Mnemonic.Xor] = new(static (to, in i) => to.Binary(i, BinaryOperation.Xor), KnownFlags.Logic),
        [Mnemonic.Test] = new(static (to, in i) => to.Binary(i, BinaryOperation.Test), KnownFlags.Logic),
        [Mnemonic.Inc] = new(static (to, in i) => to.Count(i, down: false), KnownFlags.Inc),
        [Mnemonic.Dec] = new(static (to, in i) => to.Count(i, down: true), KnownFlags.Dec),
        [Mnemonic.Neg] = new(static (to, in i) => to.Negate(i), KnownFlags.Compare),
        [Mnemonic.Not] = new(static (to, in i) => to.Invert(i)),
        [Mnemonic.Shl] = new(static (to, in i) => to.Shift(i, ShiftOperation.Left), KnownFlags.Given),
        [Mnemonic.Sal] = new(static (to, in i) => to.Shift(i, ShiftOperation.Left), KnownFlags.Given),
        [Mnemonic.Shr] = new(static (to, in i) => to.Shift(i, ShiftOperation.Right), KnownFlags.Given),
        [Mnemonic.Sar] = new(static (to, in i) => to.Shift(i, ShiftOperation.RightSigned), KnownFlags.Given),
        [Mnemonic.Rol] = new(static (to, in i) => to.Rotate(i, left: true)),
        [Mnemonic.Ror] = new(static (to, in i) => to.Rotate(i, left: false)),
        [Mnemonic.Imul] = new(static (to, in i) => to.MultiplySigned(i), KnownFlags.Given),
        [Mnemonic.Mul] = new(static (to, in i) => to.Multiply(i), KnownFlags.Given),
        [Mnemonic.Div] = new(static (to, in i) => to.Divide(i)),
        [Mnemonic.Idiv] = new(static (to, in i) => to.DivideSigned(i)),
        [Mnemonic.Cdq] = new(static (to, in _) => to.SignInto(Register.EDX, Register.EAX)),
        [Mnemonic.Cqo] = new(static (to, in _) => to.SignInto(Register.RDX, Register.RAX)),
        [Mnemonic.Cwde] = new(static (to, in _) => to.Widen(Register.EAX, Register.AX)),
        [Mnemonic.Cdqe] = new(static (to, in _) => to.Widen(Register.RAX, Register.EAX)),
        [Mnemonic.Push] = new(static (to, in i) => to.Push(i)),
        [Mnemonic.Pop] = new(static (to, in i) => to.Pop(i)),
        [Mnemonic.Jmp] = new(static (to, in i) => to.Jump(i)),
        [Mnemonic.Call] = new(static (to, in i) => to.Call(i)),
        [Mnemonic.Ret] = new(static (to, in i) => to.Return(i)),
    }.ToFrozenDictionary();

    /// <summary>Whether there is code for the mnemonic; not for all its forms.</summary>
    public static bool Knows(in Instruction instruction) => Rows.ContainsKey(instruction.Mnemonic) || IsConditional(instruction);

    /// <summary>What is known of the flags behind it; <see cref="KnownFlags.Unreached"/> when it leaves them alone or is not known.</summary>
    public static KnownFlags Sets(in Instruction instruction) => Rows.TryGetValue(instruction.Mnemonic, out Row row) ? row.Sets : KnownFlags.Unreached;

    /// <summary>Makes code for an instruction.</summary>
    /// <returns>False: there is none for it; nothing was emitted, and its op does it.</returns>
    public static bool TryEmit(RegionCompiler to, in Instruction instruction)
    {
        if (instruction.HasLockPrefix || instruction.HasRepPrefix || instruction.HasRepnePrefix)
        {
            return false;
        }

        return IsConditional(instruction) ? to.Conditional(instruction)
            : Rows.TryGetValue(instruction.Mnemonic, out Row row) && row.Code(to, instruction);
    }

    // Jcc, SETcc and CMOVcc; LOOPcc are not among them.
    private static bool IsConditional(in Instruction instruction) => instruction.ConditionCode != ConditionCode.None
        && (instruction.IsJccShortOrNear || (instruction.OpCount <= 2 && instruction.Op0Kind is OpKind.Register or OpKind.Memory));
}
