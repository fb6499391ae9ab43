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

    /// <summary>Whether it may load a segment register.</summary>
    public bool LoadsSegment => Instruction.FlowControl != FlowControl.Next && Instruction.Mnemonic is Mnemonic.Retf or Mnemonic.Iret or Mnemonic.Iretd
        || (Instruction.Op0Kind == OpKind.Register && Instruction.Op0Register.IsSegmentRegister() && Instruction.Mnemonic is Mnemonic.Mov or Mnemonic.Pop);

    /// <summary>The part of RCX that counts its repetitions; 0 when it does not repeat.</summary>
    public ulong CountMask { get; }

    /// <summary>The flags that are undefined behind it.</summary>
    /// <param name="before">Those that were undefined before it.</param>
    /// <param name="rcx">RCX before it.</param>
    /// <param name="flags">The flags behind it.</param>
    /// <param name="register">What of its destination is undefined behind it.</param>
    public ulong UndefinedAfter(ulong before, ulong rcx, ulong flags, out UndefinedRegister register)
    {
        register = default;
        if (CountMask != 0 && (rcx & CountMask) == 0)
        {
            // Not repeated at all, it changes no flag.
            return before;
        }

        ulong undefined = DefinedResults.UndefinedFlags(Instruction, _undefined, rcx, out bool result);

        ulong bits = result ? UndefinedBits(flags) : ulong.MaxValue;
        if (bits != 0 && Instruction.Op0Kind == OpKind.Register)
        {
            register = new UndefinedRegister(Instruction.Op0Register.GetFullRegister() - Register.RAX, bits);
        }

        // A flag that is undefined for other operands only counts as defined for these.
        return !result ? RFlags.Arithmetic
            : DefinedResults.DoesNothing(Instruction, rcx) ? before
            : (before & ~(_defined | _undefined)) | undefined;
    }

    private ulong UndefinedBits(ulong flags) => Instruction.Mnemonic switch
    {
        // SDM "BSF - Bit Scan Forward": ZF says that the source was zero, which leaves the destination undefined.
        Mnemonic.Bsf or Mnemonic.Bsr => (flags & RFlags.Zf) != 0 ? ulong.MaxValue : 0,

        // SDM "SMSW - Store Machine Status Word": only 16 bits are defined.
        Mnemonic.Smsw => ~0xFFFFUL,

        // SDM "LAR - Load Access Rights Byte": the limit's bits are undefined.
        Mnemonic.Lar => 0xF_0000,
        _ => 0,
    };

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
