using VmFuzz.Arch;
using VmFuzz.Memory;

namespace VmFuzz.Memory.Tests;

public sealed class GuestMemoryTests : IDisposable
{
    private readonly GuestMemory _memory = new();

    public void Dispose() => _memory.Dispose();

    [Fact]
    public void Write_AcrossPages_IsReadBack()
    {
        _memory.AddSlot(new Gpa(0), 0x3000);
        byte[] bytes = [.. Enumerable.Range(0, 5000).Select(static i => (byte)(i * 7))];
        Assert.True(_memory.TryWrite(new Gpa(0x800), bytes));
        byte[] back = new byte[5000];
        Assert.True(_memory.TryRead(new Gpa(0x800), back));
        Assert.Equal(bytes, back);
    }

    [Theory]
    [InlineData(0x2FFFUL, 2)]
    [InlineData(0x3000UL, 1)]
    [InlineData(ulong.MaxValue, 1)]
    [InlineData(0xFFFF_FFFF_FFFF_FFF0UL, 64)]
    public void Access_ThatIsNotBackedWhole_MovesNothing(ulong address, int length)
    {
        _memory.AddSlot(new Gpa(0), 0x3000);
        byte[] bytes = new byte[length];
        bytes.AsSpan().Fill(0xAA);
        Assert.False(_memory.TryWrite(new Gpa(address), bytes));
        Assert.False(_memory.TryRead(new Gpa(address), bytes));
        byte[] last = new byte[1];
        Assert.True(_memory.TryRead(new Gpa(0x2FFF), last));
        Assert.Equal(0, last[0]);
    }

    [Fact]
    public void ReadOnlySlot_TakesLoadsButNoWrites()
    {
        _memory.AddSlot(new Gpa(0x10000), 0x1000, readOnly: true);
        Assert.False(_memory.TryWrite(new Gpa(0x10000), [1]));
        Assert.True(_memory.TryLoad(new Gpa(0x10000), [1]));
        byte[] back = new byte[1];
        Assert.True(_memory.TryRead(new Gpa(0x10000), back));
        Assert.Equal(1, back[0]);
    }

    [Fact]
    public void Alias_ShowsTheSamePages_AndCountsOnceInTheDigest()
    {
        int first = _memory.AddSlot(new Gpa(0x100000), 0x2000);
        _memory.TryWrite(new Gpa(0x101234), [42]);
        ulong digest = _memory.Digest();
        _memory.AddAlias(new Gpa(0xF000), 0x1000, first + 1);
        byte[] back = new byte[1];
        Assert.True(_memory.TryRead(new Gpa(0xF234), back));
        Assert.Equal(42, back[0]);
        Assert.Equal(digest, _memory.Digest());
    }

    [Fact]
    public void Slots_ThatOverlapOrAreNotWholePages_AreRefused()
    {
        _memory.AddSlot(new Gpa(0x1000), 0x2000);
        Assert.Throws<ArgumentException>(() => _memory.AddSlot(new Gpa(0x2000), 0x1000));
        Assert.Throws<ArgumentException>(() => _memory.AddSlot(new Gpa(0x8001), 0x1000));
        Assert.Throws<ArgumentException>(() => _memory.AddSlot(new Gpa(0x8000), 0));
        Assert.Throws<ArgumentException>(() => _memory.AddSlot(new Gpa(0x8000), GuestMemory.MaxBytes + 0x1000));
        Assert.Throws<ArgumentOutOfRangeException>(() => _memory.AddAlias(new Gpa(0x8000), 0x1000, 2));
    }

    [Fact]
    public void Reset_PutsBackWhatWasCommitted()
    {
        _memory.AddSlot(new Gpa(0), 0x10000);
        _memory.TryWrite(new Gpa(0x1000), [1, 2, 3]);
        _memory.Commit();
        ulong committed = _memory.Digest();
        _memory.TryWrite(new Gpa(0x1001), [9]);
        _memory.TryWrite(new Gpa(0x5000), [9]);
        Assert.NotEqual(committed, _memory.Digest());
        _memory.Reset();
        byte[] back = new byte[3];
        _memory.TryRead(new Gpa(0x1000), back);
        Assert.Equal([1, 2, 3], back);
        Assert.Equal(committed, _memory.Digest());
        Assert.Equal(_memory.FullDigest(), _memory.Digest());
        Assert.Empty(_memory.DirtyPages);
    }

    [Fact]
    public void Digest_OverRandomWritesAndResets_EqualsTheFullOne()
    {
        _memory.AddSlot(new Gpa(0), 0x20000);
        ulong state = 1;
        for (int i = 0; i < 2000; i++)
        {
            state = (state * 6364136223846793005UL) + 1442695040888963407UL;
            _memory.TryWrite(new Gpa((state >> 20) % 0x1FFF8), BitConverter.GetBytes((i & 3) == 0 ? 0UL : state));
            switch (state >> 60)
            {
                case 0:
                    _memory.Reset();
                    break;
                case 1:
                    _memory.Commit();
                    break;
                case 2 or 3:
                    Assert.Equal(_memory.FullDigest(), _memory.Digest());
                    break;
            }
        }

        Assert.Equal(_memory.FullDigest(), _memory.Digest());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void MarkedPage_WrittenByDma_IsReported(bool code)
    {
        int first = _memory.AddSlot(new Gpa(0), 0x2000);
        var seen = new Seen();
        _memory.PageObserver = seen;
        Mark(true);
        _memory.TryWrite(new Gpa(0x10), [1]);
        Assert.Equal((-1, -1), (seen.Code, seen.Table));
        _memory.TryWrite(new Gpa(0x1010), [1]);
        Assert.Equal(code ? (first + 1, -1) : (-1, first + 1), (seen.Code, seen.Table));
        Mark(false);
        (seen.Code, seen.Table) = (-1, -1);
        _memory.TryWrite(new Gpa(0x1010), [2]);
        Assert.Equal((-1, -1), (seen.Code, seen.Table));

        void Mark(bool set)
        {
            if (code)
            {
                _memory.MarkCode(first + 1, set);
            }
            else
            {
                _memory.MarkTable(first + 1, set);
            }
        }
    }

    private sealed class Seen : IPageObserver
    {
        public int Code { get; set; } = -1;

        public int Table { get; set; } = -1;

        public void OnCodePageChanged(int pageIndex) => Code = pageIndex;

        public void OnTablePageChanged(int pageIndex) => Table = pageIndex;
    }
}
