using VmFuzz.Arch;

namespace VmFuzz.Fuzzing.Tests;

/// <summary>VMCS states that broke an oracle once; each is fine now.</summary>
public sealed class VmcsEntryRegressionTests
{
    [Fact]
    public void Run_BranchTrapFlagThatIsNotLoaded_IsFine()
    {
        FuzzInput input = new() { Target = FuzzTarget.VmcsEntry };
        input.Vmcs.Add(new FieldOverride(VmcsField.GuestDebugCtl, 2));
        input.Vmcs.Add(new FieldOverride(VmcsField.GuestEfer, 0));
        input.Vmcs.Add(new FieldOverride(VmcsField.EntryControls, 0xD1FB));
        input.Vmcs.Add(new FieldOverride(VmcsField.GuestInterruptibility, InterruptibilityState.BlockingByMovSs));
        input.Vmcs.Add(new FieldOverride(VmcsField.GuestRflags, 0x102));
        input.Normalise();
        using var executor = new VmcsEntryExecutor();
        Execution run = executor.Run(input);
        Assert.Null(run.Violation);
        Assert.Equal(1UL, run.Exits);
    }
}
