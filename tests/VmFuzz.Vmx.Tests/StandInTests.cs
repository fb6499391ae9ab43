using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Vmx.Tests;

public sealed unsafe class StandInTests
{
    [Fact]
    public void EntryStandIn_Vmfail_WritesNoExitInformation()
    {
        using GuestFixture f = new();
        f.Code(0xF4);
        f.Vmx.EntryStandIn = new Failing(new MadeEntryFailure(0, 0));
        f.Vmcs[VmcsField.ExitReason] = 0x1234;
        Assert.Equal(EntryOutcome.Failed, f.Vmx.Enter(true, out VmxResult failure));
        Assert.False(failure.Succeeded);
        Assert.Equal(0x1234UL, f.Vmcs[VmcsField.ExitReason]);
        Assert.False(f.Vmcs.Launched);
        Assert.Equal(0UL, f.Vmx.Exits);
    }

    [Fact]
    public void EntryStandIn_MachineCheck_IsAnExitThatKeepsTheEvent()
    {
        using GuestFixture f = new();
        f.Code(0xF4);
        f.Vmx.EntryStandIn = new Failing(new MadeEntryFailure(ExitReason.EntryFailureMachineCheck, 7));
        uint injected = new InterruptionInfo(InterruptionType.Nmi, Vector.Nmi).Value;
        f.Vmcs[VmcsField.EntryInterruptionInfo] = injected;
        Assert.Equal(new VmExit(VmExit.EntryFailureBit | (uint)ExitReason.EntryFailureMachineCheck, 7), f.Enter());
        Assert.Equal(injected, f.Vmcs[VmcsField.EntryInterruptionInfo]);
        Assert.False(f.Vmcs.Launched);
        Assert.Equal(1UL, f.Vmx.Exits);
    }

    [Fact]
    public void EntryStandIn_FailedCheck_IsNotAsked()
    {
        using GuestFixture f = new();
        Failing standIn = new(new MadeEntryFailure(0, 0));
        f.Vmx.EntryStandIn = standIn;
        f.Vmcs[VmcsField.GuestActivity] = 4;
        Assert.True(f.Enter().IsEntryFailure);
        Assert.Equal(0, standIn.Asked);
    }

    [Theory]
    [InlineData(false, 0UL)]
    [InlineData(true, RFlags.Rf)]
    public void TakeExit_InPlaceOfAFault_SavesRf(bool fault, ulong saved)
    {
        using GuestFixture f = new();
        f.Cpu.StandIn = new Leaving(f.Vmx, fault);
        f.Enter();
        Assert.Equal(saved, f.Vmcs[VmcsField.GuestRflags] & RFlags.Rf);
    }

    [Fact]
    public void TryUnblockNmis_Blocked_OpensThem()
    {
        using GuestFixture f = new();
        bool[] blocked = new bool[2];
        f.Cpu.StandIn = new Leaving(f.Vmx, fault: true) { Before = () => (blocked[0], blocked[1]) = (f.Vmx.TryUnblockNmis(), f.Vmx.TryUnblockNmis()) };
        f.Vmcs[VmcsField.GuestInterruptibility] = InterruptibilityState.BlockingByNmi;
        f.Enter();
        Assert.Equal([true, false], blocked);
        Assert.Equal(0UL, f.Vmcs[VmcsField.GuestInterruptibility]);
    }

    private sealed class Failing(MadeEntryFailure made) : IEntryStandIn
    {
        public int Asked { get; private set; }

        public bool TryFail(out MadeEntryFailure failure)
        {
            Asked++;
            failure = made;
            return true;
        }
    }

    private sealed class Leaving(VmxUnit unit, bool fault) : IStandIn
    {
        public Action? Before { get; init; }

        public void Step(Processor processor)
        {
            Before?.Invoke();
            VmExit exit = new((uint)ExitReason.EptMisconfiguration);
            if (fault)
            {
                unit.TakeFaultLikeExit(exit);
            }
            else
            {
                unit.TakeExit(exit);
            }
        }
    }
}
