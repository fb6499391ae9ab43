using System.Collections.Immutable;

namespace VmFuzz.Fuzzing;

/// <summary>An input of the queue, with what is known of it.</summary>
internal sealed class QueueEntry(uint id, FuzzInput input, ImmutableArray<byte> bytes, ulong execution, int depth)
{
    /// <summary>Its number, as its file has it.</summary>
    public uint Id { get; } = id;

    /// <summary>The input; not changed.</summary>
    public FuzzInput Input { get; } = input;

    /// <summary>Its canonical encoding.</summary>
    public ImmutableArray<byte> Bytes { get; } = bytes;

    /// <summary>Index of the execution that it was found in; of an import, of the epoch.</summary>
    public ulong Execution { get; } = execution;

    /// <summary>Inputs that it descends from, itself included.</summary>
    public int Depth { get; } = depth;

    /// <summary>Whether it is never to be run or mutated.</summary>
    public bool Skipped { get; set; }

    /// <summary>Whether it is favoured in this epoch.</summary>
    public bool Favoured { get; set; }

    /// <summary>Whether it was mutated since the campaign was opened.</summary>
    public bool Mutated { get; set; }

    /// <summary>What running it costs: the least is the best.</summary>
    public ulong Cost { get; set; }

    /// <summary>Stable cells that it covers; empty when it is best at none.</summary>
    public int[] Cells { get; set; } = [];

    /// <summary>Cells at which it is best.</summary>
    public int BestAt { get; set; }
}
