using Iced.Intel;
using VmFuzz.Cpu.Fast;

namespace VmFuzz.Cpu.Blocks;

/// <summary>Whether specialised code may stand for an instruction: its row is one of this build.</summary>
internal delegate bool OwnRow(in Reference reference);

/// <summary>Which instructions of a block set flags that somebody may read.</summary>
internal static class FlagNeeds
{
    private const RflagsBits Arithmetic = RflagsBits.OF | RflagsBits.SF | RflagsBits.ZF | RflagsBits.AF | RflagsBits.CF | RflagsBits.PF;

    /// <summary>Works it out, walking backwards: an instruction that can fault counts as reading all flags.</summary>
    /// <param name="block">The instructions.</param>
    /// <param name="own">Which of them specialised code may stand for.</param>
    /// <param name="needed">Receives a yes for each whose flags may be read.</param>
    public static void Mark(ReadOnlySpan<Reference> block, OwnRow own, Span<bool> needed)
    {
        RflagsBits live = Arithmetic;
        for (int i = block.Length - 1; i >= 0; i--)
        {
            ref readonly Reference reference = ref block[i];
            RflagsBits modified = reference.Instruction.RflagsModified & Arithmetic;
            needed[i] = (live & modified) != 0;
            bool quiet = own(reference) && Forms<TailThreading>.CannotFault(reference.Instruction);
            RflagsBits surely = MayKeepFlags(reference.Instruction) ? RflagsBits.None : modified;
            live = quiet ? (live & ~surely) | (reference.Instruction.RflagsRead & Arithmetic) : Arithmetic;
        }
    }

    // SDM "SAL/SAR/SHL/SHR": a count of 0 leaves the flags alone.
    private static bool MayKeepFlags(in Instruction instruction) => instruction.OpCount >= 2
        && instruction.Mnemonic is Mnemonic.Shl or Mnemonic.Sal or Mnemonic.Shr or Mnemonic.Sar or Mnemonic.Rol or Mnemonic.Ror
            or Mnemonic.Rcl or Mnemonic.Rcr or Mnemonic.Shld or Mnemonic.Shrd
        && instruction.GetOpKind(instruction.OpCount - 1) == OpKind.Register;
}
