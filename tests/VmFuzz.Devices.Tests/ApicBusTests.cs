using VmFuzz.Arch;
using VmFuzz.Devices.Apic;

namespace VmFuzz.Devices.Tests;

/// <summary>Messages among several local APICs and an IO APIC (82093AA).</summary>
public sealed class ApicBusTests
{
    private const ulong Page = 0xFEE0_0000;

    private readonly TestClock _clock = new();
    private readonly TestSink[] _sinks = [new(), new(), new()];
    private readonly LocalApic[] _apics;
    private readonly IoApic _io;
    private readonly IoBus _ioBus = new();

    public ApicBusTests()
    {
        var bus = new ApicBus();
        var events = new EventQueue();
        _io = new IoApic(bus);
        _io.Attach(_ioBus);
        _apics = [.. _sinks.Select((sink, i) => new LocalApic((uint)i, new TestApicProcessor(_clock, sink), bus, null, _clock, events))];
        for (int i = 0; i < _apics.Length; i++)
        {
            Write(i, 0xF0, 0x1FF);
            Write(i, 0xD0, 1U << (24 + i));
        }
    }

    private void Write(int apic, int offset, uint value) => _apics[apic].WriteMmio((ulong)offset, 4, value);

    private void Command(int from, uint destination, uint low)
    {
        Write(from, 0x310, destination << 24);
        Write(from, 0x300, low);
    }

    /// <summary>Who has an interrupt, as bits; takes and ends them.</summary>
    private int Taken(byte vector)
    {
        int who = 0;
        for (int i = 0; i < _apics.Length; i++)
        {
            if (_apics[i].InterruptPending)
            {
                Assert.Equal(vector, _apics[i].Acknowledge());
                Write(i, 0xB0, 0);
                who |= 1 << i;
            }
        }

        return who;
    }

    private uint Entry(int register)
    {
        _ioBus.WriteMmio(new Gpa(0xFEC0_0000), 1, (ulong)register);
        return (uint)_ioBus.ReadMmio(new Gpa(0xFEC0_0010), 4);
    }

    private void SetEntry(int pin, ulong value)
    {
        for (int half = 1; half >= 0; half--)
        {
            _ioBus.WriteMmio(new Gpa(0xFEC0_0000), 1, (ulong)(0x10 + (2 * pin) + half));
            _ioBus.WriteMmio(new Gpa(0xFEC0_0010), 4, (uint)(value >> (32 * half)));
        }
    }

    [Theory]
    [InlineData(1u, 0x0000u, 0b010)] // Physical
    [InlineData(7u, 0x0000u, 0b000)] // Nobody there
    [InlineData(0xFFu, 0x0000u, 0b111)] // Everybody
    [InlineData(0b101u, 0x0800u, 0b101)] // Logical, flat
    [InlineData(0xFFu, 0x0800u, 0b111)]
    [InlineData(0u, 0x4_0000u, 0b001)] // Self
    [InlineData(0u, 0x8_0000u, 0b111)] // All
    [InlineData(0u, 0xC_0000u, 0b110)] // Others
    public void Ipi_ByDestination_ArrivesThere(uint destination, uint low, int expected)
    {
        Command(0, destination, low | 0x45);
        Assert.Equal(expected, Taken(0x45));
    }

    [Theory]
    [InlineData(0x11u, 0b001)]
    [InlineData(0x13u, 0b011)]
    [InlineData(0x21u, 0b100)]
    [InlineData(0xF1u, 0b101)]
    public void Ipi_LogicalClusters_ArriveInTheCluster(uint destination, int expected)
    {
        byte[] numbers = [0x11, 0x12, 0x21];
        for (int i = 0; i < 3; i++)
        {
            Write(i, 0xE0, 0x0FFF_FFFF);
            Write(i, 0xD0, (uint)numbers[i] << 24);
        }

        Command(0, destination, 0x845);
        Assert.Equal(expected, Taken(0x45));
    }

    [Fact]
    public void Ipi_LowestPriority_GoesToOne()
    {
        Write(0, 0x80, 0x40);
        Write(1, 0x80, 0x20);
        Write(2, 0x80, 0x20);
        Command(0, 0xFF, 0x951);
        Assert.Equal(0b010, Taken(0x51));
    }

    [Fact]
    public void InitAndStartUp_ToOthers_ReachTheProcessors()
    {
        Command(0, 0, 0xC_4500);
        Command(0, 0, 0xC_0608);
        Command(0, 2, 0x400);
        Assert.Empty(_sinks[0].Log);
        Assert.Equal(["signal Init 00", "signal StartUp 08"], _sinks[1].Log);
        Assert.Equal(["signal Init 00", "signal StartUp 08", "signal Nmi 00"], _sinks[2].Log);
    }

    [Fact]
    public void IoApic_Registers_ReadBackWhatCanBeWritten()
    {
        Assert.Equal(0x0017_0020u, Entry(1));
        Assert.Equal(0x1_0000u, Entry(0x10));
        SetEntry(3, ulong.MaxValue);
        Assert.Equal(0x1_AFFFu, Entry(0x16));
        Assert.Equal(0xFF00_0000u, Entry(0x17));
        Assert.Equal(0u, Entry(0x40));
        _ioBus.WriteMmio(new Gpa(0xFEC0_0000), 4, 0);
        _ioBus.WriteMmio(new Gpa(0xFEC0_0010), 4, uint.MaxValue);
        Assert.Equal(0x0F00_0000u, Entry(0));
        Assert.Equal(0x0F00_0000u, Entry(2));
    }

    [Fact]
    public void IoApic_EdgePin_InterruptsOncePerEdge()
    {
        SetEntry(14, (1UL << 56) | 0x81);
        _io.SetLine(14, true);
        Assert.Equal(0b010, Taken(0x81));
        _io.SetLine(14, true);
        Assert.Equal(0, Taken(0x81));
        _io.SetLine(14, false);
        _io.SetLine(14, true);
        Assert.Equal(0b010, Taken(0x81));
    }

    [Fact]
    public void IoApic_EdgeWhileMasked_IsLost()
    {
        SetEntry(14, 0x1_0081);
        _io.SetLine(14, true);
        SetEntry(14, 0x81);
        Assert.Equal(0, Taken(0x81));
    }

    [Fact]
    public void IoApic_LevelPin_ComesAgainUntilItFalls()
    {
        SetEntry(10, 0x8082);
        _io.SetLine(10, true);
        Assert.Equal(0xC082u, Entry(0x24));
        Assert.Equal(0b001, Taken(0x82)); // Ended while asserted.
        Assert.True(_apics[0].InterruptPending);
        _io.SetLine(10, false);
        Assert.Equal(0b001, Taken(0x82));
        Assert.Equal(0, Taken(0x82));
        Assert.Equal(0x8082u, Entry(0x24));
    }

    [Fact]
    public void IoApic_LevelWhileMasked_ComesWhenUnmasked()
    {
        SetEntry(10, 0x1_8082);
        _io.SetLine(10, true);
        Assert.Equal(0, Taken(0x82));
        SetEntry(10, 0x8082);
        Assert.True(_apics[0].InterruptPending);
    }

    [Fact]
    public void IoApic_RemoteIrr_IsClearedByAChangeToEdge()
    {
        SetEntry(10, 0x8082);
        _io.SetLine(10, true);
        SetEntry(10, 0x1_0082);
        SetEntry(10, 0x1_8082);
        Assert.Equal(0x1_8082u, Entry(0x24));
    }

    [Fact]
    public void EoiBroadcast_Suppressed_NeedsTheDirectedRegister()
    {
        Write(0, 0xF0, 0x11FF);
        SetEntry(10, 0x8082);
        _io.SetLine(10, true);
        _io.SetLine(10, false);
        Assert.Equal(0b001, Taken(0x82));
        Assert.Equal(0xC082u, Entry(0x24));
        _ioBus.WriteMmio(new Gpa(0xFEC0_0040), 4, 0x82);
        Assert.Equal(0x8082u, Entry(0x24));
    }

    [Fact]
    public void IoApic_NmiEntry_ReachesTheProcessor()
    {
        SetEntry(2, (0x02UL << 56) | 0xC00); // Logical: the second.
        _io.SetLine(2, true);
        Assert.Equal(["signal Nmi 00"], _sinks[1].Log);
    }

    [Fact]
    public void X2Apic_LogicalDestination_FollowsTheNumber()
    {
        var bus = new ApicBus();
        var events = new EventQueue();
        var cpu = new TestApicProcessor(_clock, new TestSink()) { ApicBase = 0xFEE0_0C00 };
        var apic = new LocalApic(0x25, cpu, bus, null, _clock, events);
        Assert.True(apic.TryReadApicMsr(0x80D, out ulong logical));
        Assert.Equal(0x0002_0020ul, logical);
        Assert.True(apic.IsAddressed(new ApicMessage(ApicDelivery.Fixed, 0x40, 0x0002_FFFF, Logical: true)));
        Assert.False(apic.IsAddressed(new ApicMessage(ApicDelivery.Fixed, 0x40, 0x0001_FFFF, Logical: true)));
        Assert.True(apic.IsAddressed(new ApicMessage(ApicDelivery.Fixed, 0x40, 0x25)));
        Assert.Equal(Page, LocalApic.DefaultAddress);
    }
}
