using VmFuzz.Arch;

namespace VmFuzz.Devices.Tests;

/// <summary>Event timers (IA-PC HPET Specification).</summary>
public sealed class HpetTests
{
    private const ulong Base = 0xFED0_0000;
    private readonly TestClock _clock = new();
    private readonly EventQueue _events = new();
    private readonly Lines _lines = new();
    private readonly IoBus _bus = new();
    private readonly Hpet _hpet;

    public HpetTests()
    {
        _hpet = new Hpet(_clock, _events, _lines);
        _hpet.Attach(_bus);
    }

    private ulong Read(ulong offset, int size = 8) => _bus.ReadMmio(new Gpa(Base + offset), size);

    private void Write(ulong offset, ulong value, int size = 8) => _bus.WriteMmio(new Gpa(Base + offset), size, value);

    private void Advance(ulong nanoseconds)
    {
        ulong end = _clock.Now + nanoseconds;
        while (_events.NextDeadline <= end)
        {
            _clock.Now = Math.Max(_clock.Now, _events.NextDeadline);
            _events.RunDue(_clock.Now);
        }

        _clock.Now = end;
    }

    [Fact]
    public void Capabilities_OfTheBlock_AreThoseOfTheTable()
    {
        Assert.Equal(10_000_000ul, Read(0) >> 32); // Femtoseconds.
        Assert.Equal(0x8086_A201ul, Read(0, 4));
        Assert.Equal(0x8086ul, Read(2, 2));
        Assert.Equal(0x30ul, Read(0x100) & 0x30); // Periodic, 64 bits.
        Assert.Equal(ulong.MaxValue, Read(0x108));
    }

    [Fact]
    public void Counter_RunsWhileEnabled_AndIsSetWhileStopped()
    {
        Advance(1000);
        Assert.Equal(0ul, Read(0xF0));
        Write(0x10, 1);
        Advance(1005);
        Assert.Equal(100ul, Read(0xF0));
        Write(0xF0, 7); // Runs: ignored.
        Write(0x10, 0);
        Advance(500);
        Assert.Equal(100ul, Read(0xF0));
        Write(0xF4, 1, 4);
        Assert.Equal(0x1_0000_0064ul, Read(0xF0));
        Write(0x10, 1);
        Advance(10);
        Assert.Equal(0x1_0000_0065ul, Read(0xF0));
    }

    [Fact]
    public void Timer_OneShot_InterruptsAtItsComparator()
    {
        Write(0x140, 4 | (20 << 9));
        Write(0x148, 100);
        Write(0x10, 1);
        Advance(999);
        Assert.Empty(_lines.Log);
        Advance(1);
        Assert.Equal(["20 1", "20 0"], _lines.Log);
        Advance(1_000_000);
        Assert.Equal(2, _lines.Log.Count);
    }

    [Fact]
    public void Timer_Periodic_InterruptsEveryPeriod()
    {
        Write(0x100, 4 | 8 | 0x40 | (16 << 9));
        Write(0x108, 50); // The comparator and the period.
        Assert.Equal(0ul, Read(0x100) & 0x40);
        Write(0x108, 100); // The period alone.
        Write(0x10, 1);
        Advance(2500);
        Assert.Equal(6, _lines.Log.Count); // At 500, 1500, 2500.
        Assert.Equal(350ul, Read(0x108));
    }

    [Fact]
    public void Timer_LevelTriggered_HoldsItsLineUntilCleared()
    {
        Write(0x120, 2 | 4 | (17 << 9));
        Write(0x128, 10);
        Write(0x10, 1);
        Advance(100);
        Assert.Equal(["17 1"], _lines.Log);
        Assert.Equal(2ul, Read(0x20));
        Write(0x20, 2);
        Assert.Equal(["17 1", "17 0"], _lines.Log);
        Assert.Equal(0ul, Read(0x20));
    }

    [Fact]
    public void LegacyReplacement_RoutesTimers0And1()
    {
        Write(0x10, 2);
        Assert.True(_hpet.LegacyReplacement);
        Write(0x100, 4 | (16 << 9));
        Write(0x108, 10);
        Write(0x120, 4 | (16 << 9));
        Write(0x128, 20);
        Write(0x10, 3);
        Advance(1000);
        Assert.Equal(["2 1", "2 0", "8 1", "8 0"], _lines.Log);
    }

    [Fact]
    public void Timer_Of32Bits_ComparesTheLowHalf()
    {
        Write(0xF0, 0xFFFF_FFF0);
        Write(0x140, 4 | 0x100 | (20 << 9));
        Write(0x148, 0xAAAA_0000_0010);
        Assert.Equal(0x10ul, Read(0x148));
        Write(0x10, 1);
        Advance(310);
        Assert.Empty(_lines.Log);
        Advance(10);
        Assert.Equal(2, _lines.Log.Count);
    }

    private sealed class Lines : IInterruptSink
    {
        public List<string> Log { get; } = [];

        public void SetLine(int line, bool level) => Log.Add($"{line} {(level ? 1 : 0)}");
    }
}
