using VmFuzz.Arch;

namespace VmFuzz.Devices.Tests;

/// <summary>Devices that bare-metal tests of hypervisors expect.</summary>
public sealed class UnitTestDeviceTests
{
    private readonly TestMachine _m = new(unitTest: true);

    [Fact]
    public void Latch_WrittenAtAnyWidth_IsSeenAtBothPlaces()
    {
        _m.Bus.WritePort(0xE0, 4, 0x1234_5678);
        Assert.Equal(0x1234_5678u, _m.Bus.ReadPort(0xE8, 4));
        _m.Bus.WritePort(0xE2, 2, 0xCAFE);
        _m.Bus.WritePort(0xE9, 1, 0xAB);
        Assert.Equal(0xCAFEu, _m.Bus.ReadPort(0xEA, 2));
        Assert.Equal(0xAB78u, _m.Bus.ReadPort(0xE0, 2));
        _m.Bus.WritePort(0xE4, 4, 0x1000);
        Assert.Equal(0u, _m.Bus.ReadPort(0xE4, 4));
    }

    [Fact]
    public void Storage_AccessedAtAnyWidth_KeepsItsBytes()
    {
        _m.Bus.WriteMmio(new Gpa(0xFF00_0FFE), 8, 0x1122_3344_5566_7788);
        Assert.Equal(0x1122_3344_5566_7788ul, _m.Bus.ReadMmio(new Gpa(0xFF00_0FFE), 8));
        Assert.Equal(0x66ul, _m.Bus.ReadMmio(new Gpa(0xFF00_1000), 1));
        Assert.Equal(0ul, _m.Bus.ReadMmio(new Gpa(0xFF00_FFFC), 4));
    }

    [Fact]
    public void Lines_Written_FollowTheValue()
    {
        _m.Bus.WriteMmio(new Gpa(0xFEE0_00F0), 4, 0x1FF);
        _m.Bus.WriteMmio(new Gpa(0xFEC0_0000), 4, 0x10 + (2 * 21));
        _m.Bus.WriteMmio(new Gpa(0xFEC0_0010), 4, 0x55);
        _m.Bus.WritePort(0x2000 + 21, 1, 1);
        Assert.Equal(0x55, _m.Apic.Acknowledge());
        _m.Bus.WritePort(0x2000 + 21, 1, 0);
        Assert.False(_m.Apic.InterruptPending);
    }

    [Fact]
    public void Shutdown_SpeltOut_SwitchesOff()
    {
        foreach (char letter in "ShutShutdown")
        {
            Assert.Empty(_m.Sink.Log);
            _m.Out(0x8900, letter);
        }

        Assert.Equal(["off port 0x8900"], _m.Sink.Log);
    }

    [Theory]
    [InlineData(0, 0x12u, 1u)]
    [InlineData(1, 0x12u, 1u)]
    [InlineData(2, 0x12u, 0u)]
    [InlineData(2, 0xFAu, 1u)]
    public void PciTest_Writes_AreCountedWhenTheyMatch(int test, uint value, uint count)
    {
        Assert.Equal(0x0005_1B36u, Configuration(0));
        Assert.Equal(0xFEBF_0000u, Configuration(0x10));
        Assert.Equal(0xC001u, Configuration(0x14));
        foreach (bool ports in (bool[])[false, true])
        {
            Write(ports, 0, 1, (uint)test);
            Assert.Equal(0u, Read(ports, 12, 4));
            Write(ports, Read(ports, 4, 4), 1, value);
            Write(ports, Read(ports, 4, 4) + 4, 1, value);
            Assert.Equal(count, Read(ports, 12, 4));
            Assert.Equal(0xFAu, Read(ports, 8, 4));
        }
    }

    [Fact]
    public void PciTest_BaseRegisters_TellTheirSizes()
    {
        _m.Bus.WritePort(0xCF8, 4, 0x8000_2010);
        _m.Bus.WritePort(0xCFC, 4, uint.MaxValue);
        Assert.Equal(0xFFFF_F000u, _m.Bus.ReadPort(0xCFC, 4));
        _m.Bus.WritePort(0xCF8, 4, 0x8000_2014);
        _m.Bus.WritePort(0xCFC, 4, uint.MaxValue);
        Assert.Equal(0xFFFF_FF01u, _m.Bus.ReadPort(0xCFC, 4));
    }

    private uint Configuration(uint register)
    {
        _m.Bus.WritePort(0xCF8, 4, 0x8000_2000 | register);
        return _m.Bus.ReadPort(0xCFC, 4);
    }

    private uint Read(bool ports, uint offset, int size) => ports
        ? _m.Bus.ReadPort((ushort)(0xC000 + offset), size)
        : (uint)_m.Bus.ReadMmio(new Gpa(0xFEBF_0000 + offset), size);

    private void Write(bool ports, uint offset, int size, uint value)
    {
        if (ports)
        {
            _m.Bus.WritePort((ushort)(0xC000 + offset), size, value);
        }
        else
        {
            _m.Bus.WriteMmio(new Gpa(0xFEBF_0000 + offset), size, value);
        }
    }
}
