using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.Tests.Integer;

namespace VmFuzz.Cpu.Tests.Events;

/// <summary>
/// An event at any instruction boundary of a random program, whose handler returns, leaves the program's result as it was;
/// so does a step at a time, by budget or by the trap flag. With every way to execute. VMFUZZ_LONG=1 takes more programs.
/// </summary>
public sealed class BoundaryEventTests(ITestOutputHelper output)
{
    private static readonly int Programs = 30 * NativeForms.Times;

    public static TheoryData<int, bool, bool> Ways
    {
        get
        {
            var ways = new TheoryData<int, bool, bool>();
            foreach (int bitness in (int[])[64, 32, 16])
            {
                foreach ((bool reference, bool loop) in ((bool, bool)[])[(false, false), (false, true), (true, false)])
                {
                    ways.Add(bitness, reference, loop);
                }
            }

            return ways;
        }
    }

    [Theory]
    [MemberData(nameof(Ways))]
    public void Event_AtEveryBoundary_LeavesTheResult(int bitness, bool referenceOnly, bool loopThreading)
    {
        using var machine = new EventMachine(bitness) { ReferenceOnly = referenceOnly, LoopThreading = loopThreading };
        OpCodeInfo[] forms = RandomPrograms.Forms(bitness);
        var random = new SplitMix64(0x5EED_0004);
        int deliveries = 0;
        for (int i = 0; i < Programs; i++)
        {
            EventProgram program = EventProgram.Make(bitness, forms, ref random);
            machine.Load(program, ref random);
            string undisturbed = machine.Run(EventKind.None, ulong.MaxValue);
            ulong length = machine.Retired;
            Assert.Equal(0, machine.Delivered);
            Assert.Equal(undisturbed, machine.Run(EventKind.SmallBudget, 0));
            Assert.Equal(undisturbed, machine.Run(EventKind.TrapFlag, 0));
            Assert.InRange(machine.Delivered, 1, (int)length);
            for (ulong k = 0; k < length; k++)
            {
                foreach (EventKind kind in (EventKind[])[EventKind.Nmi, EventKind.Interrupt])
                {
                    string disturbed = machine.Run(kind, k);
                    Assert.True(undisturbed == disturbed, $"{kind} at {k} of {Convert.ToHexString(program.Code)}:\n{undisturbed}\n{disturbed}");
                    Assert.Equal(1, machine.Delivered);
                    Assert.DoesNotContain(machine.ReturnRip - EventMachine.CodeAt, program.Shadowed.Select(static offset => (ulong)offset));
                    deliveries++;
                }
            }
        }

        output.WriteLine($"{deliveries} events in {Programs} programs");
    }
}
