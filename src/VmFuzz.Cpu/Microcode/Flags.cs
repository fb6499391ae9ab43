using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>Instructions on single flags. STI, CLI, PUSHF and POPF belong to the system rows.</summary>
internal static unsafe class Flags
{
    private const ulong HighByte = RFlags.Sf | RFlags.Zf | RFlags.Af | RFlags.Pf | RFlags.Cf;

    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Clc, static (Processor cpu, in Instruction _) => Set(cpu, RFlags.Cf, 0)),
        new(Mnemonic.Stc, static (Processor cpu, in Instruction _) => Set(cpu, RFlags.Cf, RFlags.Cf)),
        new(Mnemonic.Cmc, static (Processor cpu, in Instruction _) => Set(cpu, RFlags.Cf, Ops.Carry(cpu) ^ 1)),
        new(Mnemonic.Cld, Cld),
        new(Mnemonic.Std, Std),
        new(Mnemonic.Lahf, Lahf),
        new(Mnemonic.Sahf, Sahf),
        new(Mnemonic.Salc, Salc),
    ];

    private static ExecResult Set(Processor cpu, ulong mask, ulong value)
    {
        cpu.FlagsSet(mask, value);
        return ExecResult.Next;
    }

    private static ExecResult Cld(Processor cpu, in Instruction ins)
    {
        cpu.State->Flags &= ~RFlags.Df;
        return ExecResult.Next;
    }

    private static ExecResult Std(Processor cpu, in Instruction ins)
    {
        cpu.State->Flags |= RFlags.Df;
        return ExecResult.Next;
    }

    private static ExecResult Lahf(Processor cpu, in Instruction ins)
    {
        if (cpu.Code64 && !cpu.Model.Has(CpuFeatures.Lahf64))
        {
            return Ops.Undefined(cpu);
        }

        cpu.WriteGpr(Register.AH, (cpu.RFlagsValue & HighByte) | RFlags.Reserved1);
        return ExecResult.Next;
    }

    private static ExecResult Sahf(Processor cpu, in Instruction ins)
    {
        if (cpu.Code64 && !cpu.Model.Has(CpuFeatures.Lahf64))
        {
            return Ops.Undefined(cpu);
        }

        cpu.FlagsSet(HighByte, cpu.ReadGpr(Register.AH));
        return ExecResult.Next;
    }

    // Not in the SDM's alphabet, in its opcode map as reserved: AL becomes CF in all bits. No flag changes.
    private static ExecResult Salc(Processor cpu, in Instruction ins)
    {
        if (cpu.Code64)
        {
            return Ops.Undefined(cpu);
        }

        Ops.Write(cpu, Gpr.Rax, 1, 0 - Ops.Carry(cpu));
        return ExecResult.Next;
    }
}
