using VmFuzz.Arch;

namespace VmFuzz.Devices.Tests;

public sealed class SerialTests
{
    private readonly TestSink _line = new();
    private readonly TestSink _sink = new();
    private readonly Serial16550 _serial;

    public SerialTests() => _serial = new Serial16550(_sink, new InterruptLine(_line, 4));

    [Fact]
    public void Transmit_Byte_GoesOutAtOnceAndTransmitterStaysEmpty()
    {
        _serial.WritePort(0, 1, 'A');
        Assert.Equal((byte)'A', Assert.Single(_sink.Console));
        Assert.Equal(0x60u, _serial.ReadPort(5, 1));
    }

    [Fact]
    public void Divisor_LatchAccess_HidesDataAndInterruptEnable()
    {
        _serial.WritePort(3, 1, 0x83);
        _serial.WritePort(0, 1, 0x01);
        _serial.WritePort(1, 1, 0x02);
        Assert.Equal(1u, _serial.ReadPort(0, 1));
        Assert.Equal(2u, _serial.ReadPort(1, 1));
        _serial.WritePort(3, 1, 0x03);
        Assert.Equal(0u, _serial.ReadPort(1, 1));
        Assert.Empty(_sink.Console);
    }

    [Fact]
    public void Receive_WithoutFifo_SecondByteOverruns()
    {
        Assert.True(_serial.CanReceive);
        _serial.Receive(1);
        Assert.False(_serial.CanReceive);
        _serial.Receive(2);
        Assert.Equal(0x63u, _serial.ReadPort(5, 1));
        Assert.Equal(0x61u, _serial.ReadPort(5, 1));
        Assert.Equal(2u, _serial.ReadPort(0, 1));
        Assert.Equal(0x60u, _serial.ReadPort(5, 1));
    }

    [Fact]
    public void Receive_WithFifo_KeepsSixteenInOrderAndDropsMore()
    {
        _serial.WritePort(2, 1, 0xC1);
        for (byte i = 0; i < 17; i++)
        {
            _serial.Receive(i);
        }

        Assert.Equal(0x63u, _serial.ReadPort(5, 1));
        for (uint i = 0; i < 16; i++)
        {
            Assert.Equal(i, _serial.ReadPort(0, 1));
        }

        Assert.Equal(0x60u, _serial.ReadPort(5, 1));
    }

    [Fact]
    public void Interrupts_ReceivedData_FollowTriggerAndPriority()
    {
        _serial.WritePort(2, 1, 0x41); // FIFO, trigger at 4.
        _serial.WritePort(4, 1, 0x08);
        _serial.WritePort(1, 1, 0x01);
        Assert.Equal(0xC1u, _serial.ReadPort(2, 1));
        _serial.Receive(1);
        Assert.True(_line.Level);
        Assert.Equal(0xCCu, _serial.ReadPort(2, 1));
        _serial.Receive(2);
        _serial.Receive(3);
        _serial.Receive(4);
        Assert.Equal(0xC4u, _serial.ReadPort(2, 1));
        _serial.WritePort(2, 1, 0x43); // Clears the FIFO.
        Assert.False(_line.Level);
    }

    [Fact]
    public void Interrupts_Transmitter_RaisedByEnableAndClearedByIdentification()
    {
        _serial.WritePort(4, 1, 0x08);
        _serial.WritePort(1, 1, 0x02);
        Assert.True(_line.Level);
        Assert.Equal(0x02u, _serial.ReadPort(2, 1));
        Assert.False(_line.Level);
        Assert.Equal(0x01u, _serial.ReadPort(2, 1));
        _serial.WritePort(0, 1, 'x');
        Assert.True(_line.Level);
    }

    [Fact]
    public void Interrupts_TransmitterWrittenWithoutIdentification_GivesAnotherEdge()
    {
        _serial.WritePort(4, 1, 0x08);
        _serial.WritePort(1, 1, 0x02);
        int rises = _line.Rises;
        _serial.WritePort(0, 1, 'x');
        Assert.True(_line.Level);
        Assert.Equal(rises + 1, _line.Rises);
    }

    [Fact]
    public void Interrupts_AllCauses_AreIdentifiedByPriorityAndClearedEachItsOwnWay()
    {
        _serial.WritePort(2, 1, 0x41); // FIFO, trigger at 4.
        _serial.WritePort(4, 1, 0x18); // Loop-back, to move the modem lines.
        _serial.WritePort(4, 1, 0x08);
        _serial.WritePort(1, 1, 0x0F);
        for (byte i = 0; i < 17; i++)
        {
            _serial.Receive(i);
        }

        Assert.Equal(0xC6u, _serial.ReadPort(2, 1)); // Line status: the overrun.
        Assert.Equal(0x63u, _serial.ReadPort(5, 1));
        Assert.Equal(0xC4u, _serial.ReadPort(2, 1)); // Received data.
        for (int i = 0; i < 13; i++)
        {
            Assert.True(_line.Level);
            _serial.ReadPort(0, 1);
        }

        Assert.Equal(0xCCu, _serial.ReadPort(2, 1)); // Time-out: fewer than the trigger level.
        for (int i = 0; i < 3; i++)
        {
            _serial.ReadPort(0, 1);
        }

        Assert.Equal(0xC2u, _serial.ReadPort(2, 1)); // Transmitter, cleared by this.
        Assert.Equal(0xC0u, _serial.ReadPort(2, 1)); // Modem status.
        Assert.True(_line.Level);
        Assert.NotEqual(0u, _serial.ReadPort(6, 1) & 0x0F);
        Assert.Equal(0xC1u, _serial.ReadPort(2, 1));
        Assert.False(_line.Level);
    }

    [Theory]
    [InlineData(0x00, 1)]
    [InlineData(0x01, 1)]
    [InlineData(0x41, 4)]
    [InlineData(0x81, 8)]
    [InlineData(0xC1, 14)]
    public void Interrupts_ReceivedData_ComeAtTheTriggerLevel(uint control, int level)
    {
        _serial.WritePort(2, 1, control);
        _serial.WritePort(1, 1, 0x01);
        for (int i = 1; i < level; i++)
        {
            _serial.Receive(0);
            Assert.Equal(12u, _serial.ReadPort(2, 1) & 0x0F);
        }

        _serial.Receive(0);
        Assert.Equal(4u, _serial.ReadPort(2, 1) & 0x0F);
    }

    [Fact]
    public void Identification_OfTheChip_IsThatOfA16550A()
    {
        // As drivers look: FIFO bits 6 and 7 appear with FCR bit 0 and go with it; bit 5 (64-byte FIFO) never.
        _serial.WritePort(2, 1, 0x01);
        Assert.Equal(0xC0u, _serial.ReadPort(2, 1) & 0xF0);
        _serial.WritePort(2, 1, 0x21);
        Assert.Equal(0xC0u, _serial.ReadPort(2, 1) & 0xF0);
        _serial.WritePort(2, 1, 0x00);
        Assert.Equal(0u, _serial.ReadPort(2, 1) & 0xF0);
        _serial.WritePort(1, 1, 0xFF);
        Assert.Equal(0x0Fu, _serial.ReadPort(1, 1)); // No sleep mode.
        _serial.WritePort(4, 1, 0xFF);
        Assert.Equal(0x1Fu, _serial.ReadPort(4, 1)); // No automatic flow control.
    }

    [Fact]
    public void Interrupts_WithoutOut2_LineStaysLow()
    {
        _serial.WritePort(1, 1, 0x02);
        Assert.False(_line.Level);
        Assert.Equal(0x02u, _serial.ReadPort(2, 1));
    }

    [Fact]
    public void Loop_DataAndModemLines_ComeBack()
    {
        _serial.WritePort(4, 1, 0x1F);
        Assert.Equal(0xF0u, _serial.ReadPort(6, 1) & 0xF0);
        _serial.WritePort(4, 1, 0x1A);
        Assert.Equal(0x96u, _serial.ReadPort(6, 1)); // RTS and OUT2 loop; DSR changed, RI fell.
        Assert.Equal(0x90u, _serial.ReadPort(6, 1));
        _serial.WritePort(0, 1, 0x55);
        Assert.Empty(_sink.Console);
        Assert.Equal(0x55u, _serial.ReadPort(0, 1));
        _serial.Receive(9);
        Assert.Equal(0x60u, _serial.ReadPort(5, 1));
    }

    [Fact]
    public void Scratch_Written_ReadsBack()
    {
        _serial.WritePort(7, 1, 0xA5);
        Assert.Equal(0xA5u, _serial.ReadPort(7, 1));
    }

    [Fact]
    public void Component_Second_HasItsOwnNumber() =>
        Assert.Equal((ComponentId)99, new Serial16550(_sink, default, (ComponentId)99).Component);
}
