namespace VmFuzz.Coverage.Tests;

/// <summary>Buckets, merging, hashing.</summary>
public sealed class CountsTests
{
    [Theory]
    [InlineData(0, 0)]
    [InlineData(1, 1)]
    [InlineData(2, 2)]
    [InlineData(3, 4)]
    [InlineData(4, 8)]
    [InlineData(7, 8)]
    [InlineData(8, 16)]
    [InlineData(15, 16)]
    [InlineData(16, 32)]
    [InlineData(31, 32)]
    [InlineData(32, 64)]
    [InlineData(127, 64)]
    [InlineData(128, 128)]
    [InlineData(255, 128)]
    public void Bucket_OfACount_IsThatOfAfl(int count, int bucket) => Assert.Equal(bucket, CoverageCounts.Bucket((byte)count));

    [Fact]
    public void Classify_AllCounts_GivesTheirBuckets()
    {
        byte[] counts = [.. Enumerable.Range(0, 256).Select(static i => (byte)i)];
        foreach (bool vectors in new[] { false, true })
        {
            byte[] buckets = new byte[256];
            CoverageCounts.Classify(counts, buckets, vectors);
            Assert.Equal(counts.Select(CoverageCounts.Bucket), buckets);
        }
    }

    [Fact]
    public void Scans_WithAndWithoutVectors_Agree()
    {
        var random = new Random(1);
        for (int length = 0; length < 200; length++)
        {
            byte[] counts = new byte[length];
            byte[] seen = new byte[length];
            for (int i = 0; i < length; i++)
            {
                counts[i] = random.Next(8) == 0 ? (byte)random.Next(256) : (byte)0;
                seen[i] = random.Next(2) == 0 ? (byte)random.Next(256) : (byte)0;
            }

            byte[] other = [.. seen];
            byte[] buckets = new byte[length];
            byte[] otherBuckets = new byte[length];
            CoverageCounts.Classify(counts, buckets, vectors: true);
            CoverageCounts.Classify(counts, otherBuckets, vectors: false);
            Assert.Equal(otherBuckets, buckets);
            Assert.Equal(CoverageCounts.Hash(counts, vectors: false), CoverageCounts.Hash(counts, vectors: true));
            Assert.Equal(CoverageCounts.Merge(counts, other, vectors: false), CoverageCounts.Merge(counts, seen, vectors: true));
            Assert.Equal(other, seen);
            Assert.Equal(counts.Count(static c => c != 0), CoverageCounts.CountSet(counts));
        }
    }

    [Fact]
    public void Hash_OfCounts_DependsOnPlaceAndBucketOnly()
    {
        byte[] counts = new byte[100];
        Assert.Equal(0UL, CoverageCounts.Hash(counts));
        counts[40] = 9;
        ulong hash = CoverageCounts.Hash(counts);
        counts[40] = 12;
        Assert.Equal(hash, CoverageCounts.Hash(counts));
        counts[40] = 16;
        Assert.NotEqual(hash, CoverageCounts.Hash(counts));
        counts[40] = 0;
        counts[41] = 9;
        Assert.NotEqual(hash, CoverageCounts.Hash(counts));
        counts[41] = 0;
        counts[48] = 9;
        Assert.NotEqual(hash, CoverageCounts.Hash(counts));
    }

    [Fact]
    public void Merge_OfRuns_FindsNewProbesAndNewBuckets()
    {
        var seen = new CoverageAccumulator(70);
        byte[] counts = new byte[70];
        Assert.False(seen.Merge(counts).Any);
        counts[3] = 1;
        counts[69] = 200;
        Assert.Equal(new CoverageNovelty(2, 0), seen.Merge(counts));
        Assert.Equal(new CoverageNovelty(0, 0), seen.Merge(counts));
        counts[3] = 5;
        counts[69] = 129;
        Assert.Equal(new CoverageNovelty(0, 1), seen.Merge(counts));
        counts[3] = 1;
        Assert.False(seen.Merge(counts).Any);
        Assert.Equal(2, seen.Probes);
        Assert.Equal((byte)9, seen.Seen[3]);
    }

    [Fact]
    public void Merge_OfAccumulators_IsTheirUnion()
    {
        var a = new CoverageAccumulator(10);
        var b = new CoverageAccumulator(10);
        a.Merge([1, 0, 2]);
        b.Merge([2, 1]);
        Assert.NotEqual(a.Hash(), b.Hash());
        Assert.Equal(new CoverageNovelty(1, 1), a.Merge(b));
        Assert.False(a.Merge(b).Any);
        b.Merge([1, 0, 2]);
        Assert.Equal(a.Hash(), b.Hash());
        var c = new CoverageAccumulator(a.Seen);
        Assert.Equal(3, c.Probes);
        Assert.Equal(a.Hash(), c.Hash());
    }
}
