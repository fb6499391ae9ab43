using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.Tests.Integer;
using VmFuzz.Machines.Vectors;

namespace VmFuzz.Cpu.Tests.Silicon;

/// <summary>
/// What a real processor made of some forty thousand instructions (corpus/vectors), against the model, on any machine.
/// .ci/make-vectors makes the files again.
/// </summary>
public sealed class FrozenVectorTests
{
    private const int LeastVectors = 35_000;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Run_FrozenVectors_AgreeWithTheProcessorThatMadeThem(bool referenceOnly)
    {
        FrozenVector[] vectors = FrozenVector.ReadAll();
        Assert.InRange(vectors.Length, LeastVectors, int.MaxValue);
        using var machine = new VectorMachine(NativeForms.WithVectors()) { ReferenceOnly = referenceOnly };
        string[] differences = [.. vectors.Select(vector => (vector, difference: vector.Replay(machine)))
            .Where(static row => row.difference is not null)
            .Select(static row => $"{row.vector.Form}: {row.difference}\n  {row.vector.Text}")];
        Assert.True(differences.Length == 0, $"{differences.Length} differ:\n{string.Join('\n', differences.Take(20))}");
    }
}
