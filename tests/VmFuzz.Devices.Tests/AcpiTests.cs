using System.Buffers.Binary;
using System.Text;
using VmFuzz.Devices.Acpi;

namespace VmFuzz.Devices.Tests;

/// <summary>Tables and power-management registers (ACPI Specification).</summary>
public sealed class AcpiTests
{
    private const uint Address = 0xE_0000;
    private readonly byte[] _image = new AcpiTables(2, 128 << 20).Place(Address);

    private ReadOnlySpan<byte> Table(ulong address)
    {
        ReadOnlySpan<byte> from = _image.AsSpan((int)(address - Address));
        return from[..(int)Word(from, 4)];
    }

    private static uint Word(ReadOnlySpan<byte> bytes, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[offset..]);

    private static ulong Long(ReadOnlySpan<byte> bytes, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[offset..]);

    private static string Signature(ReadOnlySpan<byte> bytes) => Encoding.ASCII.GetString(bytes[..4]);

    private static byte Sum(ReadOnlySpan<byte> bytes)
    {
        byte sum = 0;
        foreach (byte value in bytes)
        {
            sum += value;
        }

        return sum;
    }

    [Fact]
    public void Tables_InMemory_AreLinkedAndSumTo0()
    {
        Assert.Equal("RSD PTR ", Encoding.ASCII.GetString(_image, 0, 8));
        Assert.Equal(0, Sum(_image.AsSpan(0, 20)));
        Assert.Equal(0, Sum(_image.AsSpan(0, 36)));
        ReadOnlySpan<byte> rsdt = Table(Word(_image, 16));
        ReadOnlySpan<byte> xsdt = Table(Long(_image, 24));
        Assert.Equal(("RSDT", "XSDT"), (Signature(rsdt), Signature(xsdt)));
        Assert.Equal((0, 0), (Sum(rsdt), Sum(xsdt)));
        string[] expected = ["FACP", "APIC", "HPET"];
        for (int i = 0; i < expected.Length; i++)
        {
            uint address = Word(rsdt, 36 + (4 * i));
            Assert.Equal(address, Long(xsdt, 36 + (8 * i)));
            Assert.Equal(expected[i], Signature(Table(address)));
            Assert.Equal(0, Sum(Table(address)));
        }
    }

    [Fact]
    public void Fadt_NamesTheRegistersAndItsTables()
    {
        ReadOnlySpan<byte> fadt = Table(Word(Table(Word(_image, 16)), 36));
        Assert.Equal(244, fadt.Length);
        Assert.Equal((0x600u, 0x604u, 0x608u), (Word(fadt, 56), Word(fadt, 64), Word(fadt, 76)));
        Assert.Equal((0x600ul, 0x604ul, 0x608ul), (Long(fadt, 152), Long(fadt, 176), Long(fadt, 212)));
        Assert.Equal("FACS", Signature(Table(Word(fadt, 36))));
        Assert.Equal(0u, Word(fadt, 36) % 64);
        Assert.Equal("DSDT", Signature(Table(Word(fadt, 40))));
        Assert.Equal((ulong)Word(fadt, 36), Long(fadt, 132));
        Assert.Equal((ulong)Word(fadt, 40), Long(fadt, 140));
        Assert.Equal(0, Sum(Table(Word(fadt, 40))));
    }

    [Fact]
    public void Madt_ListsProcessorsControllersAndOverrides()
    {
        ReadOnlySpan<byte> madt = Table(Word(Table(Word(_image, 16)), 40))[44..];
        var kinds = new List<byte>();
        for (int at = 0; at < madt.Length; at += madt[at + 1])
        {
            kinds.Add(madt[at]);
        }

        Assert.Equal([0, 0, 1, 2, 2, 4], kinds);
    }

    // Name (\_S5, Package () { 0, 0, 0, 0 }), as any compiler encodes it.
    [Fact]
    public void Dsdt_BeginsWithSoftOff()
    {
        ReadOnlySpan<byte> fadt = Table(Word(Table(Word(_image, 16)), 36));
        ReadOnlySpan<byte> dsdt = Table(Word(fadt, 40))[36..];
        Assert.Equal([0x08, 0x5C, 0x5F, 0x53, 0x35, 0x5F, 0x12, 0x06, 0x04, 0, 0, 0, 0], dsdt[..13].ToArray());
        ReadOnlySpan<byte> scope = dsdt[13..];
        Assert.Equal(0x10, scope[0]);
        Assert.Equal(1, scope[1] >> 6);
        Assert.Equal(scope.Length - 1, (scope[1] & 15) | (scope[2] << 4));
        Assert.Equal("\\_SB_", Encoding.ASCII.GetString(scope[3..8]));
        Assert.Equal([0x5B, 0x82], scope[8..10].ToArray());
        Assert.True(scope.IndexOf((ReadOnlySpan<byte>)[0x08, 0x5F, 0x48, 0x49, 0x44, 0x0C, 0x41, 0xD0, 0x0A, 0x03]) > 0); // _HID PNP0A03
    }

    [Fact]
    public void PowerControl_SoftOff_AsksTheMachine()
    {
        var m = new TestMachine();
        Assert.Equal(1u, m.Bus.ReadPort(0x604, 2)); // ACPI mode from the start.
        m.Bus.WritePort(0x604, 2, 0x2000 | (5 << 10));
        Assert.Empty(m.Sink.Log);
        m.Bus.WritePort(0x604, 2, 0x2000);
        Assert.Equal(["off ACPI soft-off"], m.Sink.Log);
        Assert.Equal(1u, m.Bus.ReadPort(0x604, 2));
    }

    [Fact]
    public void PowerControl_TimerCarry_InterruptsUntilCleared()
    {
        var m = new TestMachine();
        m.Bus.WritePort(0x602, 2, 0xFFFF);
        Assert.Equal(0x721u, m.Bus.ReadPort(0x602, 2));
        Assert.Equal(2_343_484_438ul, m.Events.NextDeadline); // 2^23 ticks.
        m.Advance(2_343_484_437);
        Assert.Equal(0u, m.Bus.ReadPort(0x600, 2));
        m.Advance(1);
        Assert.Equal(1u, m.Bus.ReadPort(0x600, 2));
        Assert.True(m.Pic.InterruptPending);
        m.Bus.WritePort(0x600, 2, 1);
        Assert.Equal(0u, m.Bus.ReadPort(0x600, 2));
        Assert.False(m.Pic.InterruptPending);
    }
}
