using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Vmx;
using static Iced.Intel.AssemblerRegisters;

namespace VmFuzz.Kvm.Tests;

/// <summary>S75 to S97 with made exits: no guest runs.</summary>
public class ExitTests
{
    [Fact]
    [Trait("row", "S80")]
    public void Reasons_WithoutARow_LeaveWithUnknown()
    {
        using TestVm vm = new(c => c.hlt());
        for (uint reason = 0; reason < 0x10000; reason++)
        {
            if (ExitTable.Default.Find((ushort)reason) is not null)
            {
                continue;
            }

            Assert.Equal(0, vm.Vcpu.HandleExit(new VmExit(reason)));
            Assert.Equal(KvmExitReason.Unknown, vm.Vcpu.KvmRun.ExitReason);
            Assert.Equal(reason, vm.Vcpu.KvmRun.HardwareReason);
        }
    }

    [Fact]
    [Trait("row", "S78")]
    public void Exits_DuringDelivery_AreErrorsExceptThree()
    {
        using TestVm vm = new(c => c.hlt());
        InterruptionInfo vectoring = new(InterruptionType.HardwareException, Vector.Gp, true);
        foreach (ExitRow row in ExitTable.Default.Rows)
        {
            vm.Vcpu.Events.Clear();
            vm.Vcpu.HandleExit(new VmExit((uint)row.Reason, IdtVectoringInfo: vectoring));
            bool allowed = row.Reason is ExitReason.ExceptionOrNmi or ExitReason.EptViolation or ExitReason.TaskSwitch;
            bool refused = vm.Vcpu.KvmRun.ExitReason == KvmExitReason.InternalError
                && vm.Vcpu.KvmRun.InternalError == KvmInternalError.DeliveryEvent;
            Assert.Equal(!allowed, refused);
            if (refused)
            {
                Assert.Equal(vectoring.Value, vm.Vcpu.KvmRun.InternalData[0]);
                Assert.Equal((ulong)row.Reason, vm.Vcpu.KvmRun.InternalData[1]);
            }

            vm.Vcpu.KvmRun.ExitReason = KvmExitReason.Unknown;
        }
    }

    public static TheoryData<InterruptionType, byte, bool> Vectorings => new()
    {
        { InterruptionType.ExternalInterrupt, 0x41, false },
        { InterruptionType.Nmi, 2, false },
        { InterruptionType.HardwareException, Vector.Pf, true },
        { InterruptionType.SoftwareInterrupt, 0x80, false },
        { InterruptionType.PrivilegedSoftwareException, 1, false },
        { InterruptionType.SoftwareException, 3, false },
    };

    [Theory]
    [MemberData(nameof(Vectorings))]
    [Trait("row", "S75")]
    public void InterruptedDelivery_IsQueuedAgainAsItWas(InterruptionType type, byte vector, bool error)
    {
        using TestVm vm = new(c => c.hlt());
        InterruptionInfo info = new(type, vector, error);
        VmExit exit = new((uint)ExitReason.EptViolation, EptViolationQualification.ReadBit, GuestPhysical: 0x2000,
            IdtVectoringInfo: info, IdtVectoringError: error ? 6U : 0, InstructionLength: 2);
        Assert.Equal(1, vm.Vcpu.HandleExit(exit));
        Assert.True(vm.Vcpu.Events.NeedsReinjection);
        Assert.True(vm.Vcpu.IsRaised(Request.Event));
        vm.Vcpu.RFlags |= RFlags.If;
        vm.Input(InputPoint.BeforeLastCheck, InputKind.Kick);
        vm.Input(InputPoint.Signal, InputKind.Signal);
        Assert.Equal(-Errno.EINTR, vm.Vcpu.Run());
        Assert.Contains(vm.Log, l => l.Equals($"inject {info.Value:x}", StringComparison.Ordinal));
        Assert.True(vm.Vcpu.Events.NeedsReinjection);
    }

    [Fact]
    [Trait("row", "S75")]
    public void PrivilegedSoftwareException_InTheSeed_IsDropped()
    {
        using TestVm vm = new(c => c.hlt(), VmOptions.Default with { Path = RunPath.Default.AsInSeed("S75") });
        InterruptionInfo info = new(InterruptionType.PrivilegedSoftwareException, 1);
        vm.Vcpu.HandleExit(new VmExit((uint)ExitReason.EptViolation, 1, GuestPhysical: 0x2000, IdtVectoringInfo: info));
        Assert.False(vm.Vcpu.Events.NeedsReinjection);
    }

    [Theory]
    [InlineData(Vector.Gp, Vector.Gp, Vector.Df)]
    [InlineData(Vector.Pf, Vector.Gp, Vector.Df)]
    [InlineData(Vector.Pf, Vector.Pf, Vector.Df)]
    [InlineData(Vector.Gp, Vector.Pf, Vector.Pf)]
    [InlineData(Vector.Ud, Vector.Gp, Vector.Gp)]
    [InlineData(Vector.Np, Vector.Ud, Vector.Ud)]
    [Trait("row", "S75")]
    public void SecondException_MergesByTheDoubleFaultTable(byte first, byte second, byte result)
    {
        using TestVm vm = new(c => c.hlt(), bits: 32);
        vm.Vcpu.Events.QueueException(first, Vector.HasErrorCode(first), 0);
        vm.Vcpu.Events.QueueException(second, Vector.HasErrorCode(second), 0);
        Assert.Equal(result, vm.Vcpu.Events.Exception.Vector);
        Assert.False(vm.Vcpu.IsRaised(Request.TripleFault));
        if (result == Vector.Df)
        {
            vm.Vcpu.Events.QueueException(Vector.Gp, true, 0);
            Assert.True(vm.Vcpu.IsRaised(Request.TripleFault));
        }
    }

    [Fact]
    [Trait("row", "S81")]
    public void Exception_DuringDelivery_IsASimultaneousException()
    {
        using TestVm vm = new(c => c.hlt());
        InterruptionInfo vectoring = new(InterruptionType.ExternalInterrupt, 0x20);
        VmExit exit = new((uint)ExitReason.ExceptionOrNmi, IdtVectoringInfo: vectoring,
            InterruptionInfo: new InterruptionInfo(InterruptionType.HardwareException, Vector.Ac, true));
        Assert.Equal(0, vm.Vcpu.HandleExit(exit));
        Assert.Equal(KvmInternalError.SimultaneousExceptions, vm.Vcpu.KvmRun.InternalError);
    }

    [Fact]
    [Trait("row", "S81")]
    public void DebugException_GoesToTheGuestOrToTheDebugger()
    {
        using TestVm vm = new(c => c.hlt());
        VmExit exit = new((uint)ExitReason.ExceptionOrNmi, Qualification: 0x4001,
            InterruptionInfo: new InterruptionInfo(InterruptionType.HardwareException, Vector.Db));
        Assert.Equal(1, vm.Vcpu.HandleExit(exit));
        Assert.Equal(Vector.Db, vm.Vcpu.Events.Exception.Vector);
        Assert.Equal(0xFFFF_4FF1UL, vm.Vcpu.Vmx.Dr6);
        vm.Vcpu.Events.Clear();
        vm.Vcpu.SetGuestDebug(GuestDebug.Enable | GuestDebug.SingleStep);
        Assert.Equal(0, vm.Vcpu.HandleExit(exit));
        Assert.Equal(KvmExitReason.Debug, vm.Vcpu.KvmRun.ExitReason);
        Assert.Equal(TestVm.Code, vm.Vcpu.KvmRun.Debug.Pc);
    }

    [Fact]
    [Trait("row", "S81")]
    public void Int3_WithGuestDebugging_LeavesAtTheInstruction()
    {
        using TestVm vm = new(c => { c.nop(); c.int3(); c.hlt(); });
        vm.Vcpu.SetGuestDebug(GuestDebug.Enable | GuestDebug.UseSoftwareBreakpoints);
        Assert.Equal(KvmExitReason.Debug, vm.RunTo());
        Assert.Equal(TestVm.Code + 1, vm.Vcpu.KvmRun.Debug.Pc);
        Assert.Equal(3U, vm.Vcpu.KvmRun.Debug.Exception);
    }

    [Fact]
    [Trait("row", "S62")]
    public void SingleStep_StopsAfterEachInstruction_AlsoUnderSti()
    {
        using TestVm vm = new(c => { c.sti(); c.nop(); c.cpuid(); c.hlt(); });
        vm.Vcpu.SetGuestDebug(GuestDebug.Enable | GuestDebug.SingleStep);
        List<ulong> stops = [];
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(KvmExitReason.Debug, vm.RunTo());
            stops.Add(vm.Vcpu.KvmRun.Debug.Pc - TestVm.Code);
        }

        Assert.Equal([1UL, 2UL, 4UL], stops);
    }

    [Fact]
    [Trait("row", "S74")]
    public void FaultOfIret_BlocksNmisAgain()
    {
        using TestVm vm = new(c => c.hlt());
        InterruptionInfo info = new(new InterruptionInfo(InterruptionType.HardwareException, Vector.Pf, true).Value | InterruptionInfo.NmiUnblockingBit);
        Assert.Equal(1, vm.Vcpu.HandleExit(new VmExit((uint)ExitReason.ExceptionOrNmi, InterruptionInfo: info)));
        Assert.True(vm.Vcpu.Vmx.NmiMasked);
        vm.Vcpu.Vmx.NmiMasked = false;
        vm.Vcpu.HandleExit(new VmExit((uint)ExitReason.Cpuid, InstructionLength: 2));
        Assert.False(vm.Vcpu.Vmx.NmiMasked);
    }

    [Fact]
    [Trait("row", "S73")]
    [Trait("row", "S81")]
    public void HostNmi_RunsTheHostsHandlerOnce()
    {
        using TestVm vm = new(c => { c.nop(); c.hlt(); });
        vm.Processor.RaiseNmi();
        vm.RunTo();
        Assert.Equal([Vector.Nmi], vm.Vcpu.Host.Vectors);
        Assert.Equal(0UL, vm.Vcpu.Stats.NmiInjections);
    }

    [Theory]
    [InlineData(0xE0000031UL)]
    [InlineData(0x20000011UL)]
    [InlineData(0x80000010UL)]
    [InlineData(0x1_0000_0011UL)]
    [Trait("row", "S85")]
    public void MovToCr0_WrongCombinations_RaiseGp(ulong value)
    {
        using TestVm vm = new(c => c.hlt());
        bool wrong = value is 0x20000011 or 0x80000010;
        vm.Vcpu.Rax = value;
        ulong before = vm.Vcpu.Vmx.Cr0;
        vm.Vcpu.HandleExit(new VmExit((uint)ExitReason.ControlRegisterAccess, ControlRegisterQualification.Mov(0, Gpr.Rax, true).Value, InstructionLength: 3));
        Assert.Equal(wrong, vm.Vcpu.Events.Exception.Pending);
        Assert.Equal(wrong ? TestVm.Code : TestVm.Code + 3, vm.Vcpu.Rip);
        Assert.Equal(wrong ? before : ((uint)value & Cr0.Defined) | Cr0.Et, vm.Vcpu.Vmx.Cr0);
    }

    [Fact]
    [Trait("row", "S85")]
    public void LmswAndClts_ChangeTheirBitsOnly()
    {
        using TestVm vm = new(c => c.hlt());
        vm.Vcpu.HandleExit(new VmExit((uint)ExitReason.ControlRegisterAccess, ControlRegisterQualification.Lmsw(0x000B, false).Value, InstructionLength: 3));
        Assert.Equal(0x6000_001BUL, vm.Vcpu.Vmx.Cr0);
        vm.Vcpu.HandleExit(new VmExit((uint)ExitReason.ControlRegisterAccess, ControlRegisterQualification.Clts().Value, InstructionLength: 2));
        Assert.Equal(0x6000_0013UL, vm.Vcpu.Vmx.Cr0);
        vm.Vcpu.HandleExit(new VmExit((uint)ExitReason.ControlRegisterAccess, ControlRegisterQualification.Lmsw(0, false).Value, InstructionLength: 3));
        Assert.Equal(0x6000_0011UL, vm.Vcpu.Vmx.Cr0); // PE cannot be cleared
    }

    [Fact]
    [Trait("row", "S86")]
    public void DebugRegisters_AreTheGuests_AndGeneralDetectTraps()
    {
        using TestVm vm = new(c =>
        {
            c.mov(eax, 0x1234);
            c.mov(dr0, eax);
            c.mov(ebx, dr0);
            c.mov(ecx, dr6);
            c.mov(edx, dr7);
            c.hlt();
        });
        vm.RunToHalt();
        Assert.Equal(0x1234UL, vm.Vcpu.Rbx);
        Assert.Equal(0xFFFF_0FF0UL, vm.Vcpu.Rcx);
        Assert.Equal(0x400UL, vm.Vcpu.Rdx);
        vm.Vcpu.Vmx.Dr7 = 0x2400;
        vm.Vcpu.HandleExit(new VmExit((uint)ExitReason.MovDr, new DebugRegisterQualification(0, true, Gpr.Rax).Value, InstructionLength: 3));
        Assert.Equal(Vector.Db, vm.Vcpu.Events.Exception.Vector);
        Assert.Equal(0xFFFF_2FF0UL, vm.Vcpu.Vmx.Dr6);
        Assert.Equal(0x400UL, vm.Vcpu.Vmx.Dr7);
    }

    [Theory]
    [InlineData(ExitReason.Invd)]
    [InlineData(ExitReason.Wbinvd)]
    [InlineData(ExitReason.Invlpg)]
    [InlineData(ExitReason.Monitor)]
    [InlineData(ExitReason.Mwait)]
    [InlineData(ExitReason.Pause)]
    [Trait("row", "S90")]
    [Trait("row", "S89")]
    public void NothingToDo_RetiresTheInstruction(ExitReason reason)
    {
        using TestVm vm = new(c => c.hlt());
        ulong retired = vm.Processor.Retired;
        Assert.Equal(1, vm.Vcpu.HandleExit(new VmExit((uint)reason, InstructionLength: 2)));
        Assert.Equal(TestVm.Code + 2, vm.Vcpu.Rip);
        Assert.Equal(retired + 1, vm.Processor.Retired);
        Assert.Equal(reason == ExitReason.Pause, vm.Vcpu.Host.NeedResched);
    }

    [Fact]
    [Trait("row", "S89")]
    public void Mwait_InTheSeed_IsUndefined()
    {
        using TestVm vm = new(c => c.hlt(), VmOptions.Default with { Path = RunPath.Default.AsInSeed("S89") });
        vm.Vcpu.HandleExit(new VmExit((uint)ExitReason.Mwait, InstructionLength: 3));
        Assert.Equal(Vector.Ud, vm.Vcpu.Events.Exception.Vector);
    }

    [Fact]
    [Trait("row", "S91")]
    public void Hypercalls_ByNumber()
    {
        using TestVm vm = new(c => c.hlt());
        vm.Vcpu.Rax = 1;
        vm.Vcpu.HandleExit(new VmExit((uint)ExitReason.Vmcall, InstructionLength: 3));
        Assert.Equal(0UL, vm.Vcpu.Rax);
        vm.Vcpu.Rax = 77;
        vm.Vcpu.HandleExit(new VmExit((uint)ExitReason.Vmcall, InstructionLength: 3));
        Assert.Equal(unchecked((uint)-1000), vm.Vcpu.Rax);
        Assert.Equal(TestVm.Code + 6, vm.Vcpu.Rip);
    }

    [Theory]
    [InlineData(ExitReason.Vmlaunch)]
    [InlineData(ExitReason.Vmxon)]
    [InlineData(ExitReason.Invept)]
    [Trait("row", "S92")]
    public void VmxInstructions_AreUndefined(ExitReason reason)
    {
        using TestVm vm = new(c => c.hlt());
        Assert.Equal(1, vm.Vcpu.HandleExit(new VmExit((uint)reason, InstructionLength: 3)));
        Assert.Equal(Vector.Ud, vm.Vcpu.Events.Exception.Vector);
        Assert.Equal(TestVm.Code, vm.Vcpu.Rip);
    }

    [Theory]
    [InlineData(0UL, 0UL, true)]
    [InlineData(0UL, 4UL, true)]
    [InlineData(1UL, 1UL, true)]
    [Trait("row", "S94")]
    public void Xsetbv_IllegalCombinations_RaiseGp(ulong register, ulong value, bool fault)
    {
        using TestVm vm = new(c => c.hlt());
        vm.Vcpu.Rcx = register;
        vm.Vcpu.Rax = value;
        vm.Vcpu.Rdx = 0;
        vm.Vcpu.HandleExit(new VmExit((uint)ExitReason.Xsetbv, InstructionLength: 3));
        Assert.Equal(fault, vm.Vcpu.Events.Exception.Pending);
    }

    [Fact]
    [Trait("row", "S95")]
    public void TaskSwitch_IsAnHonestError()
    {
        using TestVm vm = new(c => c.hlt());
        Assert.Equal(0, vm.Vcpu.HandleExit(new VmExit((uint)ExitReason.TaskSwitch, 0x28)));
        Assert.Equal(KvmExitReason.InternalError, vm.Vcpu.KvmRun.ExitReason);
        Assert.Equal(KvmInternalError.Emulation, vm.Vcpu.KvmRun.InternalError);
    }

    [Fact]
    [Trait("row", "S97")]
    public void EptViolation_InvalidLinearCombination_LeavesWithUnknown()
    {
        using TestVm vm = new(c => c.hlt());
        VmExit exit = new((uint)ExitReason.EptViolation, EptViolationQualification.FinalTranslationBit, GuestPhysical: 0x1000);
        Assert.Equal(0, vm.Vcpu.HandleExit(exit));
        Assert.Equal(KvmExitReason.Unknown, vm.Vcpu.KvmRun.ExitReason);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    [Trait("row", "S97")]
    public void EptViolation_OfIret_BlocksNmisAgain(bool seed)
    {
        RunPath path = seed ? RunPath.Default.AsInSeed("S97") : RunPath.Default;
        using TestVm vm = new(c => c.hlt(), VmOptions.Default with { Path = path });
        VmExit exit = new((uint)ExitReason.EptViolation, EptViolationQualification.NmiUnblockingBit | 1, GuestPhysical: 0x1000);
        Assert.Equal(1, vm.Vcpu.HandleExit(exit));
        Assert.Equal(!seed, vm.Vcpu.Vmx.NmiMasked);
    }

    [Fact]
    [Trait("row", "S97")]
    public void DirtyLog_NotesFirstWrites()
    {
        using TestVm vm = new(c =>
        {
            c.mov(eax, __dword_ptr[0x5000]);
            c.mov(__dword_ptr[0x5000], eax);
            c.mov(__dword_ptr[0x6000], eax);
            c.hlt();
        },
        bits: 32);
        Assert.Equal(0, vm.Vm.SetMemorySlot(new MemorySlot(0, new Gpa(0), 0xF0000, new Gpa(0), false, LogDirty: true)));
        vm.RunToHalt();
        Assert.Equal([5UL, 6UL], vm.Vm.DirtyFrames);
    }

    [Fact]
    public void UnknownInstruction_OnMmio_IsAnEmulationError()
    {
        using TestVm vm = new(c => { c.mov(ebx, 0xD000_0000); c.call(__dword_ptr[ebx]); c.hlt(); }, bits: 32);
        Assert.Equal(KvmExitReason.InternalError, vm.RunTo());
        Assert.Equal(KvmInternalError.Emulation, vm.Vcpu.KvmRun.InternalError);
        Assert.Equal(1UL, vm.Vcpu.Stats.EmulationFailures);
    }
}
