using Iced.Intel;
using VmFuzz.Cpu.Blocks;

namespace VmFuzz.Cpu.Fast;

// Pairs of instructions that are one op.
internal static unsafe partial class Forms<TThread>
{
    /// <summary>Fills one op for an instruction and the Jcc that ends the block behind it; two links follow.</summary>
    /// <param name="first">The instruction before the branch.</param>
    /// <param name="branch">The last instruction of the block.</param>
    /// <param name="mode">Mode bits of the block.</param>
    /// <param name="op">The op to fill; offset, length and place are those of the first.</param>
    /// <returns>False: they are two ops.</returns>
    public static bool TryFuse(in Instruction first, in Instruction branch, ulong mode, Op* op)
    {
        if (!branch.IsJccShortOrNear || !PlainTarget(branch, mode) || first.Op0Kind != OpKind.Register || first.HasLockPrefix)
        {
            return false;
        }

        op->R0 = (byte)Processor.GprOffset(first.Op0Register);
        delegate* managed<CpuState*, Op*, Op*> handler = first.Mnemonic switch
        {
            Mnemonic.Cmp => FuseCompare<AluCmp>(first, branch.ConditionCode, op),
            Mnemonic.Test => FuseCompare<AluTest>(first, OfTest(branch.ConditionCode), op),
            Mnemonic.Dec => FuseCount<Yes>(first, branch.ConditionCode),
            Mnemonic.Inc => FuseCount<No>(first, branch.ConditionCode),
            _ => null,
        };
        op->Handler = handler;
        return handler != null;
    }

    // Behind TEST, where OF is 0, the sign is that of a signed comparison with 0.
    private static ConditionCode OfTest(ConditionCode condition) => condition switch
    {
        ConditionCode.s => ConditionCode.l,
        ConditionCode.ns => ConditionCode.ge,
        _ => condition,
    };

    private static delegate* managed<CpuState*, Op*, Op*> FuseCompare<TAlu>(in Instruction first, ConditionCode condition, Op* op)
        where TAlu : struct, IAlu
    {
        bool register = first.Op1Kind == OpKind.Register;
        if (register)
        {
            op->R1 = (byte)Processor.GprOffset(first.Op1Register);
        }
        else if (first.Op1Kind == OpKind.Memory)
        {
            return null;
        }
        else
        {
            op->Immediate = (long)first.GetImmediate(1);
        }

        return Processor.OperandSize(first, 0) switch
        {
            1 => FuseCompare<TAlu, byte>(condition, register),
            2 => FuseCompare<TAlu, ushort>(condition, register),
            4 => FuseCompare<TAlu, uint>(condition, register),
            _ => FuseCompare<TAlu, ulong>(condition, register),
        };
    }

    private static delegate* managed<CpuState*, Op*, Op*> FuseCompare<TAlu, T>(ConditionCode condition, bool register)
        where TAlu : struct, IAlu
        where T : unmanaged => condition switch
        {
            ConditionCode.e => FuseCompare<TAlu, T, IsEqual>(register),
            ConditionCode.ne => FuseCompare<TAlu, T, IsNot<IsEqual>>(register),
            ConditionCode.b => FuseCompare<TAlu, T, IsBelow>(register),
            ConditionCode.ae => FuseCompare<TAlu, T, IsNot<IsBelow>>(register),
            ConditionCode.be => FuseCompare<TAlu, T, IsBelowOrEqual>(register),
            ConditionCode.a => FuseCompare<TAlu, T, IsNot<IsBelowOrEqual>>(register),
            ConditionCode.l => FuseCompare<TAlu, T, IsLess>(register),
            ConditionCode.ge => FuseCompare<TAlu, T, IsNot<IsLess>>(register),
            ConditionCode.le => FuseCompare<TAlu, T, IsLessOrEqual>(register),
            ConditionCode.g => FuseCompare<TAlu, T, IsNot<IsLessOrEqual>>(register),
            _ => null,
        };

    private static delegate* managed<CpuState*, Op*, Op*> FuseCompare<TAlu, T, TComparison>(bool register)
        where TAlu : struct, IAlu
        where T : unmanaged
        where TComparison : struct, IComparison
    {
        if (register)
        {
            return &CompareAndBranch<TThread, TAlu, T, TComparison>.RegReg;
        }

        return &CompareAndBranch<TThread, TAlu, T, TComparison>.RegImm;
    }

    private static delegate* managed<CpuState*, Op*, Op*> FuseCount<TDown>(in Instruction first, ConditionCode condition)
        where TDown : struct, IFlag
    {
        if (condition is not (ConditionCode.e or ConditionCode.ne))
        {
            return null;
        }

        return (Processor.OperandSize(first, 0), condition) switch
        {
            (4, ConditionCode.e) => &CountAndBranch<TThread, uint, TDown>.Equal,
            (4, _) => &CountAndBranch<TThread, uint, TDown>.NotEqual,
            (8, ConditionCode.e) => &CountAndBranch<TThread, ulong, TDown>.Equal,
            (8, _) => &CountAndBranch<TThread, ulong, TDown>.NotEqual,
            _ => null,
        };
    }
}
