using VmFuzz.Arch;
using static Iced.Intel.AssemblerRegisters;

namespace VmFuzz.Kvm.Tests;

/// <summary>S01 to S10: what surrounds the run loop.</summary>
public class IoctlTests
{
    [Fact]
    [Trait("row", "S01")]
    public void Run_WithAnArgument_ReturnsEinvalAndRunsNothing()
    {
        using TestVm vm = new(c => c.hlt());
        Assert.Equal(-Errno.EINVAL, vm.Vcpu.Run(1));
        Assert.DoesNotContain(vm.Log, static l => l.StartsWith("user", StringComparison.Ordinal));
        Assert.Equal(0UL, vm.Processor.Retired);
        Assert.Equal(0, vm.Vcpu.Host.LoadDepth);
    }

    [Fact]
    [Trait("row", "S02")]
    public void Calls_OfAnotherOwner_ReturnEio()
    {
        using TestVm vm = new(c => c.hlt());
        vm.System.CurrentOwner = 2;
        Assert.Equal(-Errno.EIO, vm.Vcpu.Run());
        Assert.Equal(-Errno.EIO, vm.Vcpu.Interrupt(0x20));
        Assert.Equal(-Errno.EIO, vm.Vcpu.Nmi());
        Assert.False(vm.Vcpu.Events.Interrupt.Pending);
        vm.System.CurrentOwner = 1;
        vm.RunTo();
    }

    [Fact]
    [Trait("row", "S03")]
    [Trait("row", "S04")]
    public void Calls_LoadAndPutTheVcpu_AlsoOnErrors()
    {
        using TestVm vm = new(c => c.hlt());
        Assert.Equal(0, vm.Vcpu.Interrupt(0x20));
        Assert.Equal([HostEvent.VcpuLoad, HostEvent.VcpuPut], vm.Vcpu.Host.Trace);
        Assert.Equal(-Errno.EINVAL, vm.Vcpu.Interrupt(256));
        Assert.Equal(0, vm.Vcpu.Host.LoadDepth);
        vm.Vcpu.Host.LoadFails = true;
        Assert.Equal(-Errno.EINTR, vm.Vcpu.Run());
        Assert.Equal(0, vm.Vcpu.Host.LoadDepth);
        Assert.DoesNotContain(vm.Log, static l => l.StartsWith("user", StringComparison.Ordinal));
    }

    [Fact]
    [Trait("row", "S05")]
    public void UserspaceExit_FollowsEveryReturnOfTheArchRun()
    {
        using TestVm vm = new(c => c.hlt());
        vm.RunTo();
        Assert.Equal("user Hlt 0", vm.Log[^1]);
        vm.Vcpu.KvmRun.Cr8 = 77;
        Assert.Equal(-Errno.EINVAL, vm.Vcpu.Run());
        Assert.Equal("user Hlt -22", vm.Log[^1]);
    }

    [Fact]
    [Trait("row", "S06")]
    public void SignalMask_IsReplacedForTheRunAndRestored()
    {
        ulong seen = 0;
        RunPath path = RunPath.Default.With("S43", v => { seen = v.Host.SignalMask; return 0; });
        using TestVm vm = new(c => c.hlt(), VmOptions.Default with { Path = path });
        vm.Vcpu.Host.SignalMask = 5;
        vm.Vcpu.SignalMask = 9;
        vm.RunTo();
        Assert.Equal(9UL, seen);
        Assert.Equal(5UL, vm.Vcpu.Host.SignalMask);
        vm.Vcpu.KvmRun.Cr8 = 16;
        vm.Vcpu.Run();
        Assert.Equal(5UL, vm.Vcpu.Host.SignalMask);
    }

    [Fact]
    [Trait("row", "S07")]
    [Trait("row", "S37")]
    public void Uninitialized_ReturnsEagain_RunsAfterInitAndSipi()
    {
        using TestVm vm = new();
        Vcpu second = vm.Vcpu;
        Assert.Equal(0, second.SetMpState(MpState.Uninitialized));
        Assert.Equal(-Errno.EAGAIN, second.Run());
        Assert.Equal(0UL, vm.Processor.Retired);
        second.Host.SignalPending = false;
        second.Apply(new Input(InputKind.Init));
        Assert.Equal(-Errno.EAGAIN, second.Run());
        Assert.Equal(MpState.Runnable, second.MpState); // the boot processor starts at the reset vector
    }

    [Fact]
    [Trait("row", "S37")]
    public void Sipi_OutsideInitReceived_IsIgnored()
    {
        using TestVm vm = new(c => { c.cpuid(); c.hlt(); });
        vm.Vcpu.Apply(new Input(InputKind.Sipi, 0x9F));
        vm.RunToHalt();
        Assert.Equal(TestVm.Code + 3, vm.Vcpu.Rip);
        vm.Vcpu.SetMpState(MpState.InitReceived);
        vm.Load(0x9000, TestVm.Assemble(16, c => { c.mov(bx, 0x99); c.hlt(); }, 0));
        vm.Vcpu.Apply(new Input(InputKind.Sipi, 0x09));
        vm.Vcpu.Raise(Request.Unhalt);
        vm.RunToHalt();
        Assert.Equal(0x99UL, vm.Vcpu.Rbx & 0xFFFF);
        Assert.Equal(0x9000UL, vm.Vcpu.Vmx.GetSegment(SegmentRegister.Cs).Base);
    }

    [Fact]
    [Trait("row", "S08")]
    public void Cr8_OfTheRunStructure_IsTakenOrRefused()
    {
        using TestVm vm = new(c => c.hlt());
        vm.Vcpu.KvmRun.Cr8 = 16;
        Assert.Equal(-Errno.EINVAL, vm.Vcpu.Run());
        Assert.Equal(0UL, vm.Processor.Retired);
        vm.Vcpu.KvmRun.Cr8 = 7;
        vm.RunTo();
        Assert.Equal(7UL, vm.Vcpu.Cr8);
    }

    [Fact]
    [Trait("row", "S10")]
    public void RunState_IsSavedOnTheWayOut()
    {
        using TestVm vm = new(c => { c.sti(); c.nop(); c.hlt(); });
        vm.RunTo();
        Assert.True(vm.Vcpu.KvmRun.IfFlag);
        Assert.True(vm.Vcpu.KvmRun.ReadyForInterruptInjection);
        Assert.Equal(0xFEE0_0900UL, vm.Vcpu.KvmRun.ApicBase);
    }

    [Fact]
    [Trait("row", "S18")]
    [Trait("row", "S14")]
    public void Signal_ReturnsEintrOnceAndCounts()
    {
        using TestVm vm = new(c => { c.cpuid(); c.cpuid(); c.hlt(); });
        vm.Input(InputPoint.Signal, InputKind.Signal);
        Assert.Equal(-Errno.EINTR, vm.Vcpu.Run());
        Assert.Equal(KvmExitReason.Intr, vm.Vcpu.KvmRun.ExitReason);
        Assert.Equal(1UL, vm.Vcpu.Stats.SignalExits);
        vm.RunToHalt();
        Assert.Equal(1UL, vm.Vcpu.Stats.SignalExits);
        Assert.Equal(0, vm.Vcpu.Host.SrcuDepth);
    }

    [Fact]
    [Trait("row", "S19")]
    [Trait("row", "S98")]
    public void Reschedule_PutsAndLoadsTheVcpu_WithoutTheSlotLock()
    {
        using TestVm vm = new(c => { c.cpuid(); c.hlt(); });
        vm.Input(InputPoint.Reschedule, InputKind.Reschedule);
        vm.RunToHalt();
        Assert.Equal(1UL, vm.Vcpu.Stats.Reschedules);
        List<HostEvent> trace = [.. vm.Vcpu.Host.Trace];
        int put = trace.IndexOf(HostEvent.PutGuestMsrs);
        Assert.Equal(HostEvent.SrcuUnlock, trace[put - 1]);
        Assert.Equal(0, vm.Vcpu.Host.SrcuDepth);
    }

    [Fact]
    [Trait("row", "S13")]
    [Trait("row", "S104")]
    [Trait("row", "S12")]
    public void Halted_WakesForAnNmi_AndForNothingElse()
    {
        using TestVm vm = new(c => c.hlt());
        vm.Vcpu.SetMpState(MpState.Halted);
        Assert.Equal(-Errno.EINTR, vm.Vcpu.Run());
        Assert.Equal(MpState.Halted, vm.Vcpu.MpState);
        Assert.Equal(0UL, vm.Vcpu.Stats.Entered);
        vm.Vcpu.Nmi();
        vm.Load(0x2000, [0xF4]);
        vm.Load(8, [0, 0x20, 0, 0]);
        vm.RunTo();
        Assert.Equal(MpState.Runnable, vm.Vcpu.MpState);
        Assert.Equal(0x2001UL, vm.Vcpu.Rip);
    }
}
