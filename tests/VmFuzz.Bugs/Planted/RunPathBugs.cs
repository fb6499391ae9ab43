using System.Collections.Immutable;
using VmFuzz.Fuzzing;
using VmFuzz.Kvm;

namespace VmFuzz.Bugs.Planted;

/// <summary>Entry, exit and injection: rows of run-path.tsv as the seed's kernel had them.</summary>
internal static class RunPathBugs
{
    private const string Commits = "git.kernel.org/torvalds/c/";

    public static readonly ImmutableArray<PlantedBug> Rows =
    [
        new("0be9c7a89f75", "NMI blocking lost by an EPT violation during IRET",
            "An IRET from an NMI handler that met an unmapped page had unblocked NMIs already; the bit was not set again before the IRET was repeated, so that NMIs could nest and destroy the stack.",
            Commits + "0be9c7a89f750", FuzzTarget.ExitHandlers, 2, Seed("S97")),
        new("S75", "an interrupted INT1 delivery is lost",
            "Among the events whose delivery an exit interrupts, privileged software exceptions were not queued again.",
            "run-path.tsv, row S75", FuzzTarget.ExitHandlers, 2, Seed("S75")),
        new("4f350c6dbcb9", "stale exit information after a failed entry",
            "When VMLAUNCH or VMRESUME itself fails no exit information is written; what the fields held from before was taken for this entry's.",
            Commits + "4f350c6dbcb90", FuzzTarget.ExitHandlers, 2, Seed("S71")),
        new("S52", "a host vector runs twice after a failed entry",
            "Whether the exit reason is fresh was not asked: after a failed entry the vector of an earlier external-interrupt exit ran again.",
            "run-path.tsv, row S52", FuzzTarget.ExitHandlers, 2, Seed("S52")),
        new("48ae0fb49b2e", "a machine check during entry is not handled",
            "The exit reason was compared with the machine-check reason including the bit that says that the entry failed, so that it never matched and the host's handler was not called.",
            Commits + "48ae0fb49b2e8", FuzzTarget.ExitHandlers, 1, Seed("S96")),
    ];

    private static Func<VmOptions, VmOptions> Seed(string row) => o => o with { Path = o.Path.AsInSeed(row) };
}
