using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests.Integer;

/// <summary>String instructions, one iteration at a time.</summary>
public sealed unsafe class StringTests
{
    [Fact]
    public void RepMovs_Count_RetiresOnePerElement()
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rsi] = 0x4000;
        machine[Gpr.Rdi] = 0x5000;
        machine[Gpr.Rcx] = 3;
        machine.Store(0x4000, 0x1111);
        machine.Store(0x4010, 0x3333);
        Assert.Equal(ExecResult.Repeat, machine.Step(0xF3, 0x48, 0xA5));
        Assert.Equal(TestProcessor.Start, machine.Rip);
        Assert.Equal(2UL, machine[Gpr.Rcx]);
        Assert.Equal(2, machine.StepRepeated(0xF3, 0x48, 0xA5));
        Assert.Equal(0x1111UL, machine.Load(0x5000));
        Assert.Equal(0x3333UL, machine.Load(0x5010));
        Assert.Equal(0x4018UL, machine[Gpr.Rsi]);
        Assert.Equal(0x5018UL, machine[Gpr.Rdi]);
        Assert.Equal(TestProcessor.Start + 3, machine.Rip);
    }

    [Fact]
    public void Rep_CountZero_DoesNothing()
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rdi] = 0x8000_0000_0000_0000; // would fault
        Assert.Equal(1, machine.StepRepeated(0xF3, 0xAA));
        Assert.Equal(0x8000_0000_0000_0000UL, machine[Gpr.Rdi]);
    }

    [Fact]
    public void Stos_DirectionDown_16BitWraps()
    {
        using var machine = new TestProcessor(TestMode.Real);
        machine[Gpr.Rdi] = 0x7777_0000;
        machine[Gpr.Rax] = 0xBEEF;
        machine.Step(0xFD); // std
        machine.Step(0xAA); // stosb
        Assert.Equal(0xEFUL, machine.Load(0, 1));
        Assert.Equal(0x7777_FFFFUL, machine[Gpr.Rdi]);
    }

    [Fact]
    public void Lods_AddressSize32InLongMode_ClearsTheUpperIndex()
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rsi] = 0xFFFF_0000_0000_4000;
        machine.Store(0x4000, 0x1234_5678, 4);
        machine.Step(0x67, 0xAD);
        Assert.Equal(0x1234_5678UL, machine[Gpr.Rax]);
        Assert.Equal(0x4004UL, machine[Gpr.Rsi]);
    }

    [Theory]
    [InlineData(0xF3, 3, RFlags.Cf)] // repe: stops at the difference
    [InlineData(0xF2, 1, 0)] // repne: stops at the first equal byte
    public void RepCmps_Condition_StopsWhereFlagsSay(byte prefix, int retired, ulong carry)
    {
        using var machine = new TestProcessor();
        machine.Store(0x4000, 0x00_01_02_03, 4);
        machine.Store(0x5000, 0x00_FF_02_03, 4);
        machine[Gpr.Rsi] = 0x4000;
        machine[Gpr.Rdi] = 0x5000;
        machine[Gpr.Rcx] = 8;
        Assert.Equal(retired, machine.StepRepeated(prefix, 0xA6));
        Assert.Equal(8UL - (ulong)retired, machine[Gpr.Rcx]);
        Assert.Equal(carry, machine.Arithmetic & RFlags.Cf);
    }

    [Fact]
    public void RepneScas_FindsTheByte()
    {
        using var machine = new TestProcessor();
        machine.Store(0x5000, 0x44_33_22_11, 4);
        machine[Gpr.Rdi] = 0x5000;
        machine[Gpr.Rcx] = ulong.MaxValue;
        machine[Gpr.Rax] = 0x33;
        Assert.Equal(3, machine.StepRepeated(0xF2, 0xAE));
        Assert.Equal(0x5003UL, machine[Gpr.Rdi]);
        Assert.Equal(RFlags.Zf, machine.Arithmetic & RFlags.Zf);
    }

    [Fact]
    public void Movs_WriteFault_ChangesNothing()
    {
        using var machine = new TestProcessor();
        machine[Gpr.Rsi] = 0x4000;
        machine[Gpr.Rdi] = 0x8000_0000_0000_0000;
        machine[Gpr.Rcx] = 4;
        machine.AssertFault(Vector.Gp, machine.Step(0xF3, 0xA4));
        Assert.Equal(0x4000UL, machine[Gpr.Rsi]);
        Assert.Equal(4UL, machine[Gpr.Rcx]);
    }

    [Fact]
    public void Movs_SegmentOverride_AppliesToTheSource()
    {
        using var machine = new TestProcessor(TestMode.Real);
        machine.Cpu.State->Fs.Base = 0x10000;
        machine.Store(0x14000, 0x42, 1);
        machine[Gpr.Rsi] = 0x4000;
        machine[Gpr.Rdi] = 0x5000;
        machine.Step(0x64, 0xA4);
        Assert.Equal(0x42UL, machine.Load(0x5000, 1));
    }
}
