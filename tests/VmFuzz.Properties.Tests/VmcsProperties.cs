using FsCheck.Fluent;
using VmFuzz.Arch;
using VmFuzz.Fuzzing;
using VmFuzz.Testing;
using VmFuzz.Vmx;

namespace VmFuzz.Properties.Tests;

public sealed class VmcsProperties
{
    [Fact]
    public void Vmcs_AroundTheGoldenOne_EntersExactlyWhenTheChecksPass() =>
        Seeds.Check(Generators.VmcsDifferences(), 400, static difference => Check([difference]));

    [Fact]
    public void Vmcs_ChangedBetweenEntries_EntersExactlyWhenTheChecksPass() =>
        Seeds.Check(Gen.ArrayOf(Generators.VmcsDifferences().Generator, 6).ToArbitrary(), 60, static steps => Check(steps));

    [Fact]
    public void Rounded_VmcsOfAnyKind_Enters() =>
        Seeds.Check(Generators.VmcsDifferences(most: 12, allCapabilities: true), 300, static difference =>
        {
            using var host = new VmxHost(difference.Capabilities);
            VmcsDifference rounded = difference.Round(host.FirstFailure);
            Assert.Equal(rounded, rounded.Round(host.FirstFailure));
            rounded.Fill(host.Vmx.Current);
            EntryOutcome outcome = host.Vmx.Enter(launch: true, out VmExit exit, out VmxResult failure);
            Assert.True(outcome != EntryOutcome.Failed, $"{rounded} does not enter: {failure}, {host.Vmx.FailedCheck}");

            // The area of MSRs to load is looked at after the checks and fails on its own account.
            Assert.True(!exit.IsEntryFailure || host.Vmx.FailedCheck == "entry-msr-load", $"{rounded} does not enter: {exit.Basic}, {host.Vmx.FailedCheck}");
        });

    [Fact]
    public void Rounded_VmcsThatPasses_IsLeftAsItIs() =>
        Seeds.Check(Generators.RoundedVmcss(), 200, static rounded =>
        {
            using var vmcs = new Vmcs();
            rounded.Difference.Fill(vmcs);
            Assert.Null(EntryChecks.Default.FirstFailure(new EntryContext(vmcs, rounded.Difference.Capabilities, null, 0, null)));
            Assert.Equal(rounded.Difference, rounded.Difference.Round());
        });

    [Fact]
    public void Difference_ThroughAVmcsAndThroughAnInput_IsTheSame() =>
        Seeds.Check(Generators.VmcsDifferences(most: 20, allCapabilities: true), 300, static difference =>
        {
            using var vmcs = new Vmcs();
            difference.Fill(vmcs);
            Assert.Equal(difference, VmcsDifference.Of(vmcs, difference.AllCapabilities));
            using var read = new Vmcs();
            FuzzCodec.Decode(FuzzCodec.Encode(difference.ToInput())).FillVmcs(read);
            Assert.Equal(difference, VmcsDifference.Of(read, difference.AllCapabilities));
        });

    // Going back looks only at what was written since, so two copies of one VMCS are gone back to in turn.
    [Fact]
    public void VmcsCopies_PutBackAfterAnyChanges_AreWhatTheyWere() =>
        Seeds.Check(Gen.ArrayOf(Generators.VmcsDifferences(most: 20).Generator, 4).ToArbitrary(), 200, static steps =>
        {
            using var vmcs = new Vmcs();
            var copies = new IStateCopy[2];
            for (int i = 0; i < copies.Length; i++)
            {
                steps[i].Fill(vmcs);
                copies[i] = vmcs.CopyState();
            }

            for (int i = 0; i < steps.Length; i++)
            {
                foreach (FieldOverride field in steps[i].Fields)
                {
                    vmcs[field.Field] = ~field.Value;
                }

                copies[i % 2].Restore();
                Assert.Equal(steps[i % 2], VmcsDifference.Of(vmcs));
            }
        });

    private static void Check(VmcsDifference[] steps)
    {
        using var host = new VmxHost();
        foreach (VmcsDifference difference in steps)
        {
            Vmcs vmcs = host.Vmx.Current;
            var before = new List<FieldOverride>();
            foreach (FieldOverride change in difference.Fields)
            {
                before.Add(new FieldOverride(change.Field, vmcs[change.Field]));
                vmcs[change.Field] = change.Value;
            }

            using var copy = new Vmcs();
            copy.CopyFrom(vmcs);
            EntryCheck? expected = host.FirstFailure(copy);
            EntryOutcome outcome = host.Vmx.Enter(!vmcs.Launched, out VmExit exit, out VmxResult failure);
            if (expected is null)
            {
                // The area of MSRs to load is looked at after the checks and fails on its own account.
                bool msrs = host.Vmx.FailedCheck == "entry-msr-load";
                Assert.True(msrs || host.Vmx.FailedCheck.Length == 0, $"no check fails, but {host.Vmx.FailedCheck} did");
                Assert.True(outcome != EntryOutcome.Failed, $"no check fails, but the entry did: {failure}");
                Assert.True(msrs || (exit.Reason & VmExit.EntryFailureBit) == 0, $"no check fails, but the exit is 0x{exit.Reason:x}");
            }
            else
            {
                Assert.Equal(expected.Id, host.Vmx.FailedCheck);
                switch (expected.Stage)
                {
                    case EntryCheckStage.Controls:
                        Assert.Equal((EntryOutcome.Failed, VmxInstructionError.EntryInvalidControls), (outcome, failure.Error));
                        break;
                    case EntryCheckStage.Host:
                        Assert.Equal((EntryOutcome.Failed, VmxInstructionError.EntryInvalidHostState), (outcome, failure.Error));
                        break;
                    default:
                        Assert.Equal((uint)ExitReason.EntryFailureInvalidGuestState | VmExit.EntryFailureBit, exit.Reason);
                        Assert.Equal(expected.Qualification, exit.Qualification);
                        break;
                }
            }

            if (outcome is EntryOutcome.Stopped or EntryOutcome.Halted or EntryOutcome.Unimplemented)
            {
                host.Vmx.Abandon();
            }

            if (outcome == EntryOutcome.Aborted)
            {
                return;
            }

            host.NextRun();
            before.Reverse();
            foreach (FieldOverride change in before)
            {
                vmcs[change.Field] = change.Value;
            }
        }
    }
}
