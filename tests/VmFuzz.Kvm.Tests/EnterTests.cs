using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Vmx;
using static Iced.Intel.AssemblerRegisters;

namespace VmFuzz.Kvm.Tests;

/// <summary>S20 to S57: one pass.</summary>
public unsafe class EnterTests
{
    [Fact]
    [Trait("row", "S99")]
    [Trait("row", "S43")]
    [Trait("row", "S47")]
    [Trait("row", "S53")]
    public void Brackets_OfOnePass_AreInTheSeedsOrder()
    {
        using TestVm vm = new(c => c.hlt());
        vm.RunTo();
        vm.Vcpu.Host.ClearTrace();
        vm.Vcpu.Rip = TestVm.Code;
        vm.RunTo();
        HostEvent[] expected =
        [
            HostEvent.VcpuLoad, HostEvent.SrcuLock, HostEvent.PreemptDisable, HostEvent.PrepareGuestSwitch,
            HostEvent.LoadGuestMsrs, HostEvent.LoadGuestFpu, HostEvent.ModeInGuest, HostEvent.IrqDisable,
            HostEvent.SrcuUnlock, HostEvent.GuestEnter, HostEvent.Enter, HostEvent.Left, HostEvent.ModeOutside,
            HostEvent.IrqEnable, HostEvent.CountExit, HostEvent.GuestExit, HostEvent.PreemptEnable, HostEvent.SrcuLock,
            HostEvent.SrcuUnlock, HostEvent.PutGuestMsrs, HostEvent.PutGuestFpu, HostEvent.VcpuPut,
        ];
        Assert.Equal(expected, vm.Vcpu.Host.Trace);
    }

    [Fact]
    [Trait("row", "S43")]
    [Trait("row", "S68")]
    public void HostState_AfterPut_IsTheOldOne()
    {
        using TestVm vm = new(c =>
        {
            c.mov(ecx, 0xC000_0081);
            c.mov(eax, 0x1111);
            c.mov(edx, 0x2222);
            c.wrmsr();
            c.fninit();
            c.hlt();
        });
        CpuState* s = vm.Processor.State;
        s->Star = 0xAAAA;
        s->Fcw = 0x123;
        s->Ymm[5] = 0x77;
        vm.RunToHalt();
        Assert.Equal(0xAAAAUL, s->Star);
        Assert.Equal(0x123UL, s->Fcw);
        Assert.Equal(0x77UL, s->Ymm[5]);
        Assert.Equal(0x2222_0000_1111UL, vm.Vcpu.Vmx.GetSwitchedMsr(0));
    }

    public static TheoryData<InputPoint> KickPoints =>
    [
        InputPoint.AfterRequests, InputPoint.AfterInjection, InputPoint.AfterPrepare, InputPoint.BeforeLastCheck,
        InputPoint.BeforeEntry,
    ];

    [Theory]
    [MemberData(nameof(KickPoints))]
    [Trait("row", "S44")]
    [Trait("row", "S45")]
    public void Nmi_AtAnyKickPoint_IsDeliveredBeforeTheFirstInstruction(InputPoint point)
    {
        using TestVm vm = new(c => { c.mov(cx, 1); c.hlt(); });
        vm.Load(0x2000, TestVm.Assemble(16, c => { c.inc(bx); c.hlt(); }, 0x2000));
        vm.Load(8, [0, 0x20, 0, 0]);
        vm.Input(point, InputKind.Nmi);
        vm.RunTo();
        Assert.Equal(1UL, vm.Vcpu.Rbx);
        Assert.Equal(0UL, vm.Vcpu.Rcx);
        Assert.Equal(2UL, vm.Processor.Retired);
    }

    [Theory]
    [MemberData(nameof(KickPoints))]
    [Trait("row", "S44")]
    [Trait("row", "S45")]
    public void Kick_WithAnInterruptQueued_NeitherLosesNorDoublesIt(InputPoint point)
    {
        using TestVm vm = new(c => { c.mov(cx, 1); c.hlt(); });
        vm.Load(0x2000, TestVm.Assemble(16, c => { c.inc(bx); c.hlt(); }, 0x2000));
        vm.Load(0x80, [0, 0x20, 0, 0]);
        vm.Vcpu.RFlags |= RFlags.If;
        Assert.Equal(0, vm.Vcpu.Interrupt(0x20));
        vm.Input(point, InputKind.Kick);
        vm.Input(point, InputKind.Kick);
        vm.RunTo();
        Assert.Equal(1UL, vm.Vcpu.Rbx);
        Assert.Equal(2UL, vm.Processor.Retired);
        Assert.False(vm.Vcpu.Events.NeedsReinjection);
    }

    [Fact]
    [Trait("row", "S46")]
    public void ForcedExit_ComesAfterTheDeliveryAndBeforeTheHandler()
    {
        using TestVm vm = new(c => { c.mov(cx, 1); c.hlt(); });
        vm.Load(0x80, [0, 0x20, 0, 0]);
        vm.Load(0x2000, TestVm.Assemble(16, c => { c.inc(bx); c.hlt(); }, 0x2000));
        vm.RunTo(); // maps the pages
        vm.Vcpu.Rip = TestVm.Code;
        vm.Vcpu.RFlags |= RFlags.If;
        vm.Vcpu.Interrupt(0x20);
        vm.Vcpu.ForceImmediateExit = true;
        ulong before = vm.Processor.Retired;
        int exits = vm.Exits.Count;
        vm.Input(InputPoint.Signal, InputKind.Signal);
        Assert.Equal(-Errno.EINTR, vm.Vcpu.Run());
        while (vm.Exits[^1].Basic != ExitReason.ExternalInterrupt)
        {
            vm.Input(InputPoint.Signal, InputKind.Signal);
            Assert.Equal(-Errno.EINTR, vm.Vcpu.Run());
        }

        Assert.Equal(before, vm.Processor.Retired);
        Assert.Equal(0x2000UL, vm.Vcpu.Rip);
        Assert.True(vm.Exits.Count > exits);
    }

    [Fact]
    [Trait("row", "S44")]
    [Trait("row", "S45")]
    [Trait("row", "S75")]
    public void Cancels_AnySequence_LoseAndDoubleNothing()
    {
        ulong seed = 0x1234_5678;
        for (int round = 0; round < 200; round++)
        {
            using TestVm vm = new(c => { c.mov(cx, 1); c.hlt(); });
            PendingEvents events = vm.Vcpu.Events;
            vm.Vcpu.RFlags |= RFlags.If;
            int kind = (int)(Next(ref seed) % 3);
            byte vector = (byte)(0x20 + (Next(ref seed) % 64));
            switch (kind)
            {
                case 0:
                    events.QueueException(Vector.Gp, true, 8);
                    break;
                case 1:
                    events.QueueNmi();
                    break;
                default:
                    vm.Vcpu.Interrupt(vector);
                    break;
            }

            ulong cancels = Next(ref seed) % 5;
            for (ulong i = 0; i < cancels; i++)
            {
                vm.Input(InputPoint.AfterPrepare, InputKind.None); // so that each kick meets its own pass
                vm.Input(InputPoint.BeforeLastCheck, InputKind.Kick);
            }

            vm.Load(0x2000, [0xF4]);
            foreach (int slot in (int[])[2, 13, vector])
            {
                vm.Load((ulong)slot * 4, [0, 0x20, 0, 0]);
            }

            vm.RunTo();
            Assert.Equal(0x2001UL, vm.Vcpu.Rip);
            Assert.Equal(0UL, vm.Vcpu.Rcx);
            Assert.Equal(cancels, vm.Vcpu.Stats.Cancelled);
            Assert.False(events.NeedsReinjection);
            Assert.Equal(0, events.NmiPending + events.NmiQueued);
            Assert.Equal(kind == 1, vm.Vcpu.Vmx.NmiMasked);
        }
    }

    [Fact]
    [Trait("row", "S38")]
    public void Injection_Order_IsExceptionThenNmiThenInterrupt()
    {
        using TestVm vm = new(c => c.hlt());
        vm.Load(0x2000, [0xF4]);
        foreach (int slot in (int[])[2, 13, 0x20])
        {
            vm.Load((ulong)slot * 4, [0, 0x20, 0, 0]);
        }

        vm.Vcpu.RFlags |= RFlags.If;
        vm.Vcpu.Interrupt(0x20);
        vm.Vcpu.Events.QueueNmi();
        vm.Vcpu.Events.QueueException(Vector.Gp);
        vm.RunTo();
        vm.Vcpu.Rip = TestVm.Code;
        vm.Vcpu.RFlags |= RFlags.If;
        vm.RunTo();
        vm.Vcpu.RFlags |= RFlags.If;
        vm.RunTo();
        List<string> order = [.. vm.Log.Where(static l => l.StartsWith("inject", StringComparison.Ordinal)).Distinct(StringComparer.Ordinal)];
        Assert.Equal(["inject 8000030d", "inject 80000020", "inject 80000202"], order);
    }

    [Fact]
    [Trait("row", "S39")]
    [Trait("row", "S83")]
    [Trait("row", "S33")]
    public void SecondNmi_WaitsForTheWindowAfterIret()
    {
        using TestVm vm = new(c => { c.nop(); c.hlt(); });
        vm.Load(8, [0, 0x20, 0, 0]);
        vm.Load(0x2000, TestVm.Assemble(16, c => { c.inc(bx); c.nop(); c.iret(); }, 0x2000));
        vm.Vcpu.Nmi();
        vm.Vcpu.Nmi();
        vm.Vcpu.Nmi();
        vm.RunToHalt();
        Assert.Equal(2UL, vm.Vcpu.Rbx);
        Assert.Equal(1UL, vm.Vcpu.Stats.NmiWindowExits);
        Assert.False(vm.Vcpu.Vmx.NmiMasked);
    }

    [Fact]
    [Trait("row", "S33")]
    public void Nmis_Collapse_ToTwoOrOne()
    {
        using TestVm vm = new(c => c.hlt());
        for (int i = 0; i < 3; i++)
        {
            vm.Vcpu.Events.QueueNmi();
        }

        vm.Vcpu.Events.AcceptQueuedNmis();
        Assert.Equal(2, vm.Vcpu.Events.NmiPending);
        vm.Vcpu.Vmx.NmiMasked = true;
        vm.Vcpu.Events.AcceptQueuedNmis();
        Assert.Equal(1, vm.Vcpu.Events.NmiPending);
        Assert.True(vm.Vcpu.IsRaised(Request.Event));
    }

    [Theory]
    [InlineData(Request.TripleFault, KvmExitReason.Shutdown)]
    [InlineData(Request.ReportTprAccess, KvmExitReason.TprAccess)]
    [Trait("row", "S28")]
    [Trait("row", "S29")]
    [Trait("row", "S105")]
    public void Request_ThatLeaves_KeepsLaterOnesPending(Request request, KvmExitReason reason)
    {
        using TestVm vm = new(c => c.hlt());
        vm.Vcpu.Raise(request);
        vm.Vcpu.Raise(Request.StealUpdate);
        vm.Vcpu.Raise(Request.TlbFlush);
        Assert.Equal(reason, vm.RunTo());
        Assert.True(vm.Vcpu.IsRaised(Request.StealUpdate));
        Assert.False(vm.Vcpu.IsRaised(Request.TlbFlush));
        Assert.Equal(0UL, vm.Processor.Retired);
        vm.RunTo();
        Assert.Equal(1UL, vm.Processor.Retired);
    }

    [Fact]
    [Trait("row", "S21")]
    [Trait("row", "S42")]
    public void MmuReload_BuildsTheRootAgain()
    {
        using TestVm vm = new(c => c.hlt());
        vm.RunTo();
        ulong mapped = vm.Vm.Mmu.Mapped;
        vm.Vcpu.Raise(Request.MmuReload);
        vm.Vcpu.Rip = TestVm.Code;
        vm.RunTo();
        Assert.Equal(1UL, vm.Vcpu.Stats.MmuReloads);
        Assert.Equal(mapped, vm.Vm.Mmu.Mapped);
    }

    [Fact]
    [Trait("row", "S42")]
    [Trait("row", "S45")]
    public void MmuLoad_Fails_EventGoesBackToTheQueue()
    {
        using TestVm vm = new(c => c.hlt());
        vm.Vcpu.RFlags |= RFlags.If;
        vm.Vcpu.Interrupt(0x31);
        vm.Vm.Mmu.FailNextLoad = true;
        Assert.Equal(-Errno.ENOMEM, vm.Vcpu.Run());
        Assert.Empty(vm.Exits);
        Assert.True(vm.Vcpu.Events.Interrupt.Pending);
        Assert.Equal(0x31, vm.Vcpu.Events.Interrupt.Vector);
        Assert.False(vm.Vcpu.Vmx.Injection.Valid);
        Assert.True(vm.Vcpu.IsRaised(Request.Event));
        Assert.Equal(0, vm.Vcpu.Host.SrcuDepth);
        Assert.Equal(0, vm.Vcpu.Host.PreemptCount);
    }

    [Fact]
    [Trait("row", "S31")]
    [Trait("row", "S17")]
    public void AbsentPage_HaltsUntilReady()
    {
        using TestVm vm = new(c => c.hlt());
        vm.Vcpu.Apply(new Input(InputKind.PageAbsent, 1));
        Assert.Equal(-Errno.EINTR, vm.Vcpu.Run());
        Assert.True(vm.Vcpu.AsyncPageHalted);
        vm.Vcpu.Apply(new Input(InputKind.PageReady, 1));
        vm.RunTo();
        Assert.Equal(1UL, vm.Processor.Retired);

        // The next absent page halts again: readiness was consumed.
        vm.Vcpu.Rip = TestVm.Code;
        vm.Vcpu.Apply(new Input(InputKind.PageAbsent, 2));
        Assert.Equal(-Errno.EINTR, vm.Vcpu.Run());
        Assert.True(vm.Vcpu.AsyncPageHalted);
    }

    [Fact]
    [Trait("row", "S30")]
    [Trait("row", "S81")]
    public void DeactivatedFpu_TrapsOnce()
    {
        using TestVm vm = new(c => { c.fninit(); c.fninit(); c.hlt(); });
        vm.Vcpu.Raise(Request.DeactivateFpu);
        vm.RunToHalt();
        Assert.Single(vm.Exits, static e => e.Basic == ExitReason.ExceptionOrNmi);
        Assert.True(vm.Vcpu.Vmx.FpuActive);
        Assert.Equal(0UL, vm.Vcpu.Vmx.Cr0 & Cr0.Ts);
    }

    [Fact]
    [Trait("row", "S25")]
    [Trait("row", "S32")]
    public void ClockAndSteal_WriteTheirRecords()
    {
        using TestVm vm = new(c => c.hlt());
        vm.Vcpu.PvClockAddress = 0x3000;
        vm.Vcpu.StealTimeAddress = 0x3100;
        vm.Vcpu.Raise(Request.ClockUpdate);
        vm.Vcpu.Apply(new Input(InputKind.StealDelay, 500));
        vm.RunTo();
        Assert.Equal(2UL, vm.Peek(0x3000, 4));
        Assert.Equal(500UL, vm.Peek(0x3100));
        Assert.Equal(2UL, vm.Peek(0x3108, 4));
    }

    [Fact]
    [Trait("row", "S25")]
    public void Clock_UnknownFrequency_AsksAgain()
    {
        using TestVm vm = new(c => c.hlt(), VmOptions.Default with { TscKilohertz = 0 });
        vm.Vcpu.Raise(Request.ClockUpdate);
        vm.Input(InputPoint.Signal, InputKind.Signal);
        Assert.Equal(-Errno.EINTR, vm.Vcpu.Run());
        Assert.True(vm.Vcpu.IsRaised(Request.ClockUpdate));
        Assert.Equal(0UL, vm.Processor.Retired);
    }

    [Fact]
    [Trait("row", "S52")]
    [Trait("row", "S82")]
    public void HostVector_ExitsAndRunsOnceInTheHost()
    {
        using TestVm vm = new(c => { c.nop(); c.nop(); c.hlt(); });
        vm.RunTo();
        vm.Vcpu.Rip = TestVm.Code;
        vm.Input(InputPoint.BeforeEntry, InputKind.HostVector, 0x55);
        vm.RunTo();
        Assert.Equal([0x55], vm.Vcpu.Host.Vectors);
        Assert.Equal(1UL, vm.Vcpu.Stats.IrqExits);
        Assert.Equal(6UL, vm.Processor.Retired);
    }

    [Fact]
    [Trait("row", "S48")]
    [Trait("row", "S50")]
    public void Breakpoints_AreLoadedAndTheHostsRestored()
    {
        using TestVm vm = new(c => { c.nop(); c.hlt(); });
        vm.Processor.State->Dr0 = 0x9999;
        vm.Vcpu.Host.Dr7 = 1;
        vm.Vcpu.Vmx.DebugAddresses[0] = 0x5000;
        vm.Vcpu.Vmx.Dr7 = 0x401;
        vm.RunTo();
        Assert.Contains(HostEvent.LoadGuestDebug, vm.Vcpu.Host.Trace);
        Assert.Contains(HostEvent.RestoreHostDebug, vm.Vcpu.Host.Trace);
        Assert.Equal(0x9999UL, vm.Processor.State->Dr0);
        Assert.Equal(1UL, vm.Processor.State->Dr7);
    }

    [Fact]
    [Trait("row", "S49")]
    [Trait("row", "S72")]
    public void EntryEvents_EqualTheExitCounter_AndAlternateWithExits()
    {
        using TestVm vm = new(c => { c.cpuid(); c.mov(eax, cr0); c.wbinvd(); c.hlt(); });
        vm.RunToHalt();
        Assert.Equal(vm.Vcpu.Stats.Exits, (ulong)vm.Entries.Count);
        Assert.Equal(vm.Entries.Count, vm.Exits.Count);
        Assert.True(vm.Entries[0].Launch);
        Assert.False(vm.Entries[1].Launch);
    }

    [Fact]
    [Trait("row", "S51")]
    [Trait("row", "S54")]
    [Trait("row", "S55")]
    public void Afterwards_TscProfileAndCatchup()
    {
        using TestVm vm = new(c => { c.nop(); c.hlt(); }, VmOptions.Default with { ProfileRips = true, TscCatchup = true, ExitCost = 0 });
        vm.RunTo();
        Assert.Equal(vm.Vcpu.Vmx.GuestTsc - 1, vm.Vcpu.LastGuestTsc);
        Assert.Contains(vm.Vcpu.Profile.Counts, static p => p.Key == TestVm.Code + 1 && p.Value == 1);
        Assert.True(vm.Vcpu.IsRaised(Request.ClockUpdate));
    }

    [Fact]
    [Trait("row", "S47")]
    public void GuestTime_IsWhatTheGuestRan()
    {
        using TestVm vm = new(c => { c.nop(); c.nop(); c.cpuid(); c.hlt(); }, VmOptions.Default with { ExitCost = 0 });
        vm.RunTo();
        Assert.Equal(2UL, vm.Vcpu.Host.GuestTime); // the exiting instructions are the handlers'
    }

    [Fact]
    [Trait("row", "S61")]
    public void Pass_WithoutChanges_WritesNoField()
    {
        using TestVm vm = new(c => c.hlt());
        vm.RunTo();
        vm.Vcpu.Rip = TestVm.Code;
        vm.Input(InputPoint.BeforeEntry, InputKind.HostVector, 0x55);
        vm.RunTo();
        Assert.Equal(ExitReason.ExternalInterrupt, vm.Exits[^2].Basic);
        Assert.Equal(vm.WritesAtExit[^2], vm.WritesAtExit[^1]);
    }

    [Fact]
    [Trait("row", "S68")]
    public void GeneralRegisters_AreSwitched_WhateverTheHostLeft()
    {
        using TestVm vm = new(c => c.hlt());
        ulong seed = 99;
        GprFile file = default;
        for (int i = 0; i < 16; i++)
        {
            file[i] = i == (int)Gpr.Rsp ? 0x8000 : Next(ref seed);
            vm.Vcpu[(Gpr)i] = file[i];
            vm.Processor.State->Gpr[i] = 0xBAD;
        }

        vm.RunTo();
        for (int i = 0; i < 16; i++)
        {
            Assert.Equal(file[i], vm.Vcpu[(Gpr)i]);
        }
    }

    [Fact]
    [Trait("row", "S37")]
    public void Init_OfTheBootProcessor_RestartsIt()
    {
        using TestVm vm = new(c => c.hlt());
        vm.Load(0x2000, [0xF4]);
        vm.Load(6 * 4, [0, 0x20, 0, 0]);
        vm.Vcpu.Apply(new Input(InputKind.Init));
        vm.RunTo(); // nothing is at the reset vector: bytes of ones are #UD
        Assert.Equal(0x2001UL, vm.Vcpu.Rip);
        Assert.Equal(0x6000_0010UL, vm.Vcpu.Vmx.Cr0);
    }

    [Fact]
    [Trait("row", "S61")]
    [Trait("row", "S66")]
    [Trait("row", "S70")]
    [Trait("row", "S65")]
    public void Vmcs_IsReadAndWrittenLazily()
    {
        using TestVm vm = new(c => { c.cpuid(); c.cpuid(); c.hlt(); });
        vm.RunTo();
        Assert.Equal(1UL, vm.Vcpu.Vmx.HostStackWrites);
        ulong reads = vm.Vcpu.Vmx.Reads;
        _ = vm.Vcpu[Gpr.Rsp];
        Assert.Equal(reads + 1, vm.Vcpu.Vmx.Reads);
        _ = vm.Vcpu[Gpr.Rsp];
        Assert.Equal(reads + 1, vm.Vcpu.Vmx.Reads);
        vm.Vcpu.Vmx.HostStackPointer -= 64;
        vm.Vcpu.Rip = TestVm.Code;
        vm.RunTo();
        Assert.Equal(2UL, vm.Vcpu.Vmx.HostStackWrites);
        Assert.Equal(VmxVcpu.ReturnLabel, vm.Vmx.Host.Rip);
        Assert.Equal(vm.Vcpu.Vmx.HostStackPointer, vm.Vmx.Host.Rsp);
    }

    [Fact]
    [Trait("row", "S65")]
    [Trait("row", "S108")]
    [Trait("row", "S69")]
    [Trait("row", "S77")]
    public void LaunchState_ClearedVmcs_IsLaunchedAgain()
    {
        using TestVm vm = new(c => c.hlt());
        vm.RunTo();
        vm.Vcpu.Vmx.ClearVmcs();
        vm.Vcpu.Rip = TestVm.Code;
        vm.RunTo();
        Assert.True(vm.Entries[^1].Launch);
        vm.Vmx.Current.Launched = false;
        vm.Vcpu.Rip = TestVm.Code;
        Assert.Equal(KvmExitReason.FailEntry, vm.RunTo());
        Assert.Equal((ulong)VmxInstructionError.VmresumeNonLaunched, vm.Vcpu.KvmRun.HardwareReason);
    }

    [Fact]
    [Trait("row", "S77")]
    [Trait("row", "S71")]
    public void InvalidGuestState_LeavesWithFailEntry_AndKeepsTheEvent()
    {
        using TestVm vm = new(c => c.hlt());
        vm.Vcpu.Interrupt(0x20); // RFLAGS.IF is 0: the entry must fail
        Assert.Equal(KvmExitReason.FailEntry, vm.RunTo());
        Assert.Equal(0x8000_0021UL, vm.Vcpu.KvmRun.HardwareReason);
        Assert.True(vm.Vcpu.Events.Interrupt.Pending);
    }

    [Fact]
    [Trait("row", "S67")]
    public void Cr2_SurvivesTheHost()
    {
        using TestVm vm = new(c => { c.hlt(); c.mov(eax, cr2); c.hlt(); });
        vm.Vcpu.Vmx.Cr2 = 0x1234;
        vm.RunTo();
        vm.Processor.State->Cr2 = 0xDEAD; // a page fault of the host
        vm.RunTo();
        Assert.Equal(0x1234UL, vm.Vcpu.Rax);
    }

    [Fact]
    [Trait("row", "S64")]
    public void DebugCtl_OfTheHost_ComesBack()
    {
        using TestVm vm = new(c => c.hlt());
        vm.Vmx.Host.DebugCtl = 1;
        vm.RunTo();
        Assert.Equal(1UL, vm.Vmx.Host.DebugCtl);
    }

    [Fact]
    [Trait("row", "S106")]
    public void MasterclockUpdate_InProgress_NobodyEnters()
    {
        using TestVm vm = new(c => c.hlt());
        vm.Vcpu.Raise(Request.MclockInProgress);
        vm.Input(InputPoint.Signal, InputKind.Signal);
        Assert.Equal(-Errno.EINTR, vm.Vcpu.Run());
        Assert.Equal(0UL, vm.Processor.Retired);
        Assert.Equal(0UL, vm.Vcpu.Stats.Cancelled);
        Assert.Empty(vm.Entries);
    }

    [Fact]
    public void StopInGuest_NextRun_GoesOnThere()
    {
        using TestVm vm = new(c => { c.nop(); c.nop(); c.nop(); c.hlt(); }) { StopAt = 2 };
        Assert.Equal(Vcpu.Stopped, vm.Vcpu.Run());
        Assert.Equal(2UL, vm.Processor.Retired);
        vm.StopAt = 100;
        Assert.Equal(KvmExitReason.Hlt, vm.RunTo());
        Assert.Equal(4UL, vm.Processor.Retired);
        Assert.Equal(0, vm.Vcpu.Host.SrcuDepth);
        Assert.Equal(0, vm.Vcpu.Host.LoadDepth);
    }

    private static ulong Next(ref ulong seed)
    {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        return seed;
    }
}
