using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>Moves to and from segment registers.</summary>
internal static class Segments
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        .. Forms(Mnemonic.Mov, Store, InstructionTraits.None, Code.Mov_rm16_Sreg, Code.Mov_r32m16_Sreg, Code.Mov_r64m16_Sreg),
        .. Forms(Mnemonic.Mov, Load, InstructionTraits.EndsBlock, Code.Mov_Sreg_rm16, Code.Mov_Sreg_r32m16, Code.Mov_Sreg_r64m16),
        .. Forms(
            Mnemonic.Push,
            PushSegment,
            InstructionTraits.None,
            Code.Pushw_ES, Code.Pushd_ES, Code.Pushw_CS, Code.Pushd_CS, Code.Pushw_SS, Code.Pushd_SS, Code.Pushw_DS, Code.Pushd_DS,
            Code.Pushw_FS, Code.Pushd_FS, Code.Pushq_FS, Code.Pushw_GS, Code.Pushd_GS, Code.Pushq_GS),
        .. Forms(
            Mnemonic.Pop,
            PopSegment,
            InstructionTraits.EndsBlock,
            Code.Popw_ES, Code.Popd_ES, Code.Popw_SS, Code.Popd_SS, Code.Popw_DS, Code.Popd_DS,
            Code.Popw_FS, Code.Popd_FS, Code.Popq_FS, Code.Popw_GS, Code.Popd_GS, Code.Popq_GS),
        new(Mnemonic.Lds, LoadFarPointer, InstructionTraits.EndsBlock),
        new(Mnemonic.Les, LoadFarPointer, InstructionTraits.EndsBlock),
        new(Mnemonic.Lfs, LoadFarPointer, InstructionTraits.EndsBlock),
        new(Mnemonic.Lgs, LoadFarPointer, InstructionTraits.EndsBlock),
        new(Mnemonic.Lss, LoadFarPointer, InstructionTraits.EndsBlock),
    ];

    /// <summary>One row for each of some forms of a mnemonic.</summary>
    internal static ImmutableArray<InstructionRow> Forms(
        Mnemonic mnemonic, ExecHandler handler, InstructionTraits traits, params ReadOnlySpan<Code> forms)
    {
        ImmutableArray<InstructionRow>.Builder rows = ImmutableArray.CreateBuilder<InstructionRow>(forms.Length);
        foreach (Code form in forms)
        {
            rows.Add(new InstructionRow(mnemonic, handler, traits, Form: form));
        }

        return rows.MoveToImmutable();
    }

    private static ExecResult Store(Processor cpu, in Instruction ins)
    {
        ushort selector = (ushort)cpu.Segment(Processor.ToSegment(ins.Op1Register)).Selector;
        return cpu.WriteOperand(ins, 0, selector) ? ExecResult.Next : ExecResult.Abort;
    }

    private static ExecResult Load(Processor cpu, in Instruction ins)
    {
        SegmentRegister register = Processor.ToSegment(ins.Op0Register);
        if (register == SegmentRegister.Cs)
        {
            return cpu.Fault(GuestFault.Ud);
        }

        if (!cpu.ReadOperand(ins, 1, out ulong selector) || !cpu.LoadSegment(register, (ushort)selector))
        {
            return ExecResult.Abort;
        }

        return Loaded(cpu, register);
    }

    // MOV SS and POP SS shadow the next instruction; LSS does not.
    private static unsafe ExecResult Loaded(Processor cpu, SegmentRegister register, bool shadow = true)
    {
        if (register == SegmentRegister.Ss && shadow)
        {
            cpu.State->Interruptibility |= 2;
        }

        cpu.StateChanged();
        return ExecResult.NextAndLook;
    }

    private static int StackSize(in Instruction ins) => Math.Abs(ins.StackPointerIncrement);

    private static ExecResult PushSegment(Processor cpu, in Instruction ins)
    {
        // The upper bytes of a wide push are written as zero.
        ushort selector = (ushort)cpu.Segment(Processor.ToSegment(ins.Op0Register)).Selector;
        return cpu.Push(StackSize(ins), selector) ? ExecResult.Next : ExecResult.Abort;
    }

    private static ExecResult PopSegment(Processor cpu, in Instruction ins)
    {
        int size = StackSize(ins);
        SegmentRegister register = Processor.ToSegment(ins.Op0Register);
        if (!cpu.PeekStack(2, 0, out ulong selector) || !cpu.CheckSegmentLoad(register, (ushort)selector, out SegmentState state))
        {
            return ExecResult.Abort;
        }

        // The pointer moves by the width of the old stack, also for POP SS.
        cpu.AdjustStack(size);
        cpu.Segment(register) = state;
        return Loaded(cpu, register);
    }

    private static ExecResult LoadFarPointer(Processor cpu, in Instruction ins)
    {
        if (ins.Op1Kind != OpKind.Memory)
        {
            return cpu.Fault(GuestFault.Ud);
        }

        SegmentRegister register = ins.Mnemonic switch
        {
            Mnemonic.Lds => SegmentRegister.Ds,
            Mnemonic.Les => SegmentRegister.Es,
            Mnemonic.Lfs => SegmentRegister.Fs,
            Mnemonic.Lgs => SegmentRegister.Gs,
            _ => SegmentRegister.Ss,
        };
        if (!FarTransfers.ReadPointer(cpu, ins, 1, out ushort selector, out ulong offset, out _)
            || !cpu.LoadSegment(register, selector))
        {
            return ExecResult.Abort;
        }

        cpu.WriteGpr(ins.Op0Register, offset);
        return Loaded(cpu, register, shadow: false);
    }
}
