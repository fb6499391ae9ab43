using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>
/// The VMX instructions up to the door of the layer above: #UD checks, the exit in non-root operation, operands.
/// The CPL check comes after the exit and after "not in VMX operation", so it is made above.
/// </summary>
internal static unsafe class VmxGates
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        Gate(Mnemonic.Vmxon, SensitiveInstruction.Vmxon),
        Gate(Mnemonic.Vmxoff, SensitiveInstruction.Vmxoff),
        Gate(Mnemonic.Vmclear, SensitiveInstruction.Vmclear),
        Gate(Mnemonic.Vmptrld, SensitiveInstruction.Vmptrld),
        Gate(Mnemonic.Vmptrst, SensitiveInstruction.Vmptrst),
        Gate(Mnemonic.Vmread, SensitiveInstruction.Vmread),
        Gate(Mnemonic.Vmwrite, SensitiveInstruction.Vmwrite),
        Gate(Mnemonic.Vmlaunch, SensitiveInstruction.Vmlaunch),
        Gate(Mnemonic.Vmresume, SensitiveInstruction.Vmresume),
        Gate(Mnemonic.Vmcall, SensitiveInstruction.Vmcall),
        Gate(Mnemonic.Vmfunc, SensitiveInstruction.Vmfunc),
        Gate(Mnemonic.Invept, SensitiveInstruction.Invept),
        Gate(Mnemonic.Invvpid, SensitiveInstruction.Invvpid),
        new(Mnemonic.Getsec, Getsec, InstructionTraits.EndsBlock),
        // Exits only in SMM, which is not modelled; everywhere else it is undefined, in non-root operation too.
        new(Mnemonic.Rsm, Interrupts.Undefined, InstructionTraits.EndsBlock),
    ];

    private static InstructionRow Gate(Mnemonic mnemonic, SensitiveInstruction instruction) =>
        new(mnemonic, (Processor cpu, in Instruction ins) => Execute(cpu, ins, instruction), InstructionTraits.EndsBlock);

    private static ExecResult Execute(Processor cpu, in Instruction ins, SensitiveInstruction instruction)
    {
        bool hypercall = instruction is SensitiveInstruction.Vmcall or SensitiveInstruction.Vmfunc;
        if (!hypercall && IsUndefined(cpu))
        {
            return cpu.Fault(GuestFault.Ud);
        }

        (int memory, int register) = Operands(ins, instruction);
        if (cpu.NonRoot is { } policy)
        {
            uint info = memory < 0 ? 0 : InstructionInformation.Vmx(ins, memory, register);
            ulong qualification = memory >= 0 && ins.GetOpKind(memory) == OpKind.Memory ? InstructionInformation.Displacement(ins) : 0;
            return policy.Instruction(instruction, ins.Length, qualification, info) ? cpu.Exit() : cpu.Fault(GuestFault.Ud);
        }

        if (cpu.Vmx is not { } vmx || (cpu.State->Cr4 & Cr4.Vmxe) == 0 || IsUndefined(cpu))
        {
            return cpu.Fault(GuestFault.Ud);
        }

        ulong linear = 0;
        bool hasMemory = memory >= 0 && ins.GetOpKind(memory) == OpKind.Memory;
        if (hasMemory && cpu.Cpl == 0)
        {
            ulong offset = cpu.EffectiveAddress(ins, out SegmentRegister segment);
            int size = instruction is SensitiveInstruction.Invept or SensitiveInstruction.Invvpid ? 16 : ins.MemorySize.GetSize();
            bool write = instruction is SensitiveInstruction.Vmread or SensitiveInstruction.Vmptrst;
            if (!cpu.Linearize(segment, offset, size, write, out linear))
            {
                return ExecResult.Abort;
            }
        }

        Gpr first = register >= 0 ? General(ins, register) : Gpr.Rax;
        Gpr second = memory >= 0 && !hasMemory ? General(ins, memory) : Gpr.Rax;
        return vmx.Execute(instruction, linear, hasMemory, first, second);
    }

    // Real mode, virtual-8086 mode and compatibility mode have no VMX instructions.
    private static bool IsUndefined(Processor cpu) =>
        !cpu.UsesDescriptors || (cpu.State->Cr4 & Cr4.Vmxe) == 0 || (cpu.LongMode && !cpu.Code64);

    // The operand that is in memory (or may be), and the one that is a register; -1 when there is none.
    private static (int Memory, int Register) Operands(in Instruction ins, SensitiveInstruction instruction) => instruction switch
    {
        SensitiveInstruction.Vmread => (0, 1),
        SensitiveInstruction.Vmwrite => (1, 0),
        SensitiveInstruction.Invept or SensitiveInstruction.Invvpid => (1, 0),
        SensitiveInstruction.Vmxon or SensitiveInstruction.Vmclear or SensitiveInstruction.Vmptrld or SensitiveInstruction.Vmptrst => (0, -1),
        _ => (-1, -1),
    };

    private static Gpr General(in Instruction ins, int operand) => (Gpr)InstructionInformation.Number(ins.GetOpRegister(operand));

    // CR4.SMXE cannot be set: #UD in root operation, an exit in non-root operation needs it too.
    private static ExecResult Getsec(Processor cpu, in Instruction ins) =>
        (cpu.State->Cr4 & Cr4.Smxe) != 0 && Halt.Exits(cpu, ins, SensitiveInstruction.Getsec) ? cpu.Exit() : cpu.Fault(GuestFault.Ud);
}
