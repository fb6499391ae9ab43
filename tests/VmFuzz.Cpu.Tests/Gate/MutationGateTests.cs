using Iced.Intel;
using VmFuzz.Cpu.Tests.Integer;
using VmFuzz.Cpu.Tests.Silicon;
using VmFuzz.Machines.Vectors;

namespace VmFuzz.Cpu.Tests.Gate;

/// <summary>
/// The mutation gate: a form that leaves a flag alone, reads one wrongly, gives another undefined one or is another operation
/// must fail a vector from silicon or a named test. All forms are taken, which is a matter of seconds.
/// </summary>
public sealed class MutationGateTests(ITestOutputHelper output)
{
    [Fact]
    public void Mutants_OfForms_FailAVectorOrATest()
    {
        ILookup<Code, FrozenVector> vectors = FrozenVector.ReadAll().ToLookup(static vector => vector.Form);
        var tests = new TestJudge();
        int byVector = 0, byTest = 0;
        var excused = new List<Mutant>();
        var survivors = new List<Mutant>();
        InstructionForm[] forms = [.. Mutant.Modelled()];
        foreach (Mutant mutant in forms.SelectMany(Mutant.Of))
        {
            if (FailsAVector(mutant, vectors[mutant.Form]))
            {
                byVector++;
            }
            else if (tests.Kill(mutant) is not null)
            {
                byTest++;
            }
            else
            {
                (EquivalentMutants.ReasonOf(mutant) is null ? survivors : excused).Add(mutant);
            }
        }

        int killed = byVector + byTest;
        output.WriteLine($"{forms.Length} forms, {killed + excused.Count + survivors.Count} mutants: {byVector} fail a vector, {byTest} one of {tests.Count} tests, "
            + $"{excused.Count} are equivalent, {survivors.Count} survive");
        Assert.Equal("", string.Join('\n', EquivalentMutants.Rows.Where(row => !excused.Any(row.Is)).Select(static row => "excuses nothing: " + row.Reason)));
        Assert.True(survivors.Count == 0, $"{survivors.Count} of {killed + survivors.Count} survive:\n{string.Join('\n', survivors)}");
    }

    private static bool FailsAVector(Mutant mutant, IEnumerable<FrozenVector> vectors)
    {
        FrozenVector[] own = [.. vectors];
        if (own.Length == 0)
        {
            return false;
        }

        using var machine = new VectorMachine(NativeForms.WithVectors(), instructions: mutant.Table);
        return own.Any(vector => vector.Replay(machine) is not null);
    }
}
