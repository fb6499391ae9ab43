using VmFuzz.Arch;
using VmFuzz.Vmx;
using static Iced.Intel.AssemblerRegisters;

namespace VmFuzz.Kvm.Tests;

/// <summary>Rows with small steps of their own.</summary>
public class MoreRowTests
{
    [Fact]
    [Trait("row", "S22")]
    [Trait("row", "S27")]
    [Trait("row", "S34")]
    [Trait("row", "S35")]
    public void Requests_AreServedOnce()
    {
        using TestVm vm = new(c => c.hlt());
        ulong flushes = vm.Vcpu.Stats.TlbFlushes;
        foreach (Request request in (Request[])[Request.MigrateTimer, Request.TlbFlush, Request.Pmu, Request.Pmi])
        {
            vm.Vcpu.Raise(request);
        }

        vm.RunTo();
        Assert.Equal(1UL, vm.Vcpu.Stats.MigratedTimers);
        Assert.True(vm.Vcpu.Stats.TlbFlushes > flushes);
        Assert.Equal(1UL, vm.Vcpu.Stats.PmuEvents);
        Assert.Equal(1UL, vm.Vcpu.Stats.Pmis);
    }

    [Theory]
    [InlineData(Request.MasterclockUpdate)]
    [InlineData(Request.GlobalClockUpdate)]
    [Trait("row", "S23")]
    [Trait("row", "S24")]
    public void ClockRequests_UpdateTheGuestsClock(Request request)
    {
        using TestVm vm = new(c => c.hlt());
        vm.Vcpu.PvClockAddress = 0x3000;
        vm.Vcpu.Raise(request);
        vm.RunTo();
        Assert.Equal(2UL, vm.Peek(0x3000, 4));
    }

    [Fact]
    [Trait("row", "S63")]
    public void AtomicMsrs_HoldTheDifferenceOnly()
    {
        using TestVm vm = new(c => c.hlt());
        vm.Vcpu.Vmx.AtomicMsrs.Set(Msr.TscAux, 5, 5);
        vm.Vcpu.Vmx.AtomicMsrs.Set(Msr.Lstar, 0x1000, 0x2000);
        vm.RunTo();
        Assert.Equal(1, vm.Vcpu.Vmx.AtomicMsrs.Count);
        Assert.Equal(1UL, vm.Vcpu.Vmx.Read(VmcsField.EntryMsrLoadCount));
        Assert.Equal(1UL, vm.Vcpu.Vmx.Read(VmcsField.ExitMsrLoadCount));
    }

    [Fact]
    [Trait("row", "S58")]
    [Trait("row", "S79")]
    public void SoftwareNmiBlocking_EndsWhenTheGuestTakesInterrupts()
    {
        using TestVm vm = new(c => { c.nop(); c.hlt(); }, VmOptions.Default with { VirtualNmis = false });
        vm.Load(8, [0, 0x20, 0, 0]);
        vm.Load(0x2000, TestVm.Assemble(16, c => { c.inc(bx); c.sti(); c.nop(); c.cpuid(); c.hlt(); }, 0x2000));
        vm.Vcpu.Nmi();
        vm.Vcpu.Rbx = 0;
        vm.RunTo();
        Assert.False(vm.Vcpu.Vmx.NmiMasked);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    [Trait("row", "S57")]
    [Trait("row", "S77")]
    public void HandlersResult_Decides(bool fails)
    {
        ExitTable table = ExitTable.Default.With(ExitReason.Cpuid, (Vcpu vcpu, in VmExit exit) =>
            fails ? ExitOutcome.Fail(Errno.EFAULT) : ExitOutcome.RetireToUserspace);
        using TestVm vm = new(c => { c.cpuid(); c.hlt(); }, VmOptions.Default with { Exits = table });
        Assert.Equal(fails ? -Errno.EFAULT : 0, vm.Vcpu.Run());
        Assert.Equal(fails ? TestVm.Code : TestVm.Code + 2, vm.Vcpu.Rip);
    }

    [Fact]
    [Trait("row", "S100")]
    public void HostState_AfterAnExit_IsTheReturnLabelAndTheStack()
    {
        using TestVm vm = new(c => c.hlt());
        vm.RunTo();
        Assert.Equal(VmxVcpu.ReturnLabel, vm.Vmx.Host.Rip);
        Assert.Equal(vm.Vcpu.Vmx.HostStackPointer, vm.Vmx.Host.Rsp);
        Assert.Equal(0x10UL, vm.Vmx.Host.Segment(SegmentRegister.Cs).Selector);
    }
}
