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

    private static ExecResult Cli(Processor cpu, in Instruction ins)
    {
        ulong flag = cpu.OwnInterruptFlag;
        if (flag == 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        cpu.State->Flags &= ~flag;
        cpu.StateChanged();
        return ExecResult.NextAndLook;
    }

    private static ExecResult Sti(Processor cpu, in Instruction ins)
    {
        ulong flag = cpu.OwnInterruptFlag;
        bool isVirtual = flag == RFlags.Vif;
        if (flag == 0 || (isVirtual && (cpu.State->Flags & RFlags.Vip) != 0))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        // Only IF has a shadow.
        if (isVirtual)
        {
            cpu.State->Flags |= RFlags.Vif;
        }
        else if ((cpu.State->Flags & RFlags.If) == 0)
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
        int size = Size(ins);
        if (cpu.IsSensitive && !cpu.UsesVif(size))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        ulong flags = cpu.IsSensitive ? cpu.VirtualFlags : cpu.RFlagsValue & ~(RFlags.Vm | RFlags.Rf);
        return cpu.Push(size, flags) ? ExecResult.Next : ExecResult.Abort;
    }

    private static ExecResult Pop(Processor cpu, in Instruction ins)
    {
        int size = Size(ins);
        bool sensitive = cpu.IsSensitive;
        if (sensitive && !cpu.UsesVif(size))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        if (!cpu.PeekStack(size, 0, out ulong flags) || (sensitive && !cpu.CheckVirtualFlags(flags)))
        {
            return ExecResult.Abort;
        }

        cpu.AdjustStack(size);
        if (sensitive)
        {
            cpu.LoadVirtualFlags(flags);
        }
        else
        {
            cpu.RestoreFlags(size, flags, cpu.Cpl, keepVm: false);
        }

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
