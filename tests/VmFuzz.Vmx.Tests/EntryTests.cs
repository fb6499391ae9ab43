using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Vmx.Tests;

public sealed unsafe class EntryTests
{
    [Fact]
    public void LaunchState_Wrong_FailsValid()
    {
        using GuestFixture f = new();
        f.Code(0xF4);
        Assert.Equal(EntryOutcome.Failed, f.Vmx.Enter(false, out _, out VmxResult failure));
        Assert.Equal(VmxInstructionError.VmresumeNonLaunched, failure.Error);
        f.Enter();
        Assert.Equal(EntryOutcome.Failed, f.Vmx.Enter(true, out _, out failure));
        Assert.Equal(VmxInstructionError.VmlaunchNonClear, failure.Error);
        Assert.Equal(4UL, f.Vmcs[VmcsField.VmInstructionError]);
    }

    [Theory]
    [InlineData(VmcsField.Cr3TargetCount, 9UL, VmxInstructionError.EntryInvalidControls)]
    [InlineData(VmcsField.HostCr3, 1UL << 60, VmxInstructionError.EntryInvalidHostState)]
    public void Checks_ControlsAndHost_FailValid(VmcsField field, ulong value, VmxInstructionError error)
    {
        using GuestFixture f = new();
        f.Vmcs[field] = value;
        Assert.Equal(EntryOutcome.Failed, f.Vmx.Enter(true, out _, out VmxResult failure));
        Assert.Equal(error, failure.Error);
        Assert.False(f.Vmcs.Launched);
    }

    [Theory]
    [InlineData(VmcsField.GuestActivity, 4UL, 0UL)]
    [InlineData(VmcsField.VmcsLinkPointer, 0x8UL, 4UL)]
    public void Checks_Guest_ExitsWithQualification(VmcsField field, ulong value, ulong qualification)
    {
        using GuestFixture f = new();
        f.Vmcs[field] = value;
        Assert.Equal(new VmExit(0x8000_0021, qualification), f.Enter());
        Assert.Equal(f.Vmcs[VmcsField.HostRip], f.Vmx.Host.Rip);
        Assert.False(f.Vmcs.Launched);
    }

    [Fact]
    public void MsrLoad_ForbiddenMsr_FailsWithItsNumber()
    {
        using GuestFixture f = new();
        f.Vmcs[VmcsField.EntryMsrLoadCount] = 2;
        f.Vmcs[VmcsField.EntryMsrLoadAddress] = GuestFixture.MsrArea;
        f.Write(GuestFixture.MsrArea, Msr.KernelGsBase);
        f.Write(GuestFixture.MsrArea + 8, 0x1234_5000);
        f.Write(GuestFixture.MsrArea + 16, Msr.FsBase);
        Assert.Equal(new VmExit(0x8000_0022, 2), f.Enter());
        Assert.Equal(0x1234_5000UL, f.Cpu.State->KernelGsBase);
    }

    [Fact]
    public void MsrStore_OnExit_WritesValue()
    {
        using GuestFixture f = new();
        f.Code(0xF4);
        f.Vmcs[VmcsField.ExitMsrStoreCount] = 1;
        f.Vmcs[VmcsField.ExitMsrStoreAddress] = GuestFixture.MsrArea;
        f.Write(GuestFixture.MsrArea, Msr.Star);
        f.Cpu.State->Star = 0xABCD;
        f.Enter();
        Assert.Equal(0xABCDUL, f.Read(GuestFixture.MsrArea + 8));
    }

    [Fact]
    public void MsrLoadOnExit_Forbidden_Aborts()
    {
        using GuestFixture f = new();
        f.Code(0xF4);
        f.Vmcs[VmcsField.ExitMsrLoadCount] = 1;
        f.Vmcs[VmcsField.ExitMsrLoadAddress] = GuestFixture.MsrArea;
        f.Write(GuestFixture.MsrArea, Msr.GsBase);
        Assert.Equal(EntryOutcome.Aborted, f.Vmx.Enter(true, out _, out _));
        Assert.Equal(VmxAbort.LoadingHostMsrs, f.Vmx.Abort);
        Assert.Equal(4UL, f.Read(GuestFixture.Region) >> 32);
    }

    [Fact]
    public void HostState_AfterExit_IsLoaded()
    {
        using GuestFixture f = new();
        f.Code(0xF4);
        f.Vmcs[VmcsField.HostFsBase] = 0x7000;
        f.Vmcs[VmcsField.HostIdtrBase] = 0x9000;
        f.Enter();
        HostRegisters h = f.Vmx.Host;
        Assert.Equal(f.Vmcs[VmcsField.HostRsp], h.Rsp);
        Assert.Equal(f.Vmcs[VmcsField.HostCr3], h.Cr3);
        Assert.Equal(0x400UL, h.Dr7);
        Assert.Equal(2UL, h.RFlags);
        Assert.Equal(0x7000UL, h.Segment(SegmentRegister.Fs).Base);
        Assert.Equal(0x67U, h.Segment(SegmentRegister.Tr).Limit);
        Assert.Equal(0xFFFFUL, h.Idtr.Limit);
        Assert.Equal(0x9000UL, h.Idtr.Base);
    }

    [Theory]
    [InlineData(InterruptionType.ExternalInterrupt, 0x40, false, 0)]
    [InlineData(InterruptionType.Nmi, 2, false, 0)]
    [InlineData(InterruptionType.HardwareException, 13, true, 0)]
    [InlineData(InterruptionType.SoftwareInterrupt, 0x80, false, 2)]
    [InlineData(InterruptionType.SoftwareException, 3, false, 1)]
    [InlineData(InterruptionType.PrivilegedSoftwareException, 1, false, 1)]
    public void Injection_LongMode_PushesFrame(InterruptionType type, byte vector, bool error, int length)
    {
        using GuestFixture f = new();
        f.Code(0x90, 0x90, 0x90);
        f.Vmcs[VmcsField.GuestRflags] |= RFlags.If;
        f.Vmcs[VmcsField.EntryInterruptionInfo] = new InterruptionInfo(type, vector, error).Value;
        f.Vmcs[VmcsField.EntryExceptionErrorCode] = 0x28;
        f.Vmcs[VmcsField.EntryInstructionLength] = (ulong)length;
        Assert.Equal(ExitReason.Hlt, f.Enter().Basic);
        Assert.Equal(GuestFixture.Handlers + (vector * 16UL), f.Vmcs[VmcsField.GuestRip]);
        ulong rsp = f.Vmcs[VmcsField.GuestRsp];
        Assert.Equal(error ? 0x8000UL - 48 : 0x8000UL - 40, rsp);
        if (error)
        {
            Assert.Equal(0x28UL, f.Read(rsp));
            rsp += 8;
        }

        Assert.Equal(0x1000UL + (ulong)length, f.Read(rsp));
        Assert.Equal(type == InterruptionType.Nmi ? 8UL : 0, f.Vmcs[VmcsField.GuestInterruptibility]);
        Assert.Equal(0UL, f.Vmcs[VmcsField.EntryInterruptionInfo] >> 31);
        Assert.Single(f.Injected);
    }

    [Fact]
    public void Injection_RealMode_UsesVectorTable()
    {
        using GuestFixture f = new();
        f.RealMode();
        f.Code(0x90);
        f.Vmcs[VmcsField.GuestIdtrBase] = 0;
        f.Write(0x40 * 4, 0x0000_2000);
        f.Write(0x2000, 0xF4);
        f.Vmcs[VmcsField.GuestRflags] |= RFlags.If;
        f.Vmcs[VmcsField.EntryInterruptionInfo] = 0x8000_0040;
        Assert.Equal(ExitReason.Hlt, f.Enter().Basic);
        Assert.Equal(0x2000UL, f.Vmcs[VmcsField.GuestRip]);
        Assert.Equal(0x8000UL - 6, f.Vmcs[VmcsField.GuestRsp]);
        Assert.Equal(0x1000UL, f.Read(0x8000 - 6) & 0xFFFF);
    }

    [Fact]
    public void Stop_ByBoundary_ContinuesWhereItWas()
    {
        using GuestFixture f = new() { Limit = 3 };
        f.Code(0x90, 0x90, 0x90, 0x90, 0xF4);
        Assert.Equal(EntryOutcome.Stopped, f.Vmx.Enter(true, out _, out _));
        Assert.Equal(0x1003UL, f.Cpu.State->Gpr[CpuState.RipSlot]);
        Assert.Equal(0x1000UL, f.Vmcs[VmcsField.GuestRip]);
        f.Limit = 100;
        Assert.Equal(EntryOutcome.Exited, f.Vmx.Continue(out VmExit exit));
        Assert.Equal(ExitReason.Hlt, exit.Basic);
        Assert.Equal(4UL, f.Cpu.Retired);
    }

    [Fact]
    public void Halt_WithoutExiting_ContinuesOnInterrupt()
    {
        using GuestFixture f = new();
        f.Code(0xFB, 0xF4, 0x90);
        f.Vmcs[VmcsField.PrimaryControls] &= ~(ulong)PrimaryControls.HltExiting;
        Assert.Equal(EntryOutcome.Halted, f.Vmx.Enter(true, out _, out _));
        f.InterruptPending = true;
        f.Cpu.Look();
        Assert.Equal(EntryOutcome.Exited, f.Vmx.Continue(out VmExit exit));
        Assert.Equal(ExitReason.ExternalInterrupt, exit.Basic);
        Assert.Equal(1UL, f.Vmcs[VmcsField.GuestActivity]);
        Assert.Equal(0x1002UL, f.Vmcs[VmcsField.GuestRip]);
    }

    [Fact]
    public void SteadyState_ManyExits_AllocatesNothing()
    {
        using GuestFixture f = new() { Limit = ulong.MaxValue >> 1 };
        f.Code(0x0F, 0xA2, 0xEB, 0xFC);
        f.Vmx.Observer = null;
        f.Enter();
        long start = 0;
        for (int i = 0; i < 200; i++)
        {
            if (i == 100)
            {
                start = GC.GetAllocatedBytesForCurrentThread();
            }

            f.Vmcs[VmcsField.GuestRip] = 0x1002;
            if (f.Vmx.Enter(false, out _, out _) != EntryOutcome.Exited)
            {
                Assert.Fail("no exit");
            }
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - start);
    }

    [Fact]
    public void MovSsBefore_Entry_FailsValid26()
    {
        using GuestFixture f = new();
        f.Vmx.Host.BlockedByMovSs = true;
        Assert.Equal(EntryOutcome.Failed, f.Vmx.Enter(true, out _, out VmxResult failure));
        Assert.Equal(VmxInstructionError.EntryBlockedByMovSs, failure.Error);
    }
}
