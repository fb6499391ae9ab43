using VmFuzz.Arch;
using VmFuzz.Vmx;

namespace VmFuzz.Kvm.Tests;

/// <summary>What an exit leaves to the hypervisor when the guest takes a debug exception.</summary>
[Trait("row", "S81")]
public class DebugExceptionTests
{
    private static readonly VmExit Cpuid = new((uint)ExitReason.Cpuid, InstructionLength: 2);

    [Fact]
    public void Intercepted_EndsGeneralDetectAndBranchRecording()
    {
        using TestVm vm = Armed(RFlags.Tf, DebugCtl.Lbr);
        vm.Vcpu.HandleExit(new VmExit(
            (uint)ExitReason.ExceptionOrNmi, Dr6.Bs, InterruptionInfo: new InterruptionInfo(InterruptionType.HardwareException, Vector.Db)));
        Expect(vm, Dr6.Fixed | Dr6.Bs);
    }

    [Fact]
    public void SingleStep_OverAnInstructionThatAHandlerCompletes_DoesTheSame()
    {
        using TestVm vm = Armed(RFlags.Tf, DebugCtl.Lbr);
        vm.Vcpu.HandleExit(Cpuid);
        Expect(vm, Dr6.Fixed | Dr6.Bs);
    }

    [Fact]
    public void SingleStep_OnBranchesOnly_PassesOverWhatDoesNotBranch()
    {
        using TestVm vm = Armed(RFlags.Tf, DebugCtl.Btf);
        vm.Vcpu.HandleExit(Cpuid);
        Assert.Equal((false, TestVm.Code + 2), (vm.Vcpu.Events.Exception.Pending, vm.Vcpu.Rip));
    }

    [Fact]
    public void Int1_UnderSingleStep_NamesNoCause()
    {
        using TestVm vm = Armed(RFlags.Tf, DebugCtl.Lbr);
        InterruptionInfo int1 = new(InterruptionType.PrivilegedSoftwareException, Vector.Db);
        vm.Vcpu.HandleExit(new VmExit((uint)ExitReason.ExceptionOrNmi, InterruptionInfo: int1, InstructionLength: 1));
        Expect(vm, Dr6.Fixed);
        Assert.Equal(TestVm.Code + 1, vm.Vcpu.Rip);
    }

    // An entry asks for a pending single step under a shadow, unless BTF is set, which the exception has cleared.
    [Theory]
    [InlineData(0UL)]
    [InlineData(DebugCtl.Btf)]
    public void Intercepted_UnderTheShadowOfSti_LeavesWhatTheEntryAsksFor(ulong control)
    {
        using TestVm vm = Armed(RFlags.Tf, control);
        vm.Vcpu.Vmx.InterruptShadow = InterruptibilityState.BlockingBySti;
        vm.Vcpu.HandleExit(new VmExit(
            (uint)ExitReason.ExceptionOrNmi, Dr6.Bs, InterruptionInfo: new InterruptionInfo(InterruptionType.HardwareException, Vector.Db)));
        Assert.Equal(PendingDebugExceptions.Bs, vm.Vmx.Current[VmcsField.GuestPendingDebug]);
    }

    private static TestVm Armed(ulong flags, ulong control)
    {
        TestVm vm = new(c => c.cpuid(), bits: 32);
        vm.Vcpu.RFlags |= flags;
        vm.Vmx.Current[VmcsField.GuestDebugCtl] = control;
        vm.Vcpu.Vmx.Dr7 = 0x400 | Dr7.Gd;
        return vm;
    }

    private static void Expect(TestVm vm, ulong dr6)
    {
        Assert.Equal((true, Vector.Db), (vm.Vcpu.Events.Exception.Pending, vm.Vcpu.Events.Exception.Vector));
        Assert.Equal((dr6, 0x400UL, 0UL), (vm.Vcpu.Vmx.Dr6, vm.Vcpu.Vmx.Dr7, vm.Vmx.Current[VmcsField.GuestDebugCtl]));
    }
}
