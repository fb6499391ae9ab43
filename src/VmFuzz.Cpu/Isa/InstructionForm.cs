using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu;

/// <summary>One form of an instruction, as the table and the decoder know it.</summary>
/// <param name="Code">Iced's name of the form.</param>
/// <param name="Family">Its family.</param>
/// <param name="Row">Its row in <see cref="InstructionTable.Default"/>, or null: then the family says why.</param>
public sealed record InstructionForm(Code Code, InstructionFamily Family, InstructionRow? Row)
{
    /// <summary>Every form of the decoder, by its number.</summary>
    public static ImmutableArray<InstructionForm> All { get; } =
    [
        .. Enum.GetValues<Code>().Where(static code => code.ToOpCode().IsInstruction).Select(static code =>
        {
            InstructionFamily family = InstructionFamilies.Of(code);
            bool decoded = family != InstructionFamilies.Undecoded;
            return new InstructionForm(code, family, decoded && InstructionTable.Default.TryFind(Example(code), out InstructionRow row) ? row : null);
        }),
    ];

    /// <summary>The SDM's notation: mnemonic and kinds of operands.</summary>
    public string Text => Code.ToOpCode().ToInstructionString();

    /// <summary>The SDM's notation of its encoding.</summary>
    public string Encoding => Code.ToOpCode().ToOpCodeString();

    /// <summary>The features without which it is #UD, as <c>-cpu</c> names them, with spaces between; empty when it is always there.</summary>
    public string Feature => Row is { } row ? CpuFeatureNames.Of(row.Feature) : "";

    /// <summary>Code sizes in which it exists: some of 16, 32 and 64.</summary>
    public ImmutableArray<int> Modes
    {
        get
        {
            OpCodeInfo info = Code.ToOpCode();
            return [.. new[] { (info.Mode16, 16), (info.Mode32, 32), (info.Mode64, 64) }.Where(static m => m.Item1).Select(static m => m.Item2)];
        }
    }

    /// <summary>RFLAGS bits that it reads.</summary>
    public ulong FlagsRead => Bits(Example(Code).RflagsRead);

    /// <summary>RFLAGS bits that it writes with a meaning, cleared and set ones included.</summary>
    public ulong FlagsWritten
    {
        get
        {
            Instruction example = Example(Code);
            return Bits((example.RflagsWritten | example.RflagsCleared | example.RflagsSet) & ~example.RflagsUndefined);
        }
    }

    /// <summary>RFLAGS bits that the architecture leaves undefined; here they are what the row's microcode gives.</summary>
    public ulong FlagsUndefined => Bits(Example(Code).RflagsUndefined);

    private static Instruction Example(Code code)
    {
        Instruction example = default;
        example.Code = code;
        return example;
    }

    private static ulong Bits(RflagsBits flags)
    {
        ulong bits = 0;
        foreach ((RflagsBits flag, ulong bit) in FlagBits)
        {
            bits |= (flags & flag) != 0 ? bit : 0;
        }

        return bits;
    }

    private static readonly ImmutableArray<(RflagsBits Flag, ulong Bit)> FlagBits =
    [
        (RflagsBits.CF, RFlags.Cf), (RflagsBits.PF, RFlags.Pf), (RflagsBits.AF, RFlags.Af), (RflagsBits.ZF, RFlags.Zf),
        (RflagsBits.SF, RFlags.Sf), (RflagsBits.IF, RFlags.If), (RflagsBits.DF, RFlags.Df), (RflagsBits.OF, RFlags.Of),
        (RflagsBits.AC, RFlags.Ac),
    ];
}
