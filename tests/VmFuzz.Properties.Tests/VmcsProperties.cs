using System.Collections.Immutable;
using FsCheck.Fluent;
using VmFuzz.Arch;
using VmFuzz.Cpu;
using VmFuzz.Memory;
using VmFuzz.Testing;
using VmFuzz.Vmx;

namespace VmFuzz.Properties.Tests;

public sealed class VmcsProperties
{
    [Fact]
    public void Vmcs_AroundTheGoldenOne_EntersExactlyWhenTheChecksPass() =>
        Seeds.Check(Generators.VmcsChanges(), 400, static changes => Check([changes]));

    [Fact]
    public void Vmcs_ChangedBetweenEntries_EntersExactlyWhenTheChecksPass() =>
        Seeds.Check(Gen.ArrayOf(Generators.VmcsChanges().Generator, 6).Select(static a => a.ToImmutableArray()).ToArbitrary(), 60, static steps => Check(steps));

    private static void Check(ImmutableArray<ImmutableArray<VmcsChange>> steps)
    {
        using var host = new VmxHost();
        foreach (ImmutableArray<VmcsChange> changes in steps)
        {
            Vmcs vmcs = host.Vmx.Current;
            var before = new List<VmcsChange>();
            foreach (VmcsChange change in changes)
            {
                before.Add(new VmcsChange(change.Field, vmcs[change.Field]));
                vmcs[change.Field] = change.Value;
            }

            using var copy = new Vmcs();
            copy.CopyFrom(vmcs);
            EntryContext context = new(copy, host.Vmx.Capabilities, host.Memory, host.Vmx.CurrentPointer, host.Vmx.Host);
            EntryCheck? expected = EntryChecks.Default.FirstFailure(context);
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
            foreach (VmcsChange change in before)
            {
                vmcs[change.Field] = change.Value;
            }
        }
    }

    /// <summary>A processor in VMX root operation with a current VMCS that is golden, and a guest at its RIP.</summary>
    private sealed class VmxHost : IBus, IClock, IInputSource, IBoundary, IDisposable
    {
        private ulong _limit = 50;

        public VmxHost()
        {
            Memory = new GuestMemory();
            Memory.AddSlot(new Gpa(0), 16 << 20);
            Cpu = new Processor(CpuModels.VmFuzz64, Memory, this, this, this) { Boundary = this };
            Vmx = new VmxUnit(Cpu);
            Write(0x80_0000, 0x11);
            Write(0x80_1000, 0x11);
            Assert.True(Vmx.VmxOn(0x80_0000).Succeeded);
            Assert.True(Vmx.VmClear(0x80_1000).Succeeded);
            Assert.True(Vmx.VmPtrLd(0x80_1000).Succeeded);
            GoldenVmcs.Fill(Vmx.Current, Vmx.Capabilities);

            // EPT at the golden pointer and page tables at the golden CR3: the first 16 MiB one to one.
            Write(0x11_0000, 0x11_1007);
            Write(0x11_1000, 0x11_2007);
            Write(0x30_0000, 0x30_1007);
            Write(0x30_1000, 0x30_2007);
            for (ulong i = 0; i < 8; i++)
            {
                Write(0x11_2000 + (8 * i), (i << 21) | 0xB7);
                Write(0x30_2000 + (8 * i), (i << 21) | 0x87);
            }

            Memory.TryLoad(new Gpa(GoldenVmcs.GuestRip), new byte[] { 0x90, 0x90, 0x90, 0xF4 });
        }

        public GuestMemory Memory { get; }

        public Processor Cpu { get; }

        public VmxUnit Vmx { get; }

        public ulong Now => 1000;

        public void NextRun() => _limit = Cpu.Retired + 50;

        public bool OnBoundary(ulong retired, out ulong nextLimit)
        {
            nextLimit = _limit;
            return retired < _limit;
        }

        public ulong NextDue(int vcpu, ulong retired) => ulong.MaxValue;

        public bool TryTake(InputPoint point, in Position at, out Input input)
        {
            input = default;
            return false;
        }

        public uint ReadPort(ushort port, int size) => 0;

        public void WritePort(ushort port, int size, uint value)
        {
        }

        public ulong ReadMmio(Gpa address, int size) => ulong.MaxValue;

        public void WriteMmio(Gpa address, int size, ulong value)
        {
        }

        public void Dispose()
        {
            Vmx.Dispose();
            Cpu.Dispose();
            Memory.Dispose();
        }

        private void Write(ulong address, ulong value) => Assert.True(Memory.TryLoad(new Gpa(address), BitConverter.GetBytes(value)));
    }
}
