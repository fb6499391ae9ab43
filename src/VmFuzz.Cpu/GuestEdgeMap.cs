using System.Numerics;

namespace VmFuzz.Cpu;

/// <summary>
/// Counts of the edges that guest code takes, for runs in which the guest is the thing under test: one byte a cell, cells
/// shared by a hash of two places, counts wrap at 256. Nothing of a run depends on it. See <see cref="Processor.Edges"/>.
/// </summary>
/// <remarks>
/// A place is the linear address at which code goes on after an instruction that ends a block (a branch, a serializing
/// instruction), an event or an exit. Where an instruction merely follows another, nothing is counted, so the counts of a
/// run do not depend on how it was cut into blocks: limits, look-aside buffers and decoded code leave them alone. One map
/// serves one processor, whose last place it holds.
/// </remarks>
public sealed unsafe class GuestEdgeMap
{
    /// <summary>Most cells: 2 to the power of 30.</summary>
    public const int MaxBits = 30;

    // SAFETY: pinned for its life, which the processor prolongs by holding the map; so is the array of cells, if it is ours.
    private readonly EdgeState[] _state = GC.AllocateArray<EdgeState>(1, pinned: true);
    private readonly byte[]? _own;

    /// <summary>A map with memory of its own.</summary>
    /// <param name="bits">It has 2 to this power cells; 1 to <see cref="MaxBits"/>.</param>
    public GuestEdgeMap(int bits = 16)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(bits, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(bits, MaxBits);
        _own = GC.AllocateArray<byte>(1 << bits, pinned: true);
        Set((byte*)System.Runtime.CompilerServices.Unsafe.AsPointer(ref _own[0]), _own.Length);
    }

    /// <summary>A map in memory of the caller, for instance an outside fuzzer's.</summary>
    /// <param name="cells">The first cell. The caller keeps the region mapped and writable while a processor has the map.</param>
    /// <param name="length">Number of cells, a power of two from 2 to 2 to the power of <see cref="MaxBits"/>.</param>
    // SAFETY: the caller's promise about the region; the mask keeps every index below its length.
    public GuestEdgeMap(byte* cells, int length)
    {
        ArgumentNullException.ThrowIfNull(cells);
        if (length < 2 || length > 1 << MaxBits || !BitOperations.IsPow2(length))
        {
            throw new ArgumentOutOfRangeException(nameof(length), length, "the number of cells must be a power of two");
        }

        Set(cells, length);
    }

    /// <summary>The counts.</summary>
    public Span<byte> Counts => new(_state[0].Cells, (int)_state[0].Mask + 1);

    internal EdgeState* State => (EdgeState*)System.Runtime.CompilerServices.Unsafe.AsPointer(ref _state[0]);

    /// <summary>Sets all counts to 0, and the last place to none: before each run that is to be compared.</summary>
    public void Clear()
    {
        Counts.Clear();
        _state[0].Previous = 0;
        _state[0].Continues = EdgeState.Nowhere;
    }

    private void Set(byte* cells, int length)
    {
        _state[0].Cells = cells;
        _state[0].Mask = (ulong)length - 1;
        _state[0].Continues = EdgeState.Nowhere;
    }
}

/// <summary>What the ops of a processor need of its map.</summary>
internal unsafe struct EdgeState
{
    /// <summary>No instruction starts in the last byte of the address space and goes on.</summary>
    public const ulong Nowhere = ulong.MaxValue;

    /// <summary>The first cell.</summary>
    public byte* Cells;

    /// <summary>Number of cells, less one.</summary>
    public ulong Mask;

    /// <summary>The last place, mixed and shifted, so that A to B is not B to A.</summary>
    public ulong Previous;

    /// <summary>Linear address at which a block would only go on with the one before it.</summary>
    public ulong Continues;

    /// <summary>Code goes on at an address.</summary>
    /// <param name="linear">The address.</param>
    /// <param name="continues">Where the block that starts there goes on without a jump, or <see cref="Nowhere"/>.</param>
    public void Enter(ulong linear, ulong continues)
    {
        if (linear != Continues)
        {
            // The finaliser of SplitMix64, the first half of it.
            ulong place = (linear ^ (linear >> 30)) * 0xBF58476D1CE4E5B9;
            place ^= place >> 32;
            Cells[(Previous ^ place) & Mask]++;
            Previous = place >> 1;
        }

        Continues = continues;
    }
}
