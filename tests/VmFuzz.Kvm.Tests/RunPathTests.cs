using System.Reflection;
using VmFuzz.Arch;
using static Iced.Intel.AssemblerRegisters;

namespace VmFuzz.Kvm.Tests;

/// <summary>The table of the run path and its options.</summary>
public class RunPathTests
{
    [Fact]
    public void Rows_AreThoseOfTheTable_InOrder()
    {
        Assert.Equal(108, RunPath.Rows.Length);
        for (int i = 0; i < RunPath.Rows.Length; i++)
        {
            Assert.Equal($"S{i + 1:00}", RunPath.Rows[i].Id);
        }
    }

    [Fact]
    public void With_UnknownRow_IsRefused()
    {
        Assert.Throws<ArgumentException>(() => RunPath.Default.Without("S00"));
        Assert.Throws<ArgumentException>(() => RunPath.Default.Without("S109"));
        Assert.Throws<ArgumentException>(() => RunPath.Default.AsInSeed("S45"));
    }

    [Fact]
    public void ChangedRows_NameEveryChange()
    {
        RunPath path = RunPath.Default.Without("S45").With("S100", static _ => 0).AsInSeed("S71");
        Assert.Equal("S45 S71:seed S100", string.Join(' ', path.ChangedRows()));
        Assert.True(RunPath.Default.IsDefault);
        Assert.False(path.IsDefault);
    }

    [Fact]
    public void With_Replacement_RunsInstead()
    {
        int runs = 0;
        RunPath path = RunPath.Default.With("S53", vcpu => runs++);
        using TestVm vm = new(c => c.hlt(), VmOptions.Default with { Path = path });
        vm.RunTo();
        Assert.Equal(0UL, vm.Vcpu.Stats.Exits);
        Assert.True(runs > 0);
    }

    [Fact]
    [Trait("row", "S105")]
    public void RequestTable_IsInTheSeedsOrder()
    {
        Request[] expected =
        [
            Request.MmuReload, Request.MigrateTimer, Request.MasterclockUpdate, Request.GlobalClockUpdate, Request.ClockUpdate,
            Request.MmuSync, Request.TlbFlush, Request.ReportTprAccess, Request.TripleFault, Request.DeactivateFpu,
            Request.ApfHalt, Request.StealUpdate, Request.Nmi, Request.Pmu, Request.Pmi, Request.ScanIoapic,
        ];
        Assert.Equal(expected, RequestTable.Rows.Select(static r => r.Request));
    }

    [Fact]
    public void ExitTable_EveryRowNamesARowOfTheTable()
    {
        foreach (ExitRow row in ExitTable.Default.Rows)
        {
            Assert.Contains(RunPath.Rows, r => r.Id.Equals(row.Row, StringComparison.Ordinal));
            Assert.Same(row, ExitTable.Default.Find((ushort)row.Reason));
        }
    }

    [Fact]
    public void ExitTable_With_ReplacesOneHandler()
    {
        ExitTable table = ExitTable.Default.With(ExitReason.Cpuid, static (Vcpu vcpu, in Vmx.VmExit exit) =>
        {
            vcpu.Rax = 42;
            return ExitOutcome.RetireInstruction;
        });
        using TestVm vm = new(c => { c.cpuid(); c.hlt(); }, VmOptions.Default with { Exits = table });
        vm.RunToHalt();
        Assert.Equal(42UL, vm.Vcpu.Rax);
    }

    [Fact]
    public void EveryTrait_NamesARow()
    {
        foreach (MethodInfo method in typeof(RunPathTests).Assembly.GetTypes().SelectMany(static t => t.GetMethods()))
        {
            foreach (TraitAttribute trait in method.GetCustomAttributes<TraitAttribute>())
            {
                Assert.Contains(RunPath.Rows, r => r.Id.Equals(trait.Value, StringComparison.Ordinal));
            }
        }
    }
}
