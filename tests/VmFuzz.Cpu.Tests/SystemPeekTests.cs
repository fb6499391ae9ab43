using VmFuzz.Arch;
using static VmFuzz.Cpu.Tests.PagingFixture;

namespace VmFuzz.Cpu.Tests;

/// <summary>Memory as a debugger sees it: the guest's translation, without its rights and effects.</summary>
public sealed unsafe class SystemPeekTests
{
    public static TheoryData<PagingMode> Modes => [PagingMode.Bits32, PagingMode.Pae, PagingMode.FourLevel, PagingMode.FiveLevel];

    [Theory]
    [MemberData(nameof(Modes))]
    public void Peek_InEveryMode_FindsWhatAReadFindsAndChangesNoEntry(PagingMode mode)
    {
        using PagingFixture p = new(mode, 3);
        p.F.Write(Frame | (Linear & 0xFFF), 1, 0x5A);
        p.Change(1, 0, User | Writable);
        Assert.Equal([0x5A], Peek(p, 1));
        for (int level = (int)mode; level >= 1; level--)
        {
            Assert.Equal(0UL, p.Get(level) & (Accessed | Dirty));
        }
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void Peek_OfALargePage_UsesItsOffset(PagingMode mode)
    {
        using PagingFixture p = new(mode, 3, 2);
        p.F.Write(0x2123, 1, 0x5C);
        Assert.Equal([0x5C], Peek(p, 1));
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void Peek_WhereAnEntryIsNotPresent_EndsBeforeIt(PagingMode mode)
    {
        using PagingFixture p = new(mode, 0);
        Assert.Equal(0x1000 - (int)(Linear & 0xFFF), Peek(p, 0x1000).Length);
        for (int level = (int)mode; level >= 1; level--)
        {
            using PagingFixture q = new(mode, 0);
            q.Set(level, q.Get(level) & ~Present);
            q.Changed();
            Assert.Empty(Peek(q, 1));
            Assert.False(q.F.Cpu.TryPoke(Linear, [1]));
        }
    }

    [Theory]
    [MemberData(nameof(Modes))]
    public void Poke_OfAReadOnlyPage_IsWhatTheGuestReads(PagingMode mode)
    {
        using PagingFixture p = new(mode, 3);
        p.Change(1, 0, Writable);
        Assert.True(p.F.Cpu.TryPoke(Linear, [0x5D]));
        Assert.Equal(0x5DUL, p.Byte());
    }

    private static byte[] Peek(PagingFixture p, int bytes)
    {
        byte[] destination = new byte[bytes];
        return destination[..p.F.Cpu.Peek(Linear, destination)];
    }
}
