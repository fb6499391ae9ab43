using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;

namespace VmFuzz.Kvm;

/// <summary>A replacement for a step of the run path.</summary>
/// <param name="vcpu">The VCPU.</param>
/// <returns>What the step decides, where it decides something (requests: see <see cref="RequestOutcome"/>); otherwise ignored.</returns>
public delegate int RunStep(Vcpu vcpu);

/// <summary>One row of the table of the run path.</summary>
/// <param name="Id">Row id, such as S45.</param>
/// <param name="Where">Part of the run path.</param>
/// <param name="Follows">Whose behaviour it states.</param>
/// <param name="What">What must happen.</param>
/// <param name="Seen">How it can be seen.</param>
public sealed record RunPathRow(string Id, string Where, string Follows, string What, string Seen);

/// <summary>
/// The run path as an option: which steps run as written, which are replaced, and which behave as the seed's kernel did.
/// A value. A step costs one bit test while it is the default.
/// </summary>
public sealed class RunPath
{
    private readonly ulong _changedLow;
    private readonly ulong _changedHigh;
    private readonly ulong _seedLow;
    private readonly ulong _seedHigh;
    private readonly ImmutableArray<RunStep?> _steps;

    private RunPath(ulong changedLow, ulong changedHigh, ulong seedLow, ulong seedHigh, ImmutableArray<RunStep?> steps)
    {
        _changedLow = changedLow;
        _changedHigh = changedHigh;
        _seedLow = seedLow;
        _seedHigh = seedHigh;
        _steps = steps;
    }

    /// <summary>The correct run path.</summary>
    public static RunPath Default { get; } = new(0, 0, 0, 0, ImmutableArray.Create(new RunStep?[Row.Count]));

    /// <summary>The rows of the table, in its order.</summary>
    public static ImmutableArray<RunPathRow> Rows { get; } = ReadRows();

    /// <summary>Whether every step is as written.</summary>
    public bool IsDefault => (_changedLow | _changedHigh | _seedLow | _seedHigh) == 0;

    /// <summary>A path in which a step is replaced.</summary>
    /// <param name="id">Row id, S01 to S108.</param>
    /// <param name="step">The replacement.</param>
    public RunPath With(string id, RunStep step)
    {
        ArgumentNullException.ThrowIfNull(step);
        return Change(Number(id), step);
    }

    /// <summary>A path in which a step does nothing.</summary>
    /// <param name="id">Row id, S01 to S108.</param>
    public RunPath Without(string id) => Change(Number(id), null);

    /// <summary>A path in which a row behaves as the seed's kernel did, where its row names a difference.</summary>
    /// <param name="id">Row id: S35, S52, S71, S75, S81, S89, S96 or S97.</param>
    public RunPath AsInSeed(string id)
    {
        int row = Number(id);
        if (!HasSeedVariant(row))
        {
            throw new ArgumentException($"Row {id} has no behaviour of its own in the seed's kernel.", nameof(id));
        }

        return row < 64
            ? new(_changedLow, _changedHigh, _seedLow | (1UL << row), _seedHigh, _steps)
            : new(_changedLow, _changedHigh, _seedLow, _seedHigh | (1UL << (row - 64)), _steps);
    }

    /// <summary>Ids of the rows that are changed, for the identity of an engine in a trace.</summary>
    public IEnumerable<string> ChangedRows()
    {
        for (int row = 1; row < Row.Count; row++)
        {
            if (Bit(_changedLow, _changedHigh, row))
            {
                yield return IdOf(row);
            }

            if (Bit(_seedLow, _seedHigh, row))
            {
                yield return IdOf(row) + ":seed";
            }
        }
    }

    /// <summary>Whether the step is as written. When not, its replacement (if any) has run.</summary>
    [ExcludeFromCodeCoverage]
    internal bool Runs(int row, Vcpu vcpu) => !Bit(_changedLow, _changedHigh, row) || Replaced(row, vcpu, out _);

    /// <summary>As <see cref="Runs(int, Vcpu)"/>, with what the replacement decided.</summary>
    internal bool Runs(int row, Vcpu vcpu, out int decided)
    {
        decided = 0;
        return !Bit(_changedLow, _changedHigh, row) || Replaced(row, vcpu, out decided);
    }

    /// <summary>Whether the row shall behave as in the seed's kernel.</summary>
    internal bool Seed(int row) => Bit(_seedLow, _seedHigh, row);

    /// <summary>Whether the row was taken out.</summary>
    internal bool Removed(int row) => Bit(_changedLow, _changedHigh, row) && _steps[row] is null;

    private bool Replaced(int row, Vcpu vcpu, out int decided)
    {
        RunStep? step = _steps[row];
        decided = step?.Invoke(vcpu) ?? 0;
        return false;
    }

    private RunPath Change(int row, RunStep? step)
    {
        ImmutableArray<RunStep?> steps = _steps.SetItem(row, step);
        return row < 64
            ? new(_changedLow | (1UL << row), _changedHigh, _seedLow, _seedHigh, steps)
            : new(_changedLow, _changedHigh | (1UL << (row - 64)), _seedLow, _seedHigh, steps);
    }

    // Asked at every step: which half a row lies in tells a fuzzer nothing.
    [ExcludeFromCodeCoverage]
    private static bool Bit(ulong low, ulong high, int row) => ((row < 64 ? low >> row : high >> (row - 64)) & 1) != 0;

    private static bool HasSeedVariant(int row) =>
        row is Row.S35 or Row.S52 or Row.S71 or Row.S75 or Row.S81 or Row.S89 or Row.S96 or Row.S97;

    private static string IdOf(int row) => row < 10
        ? "S0" + row.ToString(CultureInfo.InvariantCulture)
        : "S" + row.ToString(CultureInfo.InvariantCulture);

    internal static int Number(string id)
    {
        if (id is ['S', _, _, ..] && int.TryParse(id.AsSpan(1), NumberStyles.None, CultureInfo.InvariantCulture, out int row)
            && row is > 0 and < Row.Count)
        {
            return row;
        }

        throw new ArgumentException($"{id} is not a row of the run path.", nameof(id));
    }

    private static ImmutableArray<RunPathRow> ReadRows()
    {
        using Stream stream = typeof(RunPath).Assembly.GetManifestResourceStream("run-path.tsv")!;
        using StreamReader reader = new(stream);
        ImmutableArray<RunPathRow>.Builder rows = ImmutableArray.CreateBuilder<RunPathRow>();
        reader.ReadLine();
        while (reader.ReadLine() is { } line)
        {
            string[] cells = line.Split('\t');
            rows.Add(new RunPathRow(cells[0], cells[1], cells[2], cells[3], cells[4]));
        }

        return rows.ToImmutable();
    }
}
