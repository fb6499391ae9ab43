using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>Near jumps, calls and returns. Far forms of JMP and CALL have system rows of their own.</summary>
internal static unsafe class ControlFlow
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Jmp, Jmp, InstructionTraits.EndsBlock),
        new(Mnemonic.Call, Call, InstructionTraits.EndsBlock),
        new(Mnemonic.Ret, Ret, InstructionTraits.EndsBlock),
        new(Mnemonic.Ja, Jcc, InstructionTraits.EndsBlock),
        new(Mnemonic.Jae, Jcc, InstructionTraits.EndsBlock),
        new(Mnemonic.Jb, Jcc, InstructionTraits.EndsBlock),
        new(Mnemonic.Jbe, Jcc, InstructionTraits.EndsBlock),
        new(Mnemonic.Je, Jcc, InstructionTraits.EndsBlock),
        new(Mnemonic.Jg, Jcc, InstructionTraits.EndsBlock),
        new(Mnemonic.Jge, Jcc, InstructionTraits.EndsBlock),
        new(Mnemonic.Jl, Jcc, InstructionTraits.EndsBlock),
        new(Mnemonic.Jle, Jcc, InstructionTraits.EndsBlock),
        new(Mnemonic.Jne, Jcc, InstructionTraits.EndsBlock),
        new(Mnemonic.Jno, Jcc, InstructionTraits.EndsBlock),
        new(Mnemonic.Jnp, Jcc, InstructionTraits.EndsBlock),
        new(Mnemonic.Jns, Jcc, InstructionTraits.EndsBlock),
        new(Mnemonic.Jo, Jcc, InstructionTraits.EndsBlock),
        new(Mnemonic.Jp, Jcc, InstructionTraits.EndsBlock),
        new(Mnemonic.Js, Jcc, InstructionTraits.EndsBlock),
        new(Mnemonic.Jcxz, Jcxz, InstructionTraits.EndsBlock),
        new(Mnemonic.Jecxz, Jcxz, InstructionTraits.EndsBlock),
        new(Mnemonic.Jrcxz, Jcxz, InstructionTraits.EndsBlock),
        new(Mnemonic.Loop, Loop, InstructionTraits.EndsBlock),
        new(Mnemonic.Loope, Loop, InstructionTraits.EndsBlock),
        new(Mnemonic.Loopne, Loop, InstructionTraits.EndsBlock),
    ];

    /// <summary>Near JMP, direct and indirect.</summary>
    public static ExecResult Jmp(Processor cpu, in Instruction ins) =>
        Target(cpu, ins, out ulong target, out _) ? Ops.JumpTo(cpu, target) : ExecResult.Abort;

    /// <summary>Near CALL, direct and indirect.</summary>
    public static ExecResult Call(Processor cpu, in Instruction ins)
    {
        if (!Target(cpu, ins, out ulong target, out int size))
        {
            return ExecResult.Abort;
        }

        if (!Ops.TargetAllowed(cpu, target))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        if (!cpu.Push(size, Ops.NextRip(ins)))
        {
            return ExecResult.Abort;
        }

        Ops.Rip(cpu) = target;
        return ExecResult.Jump;
    }

    private static ExecResult Ret(Processor cpu, in Instruction ins)
    {
        int size = ins.Code switch
        {
            Code.Retnw or Code.Retnw_imm16 => 2,
            Code.Retnd or Code.Retnd_imm16 => 4,
            _ => 8,
        };
        if (!cpu.PeekStack(size, 0, out ulong target))
        {
            return ExecResult.Abort;
        }

        if (!Ops.TargetAllowed(cpu, target))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        cpu.AdjustStack(size + (ins.OpCount == 0 ? 0 : ins.Immediate16));
        Ops.Rip(cpu) = target;
        return ExecResult.Jump;
    }

    private static ExecResult Jcc(Processor cpu, in Instruction ins) =>
        LazyFlags.Condition(cpu.State, Ops.ConditionOf(ins)) ? Ops.JumpTo(cpu, ins.NearBranchTarget) : ExecResult.Next;

    private static ExecResult Jcxz(Processor cpu, in Instruction ins)
    {
        int size = ins.Mnemonic == Mnemonic.Jcxz ? 2 : ins.Mnemonic == Mnemonic.Jecxz ? 4 : 8;
        return Ops.Read(cpu, Gpr.Rcx, size) == 0 ? Ops.JumpTo(cpu, ins.NearBranchTarget) : ExecResult.Next;
    }

    private static ExecResult Loop(Processor cpu, in Instruction ins)
    {
        int size = LoopCounterSize(ins.Code);
        ulong count = Ops.Cut(cpu[Gpr.Rcx] - 1, size);
        bool taken = count != 0 && ins.Mnemonic switch
        {
            Mnemonic.Loope => LazyFlags.Zero(cpu.State),
            Mnemonic.Loopne => !LazyFlags.Zero(cpu.State),
            _ => true,
        };
        if (taken && !Ops.TargetAllowed(cpu, ins.NearBranchTarget))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        Ops.Write(cpu, Gpr.Rcx, size, count);
        if (!taken)
        {
            return ExecResult.Next;
        }

        Ops.Rip(cpu) = ins.NearBranchTarget;
        return ExecResult.Jump;
    }

    private static int LoopCounterSize(Code code) => code switch
    {
        Code.Loop_rel8_16_CX or Code.Loop_rel8_32_CX or Code.Loope_rel8_16_CX or Code.Loope_rel8_32_CX
            or Code.Loopne_rel8_16_CX or Code.Loopne_rel8_32_CX => 2,
        Code.Loop_rel8_16_ECX or Code.Loop_rel8_32_ECX or Code.Loop_rel8_64_ECX
            or Code.Loope_rel8_16_ECX or Code.Loope_rel8_32_ECX or Code.Loope_rel8_64_ECX
            or Code.Loopne_rel8_16_ECX or Code.Loopne_rel8_32_ECX or Code.Loopne_rel8_64_ECX => 4,
        _ => 8,
    };

    // The operand size is that of the branch: 16-bit targets are cut by the decoder, or read as 16 bits.
    private static bool Target(Processor cpu, in Instruction ins, out ulong target, out int size)
    {
        switch (ins.Op0Kind)
        {
            case OpKind.NearBranch16:
                size = 2;
                target = ins.NearBranch16;
                return true;
            case OpKind.NearBranch32:
                size = 4;
                target = ins.NearBranch32;
                return true;
            case OpKind.NearBranch64:
                size = 8;
                target = ins.NearBranch64;
                return true;
            default:
                size = Processor.OperandSize(ins, 0);
                return cpu.ReadOperand(ins, 0, out target);
        }
    }
}
