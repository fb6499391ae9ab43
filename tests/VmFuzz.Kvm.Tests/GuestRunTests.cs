using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using static Iced.Intel.AssemblerRegisters;

namespace VmFuzz.Kvm.Tests;

/// <summary>Small guests through the whole path: processor, VT-x, run path.</summary>
public class GuestRunTests
{
    [Fact]
    [Trait("row", "S89")]
    [Trait("row", "S53")]
    [Trait("row", "S12")]
    public void Hlt_WithoutIrqchip_LeavesWithHltAndCountsTheInstruction()
    {
        using TestVm vm = new(c =>
        {
            c.mov(ax, 0x1234);
            c.hlt();
            c.inc(ax);
            c.hlt();
        });
        Assert.Equal(KvmExitReason.Hlt, vm.RunTo());
        Assert.Equal(0x1234UL, vm.Vcpu.Rax);
        Assert.Equal(2UL, vm.Processor.Retired);
        Assert.Equal(TestVm.Code + 4, vm.Vcpu.Rip);
        Assert.Equal(KvmExitReason.Hlt, vm.RunTo());
        Assert.Equal(0x1235UL, vm.Vcpu.Rax);
        Assert.Equal(4UL, vm.Processor.Retired);
        Assert.True(vm.Vcpu.Stats.Exits >= 3);
        Assert.Equal(vm.Vcpu.Stats.Exits, vm.Vcpu.Stats.Entered);
    }

    [Fact]
    [Trait("row", "S84")]
    [Trait("row", "S09")]
    public void PortIo_AllSizes_ReachesUserspaceAndCompletes()
    {
        using TestVm vm = new(c =>
        {
            c.mov(dx, 0x3F8);
            c.mov(eax, 0x11223344);
            c.@out(dx, al);
            c.@out(dx, ax);
            c.@out(dx, eax);
            c.@in(al, 0x40);
            c.mov(ebx, eax);
            c.@in(eax, 0x40);
            c.hlt();
        });
        vm.Ports[0x40] = 0xA1B2C3D4;
        vm.RunToHalt();
        Assert.Equal(["out 3f8 1 44", "out 3f8 2 3344", "out 3f8 4 11223344", "in 40 1", "in 40 4"], vm.Bus);
        Assert.Equal(0x112233D4UL, vm.Vcpu.Rbx);
        Assert.Equal(0xA1B2C3D4UL, vm.Vcpu.Rax);
        Assert.Equal(9UL, vm.Processor.Retired);
    }

    [Fact]
    [Trait("row", "S09")]
    [Trait("row", "S84")]
    public void RepIns_ThroughUserspace_FillsMemoryAndCountsEachIteration()
    {
        using TestVm vm = new(c =>
        {
            c.mov(di, 0x2FFE);
            c.mov(cx, 5);
            c.mov(dx, 0x60);
            c.rep.insb();
            c.hlt();
        });
        vm.Ports[0x60] = 0x5A;
        vm.RunToHalt();
        Assert.Equal(0x5A5A_5A5A_5AUL, vm.Peek(0x2FFE));
        Assert.Equal(0x3003UL, vm.Vcpu[Gpr.Rdi]);
        Assert.Equal(0UL, vm.Vcpu.Rcx);
        Assert.Equal(9UL, vm.Processor.Retired);
    }

    [Fact]
    [Trait("row", "S09")]
    public void RepOuts_ThroughUserspace_WritesEachItemInOrder()
    {
        using TestVm vm = new(c =>
        {
            c.mov(si, 0x2000);
            c.mov(cx, 3);
            c.mov(dx, 0xE9);
            c.rep.outsb();
            c.hlt();
        });
        vm.Load(0x2000, "abc"u8);
        vm.RunToHalt();
        Assert.Equal(["out e9 1 61", "out e9 1 62", "out e9 1 63"], vm.Bus);
        Assert.Equal(7UL, vm.Processor.Retired);
    }

    [Fact]
    [Trait("row", "S97")]
    [Trait("row", "S09")]
    public void Mmio_ReadWriteAndModify_GoThroughUserspace()
    {
        using TestVm vm = new(
            c =>
            {
                c.mov(ebx, 0xD000_0000);
                c.mov(eax, __dword_ptr[ebx]);
                c.mov(__byte_ptr[ebx + 1], al);
                c.or(__word_ptr[ebx + 4], 0x8000);
                c.movzx(ecx, __byte_ptr[ebx]);
                c.hlt();
            },
            bits: 32);
        vm.RunToHalt();
        Assert.Equal(
            ["read d0000000 4", "write d0000001 1 11", "read d0000004 2", "write d0000004 2 a211", "read d0000000 1"], vm.Bus);
        Assert.Equal(0x44332211UL, vm.Vcpu.Rax);
        Assert.Equal(0x11UL, vm.Vcpu.Rcx);
        Assert.Equal(6UL, vm.Processor.Retired);
        Assert.Contains(vm.Exits, e => e.Basic == ExitReason.EptMisconfiguration);
    }

    [Fact]
    [Trait("row", "S09")]
    public void Mmio_AcrossPagesAndSixteenBytes_IsSplitIntoFragments()
    {
        using TestVm vm = new(
            c =>
            {
                c.mov(ebx, 0xD000_0FFE);
                c.mov(eax, __dword_ptr[ebx]);
                c.mov(__dword_ptr[ebx], eax);
                c.hlt();
            },
            bits: 32);
        vm.RunToHalt();
        Assert.Equal(["read d0000ffe 2", "read d0001000 2", "write d0000ffe 2 2211", "write d0001000 2 2211"], vm.Bus);
        Assert.Equal(0x22112211UL, vm.Vcpu.Rax);
    }

    [Fact]
    [Trait("row", "S97")]
    public void Rom_GuestWrites_LeaveAsMmioAndChangeNothing()
    {
        using TestVm vm = new(
            c =>
            {
                c.mov(eax, __dword_ptr[0xF0000]);
                c.mov(__dword_ptr[0xF0000], 0);
                c.hlt();
            },
            bits: 32);
        vm.Load(0xF0000, [1, 2, 3, 4]);
        vm.RunToHalt();
        Assert.Equal(["write f0000 4 0"], vm.Bus);
        Assert.Equal(0x04030201UL, vm.Peek(0xF0000, 4));
        Assert.Equal(0x04030201UL, vm.Vcpu.Rax);
    }

    [Fact]
    [Trait("row", "S38")]
    [Trait("row", "S16")]
    [Trait("row", "S20")]
    [Trait("row", "S40")]
    [Trait("row", "S83")]
    [Trait("row", "S103")]
    public void Interrupt_WindowThenInjection_ReachesTheHandlerAtTheFirstBoundary()
    {
        using TestVm vm = new(c =>
        {
            c.mov(ax, 0x2000);
            c.mov(__word_ptr[0x80], ax);
            c.mov(__word_ptr[0x82], 0);
            c.sti();
            c.nop();
            c.nop();
            c.hlt();
        });
        vm.Load(0x2000, TestVm.Assemble(16, c => { c.mov(bx, 0x77); c.iret(); }, 0x2000));
        vm.Vcpu.KvmRun.RequestInterruptWindow = true;
        Assert.Equal(KvmExitReason.IrqWindowOpen, vm.RunTo());
        Assert.Equal(5UL, vm.Processor.Retired);
        Assert.True(vm.Vcpu.KvmRun.ReadyForInterruptInjection);
        Assert.True(vm.Vcpu.KvmRun.IfFlag);
        vm.Vcpu.KvmRun.RequestInterruptWindow = false;
        Assert.Equal(0, vm.Vcpu.Interrupt(0x20));
        Assert.Equal(-Errno.EEXIST, vm.Vcpu.Interrupt(0x21));
        vm.RunToHalt();
        Assert.Equal(0x77UL, vm.Vcpu.Rbx);
        Assert.Equal(9UL, vm.Processor.Retired);
        Assert.Contains(vm.Log, static l => l is "inject 80000020");

        // The first delivery met a page without mapping: the exit has IDT-vectoring information, the event is repeated.
        Assert.Single(vm.Exits, static e => e.IdtVectoringInfo.Valid);
        Assert.Equal(2UL, vm.Vcpu.Stats.IrqInjections);
    }

    [Fact]
    [Trait("row", "S16")]
    public void InterruptWindow_GuestCanTakeOneAlready_ReturnsEintr()
    {
        using TestVm vm = new(c =>
        {
            c.sti();
            c.cpuid();
            c.hlt();
        });

        // The shadow of STI keeps the window shut until CPUID, which a handler completes.
        vm.Vcpu.KvmRun.RequestInterruptWindow = true;
        int result = vm.Vcpu.Run();
        Assert.Equal(-Errno.EINTR, result);
        Assert.Equal(KvmExitReason.Intr, vm.Vcpu.KvmRun.ExitReason);
        Assert.Equal(1UL, vm.Vcpu.Stats.RequestIrqExits);
    }

    [Fact]
    [Trait("row", "S85")]
    public void ControlRegisters_ProtectedModeAndBack_GiveWhatTheGuestWrote()
    {
        using TestVm vm = new(c =>
        {
            c.mov(eax, cr0);
            c.or(al, 1);
            c.mov(cr0, eax);
            c.mov(ebx, cr0);
            c.and(al, 0xFE);
            c.mov(cr0, eax);
            c.mov(ecx, cr0);
            c.nop();
            c.mov(eax, 0x600);
            c.mov(cr4, eax);
            c.mov(edx, cr4);
            c.hlt();
        });
        vm.RunToHalt();
        Assert.Equal(0x6000_0011UL, vm.Vcpu.Rbx);
        Assert.Equal(0x6000_0010UL, vm.Vcpu.Rcx);
        Assert.Equal(0x600UL, vm.Vcpu.Rdx);
        Assert.Equal(12UL, vm.Processor.Retired);
    }

    [Fact]
    [Trait("row", "S85")]
    public void Cr8_Lowered_LeavesWithSetTpr()
    {
        using TestVm vm = new(c => c.hlt());
        Assert.Equal(1, Feed(vm, ExitReason.ControlRegisterAccess, 8, rax: 9));
        Assert.Equal(9UL, vm.Vcpu.Cr8);
        Assert.Equal(0, Feed(vm, ExitReason.ControlRegisterAccess, 8, rax: 3));
        Assert.Equal(KvmExitReason.SetTpr, vm.Vcpu.KvmRun.ExitReason);
        Assert.Equal(1, Feed(vm, ExitReason.ControlRegisterAccess, 8, rax: 16));
        Assert.Equal(Vector.Gp, vm.Vcpu.Events.Exception.Vector);
        Assert.Equal(3UL, vm.Vcpu.Cr8);
    }

    [Fact]
    [Trait("row", "S87")]
    [Trait("row", "S80")]
    public void Cpuid_AnswersFromTheModel()
    {
        using TestVm vm = new(c =>
        {
            c.mov(eax, 0);
            c.cpuid();
            c.hlt();
        });
        vm.RunToHalt();
        CpuidLeaf leaf = vm.Processor.Model.Lookup(0, 0);
        Assert.Equal(leaf.Ebx, (uint)vm.Vcpu.Rbx);
        Assert.Equal(leaf.Eax, (uint)vm.Vcpu.Rax);
        Assert.Equal(3UL, vm.Processor.Retired);
    }

    [Fact]
    [Trait("row", "S88")]
    public void Msrs_WriteReadAndUnknown_FollowTheTable()
    {
        using TestVm vm = new(c =>
        {
            c.mov(ecx, 0xC000_0082);
            c.mov(eax, 0x1234_5678);
            c.mov(edx, 0);
            c.wrmsr();
            c.xor(eax, eax);
            c.rdmsr();
            c.mov(ebx, eax);
            c.hlt();
        });
        vm.RunToHalt();
        Assert.Equal(0x1234_5678UL, vm.Vcpu.Rbx);
        vm.Vcpu.Rcx = 0x1234_5678;
        Assert.Equal(1, vm.Vcpu.HandleExit(new Vmx.VmExit((uint)ExitReason.Rdmsr, InstructionLength: 2)));
        Assert.Equal(Vector.Gp, vm.Vcpu.Events.Exception.Vector);
    }

    [Fact]
    [Trait("row", "S82")]
    [Trait("row", "S81")]
    public void TripleFault_NoIdt_LeavesWithShutdown()
    {
        using TestVm vm = new(
            c =>
            {
                c.ud2();
            },
            bits: 32);
        vm.Vmx.Current[VmcsField.GuestIdtrLimit] = 0;
        Assert.Equal(KvmExitReason.Shutdown, vm.RunTo());
    }

    private static int Feed(TestVm vm, ExitReason reason, ulong qualification, ulong rax = 0)
    {
        vm.Vcpu.Events.ClearException();
        vm.Vcpu.Rax = rax;
        return vm.Vcpu.HandleExit(new Vmx.VmExit((uint)reason, qualification, InstructionLength: 3));
    }
}
