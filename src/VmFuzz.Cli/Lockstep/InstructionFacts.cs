using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Cli.Lockstep;

/// <summary>What the comparison must know about an instruction of a program.</summary>
internal sealed class InstructionFacts
{
    // By Iced's number of the form.
    private static readonly ImmutableArray<InstructionForm?> Forms = FormsByCode();

    private readonly ulong _undefined;
    private readonly ulong _defined;

    /// <summary>Works them out.</summary>
    public InstructionFacts(in Instruction instruction)
    {
        Instruction = instruction;
        InstructionForm? form = Forms[(int)instruction.Code];
        _undefined = form?.Row?.UndefinedFlags ?? 0;
        _defined = form?.FlagsWritten ?? 0;
        FlagsRead = form?.FlagsRead ?? 0;
        if (instruction.IsStringInstruction && (instruction.HasRepPrefix || instruction.HasRepnePrefix))
        {
            CountMask = CountMaskOf(instruction);
        }
    }

    /// <summary>The instruction.</summary>
    public Instruction Instruction { get; }

    /// <summary>Flags whose value it depends on.</summary>
    public ulong FlagsRead { get; }

    /// <summary>The part of RCX that counts its repetitions; 0 when it does not repeat.</summary>
    public ulong CountMask { get; }

    /// <summary>The flags that are undefined behind it.</summary>
    /// <param name="before">Those that were undefined before it.</param>
    /// <param name="rcx">RCX before it.</param>
    /// <param name="flags">The flags behind it.</param>
    /// <param name="registers">The registers that are undefined behind it (see <see cref="RegisterImage"/>).</param>
    public ulong UndefinedAfter(ulong before, ulong rcx, ulong flags, out uint registers)
    {
        registers = 0;
        if (CountMask != 0 && (rcx & CountMask) == 0)
        {
            // Not repeated at all, it changes no flag.
            return before;
        }

        ulong undefined = DefinedResults.UndefinedFlags(Instruction, _undefined, rcx, out bool result);

        // SDM "BSF - Bit Scan Forward": ZF says that the source was zero, which leaves the destination undefined.
        bool scannedZero = Instruction.Mnemonic is Mnemonic.Bsf or Mnemonic.Bsr && (flags & RFlags.Zf) != 0;
        if ((!result || scannedZero) && Instruction.Op0Kind == OpKind.Register)
        {
            registers = 1U << (Instruction.Op0Register.GetFullRegister() - Register.RAX);
        }

        // A flag that is undefined for other operands only counts as defined for these.
        return !result ? RFlags.Arithmetic
            : DefinedResults.DoesNothing(Instruction, rcx) ? before
            : (before & ~(_defined | _undefined)) | undefined;
    }

    private static ulong CountMaskOf(in Instruction instruction)
    {
        for (int i = 0; i < instruction.OpCount; i++)
        {
            switch (instruction.GetOpKind(i))
            {
                case OpKind.MemoryESRDI or OpKind.MemorySegRSI:
                    return ulong.MaxValue;
                case OpKind.MemoryESEDI or OpKind.MemorySegESI:
                    return uint.MaxValue;
                default:
                    break;
            }
        }

        return ushort.MaxValue;
    }

    private static ImmutableArray<InstructionForm?> FormsByCode()
    {
        var forms = new InstructionForm?[Enum.GetValues<Code>().Length];
        foreach (InstructionForm form in InstructionForm.All)
        {
            forms[(int)form.Code] = form;
        }

        return [.. forms];
    }
}
