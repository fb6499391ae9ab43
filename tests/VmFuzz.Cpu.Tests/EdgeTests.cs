using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

/// <summary>Counts of the edges of guest code.</summary>
public sealed class EdgeTests
{
    // 16-bit: mov cx, 5 / again: inc ax / dec cx / jnz again / jmp there / nop / there: rep stosb with cx = 0 / jmp there
    private static readonly byte[] Code = [0xB9, 0x05, 0x00, 0x40, 0x49, 0x75, 0xFC, 0xEB, 0x01, 0x90, 0xF3, 0xAA, 0xEB, 0xFC];

    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    public void Loop_WithFiveRounds_CountsItsEdgesExactly(bool loop, bool reference)
    {
        // In the order of the first hit: into the code; 5 rounds are 4 jumps back, of which the first comes from the block
        // in front of the loop; then out, over the gap, and round the second loop.
        using var bench = new ThreadingTests.Bench(loop, Code);
        var map = new GuestEdgeMap();
        bench.Cpu.ReferenceOnly = reference;
        bench.Cpu.Edges = map;
        bench.Go(1 + 15 + 1);
        Assert.Equal([1, 1, 1, 3], Hits(map));
        bench.Go(1 + 15 + 1 + (2 * 10));
        Assert.Equal(6, Hits(map).Length);
        Assert.Equal(1 + 4 + 1 + 10, Hits(map).Sum(static c => c));
    }

    [Fact]
    public void Map_TurnedOff_CountsNoMore()
    {
        using var bench = new ThreadingTests.Bench(false, Code);
        var map = new GuestEdgeMap();
        bench.Cpu.Edges = map;
        bench.Go(10);
        byte[] before = map.Counts.ToArray();
        Assert.NotEmpty(Hits(map));
        bench.Cpu.Edges = null;
        bench.Go(1000);
        Assert.Equal(before, map.Counts.ToArray());
        map.Clear();
        Assert.Empty(Hits(map));
        bench.Cpu.Edges = map;
        bench.Go(2000);
        Assert.NotEmpty(Hits(map));
    }

    [Fact]
    public unsafe void Map_AfterAReset_IsStillThere()
    {
        using var bench = new ThreadingTests.Bench(false, Code);
        bench.Cpu.Edges = new GuestEdgeMap();
        void* before = bench.Cpu.State->Edges;
        bench.Cpu.Reset();
        Assert.True(before != null && before == bench.Cpu.State->Edges);
    }

    [Fact]
    public unsafe void Map_InMemoryOfTheCaller_CountsThere()
    {
        byte[] cells = GC.AllocateArray<byte>(64, pinned: true);
        byte* first = (byte*)System.Runtime.InteropServices.Marshal.UnsafeAddrOfPinnedArrayElement(cells, 0);
        using var bench = new ThreadingTests.Bench(false, Code);
        bench.Cpu.Edges = new GuestEdgeMap(first, cells.Length);
        bench.Go(100);
        Assert.Equal(cells, bench.Cpu.Edges.Counts.ToArray());
        Assert.Contains(cells, static c => c != 0);
        Assert.Throws<ArgumentOutOfRangeException>(() => new GuestEdgeMap(first, 63));
        Assert.Throws<ArgumentOutOfRangeException>(() => new GuestEdgeMap(first, 1));
        Assert.Throws<ArgumentNullException>(static () => new GuestEdgeMap(null, 64));
        Assert.Throws<ArgumentOutOfRangeException>(static () => new GuestEdgeMap(0));
    }

    private static byte[] Hits(GuestEdgeMap map) => [.. map.Counts.ToArray().Where(static c => c != 0).Order()];
}
