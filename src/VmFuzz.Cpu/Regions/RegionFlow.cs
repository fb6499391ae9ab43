using Iced.Intel;
using VmFuzz.Cpu.Blocks;

namespace VmFuzz.Cpu.Regions;

/// <summary>An instruction of a region.</summary>
/// <param name="Reference">Its reference form.</param>
/// <param name="Op">Its op; the second of a fused pair has none.</param>
/// <param name="NeedsFlags">Somebody may read the flags it sets.</param>
/// <param name="Own">It is of a row of this build; others are left to their op.</param>
internal readonly unsafe record struct RegionInstruction(nint Reference, nint Op, bool NeedsFlags, bool Own)
{
    /// <summary>The instruction.</summary>
    public ref readonly Instruction Instruction => ref ((Reference*)Reference)->Instruction;

    /// <summary>A specialised handler was chosen for it; behind a branch stand its links.</summary>
    public bool Specialised => ((Reference*)Reference)->Specialised;
}

/// <summary>What is known before code is made: ops of instructions, needed flags, the kind of flags at the start of each block.</summary>
internal sealed unsafe class RegionFlow
{
    private readonly RegionScout _scout;
    private readonly RegionInstruction[][] _instructions;
    private readonly KnownFlags[] _before;
    private readonly bool[] _asks;

    /// <summary>Looks at the blocks of a scout.</summary>
    /// <param name="scout">The blocks.</param>
    /// <param name="own">Whether specialised code may stand for an instruction.</param>
    public RegionFlow(RegionScout scout, OwnRow own)
    {
        _scout = scout;
        _instructions = [.. scout.Blocks.Select(b => Instructions(b.Block, own))];
        _asks = [.. _instructions.Select(AsksAtStart)];
        _before = new KnownFlags[_instructions.Length];
        Work();
    }

    /// <summary>The instructions of a block.</summary>
    public ReadOnlySpan<RegionInstruction> Of(int place) => _instructions[place];

    /// <summary>What is known of the flags where a block starts.</summary>
    public KnownFlags Before(int place) => _before[place];

    /// <summary>Whether a block may be entered from outside, or by an indirect branch: it takes any flags.</summary>
    public bool IsEntry(int place) => _before[place] == KnownFlags.Unknown;

    /// <summary>Whether control can come back to the head without leaving the region.</summary>
    public bool HasLoop()
    {
        bool[] seen = new bool[_instructions.Length];
        var stack = new Stack<int>([0]);
        while (stack.TryPop(out int place))
        {
            foreach (int next in MayReach(place))
            {
                if (next == 0)
                {
                    return true;
                }

                if (!seen[next])
                {
                    seen[next] = true;
                    stack.Push(next);
                }
            }
        }

        return false;
    }

    private static RegionInstruction[] Instructions(Block* block, OwnRow own)
    {
        var result = new RegionInstruction[block->Count];
        Span<bool> needed = stackalloc bool[Processor.MaxBlock];
        var references = new ReadOnlySpan<Reference>(block->References, block->Count);
        FlagNeeds.Mark(references, own, needed);
        for (int i = 0; i < result.Length; i++)
        {
            result[i] = new((nint)(block->References + i), 0, needed[i], own(references[i]));
        }

        for (Op* op = Block.First(block) + 1; op < (Op*)block->References; op++)
        {
            if (op->Remaining != 0)
            {
                ref RegionInstruction its = ref result[block->Count - op->Remaining];
                its = its with { Op = (nint)op };
            }
            else
            {
                op++; // A link is two ops.
            }
        }

        return result;
    }

    // Whether it reads flags before it sets them all.
    private static bool AsksAtStart(RegionInstruction[] instructions)
    {
        foreach (ref readonly RegionInstruction its in instructions.AsSpan())
        {
            if (its.Instruction.RflagsRead != RflagsBits.None)
            {
                return true;
            }

            if (RegionInstructions.Sets(its.Instruction) != KnownFlags.Unreached)
            {
                return false;
            }
        }

        return false;
    }

    private void Work()
    {
        for (int i = 0; i < _before.Length; i++)
        {
            _before[i] = i == 0 || !_asks[i] ? KnownFlags.Unknown : KnownFlags.Unreached;
        }

        for (bool changed = true; changed;)
        {
            changed = false;
            for (int i = 0; i < _before.Length; i++)
            {
                KnownFlags after = After(i);
                if (after == KnownFlags.Unreached)
                {
                    continue;
                }

                foreach (int next in Successors(i))
                {
                    KnownFlags met = _before[next].Meet(after);
                    if (_asks[next] && met != _before[next])
                    {
                        _before[next] = met;
                        changed = true;
                    }
                }
            }
        }

        for (int i = 0; i < _before.Length; i++)
        {
            _before[i] = _before[i] == KnownFlags.Unreached ? KnownFlags.Unknown : _before[i];
        }
    }

    private KnownFlags After(int place)
    {
        KnownFlags known = _before[place];
        foreach (ref readonly RegionInstruction its in _instructions[place].AsSpan())
        {
            KnownFlags set = RegionInstructions.Sets(its.Instruction);
            known = set == KnownFlags.Unreached ? known : set;
        }

        return known;
    }

    // Where direct branches, and running on, lead.
    private List<int> Successors(int place)
    {
        var next = new List<int>(2);
        Block* block = _scout.Blocks[place].Block;
        ref readonly Instruction last = ref _instructions[place][^1].Instruction;
        if (last.FlowControl is FlowControl.Next or FlowControl.ConditionalBranch
            && _scout.TryPlace(block->Rip + (ulong)block->Bytes, out int after))
        {
            next.Add(after);
        }

        if (last.Op0Kind is OpKind.NearBranch32 or OpKind.NearBranch64 && _scout.TryPlace(last.NearBranchTarget, out int target))
        {
            next.Add(target);
        }

        return next;
    }

    // Beside that the places that an indirect branch may lead to; none from a block that leaves the region before its end.
    private IEnumerable<int> MayReach(int place)
    {
        RegionInstruction[] instructions = _instructions[place];
        if (!Array.TrueForAll(instructions, static its => its.Own && RegionInstructions.Knows(its.Instruction)))
        {
            return [];
        }

        return instructions[^1].Instruction.FlowControl switch
        {
            FlowControl.Return => Enumerable.Range(0, _instructions.Length).Where(i => IsEntry(i) && _scout.IsReturnSite(i)),
            FlowControl.IndirectBranch or FlowControl.IndirectCall => Enumerable.Range(0, _instructions.Length).Where(IsEntry),
            _ => Successors(place),
        };
    }
}
