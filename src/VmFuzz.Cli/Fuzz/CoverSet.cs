namespace VmFuzz.Cli;

/// <summary>A small set of inputs that together reach everything.</summary>
internal static class CoverSet
{
    /// <summary>
    /// Goes through what is reached, what fewest inputs reach first, and takes for each the shortest input that reaches
    /// it, unless one taken before does.
    /// </summary>
    /// <param name="reached">For each input what it reaches.</param>
    /// <param name="lengths">For each input its length in bytes.</param>
    /// <returns>Indexes of the inputs to keep, ascending.</returns>
    public static IReadOnlyList<int> Smallest(IReadOnlyList<uint[]> reached, IReadOnlyList<int> lengths)
    {
        var best = new SortedDictionary<uint, (int Input, int Count)>();
        for (int i = 0; i < reached.Count; i++)
        {
            foreach (uint cell in reached[i])
            {
                (int input, int count) = best.GetValueOrDefault(cell, (i, 0));
                best[cell] = (lengths[i] < lengths[input] ? i : input, count + 1);
            }
        }

        var covered = new HashSet<uint>();
        var kept = new SortedSet<int>();
        foreach ((uint cell, (int input, _)) in best.OrderBy(static b => b.Value.Count).ThenBy(static b => b.Key))
        {
            if (!covered.Contains(cell))
            {
                kept.Add(input);
                covered.UnionWith(reached[input]);
            }
        }

        return [.. kept];
    }
}
