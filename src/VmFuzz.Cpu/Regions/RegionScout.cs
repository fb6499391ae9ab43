using Iced.Intel;
using VmFuzz.Cpu.Blocks;

namespace VmFuzz.Cpu.Regions;

/// <summary>Chooses the blocks of a region: what direct branches, calls, returns and jumps inside one page lead to.</summary>
internal sealed unsafe class RegionScout(BlockStore store)
{
    /// <summary>The most blocks of a region.</summary>
    public const int MostBlocks = 64;

    /// <summary>The most instructions of a region.</summary>
    public const int MostInstructions = 400;

    private readonly List<RegionBlock> _found = [];
    private readonly Dictionary<ulong, int> _places = [];
    private readonly HashSet<int> _returnSites = [];
    private int _instructions;

    /// <summary>The blocks, the first of them the head; the list is reused by the next call.</summary>
    public IReadOnlyList<RegionBlock> Blocks => _found;

    /// <summary>The place of the block at an address.</summary>
    public bool TryPlace(ulong rip, out int place) => _places.TryGetValue(rip, out place);

    /// <summary>Whether a call of the region comes back to a block.</summary>
    public bool IsReturnSite(int place) => _returnSites.Contains(place);

    /// <summary>Collects a region from its hot head.</summary>
    public void Collect(Block* head)
    {
        _found.Clear();
        _places.Clear();
        _returnSites.Clear();
        _instructions = 0;
        Add(head);
        bool wholePage = false;
        for (int i = 0; i < _found.Count; i++)
        {
            Block* block = _found[i].Block;
            Instruction last = block->References[block->Count - 1].Instruction;
            if (last.FlowControl is not (FlowControl.UnconditionalBranch or FlowControl.IndirectBranch or FlowControl.Return))
            {
                Follow(head, last.NextIP);
                if (last.FlowControl is FlowControl.Call or FlowControl.IndirectCall && _places.TryGetValue(last.NextIP, out int site))
                {
                    _returnSites.Add(site);
                }
            }

            if (last.Op0Kind is OpKind.NearBranch32 or OpKind.NearBranch64)
            {
                Follow(head, last.NearBranchTarget);
            }

            if (last.FlowControl == FlowControl.IndirectBranch && !wholePage)
            {
                // Its targets are not known: any block of the page may be one.
                wholePage = true;
                for (Block* other = store.FirstOfPage(head->Page); other != null; other = other->NextInPage)
                {
                    if (other->Mode == head->Mode)
                    {
                        Follow(head, other->Rip);
                    }
                }
            }
        }
    }

    private void Follow(Block* head, ulong rip)
    {
        if ((rip & ~0xFFFUL) != (head->Rip & ~0xFFFUL) || _places.ContainsKey(rip))
        {
            return;
        }

        Block* block = store.Find((head->Physical & ~0xFFFUL) | (rip & 0xFFF), rip, head->Mode);
        if (block != null && _found.Count < MostBlocks && _instructions + block->Count <= MostInstructions)
        {
            Add(block);
        }
    }

    private void Add(Block* block)
    {
        _places.Add(block->Rip, _found.Count);
        _found.Add(new RegionBlock((nint)block));
        _instructions += block->Count;
    }
}
