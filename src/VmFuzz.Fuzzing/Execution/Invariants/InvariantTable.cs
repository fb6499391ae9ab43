using System.Collections.Immutable;

namespace VmFuzz.Fuzzing;

/// <summary>The invariants in force: an immutable value.</summary>
public sealed class InvariantTable
{
    /// <summary>How many moments there are.</summary>
    internal static readonly int Moments = Enum.GetValues<InvariantMoment>().Length;

    private readonly ImmutableArray<ImmutableArray<Invariant>> _byMoment;

    private InvariantTable(ImmutableArray<Invariant> rows)
    {
        Rows = rows;
        _byMoment = [.. Enum.GetValues<InvariantMoment>().Select(moment => rows.RemoveAll(r => r.Moment != moment))];
    }

    /// <summary>Every invariant of this build.</summary>
    public static InvariantTable Default { get; } = new(
    [
        .. RetireInvariants.Rows,
        .. FrameInvariants.Rows,
        .. LivenessInvariants.Rows,
        .. PrivilegeInvariants.Rows,
        .. LedgerInvariants.Rows,
    ]);

    /// <summary>The rows.</summary>
    public ImmutableArray<Invariant> Rows { get; }

    /// <summary>A table with one row more, or replaced when its id exists.</summary>
    public InvariantTable With(Invariant row)
    {
        ArgumentNullException.ThrowIfNull(row);
        return new(Without(row.Id).Rows.Add(row));
    }

    /// <summary>A table without one row.</summary>
    public InvariantTable Without(string id) => new(Rows.RemoveAll(r => string.Equals(r.Id, id, StringComparison.Ordinal)));

    /// <summary>The rows of a moment.</summary>
    internal ImmutableArray<Invariant> At(InvariantMoment moment) => _byMoment[(int)moment];
}
