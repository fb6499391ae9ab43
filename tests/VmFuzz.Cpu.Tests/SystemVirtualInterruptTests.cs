using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

/// <summary>CR4.VME in virtual-8086 mode and CR4.PVI in protected mode.</summary>
public sealed unsafe class SystemVirtualInterruptTests
{
    private const ulong IoMap = 0x88;

    private static SystemFixture V86(ulong iopl, ulong flags = 0)
    {
        SystemFixture f = new SystemFixture().V86(iopl);
        f.State->Cr4 |= Cr4.Vme;
        f.Cpu.RFlagsValue = RFlags.Vm | (iopl << 12) | flags;
        f.Write(SystemFixture.TssBase + 102, 2, IoMap);
        return f;
    }

    private static void Redirect(SystemFixture f, int vector, bool toProtectedMode) =>
        f.Write(SystemFixture.TssBase + IoMap - 32 + (ulong)(vector / 8), 1, toProtectedMode ? 1UL << (vector % 8) : 0xFFUL & ~(1UL << (vector % 8)));

    [Theory]
    [InlineData(0, RFlags.Vif)]
    [InlineData(3, RFlags.If)]
    public void CliAndSti_InVirtual8086Mode_ChangeTheFlagOfTheirIopl(ulong iopl, ulong flag)
    {
        using SystemFixture f = V86(iopl, RFlags.If | RFlags.Vif);
        f.Completes(0xFA);
        Assert.Equal((RFlags.If | RFlags.Vif) & ~flag, f.Cpu.RFlagsValue & (RFlags.If | RFlags.Vif));
        f.Completes(0xFB);
        Assert.Equal(RFlags.If | RFlags.Vif, f.Cpu.RFlagsValue & (RFlags.If | RFlags.Vif));
        Assert.Equal(flag == RFlags.If ? 1UL : 0, f.State->Interruptibility);
    }

    [Fact]
    public void Sti_WithAnInterruptPending_IsGeneralProtection()
    {
        using SystemFixture f = V86(0, RFlags.Vip);
        f.Faults(Vector.Gp, 0, 0xFB);
    }

    [Theory]
    [InlineData(new byte[] { 0xFA })]
    [InlineData(new byte[] { 0xFB })]
    [InlineData(new byte[] { 0x9C })]
    [InlineData(new byte[] { 0x9D })]
    [InlineData(new byte[] { 0xCF })]
    public void SensitiveInstruction_WithoutVme_IsGeneralProtection(byte[] code)
    {
        using SystemFixture f = V86(2);
        f.State->Cr4 &= ~Cr4.Vme;
        f.Faults(Vector.Gp, 0, code);
    }

    [Theory]
    [InlineData(new byte[] { 0x66, 0x9C })]
    [InlineData(new byte[] { 0x66, 0x9D })]
    [InlineData(new byte[] { 0x66, 0xCF })]
    public void SensitiveInstruction_Of32Bits_IsGeneralProtectionEvenWithVme(byte[] code)
    {
        using SystemFixture f = V86(2);
        f.Faults(Vector.Gp, 0, code);
    }

    [Theory]
    [InlineData(RFlags.Vif, RFlags.If)]
    [InlineData(RFlags.If, 0)]
    public void Pushf_WithVme_ShowsVifAndIopl3(ulong set, ulong shown)
    {
        using SystemFixture f = V86(0, set | RFlags.Cf);
        f.Completes(0x9C);
        Assert.Equal(RFlags.Reserved1 | RFlags.Cf | RFlags.Iopl | shown, f.OnStack(0, 2));
    }

    [Fact]
    public void Popf_WithVme_LoadsVifAndKeepsIfAndIopl()
    {
        using SystemFixture f = V86(1, RFlags.If | RFlags.Cf);
        f.PushAll(2, RFlags.If | RFlags.Iopl | RFlags.Zf);
        f.Completes(0x9D);
        Assert.Equal(RFlags.Reserved1 | RFlags.Vm | RFlags.If | RFlags.Vif | RFlags.Zf | (1UL << 12), f.Cpu.RFlagsValue);
        f.PushAll(2, 0);
        f.Completes(0x9D);
        Assert.Equal(RFlags.If, f.Cpu.RFlagsValue & (RFlags.If | RFlags.Vif));
    }

    [Theory]
    [InlineData(RFlags.Tf, 0, true)]
    [InlineData(RFlags.If, RFlags.Vip, true)]
    [InlineData(RFlags.If, 0, false)]
    [InlineData(0, RFlags.Vip, false)]
    public void PopfAndIret_WithVme_FaultOnTfAndOnPendingInterrupts(ulong loaded, ulong before, bool faults)
    {
        foreach (byte opcode in (byte[])[0x9D, 0xCF])
        {
            using SystemFixture f = V86(0, before);
            f.PushAll(2, loaded, 0x1234, 0x10);
            f.Cpu[Gpr.Rsp] += opcode == 0x9D ? 4UL : 0;
            ulong top = f.Cpu[Gpr.Rsp];
            if (faults)
            {
                f.Faults(Vector.Gp, 0, opcode);
                Assert.Equal(top, f.Cpu[Gpr.Rsp]);
            }
            else
            {
                f.Completes(opcode);
            }
        }
    }

    [Fact]
    public void Iret_WithVme_ReturnsWithVif()
    {
        using SystemFixture f = V86(0);
        f.State->Interruptibility = 8;
        f.PushAll(2, RFlags.If | RFlags.Iopl | RFlags.Sf, 0x1234, 0x56);
        f.Completes(0xCF);
        Assert.Equal((0x56UL, 0x12340UL, 0UL), (f.Cpu.Rip, f.State->Cs.Base, f.State->Interruptibility));
        Assert.Equal(RFlags.Reserved1 | RFlags.Vm | RFlags.Vif | RFlags.Sf, f.Cpu.RFlagsValue);
    }

    // SDM "Software Interrupt Handling Methods While in Virtual-8086 Mode": methods 5 and 6.
    [Theory]
    [InlineData(3, RFlags.If, RFlags.If, 0)]
    [InlineData(3, RFlags.Vif, 0, RFlags.Vif)]
    [InlineData(0, RFlags.If, 0, RFlags.If)]
    [InlineData(0, RFlags.If | RFlags.Vif, RFlags.If, RFlags.If)]
    public void IntN_Redirected_EntersTheProgramsHandler(ulong iopl, ulong flags, ulong pushedIf, ulong left)
    {
        using SystemFixture f = V86(iopl, flags | RFlags.Tf | RFlags.Cf);
        Redirect(f, 0x21, toProtectedMode: false);
        f.Write(0x21 * 4, 4, 0xF000_1234);
        Assert.Equal(ExecResult.Jump, f.Execute(0xCD, 0x21));
        Assert.Equal((0x1234UL, 0xF0000UL, true), (f.Cpu.Rip, f.State->Cs.Base, f.Cpu.Virtual8086));
        Assert.Equal((0x12UL, 0x800UL), (f.OnStack(0, 2), f.OnStack(1, 2)));
        Assert.Equal(RFlags.Reserved1 | RFlags.Cf | RFlags.Tf | RFlags.Iopl | pushedIf, f.OnStack(2, 2));
        Assert.Equal(left, f.Cpu.RFlagsValue & (RFlags.If | RFlags.Vif | RFlags.Tf));
    }

    // Methods 3 and 4.
    [Fact]
    public void IntN_NotRedirectedWithIopl3_EntersTheGate()
    {
        using SystemFixture f = V86(3);
        Redirect(f, 0x21, toProtectedMode: true);
        f.SetVector(0x21, SystemFixture.Code0, 0xEE);
        Assert.Equal(ExecResult.Jump, f.Execute(0xCD, 0x21));
        Assert.Equal((SystemFixture.HandlerAt, false), (f.Cpu.Rip, f.Cpu.Virtual8086));
    }

    [Fact]
    public void IntN_NotRedirectedWithLowIopl_IsGeneralProtection()
    {
        using SystemFixture f = V86(0);
        Redirect(f, 0x21, toProtectedMode: true);
        f.SetVector(Vector.Gp, SystemFixture.Code0);
        f.IsDeliveredAFault(0xCD, 0x21);
        Assert.Equal(0UL, f.OnStack(0, 4));
    }

    [Fact]
    public void IntN_WithItsMapBeyondTheTss_IsGeneralProtection()
    {
        using SystemFixture f = V86(3);
        f.Write(SystemFixture.TssBase + 102, 2, 0x3000);
        f.SetVector(Vector.Gp, SystemFixture.Code0);
        f.IsDeliveredAFault(0xCD, 0x21);
        Assert.Equal(0UL, f.OnStack(0, 4));
    }

    [Fact]
    public void Int3AndExternalInterrupts_WithVme_AreNotRedirected()
    {
        using SystemFixture f = V86(3);
        Redirect(f, Vector.Bp, toProtectedMode: false);
        f.SetVector(Vector.Bp, SystemFixture.Code0, 0xEE);
        Assert.Equal(ExecResult.Jump, f.Execute(0xCC));
        Assert.False(f.Cpu.Virtual8086);

        using SystemFixture g = V86(0);
        Redirect(g, 0x30, toProtectedMode: false);
        g.SetVector(0x30, SystemFixture.Code0);
        Assert.True(g.Cpu.DeliverEvent(new GuestEvent(0x30, EventType.ExternalInterrupt)));
        Assert.False(g.Cpu.Virtual8086);
    }

    [Theory]
    [InlineData(3, 0, RFlags.Vif)]
    [InlineData(3, 3, RFlags.If)]
    [InlineData(0, 0, RFlags.If)]
    public void CliAndSti_WithPvi_ChangeVifAboveIopl(int cpl, ulong iopl, ulong flag)
    {
        using SystemFixture f = new SystemFixture().Protected32(cpl);
        f.State->Cr4 |= Cr4.Pvi;
        f.Cpu.RFlagsValue = RFlags.If | RFlags.Vif | (iopl << 12);
        f.Completes(0xFA);
        Assert.Equal((RFlags.If | RFlags.Vif) & ~flag, f.Cpu.RFlagsValue & (RFlags.If | RFlags.Vif));
        f.Completes(0xFB);
        Assert.Equal(RFlags.If | RFlags.Vif, f.Cpu.RFlagsValue & (RFlags.If | RFlags.Vif));
    }

    [Fact]
    public void Sti_WithPviAndAnInterruptPending_IsGeneralProtection()
    {
        using SystemFixture f = new SystemFixture().Protected32(3);
        f.State->Cr4 |= Cr4.Pvi;
        f.Cpu.RFlagsValue = RFlags.Vip;
        f.Faults(Vector.Gp, 0, 0xFB);
        f.State->Cr4 &= ~Cr4.Pvi;
        f.Cpu.RFlagsValue = 0;
        f.Faults(Vector.Gp, 0, 0xFB);
    }

    [Fact]
    public void Pushf_WithPvi_ShowsIf()
    {
        using SystemFixture f = new SystemFixture().Protected32(3);
        f.State->Cr4 |= Cr4.Pvi;
        f.Cpu.RFlagsValue = RFlags.Vif;
        f.Completes(0x66, 0x9C);
        Assert.Equal(RFlags.Reserved1, f.OnStack(0, 2));
    }

    [Theory]
    [InlineData(Cr4.Vme)]
    [InlineData(Cr4.Pvi)]
    public void Cr4_WithoutTheFeature_Faults(ulong bit)
    {
        using SystemFixture f = new(CpuFeatures.Vme);
        f.Protected32();
        f.Cpu[Gpr.Rax] = bit;
        f.Faults(Vector.Gp, 0, 0x0F, 0x22, 0xE0);
        using SystemFixture g = new SystemFixture().Protected32();
        g.Cpu[Gpr.Rax] = bit;
        g.Completes(0x0F, 0x22, 0xE0);
    }
}
