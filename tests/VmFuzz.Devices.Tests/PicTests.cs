namespace VmFuzz.Devices.Tests;

public sealed class PicTests
{
    private readonly Pic8259Pair _pic = new();
    private readonly IoBus _bus = new();

    public PicTests() => _pic.Attach(_bus);

    private void Out(int port, int value) => _bus.WritePort((ushort)port, 1, (uint)value);

    private int In(int port) => (int)_bus.ReadPort((ushort)port, 1);

    private void Initialise(int icw4 = 1)
    {
        Out(0x20, 0x11);
        Out(0x21, 0x20);
        Out(0x21, 0x04);
        Out(0x21, icw4);
        Out(0xA0, 0x11);
        Out(0xA1, 0x28);
        Out(0xA1, 0x02);
        Out(0xA1, icw4);
    }

    private void Pulse(int line)
    {
        _pic.SetLine(line, false);
        _pic.SetLine(line, true);
    }

    [Fact]
    public void Edge_Line_IsRequestedOnceAndServedByPriority()
    {
        Initialise();
        Pulse(4);
        Pulse(1);
        Assert.Equal(0x12, In(0x20));
        Assert.True(_pic.InterruptPending);
        Assert.Equal(0x21, _pic.Acknowledge());
        Assert.False(_pic.InterruptPending); // 4 waits for 1.
        Out(0x20, 0x0B);
        Assert.Equal(0x02, In(0x20));
        Out(0x20, 0x20);
        Assert.Equal(0x24, _pic.Acknowledge());
        Out(0x20, 0x20);
        Assert.False(_pic.InterruptPending);
    }

    [Fact]
    public void Slave_Line_GoesThroughCascade()
    {
        Initialise();
        Pulse(8);
        Pulse(10);
        Assert.Equal(0x28, _pic.Acknowledge());
        Out(0xA0, 0x20);
        Assert.False(_pic.InterruptPending); // The master still serves its input 2.
        Out(0x20, 0x20);
        Assert.Equal(0x2A, _pic.Acknowledge());
    }

    [Fact]
    public void SpecialFullyNested_HigherSlaveLine_InterruptsLower()
    {
        Initialise(icw4: 0x11);
        Pulse(12);
        Assert.Equal(0x2C, _pic.Acknowledge());
        Pulse(9);
        Assert.True(_pic.InterruptPending);
        Assert.Equal(0x29, _pic.Acknowledge());
    }

    [Fact]
    public void Mask_Line_HoldsItBack()
    {
        Initialise();
        Out(0x21, 0x10);
        Assert.Equal(0x10, In(0x21));
        Pulse(4);
        Assert.False(_pic.InterruptPending);
        Out(0x21, 0);
        Assert.Equal(0x24, _pic.Acknowledge());
    }

    [Fact]
    public void Acknowledge_NothingRequested_GivesSpurious()
    {
        Initialise();
        Assert.Equal(0x27, _pic.Acknowledge());
        Out(0x20, 0x0B);
        Assert.Equal(0, In(0x20));
    }

    [Fact]
    public void Edge_LineFallsBeforeAcknowledge_IsWithdrawn()
    {
        Initialise();
        Pulse(4);
        _pic.SetLine(4, false);
        Assert.False(_pic.InterruptPending);
        Assert.Equal(0x27, _pic.Acknowledge());
    }

    [Fact]
    public void Level_LineHeld_ComesAgainAfterEnd()
    {
        Initialise();
        Out(0x4D1, 0xFF);
        Assert.Equal(0xDE, In(0x4D1));
        _pic.SetLine(11, true);
        Assert.Equal(0x2B, _pic.Acknowledge());
        Out(0xA0, 0x20);
        Out(0x20, 0x20);
        Assert.True(_pic.InterruptPending);
        _pic.SetLine(11, false);
        Assert.False(_pic.InterruptPending);
    }

    [Fact]
    public void AutomaticEnd_Acknowledge_LeavesNothingInService()
    {
        Initialise(icw4: 3);
        Pulse(3);
        Assert.Equal(0x23, _pic.Acknowledge());
        Out(0x20, 0x0B);
        Assert.Equal(0, In(0x20));
    }

    [Fact]
    public void Rotate_OnEnd_MakesServedLineLowest()
    {
        Initialise();
        Pulse(3);
        Assert.Equal(0x23, _pic.Acknowledge());
        Out(0x20, 0xA0);
        Pulse(3);
        Pulse(4);
        Assert.Equal(0x24, _pic.Acknowledge());
        Out(0x20, 0x64); // Specific end of 4.
        Assert.Equal(0x23, _pic.Acknowledge());
    }

    [Fact]
    public void SetPriority_Command_ChoosesLowest()
    {
        Initialise();
        Out(0x20, 0xC5);
        Pulse(0);
        Pulse(6);
        Assert.Equal(0x26, _pic.Acknowledge());
    }

    [Fact]
    public void SpecialMask_MaskedInService_LetsLowerThrough()
    {
        Initialise();
        Pulse(1);
        Assert.Equal(0x21, _pic.Acknowledge());
        Pulse(5);
        Assert.False(_pic.InterruptPending);
        Out(0x21, 0x02);
        Out(0x20, 0x68);
        Assert.True(_pic.InterruptPending);
        Out(0x20, 0x48);
        Assert.False(_pic.InterruptPending);
    }

    [Fact]
    public void Poll_Read_AcknowledgesAndNamesLine()
    {
        Initialise();
        Pulse(6);
        Out(0x20, 0x0C);
        Assert.Equal(0x86, In(0x20));
        Out(0x20, 0x0B);
        Assert.Equal(0x40, In(0x20));
        Out(0x20, 0x0C);
        Assert.Equal(0, In(0x20));
    }

    [Fact]
    public void Initialisation_LineAlreadyHigh_NeedsNewEdge()
    {
        Pulse(4);
        Initialise();
        Assert.False(_pic.InterruptPending);
        Pulse(4);
        Assert.True(_pic.InterruptPending);
    }

    [Fact]
    public void X2Apic_Always_IsAbsent()
    {
        Assert.False(_pic.TryReadApicMsr(0x802, out _));
        Assert.False(_pic.TryWriteApicMsr(0x80B, 0));
        _pic.TaskPriority = 9;
        Assert.Equal(9, _pic.TaskPriority);
    }
}
