using VmFuzz.Fuzzing;
using VmFuzz.Machines;
using VmFuzz.Testing;

namespace VmFuzz.Properties.Tests;

/// <summary>The fuzzer's invariants hold on guests that it did not make: each row of the table is a property.</summary>
public sealed class InvariantProperties
{
    [Fact]
    public void Invariants_OnAnyRunWithEvents_Hold()
    {
        var looked = new SortedSet<string>(StringComparer.Ordinal);
        InvariantTable table = InvariantTable.Default;
        foreach (Invariant row in InvariantTable.Default.Rows)
        {
            table = table.With(row with
            {
                Check = view =>
                {
                    looked.Add(row.Id);
                    return row.Check(view);
                },
            });
        }

        Seeds.Check(Case.All(AtomTraits.All, interrupts: true, tail: 20, Generators.Schedules(300), Accelerator.Kvm), 200, c =>
        {
            using Machine machine = Run.Machine(c);
            var monitor = new InvariantMonitor(machine, table);
            machine.Observe(monitor);
            monitor.Begin();
            machine.Run();
            Assert.Null(monitor.Broken);
        });
        Assert.Empty(table.Rows.Select(static r => r.Id).Except(looked, StringComparer.Ordinal));
    }
}
