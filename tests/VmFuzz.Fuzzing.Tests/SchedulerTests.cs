namespace VmFuzz.Fuzzing.Tests;

public sealed class SchedulerTests
{
    private static List<string> Campaign(FuzzTarget target, ulong seed, int executions, byte[]? state = null, int from = 0)
    {
        MutatorScheduler scheduler = new(MutatorTable.Default, target, seed, epoch: 64);
        if (state is not null)
        {
            Assert.True(scheduler.TryRestore(state));
        }

        FuzzInput parent = Samples.Rich(target);
        FuzzInput into = new();
        List<string> made = [];
        for (int i = from; i < executions; i++)
        {
            scheduler.Mutate((ulong)i, parent, null, into);
            byte[] bytes = FuzzCodec.Encode(into);
            made.Add(Convert.ToHexString(bytes) + string.Join('+', scheduler.Applied));
            scheduler.Report(bytes.Length % 7 == 0);
        }

        made.Add(Convert.ToHexString(scheduler.Save()));
        return made;
    }

    [Theory]
    [InlineData(FuzzTarget.ExitHandlers)]
    [InlineData(FuzzTarget.VmcsEntry)]
    [InlineData(FuzzTarget.GuestCode)]
    public void Mutate_SameSeed_GivesTheSameBytes(FuzzTarget target)
    {
        List<string> first = Campaign(target, 5, 500);
        Assert.Equal(first, Campaign(target, 5, 500));
        Assert.NotEqual(first, Campaign(target, 6, 500));
        Assert.True(first.Distinct(StringComparer.Ordinal).Count() > 450);
    }

    [Fact]
    public void Restore_InTheMiddle_GoesOnAsIfNothingHappened()
    {
        List<string> whole = Campaign(FuzzTarget.GuestCode, 5, 500);
        byte[] state = Convert.FromHexString(Campaign(FuzzTarget.GuestCode, 5, 300)[^1]);
        Assert.Equal(whole[300..], Campaign(FuzzTarget.GuestCode, 5, 500, state, 300));
    }

    [Fact]
    public void Restore_BytesOfAnother_ChangesNothing()
    {
        MutatorScheduler scheduler = new(MutatorTable.Default, FuzzTarget.GuestCode, 1);
        byte[] before = scheduler.Save();
        Assert.False(scheduler.TryRestore(new MutatorScheduler(MutatorTable.Default, FuzzTarget.VmcsEntry, 1).Save()));
        Assert.False(scheduler.TryRestore([1, 2, 3]));
        Assert.False(scheduler.TryRestore(before.AsSpan(0, before.Length - 1)));
        Assert.Equal(before, scheduler.Save());
        Assert.True(scheduler.TryRestore(before));
    }

    [Fact]
    public void Mutate_OtherTargets_UsesOnlyRowsOfTheTarget()
    {
        MutatorScheduler scheduler = new(MutatorTable.Default, FuzzTarget.VmcsEntry, 1);
        Assert.All(scheduler.Yields(), y => Assert.True(
            (MutatorTable.Default.Rows[MutatorTable.Default.IndexOf(y.Id)].Targets & FuzzTargets.VmcsEntry) != 0));
        FuzzInput into = new();
        Assert.InRange(scheduler.Mutate(0, new FuzzInput(), null, into), 1, 8);
        Assert.Equal(FuzzTarget.VmcsEntry, into.Target);
    }

    // start, weight, tries, finds, all tries, all finds, expected
    [Theory]
    [InlineData(640, 640, 0, 0, 100, 10, 640)] // not tried: stays
    [InlineData(640, 1280, 100, 5, 1000, 0, 960)] // nobody found anything: half way back
    [InlineData(640, 640, 100, 50, 1000, 100, 1600)] // five times the average: towards four times the start
    [InlineData(640, 640, 100, 0, 1000, 100, 400)] // nothing: towards a quarter
    [InlineData(640, 640, 1, 0, 1000000, 1000, 1600)] // hardly tried: worth another look
    [InlineData(640, 640, 100, 10, 1000, 100, 642)] // the average: stays, but for the one find more of the estimate
    [InlineData(1, 1, 1000, 0, 1000, 1000, 1)] // never 0
    public void Adapted_Yields_MoveTheWeight(long start, long weight, ulong tries, ulong finds, ulong allTries, ulong allFinds, long expected) =>
        Assert.Equal(expected, MutatorScheduler.Adapted(start, weight, tries, finds, allTries, allFinds));

    [Fact]
    public void Report_OneMutatorFindsEverything_GetsMoreWeight()
    {
        MutatorScheduler scheduler = new(MutatorTable.Default, FuzzTarget.GuestCode, 9, epoch: 256);
        FuzzInput parent = Samples.Rich(FuzzTarget.GuestCode);
        FuzzInput into = new();
        int start = scheduler.Yields().Single(static y => y.Id == "code.rex").Weight;
        for (ulong i = 0; i < 2048; i++)
        {
            scheduler.Mutate(i, parent, null, into);
            scheduler.Report(scheduler.Applied.Contains("code.rex", StringComparer.Ordinal));
        }

        MutatorYield rex = scheduler.Yields().Single(static y => y.Id == "code.rex");
        Assert.True(rex.Weight > start * 2, $"{start} to {rex.Weight}");
        Assert.Equal(rex.Tries, rex.Finds);
        Assert.True(scheduler.Yields().Single(static y => y.Id == "code.insert").Weight < 30);
    }
}
