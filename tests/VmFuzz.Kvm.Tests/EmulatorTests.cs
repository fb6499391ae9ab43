using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Vmx;
using static Iced.Intel.AssemblerRegisters;

namespace VmFuzz.Kvm.Tests;

/// <summary>Instructions of the emulator at the edges of what the processor checks.</summary>
[Trait("row", "S97")]
public class EmulatorTests
{
    private const ulong Table = 0x4000;
    private const ulong FlatData = 0x00CF_9300_0000_FFFF;
    private const ulong FlatCode = 0x00CF_9B00_0000_FFFF;
    private const ulong FlatDataUnused = 0x00CF_9200_0000_FFFF;

    // The stack ends two bytes behind its top: POP of a selector reads no more.
    [Fact]
    public void PopToDs_AtTheLimitOfTheStack_ReadsTwoBytesAndMovesByFour()
    {
        using TestVm vm = Protected(c => c.pop(ds));
        SetStack(vm, limit: 0x5001, pointer: 0x5000);
        vm.Load(0x5000, [0x10, 0]);
        Emulate(vm);
        Assert.False(vm.Vcpu.Events.Exception.Pending);
        Assert.Equal((0x10UL, 0x5004UL), (vm.Vcpu.Vmx.GetSegment(SegmentRegister.Ds).Selector, vm.Vcpu[Gpr.Rsp]));
    }

    [Fact]
    public void PopToRegister_AtTheLimitOfTheStack_IsAStackFault()
    {
        using TestVm vm = Protected(c => c.pop(eax));
        SetStack(vm, limit: 0x5001, pointer: 0x5000);
        Raises(vm, Vector.Ss);
    }

    [Fact]
    public void PopToSs_LeavesTheShadowOfMovSs()
    {
        using TestVm vm = Protected(c => c.pop(ss));
        vm.Load(0x8000, [0x10, 0]);
        Emulate(vm);
        Assert.Equal(InterruptibilityState.BlockingByMovSs, vm.Vcpu.Vmx.InterruptShadow);
    }

    [Fact]
    public void PopToDs_OfASelectorBeyondTheTable_LeavesTheStackAlone()
    {
        using TestVm vm = Protected(c => c.pop(ds));
        vm.Load(0x8000, [0x40, 0]);
        Raises(vm, Vector.Gp, 0x40);
        Assert.Equal(0x8000UL, vm.Vcpu[Gpr.Rsp]);
    }

    [Fact]
    public void MoveToEs_InRealMode_ChangesTheBaseOnly()
    {
        using TestVm vm = new(c => c.mov(es, ax));
        vm.Vcpu.Rax = 0x1234;
        SegmentState before = vm.Vcpu.Vmx.GetSegment(SegmentRegister.Es);
        Emulate(vm);
        Assert.Equal(before with { Selector = 0x1234, Base = 0x12340 }, vm.Vcpu.Vmx.GetSegment(SegmentRegister.Es));
    }

    // The table begins 8 bytes below 4 GiB, so that its second descriptor stands at 0.
    [Fact]
    public void MoveToDs_FromATableAcrossFourGigabytes_WrapsAndMarksTheDescriptor()
    {
        using TestVm vm = Protected(c => c.mov(ds, ax));
        vm.Load(0, BitConverter.GetBytes(FlatDataUnused));
        vm.Vmx.Current[VmcsField.GuestGdtrBase] = 0xFFFF_FFF8;
        vm.Vcpu.Rax = 8;
        Emulate(vm);
        Assert.Equal((8UL, FlatData), (vm.Vcpu.Vmx.GetSegment(SegmentRegister.Ds).Selector, vm.Peek(0)));
    }

    [Theory]
    [InlineData(0x3000UL, true, true, false)]
    [InlineData(0x3001UL, true, true, true)]
    [InlineData(0x3001UL, false, true, false)] // RFLAGS.AC is clear
    [InlineData(0x3001UL, true, false, false)] // CPL 0
    public void Load_OfAnUnalignedWord_IsCheckedAtCpl3(ulong address, bool enabled, bool user, bool faults)
    {
        using TestVm vm = Protected(c => c.mov(ecx, __dword_ptr[eax]));
        vm.Vcpu.Vmx.LoadCr0(Cr0.Pe | Cr0.Ne | Cr0.Am);
        vm.Vcpu.RFlags |= enabled ? RFlags.Ac : 0;
        vm.Vcpu.Rax = address;
        if (user)
        {
            vm.Vcpu.Vmx.SetSegment(SegmentRegister.Ss, Flat(0x23, 0xC0F3));
            vm.Vcpu.Vmx.SetSegment(SegmentRegister.Cs, Flat(0x1B, 0xC0FB));
        }

        if (faults)
        {
            Raises(vm, Vector.Ac);
        }
        else
        {
            Emulate(vm);
            Assert.False(vm.Vcpu.Events.Exception.Pending);
        }
    }

    // RFLAGS.AC opens the user's pages to explicit accesses of the kernel, not to the processor's own.
    [Theory]
    [InlineData(AccessMode.Supervisor, true, true)]
    [InlineData(AccessMode.Supervisor, false, false)]
    [InlineData(AccessMode.System, true, false)]
    public void Translate_OfAUserPageUnderSmap_AsksWhoseAccessItIs(AccessMode mode, bool opened, bool reached)
    {
        using TestVm vm = new(c => c.hlt());
        EnterLongMode(vm);
        vm.Vcpu.Vmx.LoadCr4(Cr4.Pae | Cr4.Smap);
        vm.Vcpu.RFlags |= opened ? RFlags.Ac : 0;
        Assert.Equal(reached, vm.Vcpu.Paging.TryTranslate(0x3000, AccessKind.Read, mode, out _, out _));
    }

    [Theory]
    [InlineData(0xFFFF_8000UL, 0x4FUL, 0)]
    [InlineData(0x0000_8000UL, 0x4FUL, Vector.Gp)] // the base is not canonical
    [InlineData(0x0000_0900_0000_0000UL, 0x4FUL, Vector.Gp)] // the upper type is not 0
    [InlineData(0xFFFF_8000UL, 0x4EUL, Vector.Gp)] // the upper half is beyond the table
    public void LoadTaskRegister_InLongMode_ChecksTheUpperHalf(ulong upper, ulong limit, int vector)
    {
        const ulong Selector = 0x40;
        using TestVm vm = Protected(c => c.ltr(ax));
        EnterLongMode(vm);
        vm.Load(Table + Selector, BitConverter.GetBytes(0x0000_8900_5000_0067UL));
        vm.Load(Table + Selector + 8, BitConverter.GetBytes(upper));
        vm.Vmx.Current[VmcsField.GuestGdtrLimit] = limit;
        vm.Vcpu.Rax = Selector;
        if (vector != 0)
        {
            Raises(vm, (byte)vector, (uint)Selector);
            Assert.Equal(0x89UL, vm.Peek(Table + Selector + 5, 1));
            return;
        }

        Emulate(vm);
        SegmentState task = vm.Vcpu.Vmx.GetSegment(SegmentRegister.Tr);
        Assert.Equal((0xFFFF_8000_0000_5000UL, 0x8BU, 0x8BUL), (task.Base, task.Attributes, vm.Peek(Table + Selector + 5, 1)));
    }

    [Theory]
    [InlineData(0x18UL, 0x2000UL, 0, 0U)]
    [InlineData(0x28UL, 0x2000UL, Vector.Gp, 0x28U)] // a task
    [InlineData(0x30UL, 0x2000UL, Vector.Gp, 0U)] // beyond the limit of the code
    public void FarReturn_ThatReleasesParameters_IsAsTheProcessorHasIt(ulong selector, ulong target, int vector, uint error)
    {
        using TestVm vm = Protected(c => c.retf(8));
        vm.Load(Table + 0x28, BitConverter.GetBytes(0x0000_8900_5000_0067UL));
        vm.Load(Table + 0x30, BitConverter.GetBytes(0x0040_9A00_0000_0FFFUL));
        vm.Load(0x8000, BitConverter.GetBytes(target | (selector << 32)));
        if (vector != 0)
        {
            Raises(vm, (byte)vector, error);
            Assert.Equal(0x9AUL, vm.Peek(Table + 0x35, 1));
            return;
        }

        Emulate(vm);
        Assert.Equal((target, 0x8010UL), (vm.Vcpu.Rip, vm.Vcpu[Gpr.Rsp]));
    }

    // 32-bit code with a table: null, code, data, code.
    private static TestVm Protected(Action<Iced.Intel.Assembler> code)
    {
        TestVm vm = new(code, bits: 32);
        vm.Load(Table + 8, BitConverter.GetBytes(FlatCode));
        vm.Load(Table + 0x10, BitConverter.GetBytes(FlatData));
        vm.Load(Table + 0x18, BitConverter.GetBytes(FlatCode));
        vm.Vmx.Current[VmcsField.GuestGdtrBase] = Table;
        vm.Vmx.Current[VmcsField.GuestGdtrLimit] = 0x3F;
        return vm;
    }

    // The user's pages, one to one.
    private static void EnterLongMode(TestVm vm)
    {
        vm.Load(0x20000, BitConverter.GetBytes(0x21007UL));
        vm.Load(0x21000, BitConverter.GetBytes(0x22007UL));
        vm.Load(0x22000, BitConverter.GetBytes(0x87UL));
        VmxVcpu vmx = vm.Vcpu.Vmx;
        vmx.LoadEfer(Efer.Lme | Efer.Lma | Efer.Nxe);
        vmx.LoadCr4(Cr4.Pae);
        vmx.LoadCr0(Cr0.Pe | Cr0.Pg | Cr0.Wp | Cr0.Ne);
        vmx.Cr3 = 0x20000;
    }

    private static void SetStack(TestVm vm, uint limit, ulong pointer)
    {
        vm.Vcpu.Vmx.SetSegment(SegmentRegister.Ss, new SegmentState { Selector = 0x10, Limit = limit, Attributes = 0x4093 });
        vm.Vcpu[Gpr.Rsp] = pointer;
    }

    private static SegmentState Flat(ulong selector, uint attributes) =>
        new() { Selector = selector, Limit = uint.MaxValue, Attributes = attributes };

    private static void Raises(TestVm vm, byte vector, uint error = 0)
    {
        Emulate(vm);
        QueuedException raised = vm.Vcpu.Events.Exception;
        Assert.Equal((true, vector, error), (raised.Pending, raised.Vector, raised.ErrorCode));
        Assert.Equal(TestVm.Code, vm.Vcpu.Rip);
    }

    private static void Emulate(TestVm vm) =>
        Assert.Equal(1, vm.Vcpu.HandleExit(new VmExit((uint)ExitReason.EptMisconfiguration, GuestPhysical: 0xD000_0000)));
}
