using System.Collections.Immutable;
using VmFuzz.Replay;

namespace VmFuzz.Fuzzing;

/// <summary>What a mutator did.</summary>
public enum MutationResult : byte
{
    /// <summary>Nothing: the input has nothing it could work on, or the attempt changed nothing.</summary>
    Skipped = 0,
    /// <summary>The input changed.</summary>
    Mutated = 1,
}

/// <summary>Changes <see cref="MutationContext.Input"/>; draws from <see cref="MutationContext.Random"/> and from nothing else.</summary>
public delegate MutationResult MutatorApply(ref MutationContext context);

/// <summary>One mutator.</summary>
/// <param name="Id">Unique id; stands in the names of corpus files.</param>
/// <param name="Targets">Targets for which it makes sense.</param>
/// <param name="Weight">Start weight, 1 to 1000.</param>
/// <param name="Touches">Sections it may change; others stay as they are.</param>
/// <param name="Apply">The change.</param>
public sealed record Mutator(string Id, FuzzTargets Targets, int Weight, FuzzSections Touches, MutatorApply Apply)
{
    /// <summary>
    /// Applies the mutator, keeps the target, normalises what it may touch, and says Skipped when nothing changed.
    /// After Skipped the input is as it was.
    /// </summary>
    public MutationResult Run(ref MutationContext context)
    {
        FuzzInput input = context.Input;
        FuzzTarget target = input.Target;
        context.Scratch.CopyFrom(input, Touches);
        MutationResult result = Apply(ref context);
        input.Target = target;
        if (result == MutationResult.Skipped)
        {
            input.CopyFrom(context.Scratch, Touches);
            return MutationResult.Skipped;
        }

        input.Normalise(Touches);
        return input.SameAs(context.Scratch, Touches) ? MutationResult.Skipped : MutationResult.Mutated;
    }

    /// <inheritdoc/>
    public override string ToString() => Id;
}

/// <summary>What a mutator works with.</summary>
public readonly ref struct MutationContext
{
    internal MutationContext(MutationTools tools, FuzzInput input, FuzzInput other, SplitMix random)
    {
        Tools = tools;
        Input = input;
        Other = other;
        Random = random;
    }

    /// <summary>The input to change; in canonical form.</summary>
    public FuzzInput Input { get; }

    /// <summary>Another input of the corpus, for splices; not to be changed. The same as the input when there is only one.</summary>
    public FuzzInput Other { get; }

    /// <summary>The only source of choices.</summary>
    public SplitMix Random { get; }

    internal MutationTools Tools { get; }

    internal FuzzInput Scratch => Tools.Scratch;

    internal InstructionForge Forge => Tools.Forge;

    /// <summary>A number from 0 to <paramref name="bound"/> - 1; 0 when the bound is not positive.</summary>
    public int Pick(int bound) => bound <= 1 ? 0 : (int)Random.Below((ulong)bound);

    /// <summary>True once in <paramref name="times"/>.</summary>
    public bool OneIn(int times) => Random.Below((ulong)times) == 0;

    /// <summary>One of some values.</summary>
    public T Pick<T>(ImmutableArray<T> values) => values[Pick(values.Length)];

    /// <summary>A word that is often special: a boundary, a known constant, one bit, or anything.</summary>
    public ulong Word() => Words.Any(Random);

    /// <summary>A value near another one, or a special one; may be the same.</summary>
    public ulong Near(ulong value) => Words.Near(Random, value);
}

/// <summary>Buffers that mutators share; one for each scheduler.</summary>
internal sealed class MutationTools
{
    public FuzzInput Scratch { get; } = new();

    public FuzzInput Second { get; } = new();

    public InstructionForge Forge { get; } = new();

    public byte[] Buffer { get; } = new byte[2 * FuzzLimits.InputBytes];
}

/// <summary>Words with a bias to what matters.</summary>
internal static class Words
{
    public static ulong Any(SplitMix random) => (random.Next() & 7) switch
    {
        0 or 1 or 2 => Pick(random, FuzzTables.Boundaries),
        3 or 4 => Pick(random, FuzzTables.Words),
        5 => 1UL << (int)(random.Next() & 63),
        6 => random.Next() & 0xFFFF,
        _ => random.Next(),
    };

    public static ulong Near(SplitMix random, ulong value) => (random.Next() & 7) switch
    {
        0 => value + 1,
        1 => value - 1,
        2 or 3 => value ^ (1UL << (int)(random.Next() & 63)),
        4 => ~value,
        5 => value + (random.Next() & 0xFF) - 0x80,
        _ => Any(random),
    };

    public static T Pick<T>(SplitMix random, ImmutableArray<T> values) => values[(int)random.Below((ulong)values.Length)];
}

/// <summary>The mutators in force: an immutable value.</summary>
public sealed record MutatorTable
{
    private MutatorTable(ImmutableArray<Mutator> rows) => Rows = rows;

    /// <summary>Every mutator.</summary>
    public static MutatorTable Default { get; } = new(
    [
        .. CodeMutators.Rows,
        .. EmulationMutators.Rows,
        .. ExitMutators.Rows,
        .. VmcsMutators.Rows,
        .. OutsideMutators.Rows,
        .. WholeMutators.Rows,
    ]);

    /// <summary>The rows, in a fixed order.</summary>
    public ImmutableArray<Mutator> Rows { get; }

    /// <summary>A table with one row added, or replaced when its id exists.</summary>
    public MutatorTable With(Mutator row)
    {
        ArgumentNullException.ThrowIfNull(row);
        int index = IndexOf(row.Id);
        return new(index < 0 ? Rows.Add(row) : Rows.SetItem(index, row));
    }

    /// <summary>A table without one row.</summary>
    public MutatorTable Without(string id)
    {
        int index = IndexOf(id);
        return index < 0 ? this : new(Rows.RemoveAt(index));
    }

    /// <summary>Index of a row, or -1.</summary>
    public int IndexOf(string id)
    {
        for (int i = 0; i < Rows.Length; i++)
        {
            if (string.Equals(Rows[i].Id, id, StringComparison.Ordinal))
            {
                return i;
            }
        }

        return -1;
    }
}
