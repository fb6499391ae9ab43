using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Machines;

namespace VmFuzz.Cli.Lockstep;

/// <summary>A program in its place.</summary>
internal sealed class LockstepProgram
{
    /// <summary>Most bytes of a program.</summary>
    public const int MostBytes = 4096;

    // By offset from the first byte; null where no instruction starts.
    private readonly InstructionFacts?[] _facts;

    /// <summary>Decodes a program.</summary>
    /// <param name="mode">Its mode.</param>
    /// <param name="code">Its bytes.</param>
    /// <param name="address">Linear address of its first byte.</param>
    public LockstepProgram(FlatMode mode, byte[] code, ulong address)
    {
        Mode = mode;
        Code = code;
        Address = address;
        CodeBase = mode == FlatMode.Real16 ? address & ~0xFUL : 0;
        Start = address - CodeBase;
        _facts = new InstructionFacts?[code.Length];
        var decoder = Decoder.Create(BitsOf(mode), new ByteArrayCodeReader(code), Start);
        while (decoder.IP < Start + (ulong)code.Length)
        {
            ulong at = decoder.IP - Start;
            decoder.Decode(out Instruction instruction);
            var facts = new InstructionFacts(instruction);
            _facts[at] = facts;
            LoadsSegments |= facts.LoadsSegment;
        }
    }

    /// <summary>Its mode.</summary>
    public FlatMode Mode { get; }

    /// <summary>Its bytes.</summary>
    public byte[] Code { get; }

    /// <summary>Linear address of its first byte.</summary>
    public ulong Address { get; }

    /// <summary>Base of the code segment.</summary>
    public ulong CodeBase { get; }

    /// <summary>RIP of its first instruction.</summary>
    public ulong Start { get; }

    /// <summary>Linear address of its end.</summary>
    public ulong End => Address + (ulong)Code.Length;

    /// <summary>Whether it may change segment registers.</summary>
    public bool LoadsSegments { get; }

    /// <summary>Its instructions, in order.</summary>
    public IEnumerable<Instruction> Instructions => _facts.OfType<InstructionFacts>().Select(static f => f.Instruction);

    /// <summary>Bits of the code of a mode.</summary>
    public static int BitsOf(FlatMode mode) => mode switch { FlatMode.Long64 => 64, FlatMode.Protected32 => 32, _ => 16 };

    /// <summary>Whether code ends inside an instruction.</summary>
    public static bool IsCut(FlatMode mode, byte[] code)
    {
        var decoder = Decoder.Create(BitsOf(mode), code);
        while (decoder.IP < (ulong)code.Length)
        {
            decoder.Decode(out _);
        }

        return decoder.LastError == DecoderError.NoMoreBytes;
    }

    /// <summary>The instruction at RIP; null when the program has none there.</summary>
    public InstructionFacts? At(ulong rip)
    {
        ulong offset = rip - Start;
        return offset < (ulong)_facts.Length ? _facts[offset] : null;
    }

    /// <summary>Whether an entry of a trace is only the look at a count that has run out, behind the last repetition.</summary>
    public bool IsLastLook(in RegisterImage before, in RegisterImage entry) =>
        before.Rip == entry.Rip && At(entry.Rip) is { CountMask: not 0 } facts && (entry[(int)Gpr.Rcx] & facts.CountMask) == 0;
}
