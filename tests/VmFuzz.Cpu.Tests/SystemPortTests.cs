using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

public sealed unsafe class SystemPortTests
{
    [Fact]
    public void InAndOut_AtLevel0_ReachTheBus()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Cpu[Gpr.Rax] = 0xFFFF_FFFF_0000_0000;
        f.Cpu[Gpr.Rdx] = 0x3F8;
        f.Completes(0xEC);
        Assert.Equal(0xFFFF_FFFF_0000_0034UL, f.Cpu[Gpr.Rax]);
        f.Completes(0xED);
        Assert.Equal(0xA5A5_1234UL, f.Cpu[Gpr.Rax]);
        f.Completes(0xE6, 0x80);
        Assert.Equal(["in 3f8 1", "in 3f8 4", "out 80 1 34"], f.BusLog);
    }

    [Theory]
    [InlineData(0x3F8, 1, 0, true)]
    [InlineData(0x3F8, 1, 1, false)]
    [InlineData(0x3F7, 2, 1, false)] // the second byte's bit is set, in the next byte of the map
    [InlineData(0x3F4, 4, 1, true)]
    public void Bitmap_AboveIopl_DecidesByEveryBit(int port, int size, int bitOf3F8, bool allowed)
    {
        using SystemFixture f = new SystemFixture().Protected32(3);
        f.Write(SystemFixture.TssBase + 104 + (0x3F8 / 8), 1, (ulong)bitOf3F8);
        f.Cpu[Gpr.Rdx] = (ulong)port;
        byte[] code = size switch
        {
            1 => [0xEC],
            2 => [0x66, 0xED],
            _ => [0xED],
        };
        if (allowed)
        {
            f.Completes(code);
            Assert.Single(f.BusLog);
        }
        else
        {
            f.Faults(Vector.Gp, 0, code);
            Assert.Empty(f.BusLog);
        }
    }

    [Fact]
    public void Bitmap_BeyondTheLimit_IsGeneralProtection()
    {
        using SystemFixture f = new SystemFixture().Protected32(3);
        f.State->Tr.Limit = 104 + 0x7F;
        f.Cpu[Gpr.Rdx] = 0x3F8;
        f.Faults(Vector.Gp, 0, 0xEC);
        f.Cpu.RFlagsValue = RFlags.Iopl;
        f.Completes(0xEC);
    }

    [Fact]
    public void Virtual8086Mode_WithIopl3_StillAsksTheBitmap()
    {
        using SystemFixture f = new SystemFixture().V86(3);
        f.Write(SystemFixture.TssBase + 104 + (0x60 / 8), 1, 1);
        f.Faults(Vector.Gp, 0, 0xE4, 0x60);
    }

    [Fact]
    public void RepInsb_OneIterationEach_UntilTheCountIsUp()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Cpu[Gpr.Rdx] = 0x1F0;
        f.Cpu[Gpr.Rdi] = 0xA000;
        f.Cpu[Gpr.Rcx] = 2;
        Assert.Equal(ExecResult.Repeat, f.Execute(0xF3, 0x6C));
        Assert.Equal(SystemFixture.CodeAt, f.Cpu.Rip);
        Assert.Equal(ExecResult.NextAndLook, f.Execute(0xF3, 0x6C));
        Assert.Equal((0x3434UL, 0xA002UL, 0UL), (f.Read(0xA000, 2), f.Cpu[Gpr.Rdi], f.Cpu[Gpr.Rcx]));
        Assert.Equal(ExecResult.Next, f.Execute(0xF3, 0x6C));
        Assert.Equal(2, f.BusLog.Count);
    }

    [Fact]
    public void Ins_WithFaultingDestination_DoesNotReadThePort()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.State->Es.Limit = 0x100;
        f.Cpu[Gpr.Rdi] = 0xA000;
        f.Faults(Vector.Gp, 0, 0x6C);
        Assert.Empty(f.BusLog);
    }

    [Fact]
    public void Outsw_Backwards_UsesTheSegmentOverride()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.State->Fs.Base = 0x1000;
        f.Write(0xB000, 2, 0xBEEF);
        f.Cpu[Gpr.Rsi] = 0xA000;
        f.Cpu[Gpr.Rdx] = 0x70;
        f.Cpu.RFlagsValue = RFlags.Df;
        f.Completes(0x64, 0x66, 0x6F);
        Assert.Equal(["out 70 2 beef"], f.BusLog);
        Assert.Equal(0x9FFEUL, f.Cpu[Gpr.Rsi]);
    }

    [Fact]
    public void Hlt_AtLevel0_Halts()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        Assert.Equal(ExecResult.Halt, f.Execute(0xF4));
    }
}
