using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Vmx;
using static Iced.Intel.AssemblerRegisters;

namespace VmFuzz.Kvm.Tests;

/// <summary>The tables of rules and of the emulator, and behaviour that they hold.</summary>
public class GuestRuleTests
{
    [Fact]
    public void Rows_AreInTheOrderOfTheirNumbers_WithUniqueIds()
    {
        Assert.Equal(Enum.GetValues<Rule>(), GuestRules.Rows.Select(static r => r.Number));
        Assert.Equal(GuestRules.Rows.Length, GuestRules.Rows.Select(static r => r.Id).Distinct(StringComparer.Ordinal).Count());
    }

    [Fact]
    public void Without_ARule_DropsThatOneOnly()
    {
        foreach (GuestRule row in GuestRules.Rows)
        {
            GuestRules rules = GuestRules.Default.Without(row.Id);
            Assert.Equal(row.Id, Assert.Single(rules.DroppedRules()));
            Assert.False(rules.IsDefault);
        }

        Assert.True(GuestRules.Default.IsDefault);
        Assert.Throws<ArgumentException>(() => GuestRules.Default.Without("nothing"));
    }

    [Fact]
    public void EmulatorTable_EachMnemonic_HasOneRow()
    {
        var all = EmulatorTable.Default.Rows.SelectMany(static r => r.Mnemonics).ToArray();
        Assert.Equal(all.Length, all.Distinct().Count());
        Assert.Throws<ArgumentException>(() => EmulatorTable.Default.With("nothing", static (e, in i) => Emulator.Step.Unknown));
    }

    [Fact]
    [Trait("row", "S81")]
    public void SingleStep_OverSti_TrapsAndTheGuestGoesOn()
    {
        using TestVm vm = new(c =>
        {
            c.mov(__word_ptr[4], 0x2000);
            c.mov(__word_ptr[6], 0);
            c.pushf();
            c.pop(ax);
            c.or(ax, 0x100);
            c.push(ax);
            c.popf();
            c.sti();
            c.nop();
            c.hlt();
        });

        // The handler counts in DX and clears TF of its caller at the third trap.
        vm.Load(0x2000, TestVm.Assemble(16, c =>
        {
            Iced.Intel.Label more = c.CreateLabel();
            c.push(bp);
            c.mov(bp, sp);
            c.inc(dx);
            c.cmp(dx, 2);
            c.jb(more);
            c.and(__word_ptr[bp + 6], 0xFEFF);
            c.Label(ref more);
            c.pop(bp);
            c.iret();
        }, 0x2000));
        vm.Vcpu.Rdx = 0;
        vm.RunToHalt();
        Assert.Equal(2UL, vm.Vcpu.Rdx);
        Assert.Equal(0UL, vm.Vmx.Current[VmcsField.GuestPendingDebug]);
    }

    // A store to 0x5002, then a load. The handler reads DR6 and the pushed IP.
    [Theory]
    [InlineData(0x0001_0401U, 0x5002U, 1UL)] // write
    [InlineData(0x0001_0401U, 0x5003U, 1UL)]
    [InlineData(0x0003_0401U, 0x5003U, 1UL)] // access
    [InlineData(0x0000_0401U, 0U, 1UL)] // instruction
    [InlineData(0x0001_0404U, 0x5002U, 0UL)] // another breakpoint
    [Trait("row", "S48")]
    [Trait("row", "S81")]
    public void Breakpoint_SetByTheGuest_ReachesItsHandler(uint control, uint address, ulong cause)
    {
        const uint Store = 0x1040;
        using TestVm vm = new(c =>
        {
            c.mov(__word_ptr[4], 0x2000);
            c.mov(__word_ptr[6], 0);
            c.mov(eax, address == 0 ? Store : address);
            c.mov(dr0, eax);
            c.mov(eax, control);
            c.mov(dr7, eax);
            c.mov(bx, (short)Store);
            c.jmp(bx);
        });
        vm.Load(Store, TestVm.Assemble(16, c =>
        {
            c.mov(__word_ptr[0x5002], ax);
            c.mov(cx, __word_ptr[0x5002]);
            c.hlt();
        }, Store));
        vm.Load(0x2000, TestVm.Assemble(16, c =>
        {
            c.mov(edx, dr6);
            c.pop(si);
            c.hlt();
        }, 0x2000));
        vm.RunToHalt();
        if (cause == 0)
        {
            Assert.NotEqual(0x2000UL, vm.Vcpu.Rip & 0xF000);
            return;
        }

        Assert.Equal(0xFFFF_0FF0 | cause, vm.Vcpu.Rdx);
        Assert.Equal(address == 0 ? Store : Store + 3, vm.Vcpu[Gpr.Rsi] & 0xFFFF);
    }

    // A far JMP to a TSS, and an exception whose gate is a task gate.
    [Theory]
    [InlineData(new byte[] { 0xEA, 0, 0, 0, 0, 0x20, 0 }, TaskSwitchSource.Jmp, 7U, 0U)]
    [InlineData(new byte[] { 0x0F, 0x0B }, TaskSwitchSource.TaskGate, 0U, 0x8000_0306U)]
    [Trait("row", "S95")]
    public void TaskSwitch_OfTheGuest_ExitsBeforeItBegins(byte[] code, TaskSwitchSource source, uint length, uint vectoring)
    {
        using TestVm vm = new(c =>
        {
            c.lgdt(__dword_ptr[0x3800]);
            c.lidt(__dword_ptr[0x3810]);
            c.mov(ax, 0x18);
            c.ltr(ax);
            c.db(code);
        }, bits: 32);
        vm.Load(0x3808, BitConverter.GetBytes(0UL));
        vm.Load(0x3800, [0x27, 0, 0, 0x30, 0, 0]);
        vm.Load(0x3810, [0xFF, 0, 0, 0x40, 0, 0]);
        vm.Load(0x3008, BitConverter.GetBytes(0x00CF_9B00_0000_FFFF));
        vm.Load(0x3010, BitConverter.GetBytes(0x00CF_9300_0000_FFFF));
        vm.Load(0x3018, BitConverter.GetBytes(0x0000_8900_5000_0067));
        vm.Load(0x3020, BitConverter.GetBytes(0x0000_8900_5100_0067));
        vm.Load(0x4000 + (Vector.Ud * 8), BitConverter.GetBytes(0x0000_8500_0020_0000));
        Assert.Equal(KvmExitReason.InternalError, vm.RunTo());
        VmExit exit = vm.Exits[^1];
        Assert.Equal((ExitReason.TaskSwitch, new TaskSwitchQualification(0x20, source).Value), (exit.Basic, exit.Qualification));
        Assert.Equal((length, vectoring), (exit.InstructionLength, exit.IdtVectoringInfo.Value));
        Assert.Equal(0UL, vm.Peek(0x5000 + 32));
        Assert.Equal(0x89UL, vm.Peek(0x3025, 1));
    }

    [Theory]
    [InlineData(1UL, AccessKind.Read, true, 0x25U)]
    [InlineData(2UL, AccessKind.Read, true, 0U)]
    [InlineData(2UL, AccessKind.Write, true, 0x27U)]
    [InlineData(2UL, AccessKind.Write, false, 0x23U)]
    [InlineData(1UL, AccessKind.Fetch, true, 0U)]
    public unsafe void ProtectionKey_InTheWalkOfTheEmulator_IsThatOfThePage(ulong rights, AccessKind kind, bool user, uint error)
    {
        using TestVm vm = new(c => c.hlt());
        for (uint level = 0; level < 4; level++)
        {
            ulong entry = level < 3 ? 0x20007 + ((level + 1) * 0x1000UL) : 0x5007 | (3UL << 59);
            vm.Load(0x20000 + (level * 0x1000), BitConverter.GetBytes(entry));
        }

        VmxVcpu vmx = vm.Vcpu.Vmx;
        vmx.LoadEfer(Efer.Lme | Efer.Lma | Efer.Nxe);
        vmx.LoadCr4(Cr4.Pae | Cr4.Pke);
        vmx.LoadCr0(Cr0.Pe | Cr0.Pg | Cr0.Wp | Cr0.Ne);
        vmx.Cr3 = 0x20000;
        vmx.SetSegment(SegmentRegister.Ss, vmx.GetSegment(SegmentRegister.Ss) with { Attributes = 0xC0F3 });
        vm.Processor.State->Pkru = rights << 6;
        bool reached = vm.Vcpu.Paging.TryTranslate(0x123, kind, user ? AccessMode.Own : AccessMode.Supervisor, out ulong gpa, out GuestFault fault);
        Assert.Equal((error == 0, error), (reached, fault.ErrorCode));
        Assert.Equal(reached ? 0x5123UL : 0, gpa);
    }

    [Fact]
    [Trait("row", "S97")]
    public void UnknownInstruction_AtCpl3_IsInvalidOpcode_AtCpl0AnError()
    {
        using TestVm vm = new(c => c.fninit(), bits: 32);
        Assert.Equal(0, vm.Vcpu.HandleExit(new VmExit((uint)ExitReason.EptMisconfiguration, GuestPhysical: 0xD000_0000)));
        Assert.Equal(KvmInternalError.Emulation, vm.Vcpu.KvmRun.InternalError);
        UserMode(vm);
        Assert.Equal(1, vm.Vcpu.HandleExit(new VmExit((uint)ExitReason.EptMisconfiguration, GuestPhysical: 0xD000_0000)));
        Assert.Equal(Vector.Ud, vm.Vcpu.Events.Exception.Vector);
        Assert.Equal(TestVm.Code, vm.Vcpu.Rip);
    }

    [Fact]
    [Trait("row", "S97")]
    public void ExchangeAndAdd_RegistersAndAddressRegister_AreAsTheProcessorHasThem()
    {
        using TestVm vm = new(c => c.xadd(ecx, eax), bits: 32);
        vm.Vcpu.Rax = 5;
        vm.Vcpu.Rcx = 7;
        Assert.Equal(1, Emulate(vm));
        Assert.Equal(12UL, vm.Vcpu.Rcx);
        Assert.Equal(7UL, vm.Vcpu.Rax);

        using TestVm same = new(c => c.xadd(eax, eax), bits: 32);
        same.Vcpu.Rax = 5;
        Assert.Equal(1, Emulate(same));
        Assert.Equal(10UL, same.Vcpu.Rax);

        using TestVm memory = new(c => c.xadd(__dword_ptr[eax], eax), bits: 32);
        memory.Load(0x3000, [1, 0, 0, 0]);
        memory.Vcpu.Rax = 0x3000;
        Assert.Equal(1, Emulate(memory));
        Assert.Equal(0x3001UL, memory.Peek(0x3000, 4));
        Assert.Equal(1UL, memory.Vcpu.Rax);
    }

    [Fact]
    [Trait("row", "S97")]
    public void CompareExchange_AddressedByTheAccumulator_WritesBackWhereItRead()
    {
        using TestVm vm = new(c => c.cmpxchg(__dword_ptr[eax], ecx), bits: 32);
        vm.Load(0x3000, [1, 0, 0, 0]);
        vm.Vcpu.Rax = 0x3000;
        Assert.Equal(1, Emulate(vm));
        Assert.Equal(1UL, vm.Peek(0x3000, 4));
        Assert.Equal(1UL, vm.Vcpu.Rax);
        Assert.Equal(0UL, vm.Peek(1, 4));
        Assert.Equal(0UL, vm.Vcpu.RFlags & RFlags.Cf);
    }

    [Fact]
    [Trait("row", "S97")]
    public void NullSelector_MakesADataSegmentUnusable_AndIsRefusedBySs()
    {
        using TestVm data = new(c => c.mov(ds, ax), bits: 32);
        data.Vcpu.Rax = 3;
        Assert.Equal(1, Emulate(data));
        Assert.False(data.Vcpu.Vmx.GetSegment(SegmentRegister.Ds).Usable);
        Assert.Equal(3UL, data.Vcpu.Vmx.GetSegment(SegmentRegister.Ds).Selector);

        using TestVm stack = new(c => c.mov(ss, ax), bits: 32);
        stack.Vcpu.Rax = 0;
        Assert.Equal(1, Emulate(stack));
        Assert.Equal(Vector.Gp, stack.Vcpu.Events.Exception.Vector);
        Assert.True(stack.Vcpu.Vmx.GetSegment(SegmentRegister.Ss).Usable);
    }

    [Fact]
    [Trait("row", "S97")]
    public void MoveToSs_Emulated_LeavesItsShadowAndHoldsTheTrapBack()
    {
        using TestVm vm = new(c => c.mov(ss, ax), bits: 32);
        vm.Load(0x4010, BitConverter.GetBytes(0x00CF_9300_0000_FFFFUL));
        vm.Vmx.Current[VmcsField.GuestGdtrBase] = 0x4000;
        vm.Vmx.Current[VmcsField.GuestGdtrLimit] = 0x1F;
        vm.Vcpu.RFlags |= RFlags.Tf;
        vm.Vcpu.Rax = 0x10;
        Assert.Equal(1, Emulate(vm));
        Assert.Equal(2UL, vm.Vcpu.Vmx.InterruptShadow);
        Assert.False(vm.Vcpu.Events.Exception.Pending);
        Assert.Equal(PendingDebugExceptions.Bs, vm.Vmx.Current[VmcsField.GuestPendingDebug]);
    }

    private static int Emulate(TestVm vm) =>
        vm.Vcpu.HandleExit(new VmExit((uint)ExitReason.EptMisconfiguration, GuestPhysical: 0xD000_0000));

    private static void UserMode(TestVm vm)
    {
        vm.Vcpu.Vmx.SetSegment(SegmentRegister.Ss, new SegmentState { Selector = 0x23, Limit = uint.MaxValue, Attributes = 0xC0F3 });
        vm.Vcpu.Vmx.SetSegment(SegmentRegister.Cs, new SegmentState { Selector = 0x1B, Limit = uint.MaxValue, Attributes = 0xC0FB });
    }
}
