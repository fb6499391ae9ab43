using VmFuzz.Arch;

namespace VmFuzz.Devices.Tests;

public sealed class PitTests
{
    private readonly TestClock _clock = new();
    private readonly EventQueue _events = new();
    private readonly TestSink _line = new();
    private readonly IoBus _bus = new();
    private readonly Pit8254 _pit;

    public PitTests()
    {
        _pit = new Pit8254(_clock, _events, new InterruptLine(_line, 0));
        _pit.Attach(_bus);
    }

    /// <summary>The counter loads on the tick after the write: <paramref name="tick"/> counts from there.</summary>
    private void At(ulong tick) => RunTo(new Oscillator(Pit8254.Frequency).Nanoseconds(tick + 1));

    private void RunTo(ulong end)
    {
        while (_events.NextDeadline <= end)
        {
            _clock.Now = _events.NextDeadline;
            _events.RunDue(_clock.Now);
        }

        _clock.Now = end;
    }

    private void Program(int channel, int mode, int count, bool bcd = false)
    {
        Out(0x43, (channel << 6) | 0x30 | (mode << 1) | (bcd ? 1 : 0));
        Out(0x40 + channel, count & 0xFF);
        Out(0x40 + channel, count >> 8);
    }

    private void Out(int port, int value) => _bus.WritePort((ushort)port, 1, (uint)value);

    private int In(int port) => (int)_bus.ReadPort((ushort)port, 1);

    private int Count(int channel)
    {
        Out(0x43, channel << 6);
        return In(0x40 + channel) | (In(0x40 + channel) << 8);
    }

    [Fact]
    public void Mode0_TerminalCount_RaisesOnce()
    {
        Program(0, 0, 1000);
        Assert.False(_line.Level);
        At(999);
        Assert.Equal(1, Count(0));
        Assert.False(_line.Level);
        At(1000);
        Assert.True(_line.Level);
        At(1002);
        Assert.Equal(0xFFFE, Count(0));
        At(200_000);
        Assert.Equal(1, _line.Rises);
    }

    [Fact]
    public void Mode0_FirstByteOfNewCount_StopsCounting()
    {
        Program(0, 0, 1000);
        At(500);
        Out(0x40, 0x10);
        At(2000);
        Assert.False(_line.Level);
        Out(0x40, 0);
        At(2018);
        Assert.True(_line.Level);
    }

    [Fact]
    public void Mode2_Rounds_RaiseOncePerRound()
    {
        Program(0, 2, 100);
        int before = _line.Rises;
        At(0);
        Assert.Equal(100, Count(0));
        At(99);
        Assert.Equal(1, Count(0));
        At(1000);
        Assert.Equal(before + 10, _line.Rises);
        Assert.Equal(100, Count(0));
        Assert.True(_line.Level);
    }

    [Fact]
    public void Mode3_SquareWave_ChangesTwicePerRound()
    {
        Program(0, 3, 10);
        At(4);
        Assert.True(_line.Level);
        Assert.Equal(2, Count(0));
        At(5);
        Assert.False(_line.Level);
        Assert.Equal(10, Count(0));
        At(10);
        Assert.True(_line.Level);
        int before = _line.Rises;
        At(110);
        Assert.Equal(before + 10, _line.Rises);
    }

    [Fact]
    public void Mode3_OddCount_FirstHalfIsLonger()
    {
        Out(0x61, 1);
        Program(2, 3, 5);
        int[] expected = [1, 1, 1, 0, 0, 1, 1, 1, 0, 0];
        for (ulong i = 0; i < 10; i++)
        {
            At(i);
            Assert.Equal(expected[i], In(0x61) >> 5 & 1);
        }
    }

    [Fact]
    public void Mode2_NewCount_WaitsForEndOfRound()
    {
        Program(0, 2, 100);
        At(50);
        Out(0x40, 10);
        Out(0x40, 0);
        At(99);
        Assert.Equal(1, Count(0));
        At(100);
        Assert.Equal(10, Count(0));
        At(105);
        Assert.Equal(5, Count(0));
    }

    [Fact]
    public void Mode2_LateCall_GivesOneEdge()
    {
        Program(0, 2, 100);
        int before = _line.Rises;
        _clock.Now = 100_000_000;
        _events.RunDue(_clock.Now);
        Assert.Equal(before + 1, _line.Rises);
        Assert.True(_events.NextDeadline > _clock.Now);
    }

    [Fact]
    public void Channel2_GateLow_PausesModeZero()
    {
        Out(0x61, 1);
        Program(2, 0, 100);
        At(40);
        Out(0x61, 0);
        At(500);
        Assert.Equal(60, Count(2));
        Assert.Equal(0, In(0x61) & 0x20);
        Out(0x61, 1);
        At(500 + 61);
        Assert.Equal(0x20, In(0x61) & 0x20);
    }

    [Fact]
    public void Channel2_OneShot_StartsWithGate()
    {
        Out(0x61, 0);
        Program(2, 1, 50);
        At(100);
        Assert.Equal(0x20, In(0x61) & 0x20);
        Out(0x61, 1);
        At(110);
        Assert.Equal(0, In(0x61) & 0x20);
        At(200);
        Assert.Equal(0x20, In(0x61) & 0x20);
    }

    [Fact]
    public void Mode4_Strobe_IsLowForOneTick()
    {
        Out(0x61, 1);
        Program(2, 4, 20);
        At(19);
        Assert.Equal(0x20, In(0x61) & 0x20);
        At(20);
        Assert.Equal(0, In(0x61) & 0x20);
        At(21);
        Assert.Equal(0x20, In(0x61) & 0x20);
    }

    [Fact]
    public void ReadBack_StatusAndCount_ComeInThatOrder()
    {
        Program(0, 2, 0x1234);
        At(0x34);
        Out(0x43, 0xC2);
        At(0x100);
        Assert.Equal(0xB4, In(0x40));
        Assert.Equal(0x00, In(0x40));
        Assert.Equal(0x12, In(0x40));
    }

    [Fact]
    public void Latch_SecondCommand_IsIgnoredUntilRead()
    {
        Program(0, 2, 0x1000);
        At(0);
        Out(0x43, 0);
        At(0x10);
        Out(0x43, 0);
        Assert.Equal(0x1000, In(0x40) | (In(0x40) << 8));
        Assert.Equal(0x0FF0, Count(0));
    }

    [Fact]
    public void Bcd_Count_IsDecimal()
    {
        Program(0, 2, 0x1000, bcd: true);
        At(1);
        Assert.Equal(0x0999, Count(0));
    }

    [Fact]
    public void PortB_Refresh_Toggles()
    {
        int first = In(0x61) & 0x10;
        _clock.Now += 15085;
        Assert.NotEqual(first, In(0x61) & 0x10);
    }
}
