using VmFuzz.Arch;

namespace VmFuzz.Devices.Tests;

public sealed class PlatformTests
{
    private readonly TestMachine _m = new();

    private uint Config(int function, int register, int size = 4)
    {
        _m.Bus.WritePort(0xCF8, 4, 0x8000_0000 | (uint)(function << 8) | (uint)(register & 0xFC));
        return _m.Bus.ReadPort((ushort)(0xCFC + (register & 3)), size);
    }

    private void SetConfig(int function, int register, int size, uint value)
    {
        Config(function, register);
        _m.Bus.WritePort((ushort)(0xCFC + (register & 3)), size, value);
    }

    [Theory]
    [InlineData(PciHost.HostBridge, 0x1237_8086u, 0x0600_0002u, 0x00u)]
    [InlineData(PciHost.IsaBridge, 0x7000_8086u, 0x0601_0000u, 0x80u)]
    [InlineData(PciHost.PowerManagement, 0x7113_8086u, 0x0680_0003u, 0x00u)]
    [InlineData(9, 0xFFFF_FFFFu, 0xFFFF_FFFFu, 0xFFu)]
    public void Pci_Function_Identifies(int function, uint id, uint revision, uint header)
    {
        Assert.Equal(id, Config(function, 0));
        Assert.Equal(id >> 16, Config(function, 2, 2));
        Assert.Equal(revision, Config(function, 8));
        Assert.Equal(header, Config(function, 0x0E, 1));
    }

    [Fact]
    public void Pci_OtherBusOrDisabled_ReadsOnes()
    {
        _m.Bus.WritePort(0xCF8, 4, 0x8001_0000);
        Assert.Equal(uint.MaxValue, _m.Bus.ReadPort(0xCFC, 4));
        _m.Bus.WritePort(0xCF8, 4, 0);
        Assert.Equal(uint.MaxValue, _m.Bus.ReadPort(0xCFC, 4));
        _m.Bus.WritePort(0xCF8, 4, uint.MaxValue);
        Assert.Equal(0x80FF_FFFCu, _m.Bus.ReadPort(0xCF8, 4));
    }

    [Fact]
    public void Pci_ReadOnlyRegisters_IgnoreWrites()
    {
        SetConfig(0, 0, 4, 0);
        Assert.Equal(0x1237_8086u, Config(0, 0));
        SetConfig(8, 0x10, 4, uint.MaxValue);
        Assert.Equal(0u, Config(8, 0x10));
    }

    [Fact]
    public void Pci_Pam_IsReadableWritableAndAnnounced()
    {
        int before = _m.Sink.PciChanges;
        SetConfig(0, 0x59, 1, 0xFF);
        SetConfig(0, 0x5A, 1, 0x21);
        SetConfig(0, 0x5C, 4, 0x3030_3030);
        Assert.Equal(before + 3, _m.Sink.PciChanges);
        Assert.Equal(0x30u, Config(0, 0x59, 1));
        Assert.Equal(0x3030_3030u, Config(0, 0x5C));
        Assert.Equal(3, _m.Pci.Pam(0));
        Assert.Equal(1, _m.Pci.Pam(1));
        Assert.Equal(2, _m.Pci.Pam(2));
        Assert.Equal(0, _m.Pci.Pam(3));
        Assert.Equal(3, _m.Pci.Pam(12)); // 0x5f, upper half: 0xec000.
        Assert.Equal(0, _m.Pci.Pam(11));
    }

    [Fact]
    public void Pci_PowerManagement_SaysSystemManagementIsSetUp() => Assert.Equal(0x0200_0000u, Config(PciHost.PowerManagement, 0x58));

    [Fact]
    public void ResetPort_InsideAddressRegister_IsReached()
    {
        _m.Out(0xCF9, 0x02);
        Assert.Equal(2, _m.In(0xCF9));
        _m.Out(0xCF9, 0x06);
        Assert.Equal(["reset port 0xcf9, hard"], _m.Sink.Log);
    }

    [Fact]
    public void Port92_A20AndFastReset_CallMachine()
    {
        _m.Out(0x92, 2);
        Assert.True(_m.Reset.A20);
        Assert.Equal(2, _m.In(0x92));
        _m.Out(0x92, 3);
        _m.Out(0x92, 3);
        Assert.Equal(1, _m.Sink.Log.Count(l => l == "reset port 0x92"));
        Assert.Contains("a20 Port92 True", _m.Sink.Log, StringComparer.Ordinal);
    }

    [Fact]
    public void DebugPorts_Bytes_ComeOut()
    {
        Assert.Equal(0xE9, _m.In(0xE9));
        Assert.Equal(0xE9, _m.In(0x402));
        _m.Out(0xE9, 'a');
        _m.Out(0x402, 'b');
        _m.Bus.WritePort(0xF4, 4, 0x1234_5678);
        Assert.Equal(["debug e9 61", "debug 402 62", "exit 12345678"], _m.Sink.Log);
    }

    [Fact]
    public void Keyboard_StartUp_AnswersAsFirmwareExpects()
    {
        Assert.Equal(0, _m.In(0x64) & 1);
        _m.Out(0x64, 0xAA);
        Assert.Equal(0x1D, _m.In(0x64));
        Assert.Equal(0x55, _m.In(0x60));
        _m.Out(0x64, 0xAB);
        Assert.Equal(0, _m.In(0x60));
        _m.Out(0x60, 0xFF);
        Assert.Equal(0xFA, _m.In(0x60));
        Assert.Equal(0xAA, _m.In(0x60));
        Assert.Equal(0, _m.In(0x64) & 1);
        _m.Out(0x64, 0x60);
        _m.Out(0x60, 0x40);
        _m.Out(0x64, 0x20);
        Assert.Equal(0x40, _m.In(0x60));
    }

    [Fact]
    public void Keyboard_SecondByteBeforeAnswerIsRead_ReplacesAnswer()
    {
        _m.Out(0x60, 0xED);
        _m.Out(0x60, 0x00);
        Assert.Equal(0xFA, _m.In(0x60));
        Assert.Equal(0, _m.In(0x64) & 1);
    }

    [Fact]
    public void Keyboard_OutputPortAndPulse_CallMachine()
    {
        Assert.True(_m.Keyboard.A20);
        _m.Out(0x64, 0xD1);
        _m.Out(0x60, 0xDD);
        Assert.False(_m.Keyboard.A20);
        _m.Out(0x64, 0xDF);
        Assert.True(_m.Keyboard.A20);
        _m.Out(0x64, 0xFE);
        Assert.Contains("reset keyboard controller, pulse", _m.Sink.Log, StringComparer.Ordinal);
        Assert.Contains("a20 KeyboardController False", _m.Sink.Log, StringComparer.Ordinal);
    }

    [Fact]
    public void Keyboard_TwoScanCodes_RaiseTwoInterrupts()
    {
        var line = new TestSink();
        var keyboard = new KeyboardController(_m.Sink, new InterruptLine(line, 1));
        keyboard.Receive(0x1E);
        keyboard.Receive(0x9E);
        Assert.Equal(1, line.Rises);
        Assert.Equal(0x1Eu, keyboard.ReadPort(0, 1));
        Assert.Equal(2, line.Rises);
        Assert.Equal(0x9Eu, keyboard.ReadPort(0, 1));
        Assert.False(line.Level);
    }

    [Fact]
    public void PmTimer_Time_Counts24Bits()
    {
        _m.Clock.Now = 1_000_000_000;
        Assert.Equal(3_579_545u, _m.Bus.ReadPort(0x608, 4));
        _m.Clock.Now = 10_000_000_000;
        Assert.Equal(35_795_450u & 0xFF_FFFF, _m.Bus.ReadPort(0x608, 4));
    }

    [Fact]
    public void FwCfg_Items_AreFoundByKeyAndDirectory()
    {
        Assert.Equal("QEMU"u8.ToArray(), Item(0, 4));
        Assert.Equal([1, 0, 0, 0, 0], Item(1, 5));
        Assert.Equal([1, 0], Item(5, 2));
        Assert.Equal([0, 0, 0, 8, 0, 0, 0, 0], Item(3, 8));
        Assert.Equal([0, 0], Item(0x123, 2));
        byte[] directory = Item(0x19, 68);
        Assert.Equal([0, 0, 0, 1, 0, 0, 0, 3, 0, 0x20, 0, 0, (byte)'e', (byte)'t', (byte)'c', (byte)'/', (byte)'a', 0], directory[..18]);
        Assert.Equal([1, 2, 3, 0], Item(0x20, 4));
    }

    [Fact]
    public void FwCfg_Table_ReplacesAndRefuses()
    {
        FwCfgTable table = FwCfgTable.Empty.WithFile("b", [1]).WithFile("a", [2]).WithFile("b", [3, 4]).With(5, (ushort)7).With(5, (ushort)8);
        var device = new FwCfg(table);
        device.WritePort(0, 2, 0x21);
        Assert.Equal(3u, device.ReadPort(1, 1));
        device.WritePort(0, 2, 0x4005);
        Assert.Equal(8u, device.ReadPort(1, 1));
        Assert.Throws<ArgumentException>(() => table.With(0x19, [1]));
        Assert.Throws<ArgumentException>(() => table.WithFile(new string('x', 56), [1]));
    }

    private byte[] Item(ushort key, int length)
    {
        _m.Bus.WritePort(0x510, 2, key);
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++)
        {
            bytes[i] = _m.In(0x511);
        }

        return bytes;
    }
}
