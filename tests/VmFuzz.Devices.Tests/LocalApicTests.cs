using VmFuzz.Arch;
using VmFuzz.Devices.Apic;

namespace VmFuzz.Devices.Tests;

/// <summary>Local APIC (SDM "Advanced Programmable Interrupt Controller (APIC)").</summary>
public sealed class LocalApicTests
{
    private const ulong Base = 0xFEE0_0000;
    private const int Eoi = 0xB0;
    private const int Svr = 0xF0;
    private const int Esr = 0x280;
    private const int IcrLow = 0x300;
    private const int IcrHigh = 0x310;
    private const int LvtTimer = 0x320;
    private const int Lint0 = 0x350;
    private const int Lint1 = 0x360;
    private const int LvtError = 0x370;

    private readonly TestMachine _m = new();

    private LocalApic Apic => _m.Apic;

    private uint Read(int offset) => (uint)_m.Bus.ReadMmio(new Gpa(Base + (ulong)offset), 4);

    private void Write(int offset, uint value) => _m.Bus.WriteMmio(new Gpa(Base + (ulong)offset), 4, value);

    private void Enable() => Write(Svr, 0x1FF);

    private void Self(byte vector) => Write(IcrLow, 0x4_0000u | vector);

    private ulong X2(uint register)
    {
        Assert.True(Apic.TryReadApicMsr(0x800 + register, out ulong value), $"MSR 0x{0x800 + register:x}");
        return value;
    }

    [Fact]
    public void Registers_AfterReset_HaveTheirValues()
    {
        Assert.Equal(0x0106_0014u, Read(0x30));
        Assert.Equal(0u, Read(0x20));
        Assert.Equal(0xFFu, Read(Svr));
        Assert.Equal(0xFFFF_FFFFu, Read(0xE0));
        int[] entries = [0x2F0, 0x320, 0x330, 0x340, Lint0, Lint1, LvtError];
        Assert.All(entries, e => Assert.Equal(0x1_0000u, Read(e)));
    }

    [Fact]
    public void Init_OfAnApicInUse_LeavesOnlyItsNumber()
    {
        Enable();
        Write(0x20, 0x0500_0000);
        Write(0x80, 0x40);
        Write(LvtError, 0x33);
        Write(LvtTimer, 0x44);
        Write(0x380, 1000);
        Self(0x30);
        Apic.Init();
        Assert.Equal(0x0500_0000u, Read(0x20));
        Assert.Equal((0u, 0xFFu, 0x1_0000u, 0x1_0000u, 0u), (Read(0x80), Read(Svr), Read(LvtError), Read(LvtTimer), Read(0x380)));
        Assert.False(Apic.InterruptPending);
        Assert.Equal(0u, Read(0x210));
    }

    [Fact]
    public void Lvt_WhileSoftwareDisabled_StaysMasked()
    {
        Write(LvtError, 0x33);
        Assert.Equal(0x1_0033u, Read(LvtError));
        Enable();
        Write(LvtError, 0x33);
        Assert.Equal(0x33u, Read(LvtError));
        Write(Svr, 0xFF);
        Assert.Equal(0x1_0033u, Read(LvtError));
    }

    [Fact]
    public void SelfIpi_Accepted_IsAcknowledgedAndEnded()
    {
        Enable();
        Self(0x41);
        Assert.Equal(2u, Read(0x220));
        Assert.True(Apic.InterruptPending);
        Assert.Equal(0x41, Apic.Acknowledge());
        Assert.Equal(0u, Read(0x220));
        Assert.Equal(2u, Read(0x120));
        Assert.Equal(0x40u, Read(0xA0));
        Assert.False(Apic.InterruptPending);
        Write(Eoi, 0);
        Assert.Equal(0u, Read(0x120));
    }

    [Fact]
    public void Interrupts_OfHigherClass_GoFirstAndNest()
    {
        Enable();
        Self(0x41);
        Assert.Equal(0x41, Apic.Acknowledge());
        Self(0x4F);
        Assert.False(Apic.InterruptPending); // The same class waits.
        Self(0x91);
        Self(0x52);
        Assert.Equal(0x91, Apic.Acknowledge());
        Assert.False(Apic.InterruptPending);
        Write(Eoi, 0);
        Assert.Equal(0x52, Apic.Acknowledge());
        Write(Eoi, 0);
        Write(Eoi, 0);
        Assert.Equal(0x4F, Apic.Acknowledge());
    }

    [Fact]
    public void TaskPriority_OfTheSameClass_HoldsBack()
    {
        Enable();
        Write(0x80, 0x50);
        Self(0x5F);
        Assert.False(Apic.InterruptPending);
        Assert.Equal(5, Apic.TaskPriority);
        Apic.TaskPriority = 4;
        Assert.Equal(0x40u, Read(0x80));
        Assert.True(Apic.InterruptPending);
        Apic.TaskPriority = 6;
        Assert.Equal(0xFF, Apic.Acknowledge()); // Raised in between: the spurious vector, nothing in service.
        Assert.Equal(0u, Read(0x120));
        Assert.Equal(0x60u, Read(0xA0));
    }

    [Fact]
    public void ExternalInterrupt_ThroughLint0_ComesAfterOwn()
    {
        Enable();
        Write(Lint0, 0x700);
        _m.Out(0x20, 0x11);
        _m.Out(0x21, 0x20);
        _m.Out(0x21, 4);
        _m.Out(0x21, 1);
        _m.Pic.SetLine(5, true);
        Assert.True(Apic.InterruptPending);
        Self(0x61);
        Assert.Equal(0x61, Apic.Acknowledge());
        Assert.Equal(0x25, Apic.Acknowledge()); // No priority holds it back.
        Assert.False(Apic.InterruptPending);
    }

    [Fact]
    public void ExternalInterrupt_WithLint0Masked_DoesNotPass()
    {
        _m.Pic.SetLine(5, true);
        Assert.True(_m.Pic.InterruptPending);
        Assert.False(Apic.InterruptPending);
        Apic.ConnectVirtualWire();
        Assert.True(Apic.InterruptPending);
    }

    [Fact]
    public void GlobalDisable_ThenEnable_KeepsRegisters()
    {
        Enable();
        Write(LvtError, 0x33);
        _m.Pic.SetLine(3, true);
        Assert.False(Apic.InterruptPending);
        _m.Cpu.ApicBase &= ~0x800UL;
        Assert.Equal(0xFFFF_FFFFu, Read(0x30)); // Nobody answers.
        Assert.True(Apic.InterruptPending); // LINT0 is the INTR pin.
        _m.Cpu.ApicBase |= 0x800;
        Assert.Equal(0x33u, Read(LvtError));
        Assert.False(Apic.InterruptPending);
    }

    [Fact]
    public void Base_Moved_MovesThePage()
    {
        _m.Cpu.ApicBase = 0x4200_0900;
        Assert.Equal(0xFFFF_FFFFu, Read(0x30));
        Assert.Equal(0x0106_0014ul, _m.Bus.ReadMmio(new Gpa(0x4200_0030), 4));
        Assert.Equal(0x06ul, _m.Bus.ReadMmio(new Gpa(0x4200_0032), 1));
        Assert.Equal(ulong.MaxValue, _m.Bus.ReadMmio(new Gpa(0x4200_1000), 8));
    }

    [Fact]
    public void Error_IllegalVectors_AreLatchedByAWrite()
    {
        Enable();
        Write(LvtError, 0x55);
        Self(0x0F);
        Assert.Equal(0u, Read(Esr));
        Assert.Equal(0x55, Apic.Acknowledge());
        Read(0x3D0); // No such register: the error interrupt is not armed yet.
        Assert.False(Apic.InterruptPending);
        Write(Esr, 0);
        Assert.Equal(0xA0u, Read(Esr));
        Write(Esr, 0);
        Assert.Equal(0u, Read(Esr));
        Apic.Accept(new ApicMessage(ApicDelivery.Fixed, 3, 0));
        Write(Esr, 0);
        Assert.Equal(0x40u, Read(Esr));
    }

    [Fact]
    public void Lint1_AsNmi_SignalsEachEdge()
    {
        Enable();
        Write(Lint1, 0x400);
        Apic.SetLine(1, true);
        Apic.SetLine(1, true);
        Assert.Equal(["signal Nmi 00"], _m.Sink.Log);
        Apic.SetLine(1, false);
        Apic.SetLine(1, true);
        Assert.Equal(2, _m.Sink.Log.Count);
    }

    [Fact]
    public void Lint0_LevelTriggered_ComesAgainAfterItsEnd()
    {
        Enable();
        Write(Lint0, 0x8000 | 0x71);
        Apic.SetLine(0, true);
        Assert.Equal(0x4000u, Read(Lint0) & 0x4000);
        Assert.Equal(0x71, Apic.Acknowledge());
        Assert.False(Apic.InterruptPending);
        Write(Eoi, 0);
        Assert.True(Apic.InterruptPending);
        Apic.SetLine(0, false);
        Assert.Equal(0x71, Apic.Acknowledge());
        Write(Eoi, 0);
        Assert.False(Apic.InterruptPending);
        Assert.Equal(0u, Read(Lint0) & 0x4000);
    }

    [Theory]
    [InlineData(0x000C_4500u)] // INIT to all but self: nobody.
    [InlineData(0x000C_0608u)] // Start-up to all but self.
    [InlineData(0x0004_0400u)] // NMI to self by shorthand is not valid.
    [InlineData(0x0000_8500u)] // INIT, level de-assert.
    [InlineData(0x0000_0700u)] // Reserved.
    [InlineData(0x0000_0300u)]
    public void Command_ThatReachesNobody_IsHarmless(uint command)
    {
        Enable();
        Write(IcrHigh, 0);
        Write(IcrLow, command);
        Assert.Empty(_m.Sink.Log);
        Assert.Equal(command & 0x000C_CFFF, Read(IcrLow));
        Write(IcrLow, 0x400);
        Assert.Equal(["signal Nmi 00"], _m.Sink.Log);
    }

    [Fact]
    public void X2Apic_Registers_FollowTheirRules()
    {
        Assert.False(Apic.TryReadApicMsr(0x803, out _));
        _m.Cpu.ApicBase = 0xFEE0_0D00;
        Assert.Equal(0xFFFF_FFFFu, Read(0x30)); // No page in x2APIC mode.
        Assert.Equal(0x0106_0014ul, X2(3));
        Assert.Equal(1ul, X2(0xD)); // Logical number from the number.
        Assert.True(Apic.TryWriteApicMsr(0x80F, 0x1FF));
        Assert.Equal(0x1FFul, X2(0xF));
        uint[] absent = [0x00, 0x07, 0x09, 0x0C, 0x0E, 0x29, 0x31, 0x3A, 0x40, 0xFF];
        Assert.All(absent, r => Assert.False(Apic.TryReadApicMsr(0x800 + r, out _), $"0x{r:x} reads"));
        Assert.All(absent, r => Assert.False(Apic.TryWriteApicMsr(0x800 + r, 0), $"0x{r:x} is written"));
        uint[] readOnly = [0x02, 0x03, 0x0A, 0x0D, 0x10, 0x18, 0x20, 0x39];
        Assert.All(readOnly, r => Assert.False(Apic.TryWriteApicMsr(0x800 + r, 0), $"0x{r:x} is written"));
        Assert.False(Apic.TryReadApicMsr(0x80B, out _));
        Assert.False(Apic.TryReadApicMsr(0x83F, out _));
        (uint Register, ulong Value)[] reserved =
        [
            (0x08, 0x100), (0x0B, 1), (0x0F, 0x200), (0x28, 1), (0x30, 0x1000), (0x30, 0x10_0000), (0x32, 0x100),
            (0x33, 0x800), (0x35, 0x2_0000), (0x37, 0x400), (0x38, 1UL << 32), (0x3E, 4), (0x3F, 0x100),
        ];
        Assert.All(reserved, r => Assert.False(Apic.TryWriteApicMsr(0x800 + r.Register, r.Value), $"0x{r.Register:x} takes 0x{r.Value:x}"));
        Assert.True(Apic.TryWriteApicMsr(0x83F, 0x77));
        Assert.Equal(0x77, Apic.Acknowledge());
        Assert.True(Apic.TryWriteApicMsr(0x80B, 0));
        Assert.True(Apic.TryWriteApicMsr(0x830, 0x66)); // Number 0.
        Assert.Equal(0x66, Apic.Acknowledge());
        Assert.True(Apic.TryWriteApicMsr(0x830, 0x1_0000_0066));
        Assert.Equal(0x1_0000_0066ul, X2(0x30));
        Assert.False(Apic.InterruptPending);
        Assert.True(Apic.TryWriteApicMsr(0x80B, 0));
        Assert.True(Apic.TryWriteApicMsr(0x830, 0xFFFF_FFFF_0000_0066)); // Everybody.
        Assert.True(Apic.InterruptPending);
    }

    [Fact]
    public void Timer_OneShot_CountsAndInterruptsOnce()
    {
        Enable();
        Write(0x3E0, 0); // By 2.
        Write(LvtTimer, 0x80);
        Write(0x380, 1000);
        _m.Advance(500);
        Assert.Equal(750u, Read(0x390));
        Assert.False(Apic.InterruptPending);
        _m.Advance(1500);
        Assert.Equal(0u, Read(0x390));
        Assert.Equal(0x80, Apic.Acknowledge());
        Assert.Equal(ulong.MaxValue, _m.Events.NextDeadline);
        _m.Advance(100_000);
        Assert.False(Apic.InterruptPending);
    }

    [Fact]
    public void Timer_Periodic_ComesEveryPeriodUntilStopped()
    {
        Enable();
        Write(0x3E0, 0xB); // By 1.
        Write(LvtTimer, 0x2_0080);
        Write(0x380, 1000);
        for (int i = 0; i < 5; i++)
        {
            _m.Advance(999);
            Assert.False(Apic.InterruptPending);
            _m.Advance(1);
            Assert.Equal(0x80, Apic.Acknowledge());
            Write(Eoi, 0);
        }

        _m.Advance(2300); // One interrupt waits; the phase is kept.
        Assert.Equal(700u, Read(0x390));
        Assert.Equal(0x80, Apic.Acknowledge());
        Write(Eoi, 0);
        Assert.False(Apic.InterruptPending);
        _m.Advance(700);
        Assert.True(Apic.InterruptPending);
        Write(0x380, 0);
        Assert.Equal(0u, Read(0x390));
        Assert.Equal(ulong.MaxValue, _m.Events.NextDeadline);
    }

    [Theory]
    [InlineData(0xBu, 0)]
    [InlineData(0x0u, 1)]
    [InlineData(0x1u, 2)]
    [InlineData(0x2u, 3)]
    [InlineData(0x3u, 4)]
    [InlineData(0x8u, 5)]
    [InlineData(0x9u, 6)]
    [InlineData(0xAu, 7)]
    public void Timer_DivideConfiguration_Divides(uint divide, int shift)
    {
        Write(0x3E0, divide);
        Write(0x380, 1 << 20);
        _m.Advance(1 << 12);
        Assert.Equal((1u << 20) - (1u << (12 - shift)), Read(0x390));
    }

    [Fact]
    public void Timer_MaskedThenUnmasked_DoesNotInterruptLate()
    {
        Enable();
        Write(0x3E0, 0xB);
        Write(LvtTimer, 0x1_0080);
        Write(0x380, 100);
        _m.Advance(200);
        Write(LvtTimer, 0x80);
        Assert.False(Apic.InterruptPending);
    }

    [Fact]
    public void Timer_TscDeadline_FiresAtTheTsc()
    {
        Enable();
        Assert.True(Apic.TryWriteApicMsr(0x6E0, 5000)); // Another mode: ignored.
        Assert.True(Apic.TryReadApicMsr(0x6E0, out ulong value));
        Assert.Equal(0ul, value);
        Write(LvtTimer, 0x4_0080);
        Write(0x380, 10);
        Assert.Equal(0u, Read(0x380));
        _m.Cpu.TscOffset = 1000;
        Assert.True(Apic.TryWriteApicMsr(0x6E0, 5000));
        _m.Advance(3999);
        Assert.True(Apic.TryReadApicMsr(0x6E0, out value));
        Assert.Equal(5000ul, value);
        Assert.False(Apic.InterruptPending);
        _m.Advance(1);
        Assert.Equal(0x80, Apic.Acknowledge());
        Write(Eoi, 0);
        Assert.True(Apic.TryReadApicMsr(0x6E0, out value));
        Assert.Equal(0ul, value);
        Assert.True(Apic.TryWriteApicMsr(0x6E0, 1)); // Past already.
        Assert.Equal(0x80, Apic.Acknowledge());
        Write(Eoi, 0);

        // A later TSC moves the deadline; leaving the mode disarms.
        Assert.True(Apic.TryWriteApicMsr(0x6E0, 1_000_000));
        _m.Cpu.TscOffset = 1_000_000;
        Apic.ProcessorMsrWritten();
        Assert.Equal(0x80, Apic.Acknowledge());
        Write(Eoi, 0);
        Assert.True(Apic.TryWriteApicMsr(0x6E0, 10_000_000));
        Write(LvtTimer, 0x80);
        Assert.Equal(ulong.MaxValue, _m.Events.NextDeadline);
    }

    [Fact]
    public void Timer_ThatNobodyTakes_NeedsNoEvents()
    {
        Enable();
        Write(0x80, 0xFF);
        Write(0x3E0, 0xB);
        Write(LvtTimer, 0x2_0080);
        Write(0x380, 1);
        _m.Advance(1);
        Assert.Equal(ulong.MaxValue, _m.Events.NextDeadline);
        Write(0x80, 0);
        _m.Advance(10);
        Assert.Equal(0x80, Apic.Acknowledge());
        Assert.Equal(_m.Clock.Now + 1, _m.Events.NextDeadline);
    }
}
