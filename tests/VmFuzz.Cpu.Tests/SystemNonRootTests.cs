using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.Microcode;

namespace VmFuzz.Cpu.Tests;

public sealed unsafe class SystemNonRootTests
{
    private static (SystemFixture, NonRootPolicy) Make(int cpl = 0)
    {
        SystemFixture f = new SystemFixture().Long(cpl);
        NonRootPolicy policy = new();
        f.Cpu.NonRoot = policy;
        return (f, policy);
    }

    [Theory]
    [InlineData(new byte[] { 0x0F, 0xA2 }, "Cpuid 2 0 0")]
    [InlineData(new byte[] { 0xF4 }, "Hlt 1 0 0")]
    [InlineData(new byte[] { 0xF3, 0x90 }, "Pause 2 0 0")]
    [InlineData(new byte[] { 0x0F, 0x01, 0x38 }, "Invlpg 3 a000 0")]
    [InlineData(new byte[] { 0x0F, 0x01, 0xC1 }, "Vmcall 3 0 0")]
    [InlineData(new byte[] { 0x48, 0x0F, 0xC7, 0xF1 }, "Rdrand 4 0 1008")]
    [InlineData(new byte[] { 0x0F, 0x01, 0x50, 0xF8 }, "GdtrIdtrAccess 4 fffffffffffffff8 20418900")]
    [InlineData(new byte[] { 0x0F, 0x00, 0xD9 }, "LdtrTrAccess 3 0 30000408")]
    [InlineData(new byte[] { 0xEC }, "IoAccess { Port = 0, Size = 1, IsIn = True, IsString = False, IsRep = False, IsImmediate = False, LinearAddress = 0, AddressSize = 0, Segment = Ds }")]
    [InlineData(new byte[] { 0x0F, 0x32 }, "msr 0 False")]
    [InlineData(new byte[] { 0x0F, 0x22, 0xD9 }, "to cr3 Rcx")]
    [InlineData(new byte[] { 0x44, 0x0F, 0x20, 0xC3 }, "from cr8 Rbx")]
    [InlineData(new byte[] { 0x0F, 0x21, 0xF9 }, "dr7 False Rcx")]
    [InlineData(new byte[] { 0x0F, 0x06 }, "clts")]
    public void SensitiveInstruction_WhenThePolicySaysSo_Exits(byte[] code, string expected)
    {
        (SystemFixture f, NonRootPolicy policy) = Make();
        using SystemFixture owned = f;
        f.Cpu[Gpr.Rax] = 0xA000;
        f.Cpu[Gpr.Rdx] = 0;
        Assert.Equal(ExecResult.Abort, f.Execute(code));
        Assert.Equal(StopKind.Exit, f.State->Stop);
        Assert.Equal([expected], policy.Log);
        Assert.Equal(SystemFixture.CodeAt, f.Cpu.Rip);
    }

    [Fact]
    public void PrivilegeFault_ComesBeforeTheExit()
    {
        (SystemFixture f, NonRootPolicy policy) = Make(3);
        using SystemFixture owned = f;
        f.Faults(Vector.Gp, 0, 0xF4);
        f.Faults(Vector.Gp, 0, 0x0F, 0x32);
        Assert.Empty(policy.Log);
    }

    [Fact]
    public void MovToCr_WithoutExit_LoadsThePolicysValue()
    {
        (SystemFixture f, NonRootPolicy policy) = Make();
        using SystemFixture owned = f;
        policy.Exits = false;
        f.Cpu[Gpr.Rax] = f.State->Cr0;
        f.Completes(0x0F, 0x22, 0xC0);
        Assert.NotEqual(0UL, f.State->Cr0 & Cr0.Wp);
        f.Completes(0x0F, 0x20, 0xC0);
        Assert.Equal(0x77UL, f.Cpu[Gpr.Rax]);
        f.State->Cr0 |= Cr0.Ts;
        f.Completes(0x0F, 0x06);
        Assert.NotEqual(0UL, f.State->Cr0 & Cr0.Ts);
        f.Completes(0x0F, 0x31);
        Assert.Equal(1007UL, f.Cpu[Gpr.Rax]);
    }

    [Fact]
    public void Exception_ThatExits_LeavesCr2()
    {
        (SystemFixture f, NonRootPolicy policy) = Make();
        using SystemFixture owned = f;
        Assert.False(f.Cpu.DeliverEvent(new GuestEvent(Vector.Pf, EventType.HardwareException, true, 2, 0, 0x1234)));
        Assert.Equal((StopKind.Exit, 0UL), (f.State->Stop, f.State->Cr2));
        Assert.Equal(["exception 14 during "], policy.Log);
    }

    [Fact]
    public void NestedFault_AsksWithTheOriginalEvent()
    {
        (SystemFixture f, NonRootPolicy policy) = Make();
        using SystemFixture owned = f;
        policy.Bitmap = 1 << Vector.Gp;
        Assert.False(f.Cpu.DeliverEvent(new GuestEvent(0x30, EventType.ExternalInterrupt)));
        Assert.Equal(["exception 13 during 48"], policy.Log);
    }

    [Fact]
    public void DoubleFault_AsksWithoutOriginal_ThenTripleFaultExits()
    {
        (SystemFixture f, NonRootPolicy policy) = Make();
        using SystemFixture owned = f;
        policy.Bitmap = 0;
        Assert.False(f.Cpu.DeliverEvent(new GuestEvent(Vector.Gp, EventType.HardwareException, true)));
        Assert.Equal(StopKind.Exit, f.State->Stop);
        Assert.Equal(
            ["exception 13 during ", "exception 13 during 13", "exception 8 during ", "exception 13 during 8", "triple fault"],
            policy.Log);
    }

    [Fact]
    public void InjectedEvent_IsNotAskedAbout()
    {
        (SystemFixture f, NonRootPolicy policy) = Make();
        using SystemFixture owned = f;
        f.SetVector(Vector.Gp, SystemFixture.Code64);
        Assert.True(f.Cpu.DeliverEvent(new GuestEvent(Vector.Gp, EventType.HardwareException, true), injected: true));
        Assert.Empty(policy.Log);
    }

    [Fact]
    public void TaskSwitch_InNonRoot_Exits()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        NonRootPolicy policy = new();
        f.Cpu.NonRoot = policy;
        Assert.Equal(ExecResult.Abort, f.Execute(0xEA, 0, 0, 0, 0, (byte)SystemFixture.Tss32, 0));
        Assert.Equal((StopKind.Exit, "task 28 Jmp "), (f.State->Stop, policy.Log[0]));
        f.SetVector(0x30, SystemFixture.Tss32, 0x85);
        Assert.False(f.Cpu.DeliverEvent(new GuestEvent(0x30, EventType.ExternalInterrupt)));
        Assert.Equal("task 28 TaskGate 48", policy.Log[1]);
    }

    [Fact]
    public void InstructionInformation_OfInvept_PacksScaleIndexBaseAndRegister()
    {
        byte[] code = [0x66, 0x0F, 0x38, 0x80, 0x4C, 0xD8, 0x10]; // INVEPT RCX, [RAX + RBX * 8 + 0x10]
        Decoder decoder = Decoder.Create(64, code, 0);
        Instruction ins = decoder.Decode();
        Assert.Equal(Mnemonic.Invept, ins.Mnemonic);
        uint expected = 3 | (2 << 7) | (3 << 15) | (3 << 18) | (0 << 23) | (1U << 28);
        Assert.Equal(expected, InstructionInformation.Vmx(ins, 1, 0));
        Assert.Equal(0x10UL, InstructionInformation.Displacement(ins));
    }

    [Fact]
    public void VmxInstruction_WithoutVmx_IsUndefined()
    {
        using SystemFixture f = new SystemFixture().Long();
        f.Faults(Vector.Ud, 0, 0x0F, 0x01, 0xC2);
        f.State->Cr4 |= Cr4.Vmxe;
        f.Faults(Vector.Ud, 0, 0x0F, 0x01, 0xC2);
        f.Faults(Vector.Ud, 0, 0x0F, 0x01, 0xC1);
    }
}
