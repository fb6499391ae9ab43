using System.Collections.Immutable;
using Iced.Intel;

namespace VmFuzz.Cpu.Tests.Gate;

/// <summary>Mnemonics that are one operation here: an exchange among them changes nothing.</summary>
internal static class SameOperations
{
    public static readonly ImmutableArray<(ImmutableArray<Mnemonic> Mnemonics, string Reason)> Rows =
    [
        ([Mnemonic.Shl, Mnemonic.Sal], "two encodings of one operation"),
        ([Mnemonic.Movaps, Mnemonic.Movapd, Mnemonic.Movdqa, Mnemonic.Movntps, Mnemonic.Movntpd, Mnemonic.Movntdq, Mnemonic.Movntdqa], "the kind of the elements and the hint about caches do not matter to a move"),
        ([Mnemonic.Movlps, Mnemonic.Movlpd], "the kind of the elements does not matter to a move"),
        ([Mnemonic.Movhps, Mnemonic.Movhpd], "the kind of the elements does not matter to a move"),
        ([Mnemonic.Andps, Mnemonic.Andpd, Mnemonic.Pand], "the kind of the elements does not matter to bitwise logic"),
        ([Mnemonic.Andnps, Mnemonic.Andnpd, Mnemonic.Pandn], "the kind of the elements does not matter to bitwise logic"),
        ([Mnemonic.Orps, Mnemonic.Orpd, Mnemonic.Por], "the kind of the elements does not matter to bitwise logic"),
        ([Mnemonic.Xorps, Mnemonic.Xorpd, Mnemonic.Pxor], "the kind of the elements does not matter to bitwise logic"),
        ([Mnemonic.Pextrd, Mnemonic.Extractps], "the kind of the elements does not matter to a move"),
        ([Mnemonic.Vmovlps, Mnemonic.Vmovlpd, Mnemonic.Vmovsd], "the kind of the elements does not matter to a move"),
        ([Mnemonic.Vbroadcastss, Mnemonic.Vpbroadcastd], "the kind of the elements does not matter to a move"),
        ([Mnemonic.Vbroadcastsd, Mnemonic.Vpbroadcastq, Mnemonic.Vmovddup], "the kind of the elements does not matter to a move"),
        ([Mnemonic.Vbroadcastf128, Mnemonic.Vbroadcasti128], "the kind of the elements does not matter to a move"),
        ([Mnemonic.Vinsertf128, Mnemonic.Vinserti128], "the kind of the elements does not matter to a move"),
        ([Mnemonic.Vextractf128, Mnemonic.Vextracti128], "the kind of the elements does not matter to a move"),
        ([Mnemonic.Vperm2f128, Mnemonic.Vperm2i128], "the kind of the elements does not matter to a move"),
        ([Mnemonic.Vpermps, Mnemonic.Vpermd], "the kind of the elements does not matter to a move"),
        ([Mnemonic.Vpermpd, Mnemonic.Vpermq], "the kind of the elements does not matter to a move"),
        ([Mnemonic.Vpermilps, Mnemonic.Vpshufd], "the kind of the elements does not matter to a move"),
        ([Mnemonic.Vblendps, Mnemonic.Vpblendd], "the kind of the elements does not matter to a move"),
        ([Mnemonic.Punpckldq, Mnemonic.Unpcklps], "the kind of the elements does not matter to a move"),
        ([Mnemonic.Punpckhdq, Mnemonic.Unpckhps], "the kind of the elements does not matter to a move"),
        ([Mnemonic.Punpcklqdq, Mnemonic.Unpcklpd], "the kind of the elements does not matter to a move"),
        ([Mnemonic.Punpckhqdq, Mnemonic.Unpckhpd], "the kind of the elements does not matter to a move"),
        ([Mnemonic.Movdqu, Mnemonic.Movups, Mnemonic.Movupd, Mnemonic.Lddqu], "the kind of the elements and the hint about lines do not matter to a move"),
        ([Mnemonic.Nop, Mnemonic.Reservednop, Mnemonic.Pause, Mnemonic.Endbr32, Mnemonic.Endbr64, Mnemonic.Rdsspd, Mnemonic.Rdsspq, Mnemonic.Prefetch,
            Mnemonic.Prefetchw, Mnemonic.Prefetchwt1, Mnemonic.Prefetchnta, Mnemonic.Prefetcht0, Mnemonic.Prefetcht1, Mnemonic.Prefetcht2, Mnemonic.Prefetchit0,
            Mnemonic.Prefetchit1, Mnemonic.Cldemote, Mnemonic.Lfence, Mnemonic.Mfence, Mnemonic.Sfence, Mnemonic.Fneni, Mnemonic.Fndisi, Mnemonic.Fnsetpm],
            "a hint, or an order among accesses that have one here anyway: nothing happens"),
        ([Mnemonic.Ud0, Mnemonic.Ud1, Mnemonic.Ud2], "#UD"),
    ];

    public static bool Are(Mnemonic one, Mnemonic other) => Rows.Any(row => row.Mnemonics.Contains(one) && row.Mnemonics.Contains(other))
        || (WithoutV(one) is { } first && WithoutV(other) is { } second && Are(first, second));

    // Instructions of AVX do what those of SSE do.
    private static Mnemonic? WithoutV(Mnemonic mnemonic) =>
        mnemonic.ToString() is ['V', .. string name] && Enum.TryParse(name, ignoreCase: true, out Mnemonic sse) ? sse : null;
}
