using VmFuzz.Arch;

namespace VmFuzz.Devices.Tests;

public sealed class RtcTests
{
    private const ulong Second = 1_000_000_000;
    private readonly TestClock _clock = new();
    private readonly EventQueue _events = new();
    private readonly TestSink _line = new();

    private Rtc Make(long start = Rtc.DefaultStart) => new(_clock, _events, new InterruptLine(_line, 8), start);

    private static int Read(Rtc rtc, int index)
    {
        rtc.WritePort(0, 1, (uint)index);
        return (int)rtc.ReadPort(1, 1);
    }

    private static void Write(Rtc rtc, int index, int value)
    {
        rtc.WritePort(0, 1, (uint)index);
        rtc.WritePort(1, 1, (uint)value);
    }

    private static string Show(Rtc rtc) =>
        $"{Read(rtc, 0x32):x2}{Read(rtc, 9):x2}-{Read(rtc, 8):x2}-{Read(rtc, 7):x2} {Read(rtc, 4):x2}:{Read(rtc, 2):x2}:{Read(rtc, 0):x2} day {Read(rtc, 6)}";

    private void Advance(ulong ns)
    {
        ulong end = _clock.Now + ns;
        while (_events.NextDeadline <= end)
        {
            _clock.Now = Math.Max(_clock.Now, _events.NextDeadline);
            _events.RunDue(_clock.Now);
        }

        _clock.Now = end;
    }

    [Fact]
    public void Time_AfterPowerOn_IsFirstOfJanuary2000() => Assert.Equal("2000-01-01 00:00:00 day 7", Show(Make()));

    [Theory]
    [InlineData(59ul, "2000-01-01 00:00:59 day 7")]
    [InlineData(86400ul * 59, "2000-02-29 00:00:00 day 3")]
    [InlineData(86400ul * 366, "2001-01-01 00:00:00 day 2")]
    [InlineData(86400ul * 36525, "2100-01-01 00:00:00 day 6")]
    public void Time_Later_FollowsCalendar(ulong seconds, string expected)
    {
        Rtc rtc = Make();
        Advance(seconds * Second);
        Assert.Equal(expected, Show(rtc));
    }

    [Fact]
    public void Time_Offset_IsConfigurable() => Assert.Equal("2023-11-14 22:13:20 day 3", Show(Make(1_700_000_000)));

    [Fact]
    public void Format_BinaryAndTwelveHours_IsUsed()
    {
        Rtc rtc = Make();
        Write(rtc, 11, 0x04);
        Write(rtc, 4, 0x81);
        Write(rtc, 2, 44);
        Write(rtc, 0, 59);
        Advance(Second);
        Assert.Equal(0x81, Read(rtc, 4));
        Assert.Equal(45, Read(rtc, 2));
        Write(rtc, 11, 0x06);
        Write(rtc, 4, 13);
        Advance(Second);
        Assert.Equal(13, Read(rtc, 4));
        Write(rtc, 11, 0x00);
        Write(rtc, 4, 0x12);
        Write(rtc, 2, 0x59);
        Write(rtc, 0, 0x59);
        Advance(Second);
        Assert.Equal(0x01, Read(rtc, 4)); // 12:59:59 at night is followed by 01:00:00.
    }

    [Fact]
    public void Set_WhileSet_TimeStands()
    {
        Rtc rtc = Make();
        Write(rtc, 11, 0x92);
        Assert.Equal(0x82, Read(rtc, 11)); // SET clears UIE.
        Write(rtc, 4, 0x23);
        Advance(10 * Second);
        Assert.Equal(0x23, Read(rtc, 4));
        Assert.Equal(0, Read(rtc, 0));
        Write(rtc, 11, 0x02);
        Advance(Second);
        Assert.Equal(1, Read(rtc, 0));
    }

    [Fact]
    public void Uip_BeforeUpdate_IsSet()
    {
        Rtc rtc = Make();
        Assert.Equal(0x26, Read(rtc, 10));
        Advance(Second - 2_000_000);
        Assert.Equal(0xA6, Read(rtc, 10));
        Advance(2_000_000);
        Assert.Equal(0x26, Read(rtc, 10));
    }

    [Fact]
    public void Divider_Released_FirstUpdateAfterHalfSecond()
    {
        Rtc rtc = Make();
        Write(rtc, 10, 0x66);
        Advance(5 * Second);
        Assert.Equal(0, Read(rtc, 0));
        Write(rtc, 10, 0x26);
        Advance((Second / 2) - 1);
        Assert.Equal(0, Read(rtc, 0));
        Advance(1);
        Assert.Equal(1, Read(rtc, 0));
    }

    [Fact]
    public void Update_Interrupt_ComesOncePerRead()
    {
        Rtc rtc = Make();
        Write(rtc, 11, 0x12);
        Advance(3 * Second);
        Assert.Equal(1, _line.Rises);
        Assert.Equal(0xD0, Read(rtc, 12)); // The periodic flag is set without being enabled.
        Assert.False(_line.Level);
        Assert.Equal(0x00, Read(rtc, 12));
        Advance(Second);
        Assert.Equal(2, _line.Rises);
    }

    [Fact]
    public void Periodic_Interrupt_HasItsRate()
    {
        Rtc rtc = Make();
        Write(rtc, 11, 0x42);
        for (int i = 0; i < 1024; i++)
        {
            Advance(976_563);
            Assert.Equal(0xC0, Read(rtc, 12) & 0xEF);
        }

        Assert.Equal(1024, _line.Rises);
    }

    [Fact]
    public void Alarm_TimeAndWildcards_Match()
    {
        Rtc rtc = Make();
        Write(rtc, 1, 0x05);
        Write(rtc, 3, 0x02);
        Write(rtc, 5, 0xFF);
        Write(rtc, 11, 0x22);
        Advance((125 * Second) - 1);
        Assert.Equal(0, _line.Rises);
        Advance(1);
        Assert.Equal(1, _line.Rises);
        Assert.Equal(0xB0, Read(rtc, 12) & 0xBF);
    }

    [Fact]
    public void Cmos_MemorySizes_AreWhereFirmwareLooks()
    {
        Rtc rtc = Make();
        rtc.SetMemorySize(128UL << 20, 5UL << 30);
        Assert.Equal(0x0280, Read(rtc, 0x15) | (Read(rtc, 0x16) << 8));
        Assert.Equal(0xFFFF, Read(rtc, 0x17) | (Read(rtc, 0x18) << 8));
        Assert.Equal(0x0700, Read(rtc, 0x34) | (Read(rtc, 0x35) << 8));
        Assert.Equal(0x014000, Read(rtc, 0x5B) | (Read(rtc, 0x5C) << 8) | (Read(rtc, 0x5D) << 16));
        Write(rtc, 0x7F, 0x5A);
        Assert.Equal(0x5A, Read(rtc, 0x7F));
        Assert.Throws<ArgumentOutOfRangeException>(() => rtc.SetCmos(13, 0));
    }

    [Fact]
    public void Index_HighBit_MasksNmi()
    {
        Rtc rtc = Make();
        Assert.Equal(0x80, Read(rtc, 0x8D));
        Assert.True(rtc.NmiMasked);
        Read(rtc, 0x0D);
        Assert.False(rtc.NmiMasked);
    }
}
