using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Microcode;

/// <summary>The VMX instructions: #UD conditions and exits here, root operation in the layer above.</summary>
internal static class VmxRows
{
    public static readonly ImmutableArray<InstructionRow> Rows =
    [
        new(Mnemonic.Vmcall, Vmcall, InstructionTraits.EndsBlock),
        new(Mnemonic.Vmclear, static (Processor cpu, in Instruction ins) => Memory(cpu, ins, SensitiveInstruction.Vmclear), InstructionTraits.EndsBlock),
        new(Mnemonic.Vmlaunch, static (Processor cpu, in Instruction ins) => Plain(cpu, ins, SensitiveInstruction.Vmlaunch), InstructionTraits.EndsBlock),
        new(Mnemonic.Vmptrld, static (Processor cpu, in Instruction ins) => Memory(cpu, ins, SensitiveInstruction.Vmptrld), InstructionTraits.EndsBlock),
        new(Mnemonic.Vmptrst, static (Processor cpu, in Instruction ins) => Memory(cpu, ins, SensitiveInstruction.Vmptrst), InstructionTraits.EndsBlock),
        new(Mnemonic.Vmread, static (Processor cpu, in Instruction ins) => Two(cpu, ins, SensitiveInstruction.Vmread, 0, 1), InstructionTraits.EndsBlock),
        new(Mnemonic.Vmresume, static (Processor cpu, in Instruction ins) => Plain(cpu, ins, SensitiveInstruction.Vmresume), InstructionTraits.EndsBlock),
        new(Mnemonic.Vmwrite, static (Processor cpu, in Instruction ins) => Two(cpu, ins, SensitiveInstruction.Vmwrite, 1, 0), InstructionTraits.EndsBlock),
        new(Mnemonic.Vmxoff, static (Processor cpu, in Instruction ins) => Plain(cpu, ins, SensitiveInstruction.Vmxoff), InstructionTraits.EndsBlock),
        new(Mnemonic.Vmxon, static (Processor cpu, in Instruction ins) => Memory(cpu, ins, SensitiveInstruction.Vmxon), InstructionTraits.EndsBlock),
        new(Mnemonic.Invept, static (Processor cpu, in Instruction ins) => Two(cpu, ins, SensitiveInstruction.Invept, 1, 0), InstructionTraits.EndsBlock),
        new(Mnemonic.Invvpid, static (Processor cpu, in Instruction ins) => Two(cpu, ins, SensitiveInstruction.Invvpid, 1, 0), InstructionTraits.EndsBlock),
        new(Mnemonic.Vmfunc, static (Processor cpu, in Instruction _) => cpu.Fault(GuestFault.Ud), InstructionTraits.EndsBlock),
    ];

    // Not in VMX operation, real mode, virtual-8086 mode and compatibility mode: #UD, before the exit.
    private static bool Undefined(Processor cpu) =>
        (cpu.NonRoot is null && cpu.Vmx is null) || !cpu.Protected || cpu.Virtual8086 || (cpu.LongMode && !cpu.Code64);

    // VMCALL exits in every mode and at every privilege level.
    private static ExecResult Vmcall(Processor cpu, in Instruction ins) =>
        Halt.Exits(cpu, ins, SensitiveInstruction.Vmcall) ? cpu.Exit() : Plain(cpu, ins, SensitiveInstruction.Vmcall);

    private static ExecResult Plain(Processor cpu, in Instruction ins, SensitiveInstruction instruction) =>
        Undefined(cpu) ? cpu.Fault(GuestFault.Ud)
        : Halt.Exits(cpu, ins, instruction) ? cpu.Exit()
        : Root(cpu, ins, instruction, -1, Gpr.Rax, Gpr.Rax);

    private static ExecResult Memory(Processor cpu, in Instruction ins, SensitiveInstruction instruction) =>
        Undefined(cpu) ? cpu.Fault(GuestFault.Ud)
        : Halt.Exits(cpu, ins, instruction, InstructionInformation.Displacement(ins), InstructionInformation.Vmx(ins, 0, -1)) ? cpu.Exit()
        : Root(cpu, ins, instruction, 0, Gpr.Rax, Gpr.Rax);

    private static ExecResult Two(Processor cpu, in Instruction ins, SensitiveInstruction instruction, int either, int register)
    {
        if (Undefined(cpu))
        {
            return cpu.Fault(GuestFault.Ud);
        }

        bool memory = ins.GetOpKind(either) == OpKind.Memory;
        ulong qualification = memory ? InstructionInformation.Displacement(ins) : 0;
        if (Halt.Exits(cpu, ins, instruction, qualification, InstructionInformation.Vmx(ins, either, register)))
        {
            return cpu.Exit();
        }

        Gpr other = memory ? Gpr.Rax : (Gpr)(Processor.GprOffset(ins.GetOpRegister(either)) / 8);
        return Root(cpu, ins, instruction, memory ? either : -1, (Gpr)(Processor.GprOffset(ins.GetOpRegister(register)) / 8), other);
    }

    private static ExecResult Root(Processor cpu, in Instruction ins, SensitiveInstruction instruction, int memoryOperand, Gpr register, Gpr other)
    {
        if (cpu.Vmx is not { } vmx)
        {
            return cpu.Fault(GuestFault.Ud);
        }

        if (cpu.Cpl > 0)
        {
            return cpu.Fault(GuestFault.Gp());
        }

        ulong linear = 0;
        if (memoryOperand >= 0)
        {
            ulong offset = cpu.EffectiveAddress(ins, out SegmentRegister segment);
            bool write = instruction is SensitiveInstruction.Vmptrst or SensitiveInstruction.Vmread;
            int size = instruction is SensitiveInstruction.Invept or SensitiveInstruction.Invvpid ? 16 : 8;
            if (!cpu.Linearize(segment, offset, size, write, out linear))
            {
                return ExecResult.Abort;
            }
        }

        return vmx.Execute(instruction, linear, memoryOperand >= 0, register, other);
    }
}
