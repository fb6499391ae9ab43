using System.Collections.Immutable;
using VmFuzz.Kvm;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>What a family of oracles means, for reports.</summary>
/// <param name="Id">The first part of the ids of its rows, up to a dot.</param>
/// <param name="Meaning">One line.</param>
public sealed record OracleText(string Id, string Meaning)
{
    private static readonly OracleText Unknown = new("", "a rule of a plug-in or of another version of the engine was broken");

    /// <summary>The families.</summary>
    public static ImmutableArray<OracleText> All { get; } =
    [
        new("crash", "the engine threw an exception, overflowed its stack, or allocated beyond its bound"),
        new(OracleFolders.Death, "running it ended the process"),
        new(OracleFolders.Hang, "the run did not end"),
        new("livelock", "the run went on without progress of the guest"),
        new("determinism", "the same input left two different digests"),
        new("equivalence", "two ways to run the same guest ended differently"),
        new("perturbation", "a kick, cancelled entry, spurious exit, reload or flush changed what the guest sees"),
        new("migration", "the run went on differently after its state was saved and set again"),
        new("guest-kill", "the guest alone ended its virtual machine"),
        new("liveness", "a pending event was lost, doubled, or not delivered though nothing blocked it"),
        new("retire", "an emulated instruction did not end as the architecture has it: RIP, shadows, single step"),
        new("frame", "a handler changed something that its row does not declare"),
        new("privilege", "a check of privilege, mode, reserved bits or canonical form was missed"),
        new("loaded", "an entry accepted a state that no guest may have"),
        new("translation", "a translation gives rights that the guest's tables or the memory slot do not"),
        new("intercepts", "a nested guest runs with fewer intercepts than its hypervisors asked for"),
        new("taint", "poisoned bytes of the host reached the guest or the run structure"),
        new("ledger", "pins, timers, pages or nested state were not given back"),
        new("outside", "another implementation gives another answer"),
    ];

    /// <summary>The family of an oracle's id; one that says so when it is not known.</summary>
    public static OracleText Of(string oracle)
    {
        ArgumentNullException.ThrowIfNull(oracle);
        return All.FirstOrDefault(r => oracle == r.Id || oracle.StartsWith(r.Id + ".", StringComparison.Ordinal)) ?? Unknown with { Id = oracle };
    }

    /// <summary>What an oracle says, in one line: its own row's text where it has one, else its family's.</summary>
    public static string MeaningOf(string oracle) =>
        InvariantTable.Default.Rows.FirstOrDefault(r => r.Id == oracle) is { } row ? "not so: " + row.Text : Of(oracle).Meaning;

    /// <summary>Where the rule stands that a violation names: an SDM section or a kernel function.</summary>
    /// <returns>Null when the place is no row with a source.</returns>
    public static string? SourceOf(Violation violation)
    {
        ArgumentNullException.ThrowIfNull(violation);
        if (InvariantTable.Default.Rows.FirstOrDefault(r => r.Id == violation.Oracle) is { } invariant)
        {
            return invariant.Source;
        }

        // Places may be made of several words: entry:guest.cr0.fixed, internal:Emulation:EptViolation.
        foreach (string place in (string[])[violation.Where, .. violation.Where.Split(':', '@'), violation.Oracle])
        {
            if (EntryChecks.Default.Rows.FirstOrDefault(r => r.Id == place) is { } check)
            {
                return $"SDM \"{check.Section}\"";
            }

            if (ExitTable.Default.Rows.FirstOrDefault(r => r.Id == place || r.Reason.ToString() == place) is { } row)
            {
                return row.Source;
            }
        }

        return null;
    }
}
