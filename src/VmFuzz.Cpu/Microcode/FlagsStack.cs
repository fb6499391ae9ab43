using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>CLI, STI, PUSHF, POPF, CLAC, STAC.</summary>
internal static unsafe class FlagsStack
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Cli, Cli, InstructionTraits.EndsBlock),
        new(Mnemonic.Sti, Sti, InstructionTraits.EndsBlock),
        new(Mnemonic.Pushf, Push),
        new(Mnemonic.Pushfd, Push),
        new(Mnemonic.Pushfq, Push),
        new(Mnemonic.Popf, Pop, InstructionTraits.EndsBlock),
        new(Mnemonic.Popfd, Pop, InstructionTraits.EndsBlock),
        new(Mnemonic.Popfq, Pop, InstructionTraits.EndsBlock),
        new(Mnemonic.Clac, AccessCheck, InstructionTraits.EndsBlock, CpuFeatures.Smap),
        new(Mnemonic.Stac, AccessCheck, InstructionTraits.EndsBlock, CpuFeatures.Smap),
    ];

    // Virtual-8086 mode without VME: IOPL 3 is needed. Otherwise CPL must not be above IOPL. PVI and VME are not modelled.
    private static bool MayChangeIf(Processor cpu) => !cpu.Protected || (cpu.Virtual8086 ? cpu.Iopl == 3 : cpu.Cpl <= cpu.Iopl);

    private static ExecResult Cli(Processor cpu, in Instruction ins)
    {
        if (!MayChangeIf(cpu))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        cpu.State->Flags &= ~RFlags.If;
        cpu.StateChanged();
        return ExecResult.NextAndLook;
    }

    private static ExecResult Sti(Processor cpu, in Instruction ins)
    {
        if (!MayChangeIf(cpu))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        if ((cpu.State->Flags & RFlags.If) == 0)
        {
            cpu.State->Flags |= RFlags.If;
            cpu.State->Interruptibility |= 1;
        }

        cpu.StateChanged();
        return ExecResult.NextAndLook;
    }

    private static int Size(in Instruction ins) => Math.Abs(ins.StackPointerIncrement);

    private static ExecResult Push(Processor cpu, in Instruction ins)
    {
        if (cpu.Virtual8086 && cpu.Iopl < 3)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        ulong flags = cpu.RFlagsValue & ~(RFlags.Vm | RFlags.Rf);
        return cpu.Push(Size(ins), flags) ? ExecResult.Next : ExecResult.Abort;
    }

    private static ExecResult Pop(Processor cpu, in Instruction ins)
    {
        if (cpu.Virtual8086 && cpu.Iopl < 3)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        int size = Size(ins);
        if (!cpu.PeekStack(size, 0, out ulong flags))
        {
            return ExecResult.Abort;
        }

        cpu.AdjustStack(size);
        cpu.RestoreFlags(size, flags, cpu.Cpl, keepVm: false);
        cpu.StateChanged();
        return ExecResult.NextAndLook;
    }

    private static ExecResult AccessCheck(Processor cpu, in Instruction ins)
    {
        if (cpu.Cpl > 0)
        {
            return cpu.Fault(GuestFault.Ud);
        }

        if (ins.Mnemonic == Mnemonic.Stac)
        {
            cpu.State->Flags |= RFlags.Ac;
        }
        else
        {
            cpu.State->Flags &= ~RFlags.Ac;
        }

        cpu.StateChanged();
        return ExecResult.NextAndLook;
    }
}
