using FsCheck;
using FsCheck.Fluent;
using VmFuzz.Fuzzing;
using VmFuzz.Testing;

namespace VmFuzz.Properties.Tests;

/// <summary>Inputs of the fuzzer: their bytes, what mutators make of them, what the minimiser leaves.</summary>
public sealed class InputProperties
{
    private static readonly Arbitrary<(FuzzInput Parent, FuzzInput Other, ulong Seed)> Pairs = (
        from target in Gen.Elements(Enum.GetValues<FuzzTarget>())
        from parent in Generators.FuzzInputs(target).Generator
        from other in Generators.FuzzInputs(target).Generator
        from seed in Generators.Word64
        select (parent, other, seed)).ToArbitrary();

    [Fact]
    public void Input_ThroughItsBytes_IsTheSame() =>
        Seeds.Check(Generators.FuzzInputs(), 400, static input =>
        {
            FuzzInput read = FuzzCodec.Decode(FuzzCodec.Encode(input));
            Assert.True(read.SameAs(input), $"differs in {read.Differences(input)}, target {read.Target}:\n{read}");
        });

    [Fact]
    public void AnyBytes_ReadAsAnInput_AreCanonicalAndWithinLimits() =>
        Seeds.Check(Generators.InputFiles(), 600, static file =>
        {
            FuzzInput input = FuzzCodec.Decode(file.Bytes.AsSpan());
            Canonical(input);
            byte[] once = FuzzCodec.Encode(input);
            Assert.Equal(once, FuzzCodec.Encode(FuzzCodec.Decode(once)));
        });

    [Fact]
    public void Mutated_AnyInput_IsCanonicalWithinLimitsAndForItsTarget() =>
        Seeds.Check(Pairs, 150, static x =>
        {
            var scheduler = new MutatorScheduler(MutatorTable.Default, x.Parent.Target, x.Seed);
            FuzzInput parent = x.Parent.Clone();
            var into = new FuzzInput();
            for (ulong execution = 0; execution < 24; execution++)
            {
                scheduler.Mutate(execution, x.Parent, x.Other, into);
                Assert.Equal(x.Parent.Target, into.Target);
                Canonical(into);
                Assert.True(parent.SameAs(x.Parent), $"the parent was changed by {string.Join(", ", scheduler.Applied)}");
            }
        });

    [Fact]
    public void Mutated_BySeedAndIndex_IsTheSameWhateverCameBefore() =>
        Seeds.Check(Pairs, 100, static x =>
        {
            var used = new MutatorScheduler(MutatorTable.Default, x.Parent.Target, x.Seed);
            var into = new FuzzInput();
            var again = new FuzzInput();
            for (ulong execution = 0; execution < 12; execution++)
            {
                used.Mutate(execution * 7, x.Parent, x.Other, into);
                var fresh = new MutatorScheduler(MutatorTable.Default, x.Parent.Target, x.Seed);
                fresh.Mutate(execution * 7, x.Parent, x.Other, again);
                Assert.True(into.SameAs(again), $"execution {execution * 7}: {string.Join(", ", used.Applied)}:\n{into}\nand\n{again}");
            }
        });

    [Fact]
    public void Minimised_AnyInput_StillShowsAndCannotLoseAnItem() =>
        Seeds.Check(Generators.FuzzInputs(), 80, static input =>
        {
            // What it is kept for: as much of its main list as it has, up to two.
            FuzzSectionRow main = FuzzSectionRow.All.MaxBy(row => row.Count(input))!;
            int wanted = Math.Min(2, main.Count(input));
            MinimizedInput small = InputMinimizer.Minimize(input, candidate => main.Count(candidate) >= wanted);
            Assert.True(small.Complete);
            Canonical(small.Input);
            Assert.All(FuzzSectionRow.All, row => Assert.Equal(row == main ? wanted : 0, row.Count(small.Input)));
        });

    [Fact]
    public void Shrinker_OfAnyInput_GivesOnlySmallerCanonicalOnes() =>
        Seeds.Check(Generators.FuzzInputs(), 60, static input =>
        {
            int size = FuzzCodec.Encode(input.Clone()).Length;
            foreach (FuzzInput smaller in Generators.FuzzInputs(input.Target).Shrinker(input))
            {
                Canonical(smaller);
                Assert.False(smaller.SameAs(input));
                Assert.True(FuzzCodec.Encode(smaller.Clone()).Length <= size, $"{smaller}");
            }
        });

    private static void Canonical(FuzzInput input)
    {
        FuzzInput normal = input.Clone();
        normal.Normalise();
        Assert.True(normal.SameAs(input), $"not canonical in {normal.Differences(input)}:\n{input}");
        Assert.True(FuzzCodec.Encode(normal).Length <= FuzzLimits.InputBytes);
        Assert.All(FuzzSectionRow.All, row => Assert.True(row.Count(input) <= (row.Section == FuzzSections.Code ? FuzzLimits.CodeBytes : FuzzLimits.Items), row.Name));
        Assert.All(input.Patches, static patch => Assert.InRange(patch.Bytes.Length, 1, FuzzLimits.PatchBytes));
        Assert.All(input.Exits, static exit => Assert.True(exit.Registers.Length <= FuzzLimits.OverridesOfExit && exit.GuestState.Length <= FuzzLimits.OverridesOfExit));
    }
}
