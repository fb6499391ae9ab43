using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Testing;

namespace VmFuzz.Properties.Tests;

/// <summary>The same guest observes the same architecture with and without a hypervisor.</summary>
public sealed class EquivalenceProperties
{
    private const AtomTraits Allowed = AtomTraits.Console | AtomTraits.Ports | AtomTraits.Privileged | AtomTraits.InterruptFlag
        | AtomTraits.Interrupts | AtomTraits.ModifiesCode | AtomTraits.Mmio | AtomTraits.Faults | AtomTraits.Random;

    [Fact]
    public void BareAndKvm_WithoutExitCost_LeaveTheSameBehind() =>
        Seeds.Check(Case.All(Allowed, interrupts: false, tail: 0, Generators.Schedules(1)), 250, static c =>
        {
            c = c with { Schedule = InputSchedule.Empty with { RandomSeed = c.Schedule.RandomSeed } };
            using Machine bare = Run.Machine(c with { Accelerator = Accelerator.Bare }, exitCost: 0);
            using Machine kvm = Run.Machine(c with { Accelerator = Accelerator.Kvm }, exitCost: 0);
            bare.Run();
            kvm.Run();
            Assert.Equal((bare.Stop.Kind, bare.Stop.GuestStatus), (kvm.Stop.Kind, kvm.Stop.GuestStatus));
            byte[] left = Run.Read(bare, 0, (int)GuestProgram.MemorySize);
            byte[] right = Run.Read(kvm, 0, (int)GuestProgram.MemorySize);
            int at = left.AsSpan().CommonPrefixLength(right);
            Assert.True(at == left.Length, $"memory differs at 0x{at:x}: {Hex(left, at)} on bare, {Hex(right, at)} on kvm");
            Assert.Equal((bare.ConsoleLength, bare.ConsoleHash), (kvm.ConsoleLength, kvm.ConsoleHash));

            // Under a hypervisor the OUT that ends the run is completed when userspace enters again, which it does not.
            ulong last = bare.Stop.Kind == MachineStopKind.DebugExit ? 1UL : 0;
            Assert.Equal(bare.Processor.Retired - last, kvm.Processor.Retired);
        });

    private static string Hex(byte[] bytes, int at) => at < bytes.Length ? Convert.ToHexString(bytes, at & ~7, 8) : "";
}
