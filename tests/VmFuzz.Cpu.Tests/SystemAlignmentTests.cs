using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

/// <summary>SDM "Interrupt 17 - Alignment Check Exception (#AC)".</summary>
public sealed unsafe class SystemAlignmentTests
{
    private const ulong Data = 0xA000;

    // 32-bit code with EBX as the address and checking on.
    private static SystemFixture Make(int cpl, ulong address, bool am = true, bool ac = true)
    {
        SystemFixture f = new SystemFixture().Protected32(cpl);
        Check(f, am, ac);
        f.Cpu[Gpr.Rbx] = address;
        return f;
    }

    private static void Check(SystemFixture f, bool am = true, bool ac = true)
    {
        f.State->Cr4 |= Cr4.Osfxsr;
        f.State->Cr0 = am ? f.State->Cr0 | Cr0.Am : f.State->Cr0;
        f.Cpu.RFlagsValue = ac ? f.Cpu.RFlagsValue | RFlags.Ac : f.Cpu.RFlagsValue;
        f.Cpu.StateChanged();
    }

    [Theory]
    [InlineData(new byte[] { 0x8A, 0x03 }, 1)] // mov al, [ebx]
    [InlineData(new byte[] { 0x66, 0x8B, 0x03 }, 2)]
    [InlineData(new byte[] { 0x8B, 0x03 }, 4)]
    [InlineData(new byte[] { 0x89, 0x03 }, 4)]
    [InlineData(new byte[] { 0x01, 0x03 }, 4)] // add [ebx], eax
    [InlineData(new byte[] { 0x0F, 0xC7, 0x0B }, 8)] // cmpxchg8b [ebx]
    [InlineData(new byte[] { 0xC4, 0x03 }, 4)] // les eax, [ebx]
    [InlineData(new byte[] { 0x66, 0xC4, 0x03 }, 2)] // les ax, [ebx]
    [InlineData(new byte[] { 0x0F, 0x01, 0x0B }, 4)] // sidt [ebx]
    [InlineData(new byte[] { 0x0F, 0xA3, 0x03 }, 4)] // bt [ebx], eax
    [InlineData(new byte[] { 0x66, 0x0F, 0x6E, 0x03 }, 4)] // movd xmm0, [ebx]
    [InlineData(new byte[] { 0xF3, 0x0F, 0x7E, 0x03 }, 8)] // movq xmm0, [ebx]
    [InlineData(new byte[] { 0xF3, 0x0F, 0x6F, 0x03 }, 1)] // movdqu xmm0, [ebx]
    public void Access_AtUserLevel_NeedsTheAlignmentOfItsType(byte[] code, int alignment)
    {
        for (int at = 0; at < 8; at++)
        {
            using SystemFixture f = Make(3, Data + (ulong)at);
            f.Cpu[Gpr.Rax] = 0;
            if (at % alignment == 0)
            {
                f.Completes(code);
            }
            else
            {
                f.Faults(Vector.Ac, 0, code);
                Assert.Equal(1UL, f.State->FaultHasErrorCode);
            }
        }
    }

    [Theory]
    [InlineData(0, true, true)]
    [InlineData(3, false, true)]
    [InlineData(3, true, false)]
    public void Access_WithoutAmOrAcOrAtSupervisorLevel_IsNotChecked(int cpl, bool am, bool ac)
    {
        using SystemFixture f = Make(cpl, Data + 1, am, ac);
        f.Completes(0x8B, 0x03);
    }

    [Fact]
    public void Push_ToMisalignedStack_Faults()
    {
        using SystemFixture f = Make(3, 0);
        f.Cpu[Gpr.Rsp] = SystemFixture.OuterStack + 2;
        f.Faults(Vector.Ac, 0, 0x50);
        Assert.Equal(SystemFixture.OuterStack + 2, f.Cpu[Gpr.Rsp]);
    }

    [Fact]
    public void Access_InVirtual8086Mode_IsChecked()
    {
        using SystemFixture f = new SystemFixture().V86(3);
        Check(f);
        f.Cpu[Gpr.Rbx] = 1;
        f.Faults(Vector.Ac, 0, 0x8B, 0x07);
    }

    [Fact]
    public void Access_In64BitMode_OfEightBytes_IsChecked()
    {
        using SystemFixture f = new SystemFixture().Long(3);
        Check(f);
        f.Cpu[Gpr.Rbx] = Data + 4;
        f.Faults(Vector.Ac, 0, 0x48, 0x8B, 0x03);
    }

    [Fact]
    public void DescriptorLoad_FromMisalignedTable_IsNotChecked()
    {
        using SystemFixture f = Make(3, 0);
        for (uint i = 0; i < 0xA8; i += 8)
        {
            f.Write(0xB001 + i, 8, f.Read(SystemFixture.GdtBase + i, 8));
        }

        f.State->Gdtr.Base = 0xB001;
        f.Cpu[Gpr.Rax] = SystemFixture.Data3;
        f.Completes(0x8E, 0xD8);
    }

    [Fact]
    public void InterruptToInnerLevel_WithMisalignedStack_IsNotChecked()
    {
        using SystemFixture f = Make(3, 0);
        f.Write(SystemFixture.TssBase + 4, 4, SystemFixture.InnerStack + 1);
        f.SetVector(0x30, SystemFixture.Code0);
        Assert.True(f.Cpu.DeliverEvent(new GuestEvent(0x30, EventType.ExternalInterrupt)));
        Assert.Equal(SystemFixture.HandlerAt, f.Cpu.Rip);
    }

    [Theory]
    [InlineData(false, 0)]
    [InlineData(true, 1)]
    public void InterruptAtUserLevel_WithMisalignedStack_FaultsWithExtOfItsEvent(bool external, int error)
    {
        using SystemFixture f = Make(3, 0);
        f.Cpu[Gpr.Rsp] = SystemFixture.OuterStack + 1;
        f.SetVector(0x30, SystemFixture.Code3, 0xEE);
        f.SetVector(Vector.Ac, SystemFixture.Code0);
        if (external)
        {
            Assert.True(f.Cpu.DeliverEvent(new GuestEvent(0x30, EventType.ExternalInterrupt)));
        }
        else
        {
            f.IsDeliveredAFault(0xCD, 0x30);
        }

        Assert.Equal((0, (ulong)error), (f.Cpu.Cpl, f.OnStack(0, 4)));
    }

    [Fact]
    public void PageFault_ComesBeforeTheAlignmentCheck()
    {
        using SystemFixture f = new SystemFixture().Long(3);
        Check(f);
        f.Cpu[Gpr.Rbx] = 0x1F_FFFE; // its end is not mapped
        f.Faults(Vector.Pf, 4, 0x8B, 0x03);
        f.Cpu[Gpr.Rbx] = Data + 0xFFE;
        f.Faults(Vector.Ac, 0, 0x8B, 0x03);
    }

    [Fact]
    public void StackFault_ComesBeforeTheAlignmentCheck()
    {
        using SystemFixture f = Make(3, 0);
        f.State->Ss.Limit = 0x100;
        f.Cpu[Gpr.Rsp] = 0x1003;
        f.Faults(Vector.Ss, 0, 0x50);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void AlignmentCheck_InWarmCode_IsAsInTheReference(bool reference)
    {
        // Ten loads with checking off warm the code and the look-aside buffers; then POPF sets AC.
        // L: mov eax, [ebx]; dec ecx; jnz L; push 0x40002; popf; inc ecx; jmp L
        using SystemFixture f = Make(3, Data + 1, ac: false);
        f.Cpu.ReferenceOnly = reference;
        byte[] code = [0x8B, 0x03, 0x49, 0x75, 0xFB, 0x68, 2, 0, 4, 0, 0x9D, 0x41, 0xEB, 0xF2];
        for (int i = 0; i < code.Length; i++)
        {
            f.Write(SystemFixture.CodeAt + (ulong)i, 1, code[i]);
        }

        f.Write(SystemFixture.HandlerAt, 1, 0xF4);
        f.SetVector(Vector.Ac, SystemFixture.Code0);
        f.Cpu[Gpr.Rcx] = 10;
        Assert.Equal(CpuStop.Halted, f.Cpu.Run());
        Assert.Equal((0UL, SystemFixture.CodeAt, 1UL), (f.OnStack(0, 4), f.OnStack(1, 4), f.Cpu[Gpr.Rcx]));
        Assert.Equal(RFlags.Ac, f.OnStack(3, 4) & RFlags.Ac);
    }
}
