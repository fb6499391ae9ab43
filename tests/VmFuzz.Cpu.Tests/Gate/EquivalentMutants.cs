using System.Collections.Immutable;
using Iced.Intel;

namespace VmFuzz.Cpu.Tests.Gate;

/// <summary>Mutants that no test can tell from the original, each with its reason.</summary>
internal static class EquivalentMutants
{
    public static readonly ImmutableArray<(string Reason, Func<Mutant, bool> Is)> Rows =
    [
        ("the decoder gives these forms only with an option that this processor never sets", static mutant => mutant.Form is
            Code.Jrcxz_rel8_16 or Code.Loop_rel8_16_RCX or Code.Loope_rel8_16_RCX or Code.Loopne_rel8_16_RCX or Code.Popw_CS or Code.Ud0),
        ("there is no SMM: the instruction never completes, so it never writes flags", static mutant => mutant.Form == Code.Rsm && mutant.Change.StartsWith("keeps", StringComparison.Ordinal)),
        ("there are no caches, and both exit to VT-x as WBINVD", static mutant => (mutant.Form, mutant.Change) is (Code.Wbinvd, "is Wbnoinvd")),
        ("XSAVEOPT writes all that XSAVE does, which it may", static mutant => (mutant.Form, mutant.Change) is (Code.Xsaveopt64_mem, "is Xsave64_mem")),
    ];

    public static string? ReasonOf(Mutant mutant) => Rows.FirstOrDefault(row => row.Is(mutant)).Reason;
}
