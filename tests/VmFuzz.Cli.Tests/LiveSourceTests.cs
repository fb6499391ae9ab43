using VmFuzz.Arch;

namespace VmFuzz.Cli.Tests;

public class LiveSourceTests
{
    [Fact]
    public void NextDue_NothingPending_IsAPollDistanceAhead()
    {
        var source = new LiveSource(null);
        Assert.Equal(100 + LiveSource.PollDistance, source.NextDue(0, 100));
        Assert.False(source.TryTake(InputPoint.Boundary, new Position(0, 100, 0), out _));
    }

    [Fact]
    public void NextDue_ByteArrivesAfterTheFirstQuestion_WaitsForTheNextCount()
    {
        var source = new LiveSource(null);
        Assert.True(source.NextDue(0, 100) > 100);
        source.Type((byte)'x');
        Assert.Equal(101UL, source.NextDue(0, 100));
        Assert.False(source.TryTake(InputPoint.Boundary, new Position(0, 100, 0), out _));
        Assert.Equal(101UL, source.NextDue(0, 101));
        Assert.True(source.TryTake(InputPoint.Boundary, new Position(0, 101, 0), out Input input));
        Assert.Equal(new Input(InputKind.ConsoleByte, 'x'), input);
    }

    [Fact]
    public void NextDue_SeveralVcpus_IsDecidedOnceForEachCountOfEach()
    {
        var source = new LiveSource(null);
        Assert.True(source.NextDue(0, 100) > 100);
        source.Type((byte)'x');
        Assert.Equal(50UL, source.NextDue(1, 50));

        // The first VCPU was asked at this count before the byte came: a replay would not ask it again.
        Assert.Equal(101UL, source.NextDue(0, 100));
        Assert.False(source.TryTake(InputPoint.Boundary, new Position(0, 100, 0), out _));
        Assert.True(source.TryTake(InputPoint.Boundary, new Position(1, 50, 0), out _));
    }

    [Fact]
    public void TryTake_SeveralBytes_ComeOneAByteTimeApart()
    {
        var source = new LiveSource(null);
        source.Type(1);
        source.Type(2);
        Assert.Equal(50UL, source.NextDue(0, 50));
        Assert.True(source.TryTake(InputPoint.Boundary, new Position(0, 50, 0), out _));
        Assert.False(source.TryTake(InputPoint.Boundary, new Position(0, 50, 1), out _));
        ulong next = source.NextDue(0, 50);
        Assert.Equal(50 + LiveSource.ByteDistance, next);
        Assert.Equal(next, source.NextDue(0, next));
        Assert.True(source.TryTake(InputPoint.Boundary, new Position(0, next, 0), out Input second));
        Assert.Equal(2UL, second.Value);
    }

    [Fact]
    public void TryTake_Stop_ComesOnceAndBeforeBytes()
    {
        var source = new LiveSource(null);
        source.Type(1);
        source.RequestStop();
        Assert.Equal(7UL, source.NextDue(0, 7));
        Assert.True(source.TryTake(InputPoint.Boundary, new Position(0, 7, 0), out Input first));
        Assert.Equal(InputKind.Stop, first.Kind);
        Assert.True(source.TryTake(InputPoint.Boundary, new Position(0, 7, 1), out Input second));
        Assert.Equal(InputKind.ConsoleByte, second.Kind);
        Assert.False(source.TryTake(InputPoint.Boundary, new Position(0, 7, 2), out _));
    }

    [Fact]
    public void TryTake_Random_ComesFromTheSystemAndIsValid()
    {
        var source = new LiveSource(null);
        Assert.True(source.TryTake(InputPoint.Random, new Position(0, 0, 0), out Input first));
        Assert.True(source.TryTake(InputPoint.Random, new Position(0, 0, 1), out Input second));
        Assert.Equal(1UL, first.Auxiliary);
        Assert.NotEqual(first.Value, second.Value);
    }

    [Fact]
    public void TryTake_BlockedWithoutConsole_ReturnsAtOnce()
    {
        var source = new LiveSource(null) { Patience = static () => Timeout.Infinite };
        Assert.False(source.TryTake(InputPoint.Blocked, new Position(0, 0, 0), out _));
    }

    [Fact]
    public void TryTake_BlockedWithSeveralBytes_GivesOneAtACount()
    {
        var source = new LiveSource(null);
        source.Type(1);
        source.Type(2);
        Assert.True(source.TryTake(InputPoint.Blocked, new Position(0, 7, 0), out _));
        Assert.False(source.TryTake(InputPoint.Blocked, new Position(0, 7, 1), out _));
        Assert.True(source.TryTake(InputPoint.Blocked, new Position(0, 8, 0), out Input second));
        Assert.Equal(2UL, second.Value);
    }

    [Fact]
    public async Task TryTake_BlockedWithConsole_WaitsForAByteOrTheEnd()
    {
        var source = new LiveSource(null) { Patience = static () => Timeout.Infinite };
        source.Attach(true);
        Task<bool> byByte = Task.Run(() => source.TryTake(InputPoint.Blocked, new Position(0, 0, 0), out Input input) && input.Value == 'y', TestContext.Current.CancellationToken);
        source.Type((byte)'y');
        Assert.True(await byByte);
        Task<bool> byEnd = Task.Run(() => source.TryTake(InputPoint.Blocked, new Position(0, 1, 0), out _), TestContext.Current.CancellationToken);
        source.Attach(false);
        Assert.False(await byEnd);
    }

    [Fact]
    public void NextDue_WithInnerSource_IsTheEarlier()
    {
        var source = new LiveSource(new Once(120));
        Assert.Equal(120UL, source.NextDue(0, 100));
        Assert.Equal(120UL, source.NextDue(0, 120));
        Assert.True(source.TryTake(InputPoint.Boundary, new Position(0, 120, 0), out Input input));
        Assert.Equal(InputKind.Nmi, input.Kind);
    }

    [Theory]
    [InlineData("-machine pc -m 128M", "--machine pc --m 128M")]
    [InlineData("--machine pc -o x", "--machine pc -o x")]
    [InlineData("-bios=x -accel kvm", "--bios=x --accel kvm")]
    [InlineData("-serial -machine", "--serial -machine")]
    [InlineData("-h -machines", "-h -machines")]
    public void Normalize_QemuOptions_GetTwoDashes(string given, string expected) =>
        Assert.Equal(expected.Split(' '), ArgumentForms.Normalize(given.Split(' ')));

    [Theory]
    [InlineData("128", 128UL << 20)]
    [InlineData("128M", 128UL << 20)]
    [InlineData("1g", 1UL << 30)]
    [InlineData("0x10M", 16UL << 20)]
    [InlineData("2048K", 2UL << 20)]
    public void TryMemory_Sizes_AreRead(string text, ulong bytes)
    {
        Assert.True(Quantities.TryMemory(text, out ulong value));
        Assert.Equal(bytes, value);
    }

    private sealed class Once(ulong at) : IInputSource
    {
        public ulong NextDue(int vcpu, ulong retired) => Math.Max(at, retired);

        public bool TryTake(InputPoint point, in Position position, out Input input)
        {
            input = new Input(InputKind.Nmi);
            return point == InputPoint.Boundary && position.Retired >= at;
        }
    }
}
