using Mono.Cecil.Cil;

namespace VmFuzz.Coverage;

/// <summary>The basic blocks of a method without handlers, and which block every way to, or from, another goes through.</summary>
internal sealed class FlowGraph
{
    private const int None = -1;

    /// <summary>A graph of its edges.</summary>
    /// <param name="first">Index of each block's first instruction.</param>
    /// <param name="successors">Blocks that may follow each block.</param>
    public FlowGraph(int[] first, int[][] successors)
    {
        First = first;
        Successors = successors;
        Predecessors = Reverse(successors);
        Dominators = Immediate(successors, Predecessors, 0);

        // One more node behind all that return or throw makes the same question of the way out.
        int exit = first.Length;
        int[][] onward = new int[exit + 1][];
        for (int i = 0; i < exit; i++)
        {
            onward[i] = successors[i].Length == 0 ? [exit] : successors[i];
        }

        onward[exit] = [];
        PostDominators = Immediate(Reverse(onward), onward, exit);
        AlwaysEnds = true;
        for (int i = 0; i < exit; i++)
        {
            AlwaysEnds &= PostDominators[i] != None || Dominators[i] == None;
        }
    }

    /// <summary>Number of blocks. Block 0 is the entry.</summary>
    public int Count => First.Length;

    /// <summary>Index of each block's first instruction.</summary>
    public int[] First { get; }

    /// <summary>Blocks that may follow a block; none of one that returns or throws.</summary>
    public int[][] Successors { get; }

    /// <summary>Blocks that a block may follow.</summary>
    public int[][] Predecessors { get; }

    /// <summary>The last block before a block that every way to it goes through; -1 of the unreachable, its own of the entry.</summary>
    public int[] Dominators { get; }

    /// <summary>The first block after a block that every way out goes through; <see cref="Count"/> when that is the end.</summary>
    public int[] PostDominators { get; }

    /// <summary>Whether every block that is reached has a way out.</summary>
    public bool AlwaysEnds { get; }

    /// <summary>Makes the graph.</summary>
    /// <param name="code">The instructions.</param>
    /// <param name="starts">Where blocks start.</param>
    /// <param name="index">Where an instruction is in the code.</param>
    public static FlowGraph Of(Instruction[] code, bool[] starts, Dictionary<Instruction, int> index)
    {
        var first = new List<int>();
        int[] block = new int[code.Length];
        for (int i = 0; i < code.Length; i++)
        {
            if (starts[i])
            {
                first.Add(i);
            }

            block[i] = first.Count - 1;
        }

        int[][] successors = new int[first.Count][];
        for (int b = 0; b < successors.Length; b++)
        {
            int end = b + 1 < first.Count ? first[b + 1] : code.Length;
            int last = first[b];
            while (last + 1 < end && !Leaves(code[last].OpCode.FlowControl))
            {
                last++;
            }

            successors[b] = Targets(code[last], index, end < code.Length ? end : None).Select(at => block[at]).Distinct().ToArray();
        }

        return new FlowGraph([.. first], successors);
    }

    private static bool Leaves(FlowControl flow) =>
        flow is FlowControl.Branch or FlowControl.Cond_Branch or FlowControl.Return or FlowControl.Throw;

    private static IEnumerable<int> Targets(Instruction last, Dictionary<Instruction, int> index, int next)
    {
        if (last.Operand is Instruction target)
        {
            yield return index[target];
        }
        else if (last.Operand is Instruction[] targets)
        {
            foreach (Instruction one in targets)
            {
                yield return index[one];
            }
        }

        bool goesOn = last.OpCode.FlowControl is not (FlowControl.Branch or FlowControl.Return or FlowControl.Throw);
        if (goesOn && next != None)
        {
            yield return next;
        }
    }

    private static int[][] Reverse(int[][] edges)
    {
        var reversed = new List<int>[edges.Length];
        for (int i = 0; i < edges.Length; i++)
        {
            reversed[i] = [];
        }

        for (int from = 0; from < edges.Length; from++)
        {
            foreach (int to in edges[from])
            {
                reversed[to].Add(from);
            }
        }

        return Array.ConvertAll(reversed, static list => list.ToArray());
    }

    // Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm".
    private static int[] Immediate(int[][] successors, int[][] predecessors, int root)
    {
        int[] order = PostOrder(successors, root);
        int[] number = new int[successors.Length];
        Array.Fill(number, None);
        for (int i = 0; i < order.Length; i++)
        {
            number[order[i]] = i;
        }

        int[] dominator = new int[successors.Length];
        Array.Fill(dominator, None);
        dominator[root] = root;
        bool changed = true;
        while (changed)
        {
            changed = false;
            for (int i = order.Length - 2; i >= 0; i--)
            {
                int found = None;
                foreach (int before in predecessors[order[i]])
                {
                    if (dominator[before] != None)
                    {
                        found = found == None ? before : Meet(found, before);
                    }
                }

                changed |= dominator[order[i]] != found;
                dominator[order[i]] = found;
            }
        }

        return dominator;

        int Meet(int a, int b)
        {
            while (a != b)
            {
                if (number[a] < number[b])
                {
                    a = dominator[a];
                }
                else
                {
                    b = dominator[b];
                }
            }

            return a;
        }
    }

    private static int[] PostOrder(int[][] successors, int root)
    {
        var order = new List<int>(successors.Length);
        var seen = new bool[successors.Length];
        var way = new Stack<(int Node, int Next)>();
        seen[root] = true;
        way.Push((root, 0));
        while (way.TryPop(out (int Node, int Next) at))
        {
            if (at.Next == successors[at.Node].Length)
            {
                order.Add(at.Node);
                continue;
            }

            way.Push((at.Node, at.Next + 1));
            int next = successors[at.Node][at.Next];
            if (!seen[next])
            {
                seen[next] = true;
                way.Push((next, 0));
            }
        }

        return [.. order];
    }
}
