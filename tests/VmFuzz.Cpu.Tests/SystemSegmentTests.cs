using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

public sealed unsafe class SystemSegmentTests
{
    [Fact]
    public void MovToDs_InRealMode_ChangesTheBaseOnly()
    {
        using SystemFixture f = new SystemFixture().Real();
        f.State->Ds.Limit = 0xFFFF_FFFF;
        f.Cpu[Gpr.Rax] = 0x1234;
        Assert.Equal(ExecResult.NextAndLook, f.Execute(0x8E, 0xD8));
        Assert.Equal(0x12340UL, f.State->Ds.Base);
        Assert.Equal(0xFFFF_FFFFU, f.State->Ds.Limit);
    }

    [Fact]
    public void MovToDs_FromATableAcrossFourGigabytes_Wraps()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.State->Gdtr.Base = 0xFFFF_FFF8;
        f.Write(0, 8, 0x00CF_9200_0000_FFFF);
        f.Cpu[Gpr.Rax] = 8;
        f.Completes(0x8E, 0xD8);
        Assert.Equal((8UL, 0x93UL), (f.State->Ds.Selector, f.Read(5, 1)));
    }

    [Fact]
    public void MovToSs_Any_SetsTheShadow()
    {
        using SystemFixture f = new SystemFixture().Real();
        f.Completes(0x8E, 0xD0);
        Assert.Equal(2UL, f.State->Interruptibility);
    }

    [Theory]
    [InlineData(SystemFixture.Data0, 0, 0, 0)]
    [InlineData(SystemFixture.Data3, 0, 0, 0)]
    [InlineData(SystemFixture.Data0, 3, Vector.Gp, SystemFixture.Data0)]
    [InlineData(SystemFixture.Data0 | 3, 0, Vector.Gp, SystemFixture.Data0)]
    [InlineData(SystemFixture.Conforming | 3, 3, 0, 0)]
    [InlineData(SystemFixture.ExecuteOnly, 0, Vector.Gp, SystemFixture.ExecuteOnly)]
    [InlineData(SystemFixture.Absent, 0, Vector.Np, SystemFixture.Absent)]
    [InlineData(SystemFixture.Tss32, 0, Vector.Gp, SystemFixture.Tss32)]
    [InlineData(0x200, 0, Vector.Gp, 0x200)]
    [InlineData(0x14, 0, Vector.Gp, 0x14)]
    [InlineData(3, 0, 0, 0)]
    public void MovToDs_InProtectedMode_FollowsTheRules(int selector, int cpl, int vector, int error)
    {
        using SystemFixture f = new SystemFixture().Protected32(cpl);
        f.Cpu[Gpr.Rax] = (ulong)selector;
        SegmentState before = f.State->Ds;
        if (vector != 0)
        {
            f.Faults((byte)vector, (ulong)error, 0x8E, 0xD8);
            Assert.Equal(before, f.State->Ds);
            return;
        }

        f.Completes(0x8E, 0xD8);
        Assert.Equal((ulong)selector, f.State->Ds.Selector);
        Assert.Equal((selector & ~3) != 0, f.State->Ds.Usable);
    }

    [Theory]
    [InlineData(0, 0, Vector.Gp, 0)]
    [InlineData(SystemFixture.ReadOnly, 0, Vector.Gp, SystemFixture.ReadOnly)]
    [InlineData(SystemFixture.Data3, 0, Vector.Gp, 0x20)]
    [InlineData(SystemFixture.Absent, 0, Vector.Ss, SystemFixture.Absent)]
    [InlineData(SystemFixture.Data0, 3, Vector.Gp, SystemFixture.Data0)]
    public void MovToSs_Wrong_Faults(int selector, int cpl, int vector, int error)
    {
        using SystemFixture f = new SystemFixture().Protected32(cpl);
        f.Cpu[Gpr.Rax] = (ulong)selector;
        f.Faults((byte)vector, (ulong)error, 0x8E, 0xD0);
        Assert.Equal(0UL, f.State->Interruptibility);
    }

    [Fact]
    public void MovToSs_NullIn64BitLevel0_IsAllowed()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.Cpu[Gpr.Rax] = 0;
        f.Completes(0x8E, 0xD0);
        Assert.False(f.State->Ss.Usable);
        Assert.Equal(0, f.Cpu.Cpl);
    }

    [Fact]
    public void Load_OfAFreshDescriptor_SetsAccessed()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Cpu[Gpr.Rax] = SystemFixture.Data3;
        Assert.Equal(0xF2UL, f.Read(SystemFixture.GdtBase + 0x25, 1));
        f.Completes(0x8E, 0xC0);
        Assert.Equal(0xF3UL, f.Read(SystemFixture.GdtBase + 0x25, 1));
        Assert.Equal(0xC0F3U, f.State->Es.Attributes);
    }

    [Fact]
    public void Les_FromMemory_LoadsBoth()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Write(0xA000, 4, 0x1234_5678);
        f.Write(0xA004, 2, SystemFixture.Data3);
        f.Completes(0xC4, 0x05, 0x00, 0xA0, 0x00, 0x00);
        Assert.Equal(0x1234_5678UL, f.Cpu[Gpr.Rax]);
        Assert.Equal((ulong)SystemFixture.Data3, f.State->Es.Selector);
    }

    [Fact]
    public void Lss_Loaded_HasNoShadow()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Write(0xA000, 4, 0x7100);
        f.Write(0xA004, 2, SystemFixture.Data0);
        f.Completes(0x0F, 0xB2, 0x25, 0x00, 0xA0, 0x00, 0x00);
        Assert.Equal((0x7100UL, 0UL), (f.Cpu[Gpr.Rsp], f.State->Interruptibility));
    }

    [Fact]
    public void PopSs_WithFault_LeavesTheStack()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.PushAll(4, SystemFixture.ReadOnly);
        ulong rsp = f.Cpu[Gpr.Rsp];
        f.Faults(Vector.Gp, SystemFixture.ReadOnly, 0x17);
        Assert.Equal(rsp, f.Cpu[Gpr.Rsp]);
    }

    [Fact]
    public void PushFsPopGs_In64BitMode_MovesEightBytes()
    {
        using SystemFixture f = new SystemFixture().Long();
        ulong rsp = f.Cpu[Gpr.Rsp];
        f.Completes(0x0F, 0xA0);
        Assert.Equal(rsp - 8, f.Cpu[Gpr.Rsp]);
        f.State->Gs.Selector = 0;
        f.Completes(0x0F, 0xA9);
        Assert.Equal((ulong)SystemFixture.Data0, f.State->Gs.Selector);
        Assert.Equal(rsp, f.Cpu[Gpr.Rsp]);
    }

    [Fact]
    public void Ltr_OfAFreeTss_MarksItBusy()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Cpu[Gpr.Rax] = SystemFixture.Tss32;
        f.Completes(0x0F, 0x00, 0xD8);
        Assert.Equal(0x8BUL, f.Read(SystemFixture.GdtBase + 0x2D, 1));
        Assert.Equal(0x8BU, f.State->Tr.Attributes);
        f.Faults(Vector.Gp, SystemFixture.Tss32, 0x0F, 0x00, 0xD8);
    }

    [Fact]
    public void Lldt_In64BitMode_ReadsSixteenBytes()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.Write(SystemFixture.GdtBase + SystemFixture.Ldt + 8, 8, 0xFFFF_8000);
        f.Cpu[Gpr.Rax] = SystemFixture.Ldt;
        f.Completes(0x0F, 0x00, 0xD0);
        Assert.Equal(0xFFFF_8000_0000_4000UL, f.State->Ldtr.Base);
    }

    [Fact]
    public void LgdtSgdt_In64BitMode_RoundTrip()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.Write(0xA000, 2, 0x77);
        f.Write(0xA002, 8, 0xFFFF_8000_0000_1000);
        f.Cpu[Gpr.Rax] = 0xA000;
        f.Completes(0x0F, 0x01, 0x10);
        Assert.Equal(0xFFFF_8000_0000_1000UL, f.State->Gdtr.Base);
        f.Cpu[Gpr.Rax] = 0xA100;
        f.Completes(0x0F, 0x01, 0x00);
        Assert.Equal(0xFFFF_8000_0000_1000UL, f.Read(0xA102, 8));
        f.Write(0xA002, 8, 0x8000_0000_0000_1000);
        f.Cpu[Gpr.Rax] = 0xA000;
        f.Faults(Vector.Gp, 0, 0x0F, 0x01, 0x10);
    }

    [Theory]
    [InlineData(SystemFixture.Data0, 0, true)]
    [InlineData(SystemFixture.Data0, 3, false)]
    [InlineData(SystemFixture.Conforming, 3, true)]
    [InlineData(SystemFixture.ExecuteOnly, 0, false)]
    [InlineData(SystemFixture.Tss32, 0, false)]
    public void Verr_Selector_SetsZf(int selector, int cpl, bool good)
    {
        using SystemFixture f = new SystemFixture().Protected32(cpl);
        f.Cpu[Gpr.Rax] = (ulong)selector;
        f.Completes(0x0F, 0x00, 0xE0);
        Assert.Equal(good, (f.Cpu.RFlagsValue & RFlags.Zf) != 0);
    }

    [Fact]
    public void LarLsl_OfCode_GiveRightsAndLimit()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Cpu[Gpr.Rcx] = SystemFixture.Code3;
        f.Completes(0x0F, 0x02, 0xC1);
        Assert.Equal(0x00CF_FA00UL, f.Cpu[Gpr.Rax]);
        f.Completes(0x0F, 0x03, 0xC1);
        Assert.Equal(0xFFFF_FFFFUL, f.Cpu[Gpr.Rax]);
    }

    [Fact]
    public void Arpl_LowerRpl_IsRaised()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Cpu[Gpr.Rax] = 0xABCD_0010;
        f.Cpu[Gpr.Rcx] = 3;
        f.Completes(0x63, 0xC8);
        Assert.Equal(0xABCD_0013UL, f.Cpu[Gpr.Rax]);
        Assert.NotEqual(0UL, f.Cpu.RFlagsValue & RFlags.Zf);
    }
}
