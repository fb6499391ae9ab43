using FsCheck;
using FsCheck.Fluent;
using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Testing;

namespace VmFuzz.Properties.Tests;

/// <summary>Whatever comes in is delivered once. The guest's handlers count.</summary>
public sealed class EventProperties
{
    private const int Tail = 6000;

    // The serial line's own interrupts.
    private const int SerialVector = 0x24;
    private const AtomTraits Allowed = AtomTraits.Console | AtomTraits.Ports | AtomTraits.Time | AtomTraits.Random | AtomTraits.Identity
        | AtomTraits.Privileged | AtomTraits.Mmio | AtomTraits.InterruptFlag | AtomTraits.Halts;

    // Positions are further apart than a handler is long, so that an NMI never comes while another is waiting: those collapse.
    // Vectors are distinct among those that could wait at one time: the latch holds each once.
    private static Arbitrary<InputSchedule> Schedules()
    {
        Gen<ScheduledInput> noise =
            from at in Gen.Choose(2, 2500)
            from kind in Gen.Elements(Generators.Disturbances.AsEnumerable())
            from point in Gen.Elements(Generators.RunPathPoints.Add(InputPoint.Boundary).AsEnumerable())
            select new ScheduledInput((ulong)at, point, new Input(kind, kind == InputKind.HostVector ? 0xF0UL : 0));
        Gen<InputSchedule> gen =
            from gaps in Gen.ListOf(Gen.Choose(0, 60))
            from kinds in Gen.ListOf(Gen.Choose(0, 2), gaps.Count)
            from kicks in Gen.ListOf(noise)
            select InputSchedule.Of(Place([.. gaps], [.. kinds]).Concat(kicks), 7);
        return Arb.From(gen, static s => Enumerable.Range(0, s.Inputs.Length).Select(i => s with { Inputs = s.Inputs.RemoveAt(i) }));
    }

    private static IEnumerable<ScheduledInput> Place(int[] gaps, int[] kinds)
    {
        // The prologue sets IF after at most 20 instructions.
        ulong at = 30;
        byte vector = 0x25;
        for (int i = 0; i < gaps.Length; i++)
        {
            at += (ulong)gaps[i] + 8;
            if (kinds[i] != 1)
            {
                yield return new ScheduledInput(at, InputPoint.Boundary, new Input(InputKind.Interrupt, vector));
                vector = vector >= 0xFE ? (byte)0x25 : (byte)(vector + 1);
            }

            if (kinds[i] != 0)
            {
                yield return new ScheduledInput(at, InputPoint.Boundary, new Input(InputKind.Nmi));
            }
        }
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Events_UnderAnySchedule_AreDeliveredOnce(Accelerator accelerator) =>
        Seeds.Check(Case.All(Allowed, interrupts: true, Tail, Schedules(), accelerator), 100, Check);

    // Vectors may meet in the latch and NMIs while one is handled; then some are merged.
    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Events_HoweverClose_AreDeliveredAtMostOnce(Accelerator accelerator) =>
        Seeds.Check(Case.All(Allowed, interrupts: true, 100, Generators.Schedules(150, InputKind.Interrupt, InputKind.Nmi, InputKind.Kick), accelerator), 150, static c =>
        {
            var source = new ScheduledSource(c.Schedule);
            using Machine machine = Machine.Create(c.Program.Options(c.Accelerator), source);
            machine.Run();
            int[] taken = Taken(source);
            int[] delivered = Delivered(machine);
            for (int vector = 0; vector < 256; vector++)
            {
                Assert.True(vector == SerialVector || delivered[vector] <= taken[vector], $"vector 0x{vector:x}: {taken[vector]} came in, {delivered[vector]} were delivered; {machine.Stop}");
            }
        });

    [Fact]
    public void Disturbances_AtAnyPlaces_AreNotNoticedByTheGuest() =>
        Seeds.Check(
            (from c in Case.All(Allowed & ~AtomTraits.Halts, interrupts: true, 100, Generators.Schedules(300, InputKind.Interrupt, InputKind.Nmi), Accelerator.Kvm).Generator
             from more in Generators.Schedules(400, [.. Generators.Disturbances]).Generator
             select (Case: c with { Schedule = AtBoundaries(c.Schedule) }, More: more)).ToArbitrary(),
            150,
            static x =>
            {
                Case disturbed = x.Case with { Schedule = InputSchedule.Of(x.Case.Schedule.Inputs.Concat(x.More.Inputs), x.Case.Schedule.RandomSeed) };
                using Machine quiet = Run.Machine(x.Case, exitCost: 0);
                using Machine other = Run.Machine(disturbed, exitCost: 0);
                quiet.Run();
                other.Run();
                Assert.Equal(quiet.Stop, other.Stop);
                Assert.Equal((quiet.Processor.Retired, quiet.ConsoleLength, quiet.ConsoleHash), (other.Processor.Retired, other.ConsoleLength, other.ConsoleHash));
                byte[] left = Run.Read(quiet, 0, (int)GuestProgram.MemorySize);
                byte[] right = Run.Read(other, 0, (int)GuestProgram.MemorySize);
                int at = left.AsSpan().CommonPrefixLength(right);
                Assert.True(at == left.Length, $"memory differs at 0x{at:x}");
            });

    private static InputSchedule AtBoundaries(InputSchedule schedule) =>
        schedule with { Inputs = [.. schedule.Inputs.Select(static i => i with { Point = InputPoint.Boundary })] };

    private static int[] Taken(ScheduledSource source)
    {
        int[] taken = new int[256];
        foreach (ScheduledInput input in source.Taken)
        {
            if (input.Input.Kind is InputKind.Interrupt)
            {
                taken[input.Input.Value]++;
            }
            else if (input.Input.Kind is InputKind.Nmi)
            {
                taken[Vector.Nmi]++;
            }
        }

        return taken;
    }

    // What the guest's handlers counted.
    private static int[] Delivered(Machine machine)
    {
        byte[] counters = Run.Read(machine, GuestLayout.Of(machine.Options.FlatMode).Counters, 256 * 8);
        return [.. Enumerable.Range(0, 256).Select(vector => BitConverter.ToInt32(counters, vector * 8))];
    }

    // What a guest that halted with interrupts off leaves in the latch.
    private static int[] Waiting(Machine machine)
    {
        int[] waiting = new int[256];
        while (machine.InterruptController.InterruptPending)
        {
            waiting[machine.InterruptController.Acknowledge()]++;
        }

        return waiting;
    }

    private static void Check(Case c)
    {
        var source = new ScheduledSource(c.Schedule);
        using Machine machine = Machine.Create(c.Program.Options(c.Accelerator), source);
        machine.Run();
        Assert.True(machine.Stop.Kind is MachineStopKind.DebugExit or MachineStopKind.Halted, machine.Stop.ToString());
        int[] expected = Taken(source);
        if (machine.Stop.Kind == MachineStopKind.DebugExit)
        {
            Assert.Equal(1, machine.Stop.GuestStatus);
            Assert.DoesNotContain(source.Left, static i => i.Point == InputPoint.Boundary);
        }

        int[] delivered = Delivered(machine);
        int[] waiting = Waiting(machine);
        Assert.True(machine.Stop.Kind == MachineStopKind.Halted || waiting.Sum() == waiting[SerialVector], "the guest ended with interrupts on, and some wait");
        for (int vector = 0; vector < 256; vector++)
        {
            Assert.True(
                vector == SerialVector || expected[vector] == delivered[vector] + waiting[vector],
                $"vector 0x{vector:x}: {expected[vector]} came in, {delivered[vector]} were delivered, {waiting[vector]} wait; {machine.Stop}");
        }
    }
}
