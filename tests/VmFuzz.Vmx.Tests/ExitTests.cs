using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Vmx.Tests;

public sealed unsafe class ExitTests
{
    // code, primary controls, secondary controls, expected exit
    private static void Check(byte[] code, uint primary, uint secondary, VmExit expected, ulong rip = 0x1000)
    {
        using GuestFixture f = new();
        f.Code(code);
        f.Vmcs[VmcsField.PrimaryControls] |= primary;
        f.Vmcs[VmcsField.SecondaryControls] |= secondary;
        VmExit exit = f.Enter();
        Assert.Equal(expected, exit);
        Assert.Equal(rip, f.Vmcs[VmcsField.GuestRip]);
        Assert.Equal(expected.InstructionLength, (uint)f.Vmcs[VmcsField.ExitInstructionLength]);
        Assert.Single(f.Exits);
    }

    private static VmExit Exit(ExitReason reason, uint length, ulong qualification = 0, uint info = 0) =>
        new((uint)reason, qualification, InstructionLength: length, InstructionInfo: info);

    [Fact]
    public void Cpuid_Always_Exits() => Check([0x0F, 0xA2], 0, 0, Exit(ExitReason.Cpuid, 2));

    [Fact]
    public void Hlt_WithControl_Exits() => Check([0x90, 0xF4], 0, 0, Exit(ExitReason.Hlt, 1), 0x1001);

    [Fact]
    public void Rdtsc_WithControl_Exits() => Check([0x0F, 0x31], PrimaryControls.RdtscExiting, 0, Exit(ExitReason.Rdtsc, 2));

    [Fact]
    public void Rdtscp_WithControl_Exits() => Check([0x0F, 0x01, 0xF9], PrimaryControls.RdtscExiting, 0, Exit(ExitReason.Rdtscp, 3));

    [Fact]
    public void Invlpg_WithControl_ExitsWithAddress() =>
        Check([0x0F, 0x01, 0x3C, 0x25, 0x00, 0x40, 0, 0], PrimaryControls.InvlpgExiting, 0, Exit(ExitReason.Invlpg, 8, 0x4000));

    [Fact]
    public void Pause_WithControl_Exits() => Check([0xF3, 0x90], PrimaryControls.PauseExiting, 0, Exit(ExitReason.Pause, 2));

    [Fact]
    public void Wbinvd_WithControl_Exits() => Check([0x0F, 0x09], 0, SecondaryControls.WbinvdExiting, Exit(ExitReason.Wbinvd, 2));

    [Fact]
    public void Invd_Always_Exits() => Check([0x0F, 0x08], 0, 0, Exit(ExitReason.Invd, 2));

    [Fact]
    public void Vmcall_Always_Exits() => Check([0x0F, 0x01, 0xC1], 0, 0, Exit(ExitReason.Vmcall, 3));

    [Fact]
    public void Vmclear_Always_ExitsWithOperand() =>
        Check([0x66, 0x0F, 0xC7, 0x73, 0x10], 0, 0, Exit(ExitReason.Vmclear, 5, 0x10, (2 << 7) | (3 << 15) | (1 << 22) | (3 << 23)));

    [Fact]
    public void MovToCr3_WithControl_Exits() => Check([0x0F, 0x22, 0xDB], PrimaryControls.Cr3LoadExiting, 0,
        Exit(ExitReason.ControlRegisterAccess, 3, ControlRegisterQualification.Mov(3, Gpr.Rbx, true).Value));

    [Fact]
    public void MovFromCr3_WithControl_Exits() => Check([0x0F, 0x20, 0xD9], PrimaryControls.Cr3StoreExiting, 0,
        Exit(ExitReason.ControlRegisterAccess, 3, ControlRegisterQualification.Mov(3, Gpr.Rcx, false).Value));

    [Fact]
    public void MovToDr_WithControl_Exits() => Check([0x0F, 0x23, 0xF8], PrimaryControls.MovDrExiting, 0,
        Exit(ExitReason.MovDr, 3, new DebugRegisterQualification(7, false, Gpr.Rax).Value));

    [Fact]
    public void Rdmsr_OutsideBitmap_Exits() => Check([0xB9, 0, 0, 0, 0x40, 0x0F, 0x32], 0, 0, Exit(ExitReason.Rdmsr, 2), 0x1005);

    [Fact]
    public void Out_Unconditional_Exits() => Check([0xE6, 0x80], PrimaryControls.UnconditionalIoExiting, 0,
        Exit(ExitReason.IoInstruction, 2, new IoQualification(0x80, 1, false, isImmediate: true).Value));

    [Fact]
    public void Wrmsr_BitmapBit_Exits()
    {
        using GuestFixture f = new();
        f.Code(0xB9, 0x81, 0, 0, 0xC0, 0x0F, 0x32, 0x0F, 0x30);
        f.Write(GuestFixture.MsrBitmaps + 3072 + 0x10, 2);
        Assert.Equal(Exit(ExitReason.Wrmsr, 2), f.Enter());
        Assert.Equal(0x1007UL, f.Vmcs[VmcsField.GuestRip]);
    }

    [Fact]
    public void In_BitmapBit_ExitsAndResumes()
    {
        using GuestFixture f = new();
        // IN AL, 0x60 does not exit; IN AL, 0x61 does; CPUID after it.
        f.Code(0xE4, 0x60, 0xE4, 0x61, 0x0F, 0xA2);
        f.Vmcs[VmcsField.PrimaryControls] |= PrimaryControls.UseIoBitmaps;
        f.Write(GuestFixture.IoBitmapA + 8, 1UL << 0x21);
        VmExit exit = f.Enter();
        Assert.Equal(Exit(ExitReason.IoInstruction, 2, new IoQualification(0x61, 1, true, isImmediate: true).Value), exit);
        f.Vmcs[VmcsField.GuestRip] += exit.InstructionLength;
        Assert.Equal(Exit(ExitReason.Cpuid, 2), f.Enter(launch: false));
    }

    [Fact]
    public void Exception_InBitmap_Exits()
    {
        using GuestFixture f = new();
        f.Code(0x0F, 0x0B);
        f.Vmcs[VmcsField.ExceptionBitmap] = 1 << Vector.Ud;
        Assert.Equal(
            new VmExit(0, InterruptionInfo: new InterruptionInfo(InterruptionType.HardwareException, Vector.Ud)),
            f.Enter());
        Assert.Equal(RFlags.Rf | RFlags.Reserved1, f.Vmcs[VmcsField.GuestRflags]);
    }

    [Fact]
    public void Breakpoint_InBitmap_ExitsWithLength()
    {
        using GuestFixture f = new();
        f.Code(0xCC);
        f.Vmcs[VmcsField.ExceptionBitmap] = 1 << Vector.Bp;
        Assert.Equal(
            new VmExit(0, InterruptionInfo: new InterruptionInfo(InterruptionType.SoftwareException, Vector.Bp), InstructionLength: 1),
            f.Enter());
        Assert.Equal(0x1000UL, f.Vmcs[VmcsField.GuestRip]);
    }

    [Theory]
    [InlineData(0U, 0U, true)]
    [InlineData(1U, 1U, false)]
    [InlineData(2U, 2U, true)]
    public void PageFault_MaskAndMatch_Decide(uint mask, uint match, bool exits)
    {
        using GuestFixture f = new();
        f.Write(GuestFixture.PageTables + 0x2000 + 8, 0);
        // MOV [0x200000], AL: a write to a page that is not present (error code 2).
        f.Code(0x88, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00);
        f.Vmcs[VmcsField.ExceptionBitmap] = 1 << Vector.Pf;
        f.Vmcs[VmcsField.PageFaultErrorCodeMask] = mask;
        f.Vmcs[VmcsField.PageFaultErrorCodeMatch] = match;
        VmExit exit = f.Enter();
        if (exits)
        {
            Assert.Equal(
                new VmExit(0, 0x20_0000, InterruptionInfo: new InterruptionInfo(InterruptionType.HardwareException, Vector.Pf, true), InterruptionError: 2),
                exit);
            Assert.Equal(0UL, f.Cpu.State->Cr2);
        }
        else
        {
            Assert.Equal(ExitReason.Hlt, exit.Basic);
            Assert.Equal(0x20_0000UL, f.Cpu.State->Cr2);
        }
    }

    [Fact]
    public void EptViolation_Write_ReportsEverything()
    {
        using GuestFixture f = new();
        f.Write(GuestFixture.EptRoot + 0x2000 + 8, (1UL << 21) | 0xB5);
        f.Code(0x88, 0x04, 0x25, 0x34, 0x12, 0x20, 0x00);
        VmExit exit = f.Enter();
        ulong qualification = EptViolationQualification.WriteBit | EptViolationQualification.ReadableBit
            | EptViolationQualification.ExecutableBit | EptViolationQualification.LinearAddressValidBit
            | EptViolationQualification.FinalTranslationBit;
        Assert.Equal(new VmExit((uint)ExitReason.EptViolation, qualification, 0x20_1234, 0x20_1234), exit);
        Assert.Equal(0x1000UL, f.Vmcs[VmcsField.GuestRip]);
        f.Write(GuestFixture.EptRoot + 0x2000 + 8, (1UL << 21) | 0xB7);
        Assert.True(f.Vmx.InvEpt(2, 0).Succeeded);
        f.Cpu.State->Gpr[0] = 0x5A;
        f.Code(0x88, 0x04, 0x25, 0x34, 0x12, 0x20, 0x00, 0xF4);
        Assert.Equal(ExitReason.Hlt, f.Enter(launch: false).Basic);
        Assert.Equal(0x5AUL, f.Read(0x20_1234) & 0xFF);
    }

    [Fact]
    public void EptMisconfiguration_WriteOnly_Exits()
    {
        using GuestFixture f = new();
        f.Write(GuestFixture.EptRoot + 0x2000 + 8, (1UL << 21) | 0xB2);
        f.Code(0x8A, 0x04, 0x25, 0x34, 0x12, 0x20, 0x00);
        Assert.Equal(new VmExit((uint)ExitReason.EptMisconfiguration, GuestPhysical: 0x20_1234), f.Enter());
    }

    [Fact]
    public void EptFlags_Enabled_AreSet()
    {
        using GuestFixture f = new();
        f.Vmcs[VmcsField.EptPointer] |= 0x40;
        f.Code(0x88, 0x04, 0x25, 0x34, 0x12, 0x20, 0x00, 0xF4);
        Assert.Equal(ExitReason.Hlt, f.Enter().Basic);
        Assert.Equal(0x300UL, f.Read(GuestFixture.EptRoot + 0x2000 + 8) & 0x300);
        Assert.Equal(0x100UL, f.Read(GuestFixture.EptRoot) & 0x300);
        Assert.Equal(0UL, f.Read(GuestFixture.EptRoot + 0x2000 + 16) & 0x300);
    }

    [Fact]
    public void TripleFault_NoIdt_Exits()
    {
        using GuestFixture f = new();
        f.Code(0x0F, 0x0B);
        f.Vmcs[VmcsField.GuestIdtrLimit] = 0;
        Assert.Equal(new VmExit((uint)ExitReason.TripleFault), f.Enter());
    }

    [Fact]
    public void Delivery_FaultInBitmap_HasIdtVectoring()
    {
        using GuestFixture f = new();
        f.Code(0xCD, 0x80);
        f.Vmcs[VmcsField.GuestIdtrLimit] = 0x7F;
        f.Vmcs[VmcsField.ExceptionBitmap] = 1 << Vector.Gp;
        Assert.Equal(
            new VmExit(
                0,
                InterruptionInfo: new InterruptionInfo(InterruptionType.HardwareException, Vector.Gp, true),
                InterruptionError: (0x80 << 3) | 2,
                IdtVectoringInfo: new InterruptionInfo(InterruptionType.SoftwareInterrupt, 0x80),
                InstructionLength: 2),
            f.Enter());
    }

    [Fact]
    public void Injection_EptViolationOnStack_HasIdtVectoring()
    {
        using GuestFixture f = new();
        f.Code(0xF4);
        f.Write(GuestFixture.EptRoot + 0x2000 + 8, 0);
        f.Vmcs[VmcsField.GuestRsp] = 0x20_0800;
        f.Vmcs[VmcsField.GuestRflags] |= RFlags.If;
        f.Vmcs[VmcsField.EntryInterruptionInfo] = 0x8000_0040;
        VmExit exit = f.Enter();
        Assert.Equal(ExitReason.EptViolation, exit.Basic);
        Assert.Equal(new InterruptionInfo(InterruptionType.ExternalInterrupt, 0x40), exit.IdtVectoringInfo);
        Assert.InRange(exit.GuestPhysical, 0x20_07C0UL, 0x20_07FFUL);
        Assert.Equal(0x40UL, f.Vmcs[VmcsField.EntryInterruptionInfo]);
        Assert.Equal(0x1000UL, f.Vmcs[VmcsField.GuestRip]);
    }

    // STI and its trap: the injected #DB has ended both when an access of its delivery exits.
    [Fact]
    public void Injection_UnderAShadow_EndsItAndTakesPendingTrapsAway()
    {
        using GuestFixture f = new();
        f.Code(0xF4);
        f.Write(GuestFixture.EptRoot + 0x2000 + 8, 0);
        f.Vmcs[VmcsField.GuestRsp] = 0x20_0800;
        f.Vmcs[VmcsField.GuestRflags] |= RFlags.Tf | RFlags.If;
        f.Vmcs[VmcsField.GuestInterruptibility] = InterruptibilityState.BlockingBySti;
        f.Vmcs[VmcsField.GuestPendingDebug] = PendingDebugExceptions.Bs;
        f.Vmcs[VmcsField.EntryInterruptionInfo] = 0x8000_0301;
        Assert.Equal(ExitReason.EptViolation, f.Enter().Basic);
        Assert.Equal((0UL, 0UL), (f.Vmcs[VmcsField.GuestInterruptibility], f.Vmcs[VmcsField.GuestPendingDebug]));
    }

    // The breakpoint is on the entry of the IDT that the delivery reads.
    [Fact]
    public void Injection_ThatMeetsABreakpoint_TrapsAtTheHandler()
    {
        using GuestFixture f = new();
        f.Code(0xF4);
        f.Cpu.State->Dr0 = GuestFixture.Idt + (Vector.Ud * 16);
        f.Vmcs[VmcsField.GuestDr7] = 0x400 | 2 | (0xBUL << 16);
        f.Vmcs[VmcsField.ExceptionBitmap] = 1 << Vector.Db;
        f.Vmcs[VmcsField.EntryInterruptionInfo] = 0x8000_0306;
        VmExit exit = f.Enter();
        Assert.Equal((ExitReason.ExceptionOrNmi, 1UL), (exit.Basic, exit.Qualification & 0xF));
        Assert.Equal(GuestFixture.Handlers + (Vector.Ud * 16), f.Vmcs[VmcsField.GuestRip]);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void ExternalInterrupt_Exiting_AcknowledgesAsTold(bool acknowledge)
    {
        using GuestFixture f = new();
        f.Code(0xEB, 0xFE);
        f.InterruptPending = true;
        if (!acknowledge)
        {
            f.Vmcs[VmcsField.ExitControls] &= ~(ulong)ExitControls.AcknowledgeInterruptOnExit;
        }

        VmExit exit = f.Enter();
        Assert.Equal(
            new VmExit(1, InterruptionInfo: acknowledge ? new InterruptionInfo(InterruptionType.ExternalInterrupt, 0x30) : default),
            exit);
        Assert.Equal(acknowledge ? 1 : 0, f.Acknowledged);
    }

    [Fact]
    public void InterruptWindow_AfterStiShadow_Exits()
    {
        using GuestFixture f = new();
        f.Code(0xFB, 0x90, 0x90, 0xF4);
        f.Vmcs[VmcsField.PrimaryControls] |= PrimaryControls.InterruptWindowExiting;
        Assert.Equal(new VmExit((uint)ExitReason.InterruptWindow), f.Enter());
        Assert.Equal(0x1002UL, f.Vmcs[VmcsField.GuestRip]);
    }

    [Fact]
    public void NmiWindow_Open_ExitsBeforeFirstInstruction()
    {
        using GuestFixture f = new();
        f.Code(0xF4);
        f.Vmcs[VmcsField.PrimaryControls] |= PrimaryControls.NmiWindowExiting;
        Assert.Equal(new VmExit((uint)ExitReason.NmiWindow), f.Enter());
        Assert.Equal(0x1000UL, f.Vmcs[VmcsField.GuestRip]);
    }

    [Fact]
    public void Nmi_Exiting_Exits()
    {
        using GuestFixture f = new();
        f.Code(0xEB, 0xFE);
        f.Cpu.RaiseNmi();
        Assert.Equal(new VmExit(0, InterruptionInfo: new InterruptionInfo(InterruptionType.Nmi, 2)), f.Enter());
        Assert.False(f.Cpu.NmiPending);
    }

    [Fact]
    public void ShadowedSti_ExitingInstruction_SavesBlocking()
    {
        using GuestFixture f = new();
        f.Code(0xFB, 0x0F, 0xA2);
        Assert.Equal(ExitReason.Cpuid, f.Enter().Basic);
        Assert.Equal(InterruptibilityState.BlockingBySti, f.Vmcs[VmcsField.GuestInterruptibility]);
    }

    [Fact]
    public void TaskSwitch_Jump_Exits()
    {
        using GuestFixture f = new();
        // 32-bit protected mode without paging; JMP FAR 0x28:0.
        f.Vmcs[VmcsField.EntryControls] &= ~(ulong)EntryControls.Ia32eModeGuest;
        f.Vmcs[VmcsField.GuestEfer] = 0;
        f.Vmcs[VmcsField.GuestCr0] = Cr0.Pe | Cr0.Et | Cr0.Ne;
        f.Vmcs[VmcsField.GuestCsAccessRights] = 0xC09B;
        f.Write(GuestFixture.Gdt + 0x28, 0x0000_8904_0000_0067);
        f.Code(0xEA, 0, 0, 0, 0, 0x28, 0);
        Assert.Equal(
            new VmExit((uint)ExitReason.TaskSwitch, new TaskSwitchQualification(0x28, TaskSwitchSource.Jmp).Value, InstructionLength: 7),
            f.Enter());
    }

    [Fact]
    public void CrMasks_OwnedBits_ReadShadowAndExit()
    {
        using GuestFixture f = new();
        // MOV RAX, CR4; MOV CR4, RAX (equal to the shadow: no exit); OR AL, 4; MOV CR4, RAX (exit).
        f.Code(0x0F, 0x20, 0xE0, 0x0F, 0x22, 0xE0, 0x0C, 0x04, 0x0F, 0x22, 0xE0);
        f.Vmcs[VmcsField.Cr4GuestHostMask] = Cr4.Vmxe | Cr4.Tsd;
        f.Vmcs[VmcsField.Cr4ReadShadow] = 0;
        VmExit exit = f.Enter();
        Assert.Equal(Exit(ExitReason.ControlRegisterAccess, 3, ControlRegisterQualification.Mov(4, Gpr.Rax, true).Value), exit);
        Assert.Equal(0x1008UL, f.Vmcs[VmcsField.GuestRip]);
        Assert.Equal(Cr4.Vmxe, f.Vmcs[VmcsField.GuestCr4] & Cr4.Vmxe);
        Assert.Equal(0UL, f.Cpu.State->Gpr[0] & Cr4.Vmxe);
    }

    [Fact]
    public void TscOffset_InForce_IsAdded()
    {
        using GuestFixture f = new();
        f.Code(0x0F, 0x31, 0xF4);
        f.Vmcs[VmcsField.PrimaryControls] |= PrimaryControls.UseTscOffsetting;
        f.Vmcs[VmcsField.TscOffset] = 0x1_0000_0000;
        Assert.Equal(ExitReason.Hlt, f.Enter().Basic);
        Assert.Equal(1UL, f.Cpu.State->Gpr[2]);
        Assert.Equal(f.Cpu.Tsc & 0xFFFF_FFFF, f.Cpu.State->Gpr[0]);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void MovToCr0_WithoutFixedNe_IsGeneralProtection(bool keepNe)
    {
        using GuestFixture f = new();
        // MOV RAX, CR0; AND AL, mask; MOV CR0, RAX; HLT.
        f.Code(0x0F, 0x20, 0xC0, 0x24, (byte)(keepNe ? 0xFF : 0xDF), 0x0F, 0x22, 0xC0, 0xF4);
        VmExit exit = f.Enter();
        Assert.Equal(ExitReason.Hlt, exit.Basic);
        Assert.Equal(keepNe ? 0x1008UL : GuestFixture.Handlers + (Vector.Gp * 16), f.Vmcs[VmcsField.GuestRip]);
    }

    [Fact]
    public void MonitorTrapFlag_EachEntry_RunsOneInstruction()
    {
        using GuestFixture f = new();
        // NOP; UD2 (delivered: exit before the handler); and a jump to itself.
        f.Code(0x90, 0x0F, 0x0B);
        f.Vmcs[VmcsField.PrimaryControls] |= PrimaryControls.MonitorTrapFlag;
        VmExit mtf = new((uint)ExitReason.MonitorTrapFlag);
        Assert.Equal(mtf, f.Enter());
        Assert.Equal(0x1001UL, f.Vmcs[VmcsField.GuestRip]);
        Assert.Equal(mtf, f.Enter(launch: false));
        Assert.Equal(GuestFixture.Handlers + (Vector.Ud * 16), f.Vmcs[VmcsField.GuestRip]);
        f.Write(GuestFixture.Handlers + (Vector.Ud * 16), 0xFEEB);
        Assert.Equal(mtf, f.Enter(launch: false));
        Assert.Equal(2UL, f.Cpu.Retired);
        Assert.Same(f, f.Cpu.Boundary);
    }

    [Fact]
    public void MonitorTrapFlag_UnderSingleStep_ExitsWithTheTrapPending()
    {
        using GuestFixture f = new();
        f.Code(0x90, 0x90);
        f.Vmcs[VmcsField.PrimaryControls] |= PrimaryControls.MonitorTrapFlag;
        f.Vmcs[VmcsField.GuestRflags] |= RFlags.Tf;
        Assert.Equal(new VmExit((uint)ExitReason.MonitorTrapFlag), f.Enter());
        Assert.Equal((0x1001UL, PendingDebugExceptions.Bs), (f.Vmcs[VmcsField.GuestRip], f.Vmcs[VmcsField.GuestPendingDebug]));
    }

    [Fact]
    public void MonitorTrapFlag_Injection_ExitsBeforeHandler()
    {
        using GuestFixture f = new();
        f.Vmcs[VmcsField.PrimaryControls] |= PrimaryControls.MonitorTrapFlag;
        f.Vmcs[VmcsField.EntryInterruptionInfo] = 0x8000_0306;
        Assert.Equal(new VmExit((uint)ExitReason.MonitorTrapFlag), f.Enter());
        Assert.Equal(GuestFixture.Handlers + (Vector.Ud * 16), f.Vmcs[VmcsField.GuestRip]);
        Assert.Equal(0UL, f.Cpu.Retired);
    }

    [Fact]
    public void OtherEvent_Injected_ExitsAtOnce()
    {
        using GuestFixture f = new();
        f.Vmcs[VmcsField.EntryInterruptionInfo] = 0x8000_0700;
        Assert.Equal(new VmExit((uint)ExitReason.MonitorTrapFlag), f.Enter());
        Assert.Equal(0x1000UL, f.Vmcs[VmcsField.GuestRip]);
    }
}
