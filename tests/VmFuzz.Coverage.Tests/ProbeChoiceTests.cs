namespace VmFuzz.Coverage.Tests;

public sealed class ProbeChoiceTests
{
    [Fact]
    public void Diamond_TellsByItsTwoArms() =>
        Assert.Equal([false, true, true, false], Choose([[1, 2], [3], [3], []]));

    [Fact]
    public void IfWithoutElse_TellsByTheEntryAndWhatIsGuarded() =>
        Assert.Equal([true, true, false], Choose([[1, 2], [2], []]));

    [Fact]
    public void Returns_OneAfterTheOther_AreProbedAndTheirConditionsAreNot() =>
        Assert.Equal([false, true, false, true, true], Choose([[1, 2], [], [3, 4], [], []]));

    [Fact]
    public void LoopOfOneBlock_KeepsItsProbe() =>
        Assert.True(Choose([[1], [1, 2], []])[1]);

    [Fact]
    public void LoopWithoutEnd_TrustsNoWayOut() =>
        Assert.Equal([false, true, true, true], Choose([[1, 2], [1], [3, 1], []]));

    [Fact]
    public void AnyGraph_ProbesTellWhichBlocksRanAndEveryRound()
    {
        var random = new Random(20240229);
        int dropped = 0;
        for (int round = 0; round < 3000; round++)
        {
            int[][] edges = Graph(random);
            bool[] probes = Choose(edges);
            dropped += probes.Count(static p => !p);
            Assert.True(EndsWithout(edges, probes), $"round {round}: a loop without a probe");

            var told = new Dictionary<ulong, ulong>();
            ulong some = 0;
            for (int walk = 0; walk < 60; walk++)
            {
                if (Walk(random, edges) is not { } ran)
                {
                    continue;
                }

                // Of one call, and of several together.
                some = walk % 3 == 0 ? ran : some | ran;
                ulong seen = 0;
                for (int b = 0; b < edges.Length; b++)
                {
                    seen |= probes[b] ? some & (1UL << b) : 0;
                }

                Assert.True(told.TryAdd(seen, some) || told[seen] == some, $"round {round}: {told.GetValueOrDefault(seen):x} and {some:x} look the same");
            }
        }

        Assert.True(dropped > 1000);
    }

    private static bool[] Choose(int[][] edges) => ProbeChoice.Choose(new FlowGraph([.. Enumerable.Range(0, edges.Length)], edges));

    private static int[][] Graph(Random random)
    {
        int[][] edges = new int[random.Next(2, 14)][];
        for (int b = 0; b < edges.Length; b++)
        {
            int count = random.Next(8) switch { 0 => 0, < 4 => 1, < 7 => 2, _ => 3 };
            edges[b] = [.. Enumerable.Range(0, count).Select(_ => random.Next(3) == 0 ? random.Next(edges.Length) : Math.Min(b + random.Next(1, 4), edges.Length - 1)).Distinct()];
        }

        return edges;
    }

    // The blocks of one way from the entry out; none if that takes too long.
    private static ulong? Walk(Random random, int[][] edges)
    {
        ulong ran = 1;
        int at = 0;
        for (int step = 0; step < 100; step++)
        {
            if (edges[at].Length == 0)
            {
                return ran;
            }

            at = edges[at][random.Next(edges[at].Length)];
            ran |= 1UL << at;
        }

        return null;
    }

    // Takes away blocks without a probe that none without a probe follows, until nothing is left.
    private static bool EndsWithout(int[][] edges, bool[] probes)
    {
        bool[] gone = [.. probes];
        for (int round = 0; round < edges.Length; round++)
        {
            for (int b = 0; b < edges.Length; b++)
            {
                gone[b] |= Array.TrueForAll(edges[b], to => gone[to]);
            }
        }

        return Array.TrueForAll(gone, static g => g);
    }
}
