using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>RDMSR and WRMSR over <see cref="MsrTable"/>.</summary>
internal static unsafe class Msrs
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Rdmsr, Rdmsr, InstructionTraits.EndsBlock, CpuFeatures.Msr),
        new(Mnemonic.Wrmsr, Wrmsr, InstructionTraits.EndsBlock, CpuFeatures.Msr),
    ];

    private static bool Allowed(Processor cpu, in Instruction ins, uint msr, bool write, out ExecResult stopped)
    {
        stopped = ExecResult.Abort;
        if (cpu.Cpl > 0)
        {
            return cpu.RaiseFault(GuestFault.Gp());
        }

        if (cpu.NonRoot is { } policy && policy.MsrAccess(msr, write, ins.Length))
        {
            stopped = cpu.Exit();
            return false;
        }

        return true;
    }

    private static ExecResult Rdmsr(Processor cpu, in Instruction ins)
    {
        uint msr = (uint)cpu[Gpr.Rcx];
        if (!Allowed(cpu, ins, msr, false, out ExecResult stopped))
        {
            return stopped;
        }

        if (!cpu.TryReadMsr(msr, out ulong value))
        {
            return cpu.Fault(GuestFault.Gp());
        }

        if (msr == Msr.Tsc && cpu.NonRoot is { } policy)
        {
            value = policy.GuestTsc(value);
        }

        cpu[Gpr.Rax] = (uint)value;
        cpu[Gpr.Rdx] = value >> 32;
        return ExecResult.Next;
    }

    private static ExecResult Wrmsr(Processor cpu, in Instruction ins)
    {
        uint msr = (uint)cpu[Gpr.Rcx];
        if (!Allowed(cpu, ins, msr, true, out ExecResult stopped))
        {
            return stopped;
        }

        ulong value = ((ulong)(uint)cpu[Gpr.Rdx] << 32) | (uint)cpu[Gpr.Rax];
        return cpu.TryWriteMsr(msr, value) ? ExecResult.NextAndLook : cpu.Fault(GuestFault.Gp());
    }
}
