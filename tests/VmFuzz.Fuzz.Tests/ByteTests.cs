using VmFuzz.Fuzzing;
using VmFuzz.Replay;

namespace VmFuzz.Fuzz.Tests;

/// <summary>Inputs from bytes and back.</summary>
public sealed class ByteTests
{
    [Fact]
    public void Bytes_OfAnyTarget_AreReadForTheOneThatRuns()
    {
        SplitMix random = new(7);
        FuzzInput input = new();
        for (int i = 0; i < 3000; i++)
        {
            byte[] bytes = Random(ref random);
            FuzzTarget only = (FuzzTarget)(i % 3);
            FuzzCodec.Decode(bytes, input, only);
            Assert.Equal(only, input.Target);
            byte[] canonical = FuzzCodec.Encode(input);
            Assert.True(FuzzCodec.Decode(canonical).SameAs(input));
        }
    }

    [Fact]
    public void Features_OfARun_AreAddedToTheCounts()
    {
        Func<ReadOnlySpan<byte>, Span<byte>, bool, string?> run = Planted.Open("order", [])!;
        byte[] counts = new byte[ByteTarget.FeatureCells];
        Assert.Null(run([0, 1, 0, 1, 0, 2, 0], counts, false));
        Assert.Equal((byte[])[1, 2], counts.Where(static c => c != 0).Order().ToArray());
        Assert.Null(run([0, 1, 0, 1, 0, 2, 0], counts, false));
        Assert.Equal((byte[])[2, 4], counts.Where(static c => c != 0).Order().ToArray());
        for (int i = 0; i < 300; i++)
        {
            run([0, 1, 0], counts, false);
        }

        Assert.Equal((byte[])[2, 255], counts.Where(static c => c != 0).Order().ToArray());
    }

    [Fact]
    public void Mutations_OfBytes_AreInputsOfTheTarget()
    {
        SplitMix random = new(9);
        byte[] data = new byte[FuzzLimits.InputBytes];
        int changed = 0;
        for (int i = 0; i < 3; i++)
        {
            FuzzTarget target = (FuzzTarget)i;
            ByteMutator mutator = new(MutatorTable.Default, target);
            ByteMutator twin = new(MutatorTable.Default, target);
            int size = FuzzCodec.Encode(new FuzzInput { Target = target }, data);
            for (ulong seed = 0; seed < 200; seed++)
            {
                byte[] other = [.. data];
                int mutated = mutator.Mutate(data, size, seed);
                Assert.Equal(mutated, twin.Mutate(other, size, seed));
                Assert.Equal(data.AsSpan(0, mutated), other.AsSpan(0, mutated));
                size = mutated == 0 ? size : mutated;
                changed += mutated == 0 ? 0 : 1;
                FuzzInput input = FuzzCodec.Decode(data.AsSpan(0, size));
                Assert.Equal(target, input.Target);
                Assert.Equal(FuzzCodec.Encode(input), data.AsSpan(0, size));
            }
        }

        Assert.InRange(changed, 500, 600);
    }

    [Fact]
    public void Mutation_WithoutRoom_LeavesTheBytesAlone()
    {
        ByteMutator mutator = new(MutatorTable.Default, FuzzTarget.ExitHandlers);
        SplitMix random = new(3);
        int refused = 0;
        for (ulong seed = 0; seed < 100; seed++)
        {
            byte[] bytes = Random(ref random)[..4];
            byte[] before = [.. bytes];
            int size = mutator.Mutate(bytes, 4, seed);
            Assert.InRange(size, 0, 4);
            refused += size == 0 ? 1 : 0;
            Assert.True(size != 0 || before.AsSpan().SequenceEqual(bytes));
        }

        Assert.NotEqual(0, refused);
    }

    private static byte[] Random(ref SplitMix random)
    {
        byte[] bytes = new byte[4 + random.Below(60)];
        foreach (ref byte value in bytes.AsSpan())
        {
            value = (byte)random.Next();
        }

        return bytes;
    }
}
