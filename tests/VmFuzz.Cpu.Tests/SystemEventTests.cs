using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

public sealed unsafe class SystemEventTests : IProcessorObserver
{
    private readonly List<(byte Vector, ulong Rip)> _delivered = [];

    void IProcessorObserver.OnDelivered(in GuestEvent delivered, ulong returnRip) => _delivered.Add((delivered.Vector, returnRip));

    private static GuestEvent Exception(byte vector, uint error = 0, ulong address = 0) =>
        new(vector, EventType.HardwareException, Vector.HasErrorCode(vector), error, 0, address);

    private static GuestEvent External(byte vector) => new(vector, EventType.ExternalInterrupt);

    [Fact]
    public void Interrupt_InRealMode_PushesThreeWords()
    {
        using SystemFixture f = new SystemFixture().Real();
        f.Write(0x21 * 4, 4, 0xF000_1234);
        f.Cpu.Rip = 0x100;
        f.Cpu.RFlagsValue = RFlags.If | RFlags.Tf | RFlags.Cf;
        Assert.Equal(ExecResult.Jump, f.Execute(0xCD, 0x21));
        Assert.Equal((0x1234UL, 0xF0000UL), (f.Cpu.Rip, f.State->Cs.Base));
        Assert.Equal((0x102UL, 0x800UL, 0x303UL), (f.OnStack(0, 2), f.OnStack(1, 2), f.OnStack(2, 2)));
        Assert.Equal(2 | RFlags.Cf, f.Cpu.RFlagsValue);
    }

    [Fact]
    public void Interrupt_InRealModeBeyondTheTable_BecomesAFault()
    {
        using SystemFixture f = new SystemFixture().Real();
        f.State->Idtr.Limit = 0xD * 4 + 3;
        f.Write(0xD * 4, 4, 0x0900_0000);
        Assert.True(f.Cpu.DeliverEvent(External(0x20)));
        Assert.Equal((0UL, 0x900UL), (f.Cpu.Rip, f.State->Cs.Selector));
    }

    [Theory]
    [InlineData(0x8E, false)]
    [InlineData(0x8F, true)]
    public void Exception_SameLevel_PushesErrorCodeAndRf(int access, bool keepsIf)
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.SetVector(Vector.Gp, SystemFixture.Code0, (byte)access);
        f.Cpu.RFlagsValue = RFlags.If | RFlags.Nt | RFlags.Tf;
        f.Cpu.Observer = this;
        Assert.True(f.Cpu.DeliverEvent(Exception(Vector.Gp, 0x18)));
        Assert.Equal((0x18UL, SystemFixture.CodeAt, (ulong)SystemFixture.Code0), (f.OnStack(0, 4), f.OnStack(1, 4), f.OnStack(2, 4)));
        Assert.Equal(2 | RFlags.If | RFlags.Nt | RFlags.Tf | RFlags.Rf, f.OnStack(3, 4));
        Assert.Equal(2 | (keepsIf ? RFlags.If : 0), f.Cpu.RFlagsValue);
        Assert.Equal([(Vector.Gp, SystemFixture.CodeAt)], _delivered);
    }

    [Fact]
    public void Interrupt_Through16BitGate_PushesWords()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.SetVector(0x20, SystemFixture.Code0, 0x86);
        Assert.True(f.Cpu.DeliverEvent(External(0x20)));
        Assert.Equal(SystemFixture.Stack - 6, f.Cpu[Gpr.Rsp]);
        Assert.Equal(SystemFixture.CodeAt, f.OnStack(0, 2));
    }

    [Fact]
    public void Interrupt_ToInnerLevel_SwitchesTheStack()
    {
        using SystemFixture f = new SystemFixture().Protected32(3);
        f.SetVector(0x20, SystemFixture.Code0);
        Assert.True(f.Cpu.DeliverEvent(External(0x20)));
        Assert.Equal((0, SystemFixture.InnerStack - 20), (f.Cpu.Cpl, f.Cpu[Gpr.Rsp]));
        Assert.Equal((SystemFixture.OuterStack, (ulong)SystemFixture.Data3), (f.OnStack(3, 4), f.OnStack(4, 4)));
        Assert.Equal((ulong)SystemFixture.Data0, f.State->Ss.Selector);
    }

    [Fact]
    public void Interrupt_FromVirtual8086Mode_PushesAllSegments()
    {
        using SystemFixture f = new SystemFixture().V86(0);
        f.SetVector(0x20, SystemFixture.Code0);
        Assert.True(f.Cpu.DeliverEvent(External(0x20)));
        Assert.Equal((0, false, SystemFixture.InnerStack - 36), (f.Cpu.Cpl, f.Cpu.Virtual8086, f.Cpu[Gpr.Rsp]));
        Assert.Equal((0x10UL, 0x800UL, 0x1234UL), (f.OnStack(0, 4), f.OnStack(1, 4), f.OnStack(8, 4)));
        Assert.NotEqual(0UL, f.OnStack(2, 4) & RFlags.Vm);
        Assert.False(f.State->Gs.Usable);
    }

    [Fact]
    public void IntN_InVirtual8086ModeWithLowIopl_IsGeneralProtection()
    {
        using SystemFixture f = new SystemFixture().V86(0);
        f.SetVector(Vector.Gp, SystemFixture.Code0);
        f.SetVector(0x20, SystemFixture.Code0, 0xEE);
        f.IsDeliveredAFault(0xCD, 0x20);
        Assert.Equal((0UL, 0x10UL), (f.OnStack(0, 4), f.OnStack(1, 4)));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Interrupt_InLongMode_AlignsAndPushesFive(int ist)
    {
        using SystemFixture f = new SystemFixture().Long();
        f.SetVector(0x20, SystemFixture.Code64, 0x8E, ist);
        f.Cpu[Gpr.Rsp] = 0x7004;
        Assert.True(f.Cpu.DeliverEvent(External(0x20)));
        Assert.Equal((ist == 0 ? 0x7000UL : 0x5800UL) - 40, f.Cpu[Gpr.Rsp]);
        Assert.Equal((0x7004UL, (ulong)SystemFixture.Data0), (f.OnStack(3, 8), f.OnStack(4, 8)));
        Assert.True(f.State->Ss.Usable);
    }

    [Fact]
    public void PageFault_FromLevel3InLongMode_SetsCr2AndNullStack()
    {
        using SystemFixture f = new SystemFixture().Long(3);
        f.SetVector(Vector.Pf, SystemFixture.Code64);
        Assert.True(f.Cpu.DeliverEvent(Exception(Vector.Pf, 6, 0x1234_5000)));
        Assert.Equal((0x1234_5000UL, 6UL, 0), (f.State->Cr2, f.OnStack(0, 8), f.Cpu.Cpl));
        Assert.False(f.State->Ss.Usable);
        Assert.Equal(SystemFixture.InnerStack - 48, f.Cpu[Gpr.Rsp]);
    }

    [Fact]
    public void InjectedPageFault_Delivered_LeavesCr2()
    {
        using SystemFixture f = new SystemFixture().Long(3);
        f.SetVector(Vector.Pf, SystemFixture.Code64);
        Assert.True(f.Cpu.DeliverEvent(Exception(Vector.Pf, 6, 0x1234_5000), injected: true));
        Assert.Equal(0UL, f.State->Cr2);
    }

    [Theory]
    [InlineData(0x8E, 0xCD, 0x20 * 8 + 2)] // INT n: the gate's DPL counts, EXT clear
    public void IntN_AtLevel3ThroughLevel0Gate_IsGeneralProtectionWithTheVector(int access, int opcode, int error)
    {
        using SystemFixture f = new SystemFixture().Protected32(3);
        f.SetVector(0x20, SystemFixture.Code0, (byte)access);
        f.SetVector(Vector.Gp, SystemFixture.Code0);
        f.IsDeliveredAFault((byte)opcode, 0x20);
        Assert.Equal(((ulong)error, SystemFixture.CodeAt), (f.OnStack(0, 4), f.OnStack(1, 4)));
    }

    [Fact]
    public void IntN_WithResumeFlag_PushesItClear()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.SetVector(0x20, SystemFixture.Code0, 0x8E);
        f.State->Flags |= RFlags.Rf;
        f.Completes(0xCD, 0x20);
        Assert.Equal(0UL, f.OnStack(2, 4) & RFlags.Rf);
    }

    [Theory]
    [InlineData(0x20, 0x0E, Vector.Np, 0x20 * 8 + 3)]
    [InlineData(0x20, 0x8C, Vector.Gp, 0x20 * 8 + 3)]
    public void ExternalInterrupt_ThroughWrongGate_HasExtSet(int vector, int access, int expected, int error)
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.SetVector(vector, SystemFixture.Code0, (byte)access);
        f.SetVector(expected, SystemFixture.Code0);
        Assert.True(f.Cpu.DeliverEvent(External((byte)vector)));
        Assert.Equal((ulong)error, f.OnStack(0, 4));
    }

    [Fact]
    public void ContributoryFaults_Two_GiveADoubleFault()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.SetVector(Vector.Df, SystemFixture.Code0);
        f.Cpu.Observer = this;
        Assert.True(f.Cpu.DeliverEvent(Exception(Vector.Gp)));
        Assert.Equal([(Vector.Df, SystemFixture.CodeAt)], _delivered);
        Assert.Equal((0UL, RFlags.Rf), (f.OnStack(0, 4), f.OnStack(3, 4) & RFlags.Rf));
    }

    [Fact]
    public void Faults_WithoutAnyHandler_ShutDown()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        Assert.False(f.Cpu.DeliverEvent(Exception(Vector.Ud)));
        Assert.Equal((StopKind.Shutdown, 2UL), (f.State->Stop, f.State->Activity));
        Assert.Null(f.Cpu.Delivering);
    }

    [Theory]
    [InlineData(Vector.Ud, Vector.Gp, 0)]
    [InlineData(Vector.De, Vector.Pf, 0)]
    [InlineData(Vector.De, Vector.Gp, 1)]
    [InlineData(Vector.Ts, Vector.Ss, 1)]
    [InlineData(Vector.Pf, Vector.Pf, 1)]
    [InlineData(Vector.Pf, Vector.Np, 1)]
    [InlineData(Vector.Pf, Vector.Db, 0)]
    [InlineData(Vector.Df, Vector.Pf, 2)]
    [InlineData(Vector.Df, Vector.Gp, 2)]
    public void DoubleFaultTable_Pair_Combines(byte first, byte second, int expected) =>
        Assert.Equal((FaultCombination)expected, DoubleFaults.Combine(Exception(first), Exception(second)));

    [Fact]
    public void DoubleFaultTable_InterruptOfSameNumber_IsBenign() =>
        Assert.Equal(FaultCombination.Serial, DoubleFaults.Combine(External(13), Exception(Vector.Gp)));

    [Fact]
    public void Nmi_Delivered_BlocksUntilIret()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.SetVector(Vector.Nmi, SystemFixture.Code0);
        f.State->Interruptibility = 1;
        Assert.True(f.Cpu.DeliverEvent(new GuestEvent(Vector.Nmi, EventType.Nmi)));
        Assert.Equal(8UL, f.State->Interruptibility);
        f.Completes(0xCF);
        Assert.Equal(0UL, f.State->Interruptibility);
        Assert.Equal(SystemFixture.CodeAt, f.Cpu.Rip);
    }

    [Fact]
    public void Int3_Delivered_ReturnsAfterItAndIsNotObserved()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.SetVector(Vector.Bp, SystemFixture.Code0, 0xEF);
        f.Cpu.Observer = this;
        f.Completes(0xCC);
        Assert.Equal(SystemFixture.CodeAt + 1, f.OnStack(0, 4));
        Assert.Equal(0UL, f.OnStack(2, 4) & RFlags.Rf);
        Assert.Empty(_delivered);
    }

    [Fact]
    public void DebugException_Delivered_SetsDr6AndClearsGd()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.SetVector(Vector.Db, SystemFixture.Code0);
        f.State->Dr7 |= 1 << 13;
        f.Faults(Vector.Db, 0, 0x0F, 0x21, 0xF8);
        Assert.True(f.Cpu.DeliverPendingFault());
        Assert.Equal((0xFFFF_2FF0UL, 0UL), (f.State->Dr6, f.State->Dr7 & (1 << 13)));
        Assert.NotEqual(0UL, f.OnStack(2, 4) & RFlags.Rf);
    }

    [Fact]
    public void Delivery_ThatFaultsOnTheStack_ChangesNoRegister()
    {
        using SystemFixture f = new SystemFixture().Protected32();
        f.SetVector(Vector.Df, SystemFixture.Code0);
        f.State->Ss.Limit = 0x6FFF;
        f.Cpu[Gpr.Rsp] = 0x7004;
        f.SetVector(Vector.Ss, SystemFixture.Code0);
        Assert.False(f.Cpu.DeliverEvent(Exception(Vector.Gp)));
        Assert.Equal((0x7004UL, SystemFixture.CodeAt), (f.Cpu[Gpr.Rsp], f.Cpu.Rip));
        Assert.Equal(StopKind.Shutdown, f.State->Stop);
    }
}
