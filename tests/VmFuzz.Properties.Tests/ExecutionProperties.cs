using FsCheck;
using FsCheck.Fluent;
using VmFuzz.Fuzzing;
using VmFuzz.Testing;

namespace VmFuzz.Properties.Tests;

/// <summary>What a run of an input does is a function of the input, and breaks nothing.</summary>
public sealed class ExecutionProperties
{
    private static FuzzTargetRow Row(FuzzTarget target) => FuzzTargetRow.BuiltIn.Single(row => row.Kind == target);

    // An input, and what ran before it.
    private static Arbitrary<FuzzInput[]> Histories(FuzzTarget target)
    {
        Arbitrary<FuzzInput> one = Generators.FuzzInputs(target);
        return Arb.From(
            from count in Gen.Choose(1, 5)
            from inputs in Gen.ArrayOf(one.Generator, count)
            select inputs,
            inputs => inputs.Length > 1
                ? Enumerable.Range(0, inputs.Length).Select(i => inputs.Where((_, at) => at != i).ToArray())
                : one.Shrinker(inputs[0]).Select(static input => new[] { input }));
    }

    [Theory]
    [InlineData(FuzzTarget.ExitHandlers, 150)]
    [InlineData(FuzzTarget.VmcsEntry, 100)]
    [InlineData(FuzzTarget.GuestCode, 60)]
    public void Run_OnAFreshAndOnAUsedMachine_HasTheSameDigest(FuzzTarget target, int count)
    {
        using IFuzzExecutor used = Row(target).CreateExecutor();
        Seeds.Check(Histories(target), count, inputs =>
        {
            Execution there = default;
            foreach (FuzzInput input in inputs)
            {
                there = used.Run(input);
            }

            using IFuzzExecutor fresh = Row(target).CreateExecutor();
            Assert.Equal(fresh.Run(inputs[^1]), there);
            Assert.Equal(fresh.Digest(), used.Digest());
        });
    }

    [Theory]
    [InlineData(FuzzTarget.ExitHandlers)]
    [InlineData(FuzzTarget.VmcsEntry)]
    [InlineData(FuzzTarget.GuestCode)]
    public void Features_OfAnInput_AreAlwaysTheSame(FuzzTarget target)
    {
        using IFuzzExecutor one = Row(target).CreateExecutor();
        using IFuzzExecutor other = Row(target).CreateExecutor();
        int most = 0;
        Seeds.Check(Histories(target), 80, inputs =>
        {
            one.Run(inputs[^1]);
            foreach (FuzzInput input in inputs)
            {
                other.Run(input);
            }

            Assert.Equal(Counts(one.Features), Counts(other.Features));
            most = Math.Max(most, one.Features.Touched.Length);
        });
        Assert.True(most > 1, "no input showed anything");
    }

    [Theory]
    [InlineData(FuzzTarget.ExitHandlers, 200)]
    [InlineData(FuzzTarget.VmcsEntry, 400)]
    [InlineData(FuzzTarget.GuestCode, 60)]
    public void Oracles_OfASingleRunAndOfSeveral_FindNothing(FuzzTarget target, int count)
    {
        using IFuzzExecutor executor = Row(target).CreateExecutor();
        Seeds.Check(Generators.FuzzInputs(target), count, input =>
        {
            Assert.Null(executor.Run(input).Violation);
            Assert.Null(executor.RunDeep(input));
        });
    }

    private static (ushort Cell, byte Count)[] Counts(FeatureMap features)
    {
        var counts = new (ushort, byte)[features.Touched.Length];
        for (int i = 0; i < counts.Length; i++)
        {
            counts[i] = (features.Touched[i], features[features.Touched[i]]);
        }

        return counts;
    }
}
