namespace VmFuzz.Coverage;

/// <summary>
/// Chooses the blocks that need a probe: as few as tell of every block of the method whether it ran, and keep one in
/// every loop. Exceptions aside: what is told by a block behind it, or before it, is told as if none had come between.
/// </summary>
internal static class ProbeChoice
{
    /// <summary>Which blocks get a probe.</summary>
    /// <remarks>
    /// A block whose predecessors all must come to it runs exactly if one of them does: no probe ("from before"). A block
    /// that all its successors must come from runs exactly if one of them does: no probe ("from behind"), unless one of
    /// those has none for the first reason and so may be told by this one. So each block without a probe is told by one
    /// kind of step alone, up to blocks with probes; steps of one kind climb a tree, so they end, and no loop is without
    /// a probe.
    /// </remarks>
    public static bool[] Choose(FlowGraph graph)
    {
        var fromBefore = new bool[graph.Count];
        for (int b = 1; b < graph.Count; b++)
        {
            fromBefore[b] = graph.AlwaysEnds && graph.Dominators[b] >= 0
                && Array.TrueForAll(graph.Predecessors[b], p => graph.PostDominators[p] == b);
        }

        var probes = new bool[graph.Count];
        for (int b = 0; b < graph.Count; b++)
        {
            bool fromBehind = graph.Dominators[b] >= 0 && graph.Successors[b].Length != 0
                && Array.TrueForAll(graph.Successors[b], s => graph.Dominators[s] == b && s != b && !fromBefore[s]);
            probes[b] = !fromBefore[b] && !fromBehind;
        }

        return probes;
    }
}
