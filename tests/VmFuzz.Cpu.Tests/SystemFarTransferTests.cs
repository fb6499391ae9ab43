using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

public sealed unsafe class SystemFarTransferTests
{
    // JMP ptr16:32 with the operand size of 32-bit code.
    private static byte[] FarJump(ushort selector, uint offset) =>
        [0xEA, .. BitConverter.GetBytes(offset), .. BitConverter.GetBytes(selector)];

    private static byte[] FarCall(ushort selector, uint offset) =>
        [0x9A, .. BitConverter.GetBytes(offset), .. BitConverter.GetBytes(selector)];

    [Fact]
    public void FarJump_InRealMode_SetsCsAndIp()
    {
        using SystemFixture f = new SystemFixture().Real();
        Assert.Equal(ExecResult.Jump, f.Execute(0xEA, 0x34, 0x12, 0x00, 0xF0));
        Assert.Equal((0xF000UL, 0xF0000UL, 0x1234UL), (f.State->Cs.Selector, f.State->Cs.Base, f.Cpu.Rip));
    }

    [Fact]
    public void FarJump_AfterSettingPe_Enters32BitCode()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.SetSegment(SegmentRegister.Cs, SystemFixture.Code16);
        f.State->Cs.Selector = 0x800;
        Assert.Equal(ExecResult.Jump, f.Execute(0x66, 0xEA, 0x00, 0x90, 0x00, 0x00, 0x08, 0x00));
        Assert.Equal(0xC09BU, f.State->Cs.Attributes);
        Assert.Equal(0x9000UL, f.Cpu.Rip);
    }

    [Fact]
    public void FarCallAndReturn_InRealMode_RoundTrip()
    {
        using SystemFixture f = new SystemFixture().Real();
        ulong rsp = f.Cpu[Gpr.Rsp];
        f.Completes(0x9A, 0x00, 0x01, 0x00, 0x20);
        Assert.Equal((5UL, 0x800UL), (f.OnStack(0, 2), f.OnStack(1, 2)));
        f.Completes(0xCB);
        Assert.Equal((5UL, 0x800UL, rsp), (f.Cpu.Rip, f.State->Cs.Selector, f.Cpu[Gpr.Rsp]));
    }

    [Theory]
    [InlineData(SystemFixture.Code0, 0, 0, 0)]
    [InlineData(SystemFixture.Conforming, 0, 0, 0)]
    [InlineData(SystemFixture.Conforming, 3, 0, 0)]
    [InlineData(SystemFixture.Code0, 3, Vector.Gp, SystemFixture.Code0)]
    [InlineData(SystemFixture.Code3, 0, Vector.Gp, SystemFixture.Code3 & ~3)]
    [InlineData(SystemFixture.Code0 | 1, 0, Vector.Gp, SystemFixture.Code0)]
    [InlineData(SystemFixture.Data0, 0, Vector.Gp, SystemFixture.Data0)]
    [InlineData(SystemFixture.AbsentCode, 0, Vector.Np, SystemFixture.AbsentCode)]
    [InlineData(0, 0, Vector.Gp, 0)]
    [InlineData(0x300, 0, Vector.Gp, 0x300)]
    public void FarJump_InProtectedMode_FollowsTheRules(int selector, int cpl, int vector, int error)
    {
        using SystemFixture f = new SystemFixture().Protected32(cpl);
        if (vector != 0)
        {
            f.Faults((byte)vector, (ulong)error, FarJump((ushort)selector, 0x9000));
            return;
        }

        f.Completes(FarJump((ushort)selector, 0x9000));
        Assert.Equal((ulong)((selector & ~3) | cpl), f.State->Cs.Selector);
        Assert.Equal(cpl, f.Cpu.Cpl);
    }

    [Fact]
    public void FarJump_BeyondTheLimit_IsGeneralProtectionZero()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Faults(Vector.Gp, 0, FarJump(SystemFixture.Code16, 0x10000));
    }

    [Fact]
    public void FarJump_FromCompatibilityMode_Enters64BitCode()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.SetSegment(SegmentRegister.Cs, SystemFixture.Code0);
        f.Cpu.StateChanged();
        Assert.False(f.Cpu.Code64);
        f.Completes(FarJump(SystemFixture.Code64, 0x9000));
        Assert.True(f.Cpu.Code64);
    }

    [Fact]
    public void FarCallAndReturn_SameLevel_RoundTrip()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.Completes(FarCall(SystemFixture.Conforming, 0x9000));
        Assert.Equal((SystemFixture.CodeAt + 7, (ulong)SystemFixture.Code0), (f.OnStack(0, 4), f.OnStack(1, 4)));
        f.Completes(0xCA, 0x08, 0x00);
        Assert.Equal((SystemFixture.Stack + 8, SystemFixture.CodeAt + 7), (f.Cpu[Gpr.Rsp], f.Cpu.Rip));
    }

    [Fact]
    public void CallGate_ToInnerLevel_SwitchesTheStackAndCopiesParameters()
    {
        using SystemFixture f = new SystemFixture().Protected32(3);
        f.SetGate(SystemFixture.GdtBase + SystemFixture.Gate, SystemFixture.Code0, SystemFixture.HandlerAt, 0xEC, low: 2);
        f.PushAll(4, 0x11, 0x22);
        ulong outer = f.Cpu[Gpr.Rsp];
        f.Completes(FarCall(SystemFixture.Gate | 3, 0));
        Assert.Equal(0, f.Cpu.Cpl);
        Assert.Equal((SystemFixture.HandlerAt, SystemFixture.InnerStack - 24), (f.Cpu.Rip, f.Cpu[Gpr.Rsp]));
        ulong[] frame = [.. Enumerable.Range(0, 6).Select(i => f.OnStack(i, 4))];
        Assert.Equal([SystemFixture.CodeAt + 7, SystemFixture.Code3, 0x22, 0x11, outer, SystemFixture.Data3], frame);

        f.State->Ds = f.State->Ss;
        f.Completes(0xCA, 0x08, 0x00);
        Assert.Equal(3, f.Cpu.Cpl);
        Assert.Equal((outer + 8, (ulong)SystemFixture.Data3), (f.Cpu[Gpr.Rsp], f.State->Ss.Selector));
        Assert.False(f.State->Ds.Usable);
    }

    [Theory]
    [InlineData(0x8C, 3, Vector.Gp, SystemFixture.Gate)] // DPL 0 from level 3
    [InlineData(0x6C, 3, Vector.Np, SystemFixture.Gate)] // not present
    public void CallGate_Wrong_FaultsWithTheGate(int access, int cpl, int vector, int error)
    {
        using SystemFixture f = new SystemFixture().Protected32(cpl);
        f.SetGate(SystemFixture.GdtBase + SystemFixture.Gate, SystemFixture.Code0, SystemFixture.HandlerAt, (byte)access);
        f.Faults((byte)vector, (ulong)error, FarCall(SystemFixture.Gate | 3, 0));
    }

    [Fact]
    public void CallGate_WithWrongInnerStack_IsInvalidTss()
    {
        using SystemFixture f = new SystemFixture().Protected32(3);
        f.SetGate(SystemFixture.GdtBase + SystemFixture.Gate, SystemFixture.Code0, SystemFixture.HandlerAt, 0xEC);
        f.Write(SystemFixture.TssBase + 8, 2, SystemFixture.Data3);
        f.Faults(Vector.Ts, 0x20, FarCall(SystemFixture.Gate | 3, 0));
        f.State->Tr.Limit = 8;
        f.Faults(Vector.Ts, SystemFixture.Tss32, FarCall(SystemFixture.Gate | 3, 0));
    }

    [Fact]
    public void CallGate_InLongMode_PushesQuadWordsOnANullStack()
    {
        using SystemFixture f = new SystemFixture().Long(3);
        f.SetGate(SystemFixture.GdtBase + SystemFixture.Gate, SystemFixture.Code64, SystemFixture.HandlerAt, 0xEC);
        f.Write(0xA000, 4, 0);
        f.Write(0xA004, 2, SystemFixture.Gate | 3);
        f.Cpu[Gpr.Rax] = 0xA000;
        f.Completes(0xFF, 0x18);
        Assert.Equal(0, f.Cpu.Cpl);
        Assert.False(f.State->Ss.Usable);
        Assert.Equal(SystemFixture.InnerStack - 32, f.Cpu[Gpr.Rsp]);
        Assert.Equal((ulong)SystemFixture.Data3, f.OnStack(3, 8));
        f.Completes(0x48, 0xCB);
        Assert.Equal((3, SystemFixture.OuterStack, SystemFixture.CodeAt + 2), (f.Cpu.Cpl, f.Cpu[Gpr.Rsp], f.Cpu.Rip));
    }

    [Fact]
    public void Iret_InRealMode_RestoresFlags()
    {
        using SystemFixture f = new SystemFixture().Real();
        f.PushAll(2, 0xF202, 0x2000, 0x0100);
        f.State->Interruptibility = 8;
        f.Completes(0xCF);
        Assert.Equal((0x100UL, 0x2000UL), (f.Cpu.Rip, f.State->Cs.Selector));
        Assert.Equal(0x7202UL, f.Cpu.RFlagsValue);
        Assert.Equal(0UL, f.State->Interruptibility);
    }

    [Fact]
    public void Iretd_ToOuterLevel_LoadsStackAndDropsSegments()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.PushAll(4, SystemFixture.Data3, 0x6000, RFlags.If | 0x3002, SystemFixture.Code3, 0x1234);
        f.Completes(0xCF);
        Assert.Equal((3, 0x1234UL, 0x6000UL), (f.Cpu.Cpl, f.Cpu.Rip, f.Cpu[Gpr.Rsp]));
        Assert.Equal(RFlags.If | 0x3002, f.Cpu.RFlagsValue);
        Assert.False(f.State->Ds.Usable);
    }

    [Fact]
    public void Iretd_AtLevel3_KeepsIfAndIopl()
    {
        using SystemFixture f = new SystemFixture().Protected32(3);
        f.PushAll(4, RFlags.If | 0x3002 | RFlags.Cf, SystemFixture.Code3, 0x1234);
        f.Completes(0xCF);
        Assert.Equal(2 | RFlags.Cf, f.Cpu.RFlagsValue);
    }

    [Theory]
    [InlineData(SystemFixture.Code3, SystemFixture.Data0, Vector.Gp, SystemFixture.Data0)]
    [InlineData(SystemFixture.Code3, 0, Vector.Gp, 0)]
    [InlineData(0, SystemFixture.Data3, Vector.Gp, 0)]
    [InlineData(SystemFixture.Data3, SystemFixture.Data3, Vector.Gp, 0x20)]
    [InlineData(SystemFixture.Code0 | 3, SystemFixture.Data3, Vector.Gp, SystemFixture.Code0)]
    public void Iretd_WithWrongFrame_FaultsAndChangesNothing(int code, int stack, int vector, int error)
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.PushAll(4, (ulong)stack, 0x6000, 2, (ulong)code, 0x1234);
        ulong rsp = f.Cpu[Gpr.Rsp];
        f.Faults((byte)vector, (ulong)error, 0xCF);
        Assert.Equal((rsp, (ulong)SystemFixture.Code0), (f.Cpu[Gpr.Rsp], f.State->Cs.Selector));
    }

    [Fact]
    public void Iretd_WithVm_EntersVirtual8086Mode()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.PushAll(4, 6, 5, 4, 3, 2, 0x6000, RFlags.Vm | 0x3202, 0x800, 0x20);
        f.Completes(0xCF);
        Assert.True(f.Cpu.Virtual8086);
        Assert.Equal((3, 0x8000UL, 0x20UL, 0x60UL), (f.Cpu.Cpl, f.State->Cs.Base, f.Cpu.Rip, f.State->Gs.Base));
        Assert.Equal(0xF3U, f.State->Ss.Attributes);
    }

    [Fact]
    public void Iret_InVirtual8086Mode_NeedsIopl3()
    {
        using SystemFixture low = new SystemFixture().V86(0);
        low.Faults(Vector.Gp, 0, 0xCF);
        using SystemFixture high = new SystemFixture().V86(3);
        high.PushAll(2, 0x0002, 0x0900, 0x0044);
        high.Completes(0xCF);
        Assert.True(high.Cpu.Virtual8086);
        Assert.Equal((0x9000UL, 0x44UL, 3), (high.State->Cs.Base, high.Cpu.Rip, high.Cpu.Iopl));
        Assert.Equal(0UL, high.Cpu.RFlagsValue & RFlags.If);
    }

    [Fact]
    public void Iretq_SameLevel_AlwaysPopsTheStack()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.PushAll(8, 0, 0x6000, 0x202, SystemFixture.Code64, 0x1234);
        f.State->Interruptibility = 8;
        f.Completes(0x48, 0xCF);
        Assert.Equal((0x6000UL, 0x1234UL, 0UL), (f.Cpu[Gpr.Rsp], f.Cpu.Rip, f.State->Interruptibility));
        Assert.False(f.State->Ss.Usable);
    }

    [Fact]
    public void Iretq_ToCompatibilityMode_Level3_Works()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.PushAll(8, SystemFixture.Data3, 0x6000, 0x202, SystemFixture.Code3, 0x1234);
        f.Completes(0x48, 0xCF);
        Assert.Equal((3, false), (f.Cpu.Cpl, f.Cpu.Code64));
    }

    [Fact]
    public void Iretq_ToNonCanonicalRip_IsGeneralProtection()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.PushAll(8, 0, 0x6000, 0x202, SystemFixture.Code64, 0x8000_0000_0000_0000);
        f.Faults(Vector.Gp, 0, 0x48, 0xCF);
    }

    [Fact]
    public void Iretq_WithNt_IsGeneralProtection()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.Cpu.RFlagsValue |= RFlags.Nt;
        f.Faults(Vector.Gp, 0, 0x48, 0xCF);
    }

    [Fact]
    public void SyscallSysret_RoundTrip_RestoreLevelAndFlags()
    {
        using SystemFixture f = new SystemFixture().Long(3);
        f.State->Star = ((ulong)0x0083 << 48) | ((ulong)SystemFixture.Code64 << 32);
        f.State->Lstar = 0x9000;
        f.State->Fmask = RFlags.If;
        f.Cpu.RFlagsValue = RFlags.If | RFlags.Cf;
        f.Completes(0x0F, 0x05);
        Assert.Equal((0, 0x9000UL, SystemFixture.CodeAt + 2), (f.Cpu.Cpl, f.Cpu.Rip, f.Cpu[Gpr.Rcx]));
        Assert.Equal(2 | RFlags.Cf, f.Cpu.RFlagsValue);
        Assert.Equal((ulong)SystemFixture.Code64 + 8, f.State->Ss.Selector);
        f.Completes(0x48, 0x0F, 0x07);
        Assert.Equal((3, SystemFixture.CodeAt + 2, 0x93UL), (f.Cpu.Cpl, f.Cpu.Rip, f.State->Cs.Selector));
        Assert.Equal(2 | RFlags.Cf | RFlags.If, f.Cpu.RFlagsValue);
    }

    [Fact]
    public void SysenterSysexit_In32BitMode_RoundTrip()
    {
        using SystemFixture f = new SystemFixture().Protected32(3);
        f.Faults(Vector.Gp, 0, 0x0F, 0x34);
        f.State->SysenterCs = 8;
        f.State->SysenterEsp = 0x5000;
        f.State->SysenterEip = 0x9000;
        f.Completes(0x0F, 0x34);
        Assert.Equal((0, 0x9000UL, 0x5000UL, 0x10UL), (f.Cpu.Cpl, f.Cpu.Rip, f.Cpu[Gpr.Rsp], f.State->Ss.Selector));
        f.Cpu[Gpr.Rcx] = 0x6000;
        f.Cpu[Gpr.Rdx] = 0x8100;
        f.Completes(0x0F, 0x35);
        Assert.Equal((3, 0x8100UL, 0x6000UL, 0x1BUL, 0x23UL), (f.Cpu.Cpl, f.Cpu.Rip, f.Cpu[Gpr.Rsp], f.State->Cs.Selector, f.State->Ss.Selector));
    }
}
