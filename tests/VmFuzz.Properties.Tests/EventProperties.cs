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
    private const AtomTraits Allowed = AtomTraits.Console | AtomTraits.Ports | AtomTraits.Time | AtomTraits.Random | AtomTraits.Identity
        | AtomTraits.Privileged | AtomTraits.Mmio | AtomTraits.InterruptFlag | AtomTraits.Halts;

    // Positions are further apart than a handler is long, so that an NMI never comes while another is waiting: those collapse.
    // Vectors are distinct among those that could wait at one time: the latch holds each once.
    private static Arbitrary<InputSchedule> Schedules()
    {
        Gen<ScheduledInput> noise =
            from at in Gen.Choose(2, 2500)
            from kind in Gen.Elements(InputKind.Kick, InputKind.Kick, InputKind.Signal, InputKind.Reschedule, InputKind.HostVector)
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

    private static void Check(Case c)
    {
        var source = new ScheduledSource(c.Schedule);
        using Machine machine = Machine.Create(c.Program.Options(c.Accelerator), source);
        machine.Run();
        Assert.True(machine.Stop.Kind is MachineStopKind.DebugExit or MachineStopKind.Halted, machine.Stop.ToString());
        int[] expected = new int[256];
        foreach (ScheduledInput input in source.Taken)
        {
            if (input.Input.Kind is InputKind.Interrupt)
            {
                expected[input.Input.Value]++;
            }
            else if (input.Input.Kind is InputKind.Nmi)
            {
                expected[2]++;
            }
        }

        if (machine.Stop.Kind == MachineStopKind.DebugExit)
        {
            Assert.Equal(1, machine.Stop.GuestStatus);
            Assert.DoesNotContain(source.Left, static i => i.Point == InputPoint.Boundary);
        }

        byte[] counters = Run.Read(machine, GuestLayout.Of(c.Program.Mode).Counters, 256 * 8);
        for (int vector = 0; vector < 256; vector++)
        {
            // The serial line's own interrupts share vector 0x24.
            if (vector != 0x24)
            {
                int counted = BitConverter.ToInt32(counters, vector * 8);
                Assert.True(expected[vector] == counted, $"vector 0x{vector:x}: {expected[vector]} came in, {counted} were delivered; {machine.Stop}");
            }
        }
    }
}
