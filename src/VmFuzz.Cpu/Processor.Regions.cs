using System.Runtime.CompilerServices;
using VmFuzz.Cpu.Blocks;
using VmFuzz.Cpu.Fast;
using VmFuzz.Cpu.Regions;

namespace VmFuzz.Cpu;

// Tier 1: hot blocks of one page compiled together. Whether a guest runs in it or in ops is never visible to the guest.
public sealed unsafe partial class Processor
{
    /// <summary>A <see cref="RegionThreshold"/> for runs that take longer than a moment.</summary>
    public const int UsualRegionThreshold = 16384;

    private const int MostRegions = 4096;

    private readonly List<Region> _regions = [];
    private readonly RegionScout _scout;

    /// <summary>
    /// How often a place that code comes back to is entered before what is around it is compiled; 0, as at first, compiles
    /// nothing. Results are the same, bit for bit; a low number costs time to compile. Decoded blocks are dropped.
    /// </summary>
    public int RegionThreshold
    {
        get;
        set
        {
            field = value >= 0 ? value : throw new ArgumentOutOfRangeException(nameof(value));
            DropBlocks();
        }
    }

    /// <summary>How many regions have been compiled.</summary>
    public int RegionsCompiled { get; private set; }

    // Edges and watches are looked at by blocks; the loop cannot be left by a tail call.
    private bool MayCompile => RegionThreshold != 0 && !_loopThreading && !_referenceOnly && _edges is null && _watch is null && _breakpoints.Code == 0;

    /// <summary>The head of a place that code comes back to counts how often it is entered from now on.</summary>
    private void CountEntries(Block* block)
    {
        Op* head = Block.First(block);
        bool plain = head->R1 != 0 && head->Scale == 0;
        if (plain && MayCompile && block->Valid != 0 && (block->Mode & (BlockMode.OddLimit | BlockMode.Single)) == 0
            && (block->Mode & BlockMode.CodeMask) != 0 && (block->Physical & 0xFFF) == (block->Rip & 0xFFF))
        {
            head->R1 = 0;
            head->Displacement = RegionThreshold;
            head->Handler = Ops<TailThreading>.HotHead;
        }
    }

    /// <summary>Compiles what is around a hot head, or makes it a plain one again.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    internal void Promote(Op* head)
    {
        MakePlain(head);
        if (!MayCompile)
        {
            return;
        }

        head->Scale = 1; // Tried.
        _scout.Collect(Block.Of(head));
        var flow = new RegionFlow(_scout, _ownRow);
        if (!flow.HasLoop())
        {
            return;
        }

        Region region = RegionCompiler.Compile(_scout, flow);
        _regions.Add(region);
        RegionsCompiled++;
        for (int i = 0; i < region.Entries.Count; i++)
        {
            Op* entry = Block.First(region.Entries[i].Block);
            entry->R1 = 0;
            entry->Displacement = i;
            entry->Handler = region.Code;
        }

        if (_regions.Count >= MostRegions)
        {
            _clearDue = true;
            _state->Attention |= AttentionBits.Code;
        }
    }

    // What regions were made for no longer holds: ops run instead. The regions go with the blocks.
    private void LeaveRegions()
    {
        foreach (Region region in _regions)
        {
            foreach (RegionBlock block in region.Entries)
            {
                MakePlain(Block.First(block.Block));
            }
        }
    }

    private static void MakePlain(Op* head)
    {
        head->R1 = 1;
        head->Handler = Ops<TailThreading>.Head;
    }

    private void DropRegions()
    {
        foreach (Region region in _regions)
        {
            region.Dispose();
        }

        _regions.Clear();
    }
}
