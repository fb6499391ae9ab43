using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests;

/// <summary>SDM "Task Management": the current task is <see cref="SystemFixture.Tss32"/>, the others are made here.</summary>
public sealed unsafe class SystemTaskSwitchTests
{
    private const ushort New32 = 0xA8;
    private const ushort New16 = 0xB0;
    private const ushort Old16 = 0xB8;
    private const ushort Gate = 0xC0;
    private const ushort Stack16 = 0xC8;
    private const ulong NewBase = 0xB000;
    private const ulong New16Base = 0xB100;
    private const ulong Old16Base = 0xB200;
    private const ulong TaskAt = 0xA000;
    private const ulong TaskStack = 0xC000;

    // Offsets in a 32-bit TSS.
    private const ulong Cr3At = 28;
    private const ulong EipAt = 32;
    private const ulong FlagsAt = 36;
    private const ulong EaxAt = 40;
    private const ulong EspAt = 56;
    private const ulong EsAt = 72;
    private const ulong CsAt = 76;
    private const ulong SsAt = 80;
    private const ulong DsAt = 84;
    private const ulong FsAt = 88;
    private const ulong GsAt = 92;
    private const ulong LdtAt = 96;
    private const ulong TrapAt = 100;

    private static readonly byte[] Jump = [0xEA, 0, 0, 0, 0, (byte)New32, 0];
    private static readonly byte[] Call = [0x9A, 0, 0, 0, 0, (byte)New32, 0];

    private static SystemFixture Make(int cpl = 0)
    {
        SystemFixture f = new SystemFixture().Protected32(cpl);
        f.State->Gdtr.Limit = 0xCF;
        f.SetDescriptor(SystemFixture.Tss32, 0x8B, 0, (uint)SystemFixture.TssBase, 0x20FF);
        f.SetDescriptor(New32, 0xE9, 0, (uint)NewBase, 0x67);
        f.SetDescriptor(New16, 0xE1, 0, (uint)New16Base, 0x2B);
        f.SetDescriptor(Stack16, 0x92, 0, 0, 0xFFFF);
        f.SetDescriptor(Old16, 0x83, 0, (uint)Old16Base, 0x2B);
        f.Write(SystemFixture.GdtBase + Gate, 8, (0xE5UL << 40) | ((ulong)New32 << 16));
        f.Write(NewBase + EipAt, 4, TaskAt);
        f.Write(NewBase + FlagsAt, 4, RFlags.Reserved1 | RFlags.Cf | RFlags.If);
        for (uint i = 0; i < 8; i++)
        {
            f.Write(NewBase + EaxAt + (i * 4), 4, 0x1000_0001U * (i + 1));
            f.Write(New16Base + 18 + (i * 2), 2, 0x101U * (i + 1));
        }

        f.Write(NewBase + EspAt, 4, TaskStack);
        foreach (ulong at in (ulong[])[EsAt, SsAt, DsAt, FsAt, GsAt])
        {
            f.Write(NewBase + at, 4, SystemFixture.Data0);
        }

        f.Write(NewBase + CsAt, 4, SystemFixture.Code0);
        f.Write(New16Base + 14, 2, TaskAt);
        f.Write(New16Base + 16, 2, RFlags.Reserved1 | RFlags.Zf);
        f.Write(New16Base + 26, 2, TaskStack);
        f.Write(New16Base + 34, 2, SystemFixture.Data0);
        f.Write(New16Base + 36, 2, SystemFixture.Code0);
        f.Write(New16Base + 38, 2, Stack16);
        f.Write(New16Base + 40, 2, SystemFixture.Data0);
        return f;
    }

    private static bool Busy(SystemFixture f, ushort selector) => (f.Read(SystemFixture.GdtBase + selector + 5, 1) & 2) != 0;

    private static (bool Old, bool New) BusyBits(SystemFixture f) => (Busy(f, SystemFixture.Tss32), Busy(f, New32));

    [Fact]
    public void Jmp_ToTss_SwitchesAllState()
    {
        using SystemFixture f = Make();
        f.Cpu.RFlagsValue = RFlags.Df | RFlags.Rf;
        f.Cpu[Gpr.Rax] = 0x1234_5678;
        f.Cpu[Gpr.Rdi] = 0x8765_4321;
        f.State->Dr7 = 0x7FF;
        f.Write(NewBase + LdtAt, 2, SystemFixture.Ldt);
        Assert.Equal(ExecResult.Jump, f.Execute(Jump));

        Assert.Equal((TaskAt, 0x1000_0001UL, 0x8000_0008UL, TaskStack), (f.Cpu.Rip, f.Cpu[Gpr.Rax], f.Cpu[Gpr.Rdi], f.Cpu[Gpr.Rsp]));
        Assert.Equal(RFlags.Reserved1 | RFlags.Cf | RFlags.If, f.Cpu.RFlagsValue);
        Assert.Equal(((ulong)New32, NewBase, 0x67U, 0xEBU), (f.State->Tr.Selector, f.State->Tr.Base, f.State->Tr.Limit, f.State->Tr.Attributes));
        Assert.Equal(((ulong)SystemFixture.Ldt, SystemFixture.LdtBase), (f.State->Ldtr.Selector, f.State->Ldtr.Base));
        Assert.Equal((Cr0.Ts, 0x6AAUL), (f.State->Cr0 & Cr0.Ts, f.State->Dr7));
        Assert.Equal((false, true), BusyBits(f));

        ulong old = SystemFixture.TssBase;
        Assert.Equal((SystemFixture.CodeAt + 7, RFlags.Reserved1 | RFlags.Df), (f.Read(old + EipAt, 4), f.Read(old + FlagsAt, 4)));
        Assert.Equal((0x1234_5678UL, 0x8765_4321UL, SystemFixture.Stack), (f.Read(old + EaxAt, 4), f.Read(old + EaxAt + 28, 4), f.Read(old + EspAt, 4)));
        Assert.Equal(((ulong)SystemFixture.Code0, (ulong)SystemFixture.Data0), (f.Read(old + CsAt, 2), f.Read(old + GsAt, 2)));
        Assert.Equal(0UL, f.Read(NewBase, 2));
    }

    [Fact]
    public void Call_ToTss_NestsTheTask()
    {
        using SystemFixture f = Make();
        Assert.Equal(ExecResult.Jump, f.Execute(Call));
        Assert.Equal((ulong)SystemFixture.Tss32, f.Read(NewBase, 2));
        Assert.NotEqual(0UL, f.Cpu.RFlagsValue & RFlags.Nt);
        Assert.Equal(0UL, f.Read(SystemFixture.TssBase + FlagsAt, 4) & RFlags.Nt);
        Assert.Equal((true, true), BusyBits(f));
    }

    [Fact]
    public void Iret_FromNestedTask_ReturnsToTheCaller()
    {
        using SystemFixture f = Make();
        f.State->Interruptibility = 8;
        f.Execute(Call);
        f.Cpu[Gpr.Rax] = 0x55;
        Assert.Equal(ExecResult.Jump, f.Execute(0xCF));
        Assert.Equal((SystemFixture.CodeAt + 7, (ulong)SystemFixture.Tss32, 0UL), (f.Cpu.Rip, f.State->Tr.Selector, f.State->Interruptibility));
        Assert.Equal((true, false), BusyBits(f));
        Assert.Equal((0x55UL, TaskAt + 1), (f.Read(NewBase + EaxAt, 4), f.Read(NewBase + EipAt, 4)));
        Assert.Equal((0UL, 0UL), (f.Read(NewBase + FlagsAt, 4) & RFlags.Nt, f.Cpu.RFlagsValue & RFlags.Nt));
    }

    [Theory]
    [InlineData(0xEA)]
    [InlineData(0x9A)]
    public void TaskGate_JmpOrCall_IgnoresThePrivilegeOfTheTss(int opcode)
    {
        using SystemFixture f = Make(3);
        f.SetDescriptor(New32, 0x89, 0, (uint)NewBase, 0x67);
        f.Faults(Vector.Gp, New32, (byte)opcode, 0, 0, 0, 0, (byte)New32, 0);
        Assert.Equal(ExecResult.Jump, f.Execute((byte)opcode, 0, 0, 0, 0, (byte)Gate, 0));
        Assert.Equal((0, (ulong)New32), (f.Cpu.Cpl, f.State->Tr.Selector));
    }

    [Fact]
    public void TaskGate_BelowThePrivilege_IsGeneralProtection()
    {
        using SystemFixture f = Make(3);
        f.Write(SystemFixture.GdtBase + Gate, 8, (0x85UL << 40) | ((ulong)New32 << 16));
        f.Faults(Vector.Gp, Gate, 0xEA, 0, 0, 0, 0, (byte)Gate, 0);
    }

    [Fact]
    public void TaskGate_Absent_IsNotPresentWithTheGate()
    {
        using SystemFixture f = Make();
        f.Write(SystemFixture.GdtBase + Gate, 8, (0x65UL << 40) | ((ulong)New32 << 16));
        f.Faults(Vector.Np, Gate, 0xEA, 0, 0, 0, 0, (byte)Gate, 0);
    }

    [Fact]
    public void Jmp_To16BitTss_LoadsWords()
    {
        using SystemFixture f = Make();
        f.Cpu.RFlagsValue = RFlags.Ac;
        Assert.Equal(ExecResult.Jump, f.Execute(0xEA, 0, 0, 0, 0, (byte)New16, 0));
        Assert.Equal((TaskAt, 0xFFFF_0101UL, 0xFFFF_0808UL), (f.Cpu.Rip, f.Cpu[Gpr.Rax], f.Cpu[Gpr.Rdi]));
        Assert.Equal(RFlags.Reserved1 | RFlags.Zf, f.Cpu.RFlagsValue);
        Assert.Equal((false, false, 0UL), (f.State->Fs.Usable, f.State->Gs.Usable, f.State->Gs.Selector));
        Assert.Equal((0xE3U, (ulong)SystemFixture.Data0), (f.State->Tr.Attributes, f.State->Es.Selector));
    }

    [Fact]
    public void Jmp_From16BitTss_SavesWords()
    {
        using SystemFixture f = Make();
        f.State->Tr = new SegmentState { Base = Old16Base, Limit = 0x2B, Attributes = 0x83, Selector = Old16 };
        f.Write(Old16Base + 42, 8, 0x1111_1111_1111_1111);
        f.Cpu[Gpr.Rcx] = 0xABCD_1234;
        Assert.Equal(ExecResult.Jump, f.Execute(Jump));
        Assert.Equal((SystemFixture.CodeAt + 7, 0x1234UL, (ulong)SystemFixture.Data0), (f.Read(Old16Base + 14, 2), f.Read(Old16Base + 20, 2), f.Read(Old16Base + 40, 2)));
        Assert.Equal(0x1111_1111_1111_1111UL, f.Read(Old16Base + 42, 8));
        Assert.False(Busy(f, Old16));
    }

    [Fact]
    public void Switch_WithPaging_LoadsCr3()
    {
        using SystemFixture f = Make();
        f.Write(0x20000, 4, 0x21007);
        f.Write(0x22000, 4, 0x21007);
        for (uint i = 0; i < 256; i++)
        {
            f.Write(0x21000 + (i * 4), 4, (i << 12) | 7);
        }

        f.State->Cr3 = 0x20000;
        f.State->Cr0 |= Cr0.Pg;
        f.Write(NewBase + Cr3At, 4, 0x22000);
        Assert.Equal(ExecResult.Jump, f.Execute(Jump));
        Assert.Equal(0x22000UL, f.State->Cr3);
    }

    [Fact]
    public void Switch_WithoutPaging_LeavesCr3()
    {
        using SystemFixture f = Make();
        f.State->Cr3 = 0x20000;
        f.Write(NewBase + Cr3At, 4, 0x22000);
        f.Execute(Jump);
        Assert.Equal(0x20000UL, f.State->Cr3);
    }

    [Fact]
    public void Switch_ToWrongPdptes_IsGeneralProtectionInTheNewTask()
    {
        using SystemFixture f = Make();
        f.State->Cr4 = Cr4.Pae;
        f.Write(0x20000, 8, 0x21001);
        f.Write(0x21000, 8, 0x87);
        f.Write(0x22000, 8, 0x21007);
        f.State->Cr3 = 0x20000;
        f.State->Pdpte[0] = 0x21001;
        f.State->Cr0 |= Cr0.Pg;
        f.Write(NewBase + Cr3At, 4, 0x22000);
        f.Faults(Vector.Gp, 0, Jump);
        Assert.Equal((TaskAt, 0x20000UL, (ulong)New32), (f.Cpu.Rip, f.State->Cr3, f.State->Tr.Selector));
    }

    [Fact]
    public void Switch_ToVirtual8086Task_LoadsRealSegments()
    {
        using SystemFixture f = Make();
        f.Write(NewBase + FlagsAt, 4, RFlags.Vm | RFlags.Reserved1);
        f.Write(NewBase + CsAt, 4, 0xA00);
        f.Write(NewBase + SsAt, 4, 0xB00);
        Assert.Equal(ExecResult.Jump, f.Execute(Jump));
        Assert.Equal((3, true, 0xA000UL, 0xB000UL), (f.Cpu.Cpl, f.Cpu.Virtual8086, f.State->Cs.Base, f.State->Ss.Base));
    }

    [Fact]
    public void Switch_ToOuterLevel_TakesItFromCs()
    {
        using SystemFixture f = Make();
        f.Write(NewBase + CsAt, 4, SystemFixture.Code3);
        f.Write(NewBase + SsAt, 4, SystemFixture.Data3);
        foreach (ulong at in (ulong[])[EsAt, DsAt, FsAt, GsAt])
        {
            f.Write(NewBase + at, 4, 0);
        }

        Assert.Equal(ExecResult.Jump, f.Execute(Jump));
        Assert.Equal((3, false), (f.Cpu.Cpl, f.State->Ds.Usable));
    }

    // What is wrong with the selector or the descriptor: nothing has changed then.
    [Theory]
    [InlineData(0x8B, 0x67, Vector.Gp)]
    [InlineData(0x82, 0x67, Vector.Gp)]
    [InlineData(0x09, 0x67, Vector.Np)]
    [InlineData(0x89, 0x66, Vector.Ts)]
    [InlineData(0x81, 0x2A, Vector.Ts)]
    public void Jmp_ToWrongTss_FaultsInTheOldTask(int access, int limit, byte vector)
    {
        using SystemFixture f = Make();
        f.SetDescriptor(New32, (byte)access, 0, (uint)NewBase, (uint)limit);
        f.Faults(vector, New32, Jump);
        Assert.Equal((ulong)SystemFixture.Tss32, f.State->Tr.Selector);
        Assert.Equal((0UL, 0UL), (f.State->Cr0 & Cr0.Ts, f.Read(SystemFixture.TssBase + EipAt, 4)));
    }

    [Theory]
    [InlineData(0, Vector.Gp, 0)]
    [InlineData(0xAC, Vector.Gp, 0xAC)]
    [InlineData(0xD8, Vector.Gp, 0xD8)]
    public void TaskGate_WithWrongTssSelector_IsGeneralProtection(int selector, byte vector, int error)
    {
        using SystemFixture f = Make();
        f.Write(SystemFixture.GdtBase + Gate, 8, (0xE5UL << 40) | ((ulong)selector << 16));
        f.Faults(vector, (ulong)error, 0xEA, 0, 0, 0, 0, (byte)Gate, 0);
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(0xAC, 0xAC)]
    [InlineData(0xD8, 0xD8)]
    [InlineData(New32, New32)]
    [InlineData(SystemFixture.Data0, SystemFixture.Data0)]
    public void Iret_WithWrongLink_IsInvalidTss(int link, int error)
    {
        using SystemFixture f = Make();
        f.Cpu.RFlagsValue = RFlags.Nt;
        f.Write(SystemFixture.TssBase, 2, (ulong)link);
        f.Faults(Vector.Ts, (ulong)error, 0xCF);
    }

    [Fact]
    public void Iret_ToAbsentTss_IsNotPresent()
    {
        using SystemFixture f = Make();
        f.Cpu.RFlagsValue = RFlags.Nt;
        f.SetDescriptor(New32, 0x0B, 0, (uint)NewBase, 0x67);
        f.Write(SystemFixture.TssBase, 2, New32);
        f.Faults(Vector.Np, New32, 0xCF);
    }

    [Fact]
    public void Switch_FromShortTss_IsInvalidTssOfTheOldTask()
    {
        using SystemFixture f = Make();
        f.State->Tr.Limit = 0x66;
        f.Faults(Vector.Ts, SystemFixture.Tss32, Jump);
        Assert.Equal((ulong)SystemFixture.Tss32, f.State->Tr.Selector);
    }

    // Each page that a switch touches: nothing has changed when one is missing.
    [Theory]
    [InlineData(SystemFixture.TssBase, 2U)]
    [InlineData(NewBase, 0U)]
    [InlineData(SystemFixture.GdtBase, 0U)]
    public void Switch_WithAPageMissing_PageFaultsInTheOldTask(ulong page, uint error)
    {
        using SystemFixture f = Make();
        f.Write(0x20000, 4, 0x21007);
        for (uint i = 0; i < 256; i++)
        {
            f.Write(0x21000 + (i * 4), 4, i == page >> 12 ? 0 : (i << 12) | 7);
        }

        f.State->Cr3 = 0x20000;
        f.State->Cr0 |= Cr0.Pg;
        f.Faults(Vector.Pf, error, Jump);
        Assert.Equal((ulong)SystemFixture.Tss32, f.State->Tr.Selector);
        Assert.Equal((true, false), BusyBits(f));
    }

    // SDM "Exception Conditions Checked During a Task Switch": a selector of the new task and what it raises there.
    [Theory]
    [InlineData(LdtAt, 0x74, Vector.Ts, 0x74)] // in the LDT
    [InlineData(LdtAt, 0xD8, Vector.Ts, 0xD8)] // beyond the GDT
    [InlineData(LdtAt, SystemFixture.Data0, Vector.Ts, SystemFixture.Data0)] // not an LDT
    [InlineData(LdtAt, Stack16, Vector.Ts, Stack16)] // absent
    [InlineData(CsAt, 0, Vector.Ts, 0)]
    [InlineData(CsAt, 0xD8, Vector.Ts, 0xD8)]
    [InlineData(CsAt, SystemFixture.Data0, Vector.Ts, SystemFixture.Data0)]
    [InlineData(CsAt, SystemFixture.Code0 | 3, Vector.Ts, SystemFixture.Code0)] // DPL below RPL
    [InlineData(CsAt, SystemFixture.Code3 & ~3, Vector.Ts, SystemFixture.Code3 & ~3)] // DPL above RPL
    [InlineData(CsAt, SystemFixture.AbsentCode, Vector.Np, SystemFixture.AbsentCode)]
    [InlineData(SsAt, 0, Vector.Ts, 0)]
    [InlineData(SsAt, 0xD8, Vector.Ts, 0xD8)]
    [InlineData(SsAt, SystemFixture.ReadOnly, Vector.Ts, SystemFixture.ReadOnly)]
    [InlineData(SsAt, SystemFixture.Data3 & ~3, Vector.Ts, SystemFixture.Data3 & ~3)] // DPL is not CPL
    [InlineData(SsAt, SystemFixture.Data0 | 3, Vector.Ts, SystemFixture.Data0)] // RPL is not CPL
    [InlineData(SsAt, SystemFixture.Absent, Vector.Ss, SystemFixture.Absent)]
    [InlineData(DsAt, 0xD8, Vector.Ts, 0xD8)]
    [InlineData(EsAt, SystemFixture.ExecuteOnly, Vector.Ts, SystemFixture.ExecuteOnly)]
    [InlineData(FsAt, SystemFixture.Data0 | 3, Vector.Ts, SystemFixture.Data0)] // RPL above DPL
    [InlineData(GsAt, SystemFixture.Absent, Vector.Np, SystemFixture.Absent)]
    public void Switch_ToTaskWithWrongSelector_FaultsInTheNewTask(ulong at, int selector, byte vector, int error)
    {
        using SystemFixture f = Make();
        f.SetDescriptor(Stack16, 0x02, 0, 0x4000, 0xF);
        f.Write(NewBase + at, 2, (ulong)selector);
        f.Faults(vector, (ulong)error, Jump);
        Assert.Equal(((ulong)New32, TaskAt, TaskStack, Cr0.Ts), (f.State->Tr.Selector, f.Cpu.Rip, f.Cpu[Gpr.Rsp], f.State->Cr0 & Cr0.Ts));
        Assert.Equal((false, true), BusyBits(f));
    }

    [Fact]
    public void Switch_ToConformingCode_NeedsNoEqualLevel()
    {
        using SystemFixture f = Make();
        f.Write(NewBase + CsAt, 4, SystemFixture.Conforming | 3);
        f.Write(NewBase + SsAt, 4, SystemFixture.Data3);
        foreach (ulong at in (ulong[])[EsAt, DsAt, FsAt, GsAt])
        {
            f.Write(NewBase + at, 4, SystemFixture.Data3);
        }

        Assert.Equal(ExecResult.Jump, f.Execute(Jump));
        Assert.Equal(3, f.Cpu.Cpl);
    }

    [Fact]
    public void Interrupt_ThroughTaskGate_NestsAndSavesTheReturnAddress()
    {
        using SystemFixture f = Make(3);
        f.SetVector(0x30, New32, 0x85);
        f.Cpu.RFlagsValue = RFlags.Rf | RFlags.If;
        Assert.True(f.Cpu.DeliverEvent(new GuestEvent(0x30, EventType.ExternalInterrupt)));
        Assert.Equal((0, TaskAt, TaskStack), (f.Cpu.Cpl, f.Cpu.Rip, f.Cpu[Gpr.Rsp]));
        Assert.Equal((SystemFixture.CodeAt, (ulong)SystemFixture.Tss32), (f.Read(SystemFixture.TssBase + EipAt, 4), f.Read(NewBase, 2)));
        Assert.Equal(RFlags.Rf, f.Read(SystemFixture.TssBase + FlagsAt, 4) & RFlags.Rf);
        Assert.Equal(RFlags.Nt | RFlags.If, f.Cpu.RFlagsValue & (RFlags.Nt | RFlags.If));
    }

    [Theory]
    [InlineData(New32, 4)]
    [InlineData(New16, 2)]
    public void Exception_ThroughTaskGate_PushesItsErrorCode(int selector, int size)
    {
        using SystemFixture f = Make();
        f.SetVector(Vector.Gp, (ushort)selector, 0x85);
        Assert.True(f.Cpu.DeliverEvent(new GuestEvent(Vector.Gp, EventType.HardwareException, true, 0x1238)));
        Assert.Equal((0UL, 0x1238UL), ((TaskStack - (ulong)size - f.Cpu[Gpr.Rsp]) & 0xFFFF, f.OnStack(0, size)));
        Assert.Equal(RFlags.Rf, f.Read(SystemFixture.TssBase + FlagsAt, 4) & RFlags.Rf);
    }

    [Fact]
    public void Exception_WhoseErrorCodeDoesNotFit_IsAStackFaultOfTheNewTask()
    {
        using SystemFixture f = Make();
        f.SetVector(Vector.Ts, New32, 0x85);
        f.SetVector(Vector.Df, SystemFixture.Code0);
        f.SetDescriptor(SystemFixture.Code16, 0x92, 4, 0, 0xBFF0);
        f.Write(NewBase + SsAt, 2, SystemFixture.Code16);
        f.SetVector(Vector.Ss, SystemFixture.Code0);
        Assert.False(f.Cpu.DeliverEvent(new GuestEvent(Vector.Ts, EventType.HardwareException, true)));
        Assert.Equal((StopKind.Shutdown, (ulong)New32), (f.State->Stop, f.State->Tr.Selector));
    }

    [Fact]
    public void IntN_ThroughTaskGate_ReturnsBehindIt()
    {
        using SystemFixture f = Make(3);
        f.SetVector(0x30, New32, 0xE5);
        Assert.Equal(ExecResult.Jump, f.Execute(0xCD, 0x30));
        Assert.Equal(SystemFixture.CodeAt + 2, f.Read(SystemFixture.TssBase + EipAt, 4));
        Assert.Equal(0UL, f.Read(SystemFixture.TssBase + FlagsAt, 4) & RFlags.Rf);
    }

    [Fact]
    public void IntN_ThroughPrivilegedTaskGate_IsGeneralProtectionWithoutExt()
    {
        using SystemFixture f = Make(3);
        f.SetVector(0x30, New32, 0x85);
        f.SetVector(Vector.Gp, SystemFixture.Code0);
        f.IsDeliveredAFault(0xCD, 0x30);
        Assert.Equal(0x30UL * 8 + 2, f.OnStack(0, 4));
    }

    // The EXT bit tells whether the program asked for the switch.
    [Theory]
    [InlineData(false, 0xA8)]
    [InlineData(true, 0xA9)]
    public void TaskGate_ToBusyTss_HasExtOfItsEvent(bool external, int error)
    {
        using SystemFixture f = Make();
        f.SetDescriptor(New32, 0x8B, 0, (uint)NewBase, 0x67);
        f.SetVector(0x30, New32, 0xE5);
        f.SetVector(Vector.Gp, SystemFixture.Code0);
        if (external)
        {
            Assert.True(f.Cpu.DeliverEvent(new GuestEvent(0x30, EventType.ExternalInterrupt)));
        }
        else
        {
            f.IsDeliveredAFault(0xCD, 0x30);
        }

        Assert.Equal((ulong)error, f.OnStack(0, 4));
    }

    [Theory]
    [InlineData(false, SystemFixture.Absent)]
    [InlineData(true, SystemFixture.Absent | 1)]
    public void TaskGate_ToTaskWithAbsentSegment_FaultsThereWithExtOfItsEvent(bool external, int error)
    {
        using SystemFixture f = Make();
        f.Write(NewBase + DsAt, 2, SystemFixture.Absent);
        f.SetVector(0x30, New32, 0xE5);
        f.SetVector(Vector.Np, SystemFixture.Code0);
        if (external)
        {
            Assert.True(f.Cpu.DeliverEvent(new GuestEvent(0x30, EventType.ExternalInterrupt)));
        }
        else
        {
            f.IsDeliveredAFault(0xCD, 0x30);
        }

        Assert.Equal(((ulong)error, TaskAt), (f.OnStack(0, 4), f.OnStack(1, 4)));
        Assert.Equal((SystemFixture.HandlerAt, (ulong)New32), (f.Cpu.Rip, f.State->Tr.Selector));
    }

    [Fact]
    public void Nmi_ThroughTaskGate_BlocksUntilTheTaskReturns()
    {
        using SystemFixture f = Make();
        f.SetVector(Vector.Nmi, New32, 0x85);
        Assert.True(f.Cpu.DeliverEvent(new GuestEvent(Vector.Nmi, EventType.Nmi)));
        Assert.Equal(8UL, f.State->Interruptibility);
        f.Completes(0xCF);
        Assert.Equal((0UL, SystemFixture.CodeAt), (f.State->Interruptibility, f.Cpu.Rip));
    }

    [Fact]
    public void DoubleFault_ThroughTaskGate_HasAStackOfItsOwn()
    {
        using SystemFixture f = Make();
        f.SetVector(Vector.Df, New32, 0x85);
        f.State->Ss.Limit = 0;
        Assert.True(f.Cpu.DeliverEvent(new GuestEvent(Vector.Gp, EventType.HardwareException, true, 0x10)));
        Assert.Equal((TaskAt, 0UL, TaskStack - 4), (f.Cpu.Rip, f.OnStack(0, 4), f.Cpu[Gpr.Rsp]));
    }

    [Fact]
    public void DebugTrapFlag_OfTheNewTask_TrapsBeforeItsFirstInstruction()
    {
        using SystemFixture f = Make();
        f.Write(NewBase + TrapAt, 2, 1);
        f.SetVector(Vector.Db, SystemFixture.Code0);
        f.Write(SystemFixture.CodeAt, 8, 0xA8_0000_0000_EAUL);
        f.Write(SystemFixture.HandlerAt, 1, 0xF4);
        Assert.Equal(CpuStop.Halted, f.Cpu.Run());
        Assert.Equal((TaskAt, 0xFFFF_8FF0UL, 0UL), (f.OnStack(0, 4), f.State->Dr6, f.State->PendingDebug));
        Assert.Equal((ulong)New32, f.State->Tr.Selector);
    }

    [Fact]
    public void ResumeFlag_OfTheNewTask_SurvivesASwitchUnderRf()
    {
        using SystemFixture f = Make();
        f.Write(NewBase + FlagsAt, 4, RFlags.Rf | RFlags.Reserved1);
        f.Write(NewBase + TrapAt, 2, 1);
        f.SetVector(Vector.Db, SystemFixture.Code0);
        f.Write(SystemFixture.CodeAt, 8, 0xA8_0000_0000_EAUL);
        f.Write(SystemFixture.HandlerAt, 1, 0xF4);
        f.Cpu.RFlagsValue = RFlags.Rf;
        Assert.Equal(CpuStop.Halted, f.Cpu.Run());
        Assert.Equal(RFlags.Rf, f.OnStack(2, 4) & RFlags.Rf);
    }

    [Fact]
    public void Switch_InNonRoot_ChecksTheNewTssAndLeavesTheOldAlone()
    {
        using SystemFixture f = Make();
        f.Cpu.NonRoot = new NonRootPolicy();
        f.SetDescriptor(New32, 0x89, 0, (uint)NewBase, 0x66);
        f.Faults(Vector.Ts, New32, Jump);
        f.SetDescriptor(New32, 0x89, 0, (uint)NewBase, 0x67);
        f.State->Tr.Limit = 0;
        Assert.Equal(ExecResult.Abort, f.Execute(Jump));
        Assert.Equal((StopKind.Exit, (ulong)SystemFixture.Tss32), (f.State->Stop, f.State->Tr.Selector));
    }
}
