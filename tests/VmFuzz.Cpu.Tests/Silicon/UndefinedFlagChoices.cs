using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests.Silicon;

/// <summary>Facts from which the choice for an undefined flag follows.</summary>
/// <param name="Before">RFLAGS before.</param>
/// <param name="After">RFLAGS after, of which the defined flags are known to be right.</param>
/// <param name="Result">The result, or the low half of a product.</param>
/// <param name="Bits">Its width.</param>
/// <param name="Count">The count of a shift or rotation.</param>
internal readonly record struct FlagFacts(ulong Before, ulong After, ulong Result, int Bits, int Count)
{
    public bool Top => Bit(Bits - 1);

    public bool Next => Bit(Bits - 2);

    public bool Carry => (After & RFlags.Cf) != 0;

    /// <summary>SF, ZF and PF of the result.</summary>
    public ulong OfResult => (Top ? RFlags.Sf : 0) | (Result == 0 ? RFlags.Zf : 0)
        | ((System.Numerics.BitOperations.PopCount((byte)Result) & 1) == 0 ? RFlags.Pf : 0);

    private bool Bit(int number) => ((Result >> number) & 1) != 0;
}

/// <summary>What this model gives where the SDM leaves flags undefined: one documented choice an instruction.</summary>
internal static class UndefinedFlagChoices
{
    private static readonly ImmutableArray<(ImmutableArray<Mnemonic> Mnemonics, string Choice, Func<FlagFacts, ulong> Flags)> Rows =
    [
        ([Mnemonic.And, Mnemonic.Or, Mnemonic.Xor, Mnemonic.Test], "AF is 0", static _ => 0),
        ([Mnemonic.Bt, Mnemonic.Bts, Mnemonic.Btr, Mnemonic.Btc, Mnemonic.Div, Mnemonic.Idiv], "they stay", static facts => facts.Before),
        ([Mnemonic.Bsf, Mnemonic.Bsr, Mnemonic.Lzcnt, Mnemonic.Tzcnt, Mnemonic.Aam, Mnemonic.Aad, Mnemonic.Daa, Mnemonic.Das], "they are 0", static _ => 0),
        ([Mnemonic.Mul, Mnemonic.Imul], "SF, ZF and PF of the low half, AF is 0", static facts => facts.OfResult),
        ([Mnemonic.Aaa, Mnemonic.Aas, Mnemonic.Andn, Mnemonic.Bextr, Mnemonic.Blsi, Mnemonic.Blsmsk, Mnemonic.Blsr, Mnemonic.Bzhi],
            "SF, ZF and PF of the result, the others are 0", static facts => facts.OfResult),
        ([Mnemonic.Shl, Mnemonic.Sal], "AF is 0, OF as for the last step, CF is 0 where the count is above the width",
            static facts => Overflow(facts.Top != facts.Carry) | CarryOfWidth(facts)),
        ([Mnemonic.Shr], "AF is 0, OF as for the last step, CF is 0 where the count is above the width", static facts => Overflow(facts.Top != facts.Next) | CarryOfWidth(facts)),
        ([Mnemonic.Shld, Mnemonic.Rol], "AF is 0, OF as for the last step", static facts => Overflow(facts.Top != facts.Carry)),
        ([Mnemonic.Shrd, Mnemonic.Ror], "AF is 0, OF as for the last step", static facts => Overflow(facts.Top != facts.Next)),
        ([Mnemonic.Rcl], "OF as for the last step; it stays where nothing is rotated",
            static facts => facts.Count % (facts.Bits + 1) == 0 ? facts.Before : Overflow(facts.Top != facts.Carry)),
        ([Mnemonic.Rcr], "OF as for the last step; it stays where nothing is rotated",
            static facts => facts.Count % (facts.Bits + 1) == 0 ? facts.Before : Overflow(facts.Top != facts.Next)),
        ([Mnemonic.Sar], "AF and OF are 0", static _ => 0),
    ];

    /// <summary>The flags that the instruction leaves, of those that are undefined.</summary>
    public static ulong Of(Mnemonic mnemonic, FlagFacts facts)
    {
        Func<FlagFacts, ulong>? flags = Rows.FirstOrDefault(row => row.Mnemonics.Contains(mnemonic)).Flags;
        Assert.True(flags is not null, $"{mnemonic} leaves flags undefined and has no choice");
        return flags(facts);
    }

    // With a count of the width, CF is the last bit that left.
    private static ulong CarryOfWidth(FlagFacts facts) => facts.Count == facts.Bits ? facts.After & RFlags.Cf : 0;

    private static ulong Overflow(bool set) => set ? RFlags.Of : 0;
}
