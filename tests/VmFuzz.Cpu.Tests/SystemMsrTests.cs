using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

public sealed unsafe class SystemMsrTests
{
    [Fact]
    public void Rows_Numbers_RiseWithoutOverlap()
    {
        for (int i = 1; i < MsrTable.Rows.Length; i++)
        {
            Assert.True(MsrTable.Rows[i].First > MsrTable.Rows[i - 1].Last, MsrTable.Rows[i].Name);
        }
    }

    [Theory]
    [InlineData(0x12345U)]
    [InlineData(0xC000_0105U)]
    [InlineData(0x480U)]
    [InlineData(0x801U)]
    public void UnknownMsr_ReadAndWrite_AreGeneralProtection(uint msr)
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Cpu[Gpr.Rcx] = msr;
        f.Faults(Vector.Gp, 0, 0x0F, 0x32);
        f.Faults(Vector.Gp, 0, 0x0F, 0x30);
    }

    [Theory]
    [InlineData(Msr.Pat, 0x0007_0406_0007_0406UL, true)]
    [InlineData(Msr.Pat, 0x0007_0406_0007_0206UL, false)]
    [InlineData(Msr.Lstar, 0x8000_0000_0000_0000UL, false)]
    [InlineData(Msr.Lstar, 0xFFFF_8000_0000_0000UL, true)]
    [InlineData(Msr.GsBase, 0x0001_0000_0000_0000UL, false)]
    [InlineData(Msr.SysenterEip, 0x0000_8000_0000_0000UL, false)]
    [InlineData(Msr.Fmask, 0x1_0000_0000UL, false)]
    [InlineData(Msr.Efer, 0x2UL, false)]
    [InlineData(Msr.Efer, Efer.Nxe | Efer.Lme | Efer.Sce, true)]
    [InlineData(Msr.MtrrCap, 0UL, false)]
    [InlineData(Msr.MtrrDefType, 0xC06UL, true)]
    [InlineData(Msr.MtrrDefType, 0x106UL, false)]
    [InlineData(Msr.MtrrDefType, 0x2UL, false)]
    [InlineData(Msr.MtrrPhysBase0, 0x8000_0006UL, true)]
    [InlineData(Msr.MtrrPhysBase0, 0x8000_0002UL, false)]
    [InlineData(Msr.MtrrPhysBase0 + 1, 0xFF_8000_0800UL, true)]
    [InlineData(Msr.MtrrPhysBase0 + 1, 0x100_0000_0800UL, false)]
    [InlineData(Msr.MtrrFix64K, 0x0606_0606_0606_0606UL, true)]
    [InlineData(Msr.MtrrFix4KC0000 + 7, 0x0303_0303_0303_0303UL, false)]
    [InlineData(Msr.ApicBase, 0xFEE0_0900UL, true)]
    [InlineData(Msr.ApicBase, 0xFEE0_0D00UL, true)]
    [InlineData(Msr.ApicBase, 0xFEE0_0500UL, false)]
    [InlineData(Msr.ApicBase, 0xFEE0_0901UL, false)]
    [InlineData(Msr.TscAux, 0x1_0000_0000UL, false)]
    [InlineData(Msr.DebugCtl, 0x3UL, true)]
    [InlineData(Msr.DebugCtl, 0x40UL, false)]
    [InlineData(Msr.BiosSignId, 0UL, true)]
    [InlineData(Msr.PlatformId, 0UL, false)]
    [InlineData(Msr.McgStatus, 8UL, false)]
    public void Wrmsr_Value_IsChecked(uint msr, ulong value, bool good)
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Cpu.TryReadMsr(msr, out ulong before);
        f.Cpu[Gpr.Rcx] = msr;
        f.Cpu[Gpr.Rax] = (uint)value;
        f.Cpu[Gpr.Rdx] = value >> 32;
        if (!good)
        {
            f.Faults(Vector.Gp, 0, 0x0F, 0x30);
            Assert.True(f.Cpu.TryReadMsr(msr, out ulong after));
            Assert.Equal(before, after);
            return;
        }

        f.Completes(0x0F, 0x30);
        f.Completes(0x0F, 0x32);
        if (msr != Msr.BiosSignId)
        {
            Assert.Equal(value, (f.Cpu[Gpr.Rdx] << 32) | f.Cpu[Gpr.Rax]);
        }
    }

    [Fact]
    public void Efer_LmeWithPaging_IsGeneralProtection()
    {
        using SystemFixture f = new SystemFixture().Long();
        Assert.False(f.Cpu.TryWriteMsr(Msr.Efer, Efer.Nxe));
        Assert.True(f.Cpu.TryWriteMsr(Msr.Efer, Efer.Lme));
        Assert.True(f.Cpu.LongMode);
    }

    [Fact]
    public void TscAndAdjust_Written_MoveTogether()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        Assert.True(f.Cpu.TryWriteMsr(Msr.Tsc, 5000));
        Assert.Equal((5000UL, 4000UL), (f.Cpu.Tsc, f.State->TscAdjust));
        Assert.True(f.Cpu.TryWriteMsr(Msr.TscAdjust, 0));
        Assert.Equal(1000UL, f.Cpu.Tsc);
    }

    [Fact]
    public void FeatureControl_Locked_RefusesWrites()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        Assert.True(f.Cpu.TryWriteMsr(Msr.FeatureControl, 5));
        Assert.False(f.Cpu.TryWriteMsr(Msr.FeatureControl, 5));
    }

    private sealed class Extension : IMsrExtension
    {
        public bool TryRead(uint msr, out ulong value, out bool fault)
        {
            value = 0xABC;
            fault = false;
            return msr == 0x480;
        }

        public bool TryWrite(uint msr, ulong value, out bool fault)
        {
            fault = true;
            return msr == 0x480;
        }
    }

    [Fact]
    public void Extension_OwnsItsRegisters()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Cpu.MsrExtension = new Extension();
        Assert.True(f.Cpu.TryReadMsr(0x480, out ulong value));
        Assert.Equal(0xABCUL, value);
        Assert.False(f.Cpu.TryWriteMsr(0x480, 1));
        Assert.True(f.Cpu.TryWriteMsr(Msr.Star, 1));
    }
}
