namespace VmFuzz.Cli.Tests;

public class FuzzPartsTests
{
    [Fact]
    public void DeathPlace_RecursionOfSeveralMethods_IsTheSameWhereverItEnds()
    {
        const string one = "Stack overflow.\nRepeat 5 times:\n--------------------------------\n   at A.Z(Int32)\n   at A.Y()\n--------------------------------\n   at M.Main()\n";
        const string other = "Stack overflow.\nRepeat 5 times:\n--------------------------------\n   at A.Y()\n   at A.Z(Int32)\n--------------------------------\n   at M.Main()\n";
        Assert.Equal("stack-overflow in A.Y", DeathPlace.Of(6, 134, one).Where);
        Assert.Equal(DeathPlace.Of(6, 134, one), DeathPlace.Of(6, 134, other));
    }

    [Theory]
    [InlineData(6, "Unhandled exception. System.Exception: no\n   at A.B(C) in x.cs:line 3\n", "System.Exception in A.B")]
    [InlineData(0, "vmfuzz: engine bug: NullReferenceException: no: please\n", "NullReferenceException")]
    [InlineData(11, "", "signal-11")]
    [InlineData(0, "something else", "status-7")]
    public void DeathPlace_WhatAProcessLeft_NamesThePlace(int signal, string error, string where) =>
        Assert.Equal(where, DeathPlace.Of(signal, 7, error).Where);

    [Fact]
    public void CoverSet_OneInputReachesAll_KeepsTheShortestThatIsNeeded()
    {
        uint[][] reached = [[1, 2], [2, 3], [1, 2, 3], []];
        Assert.Equal([2], CoverSet.Smallest(reached, [10, 10, 5, 1]));
        Assert.Equal([0, 1], CoverSet.Smallest(reached, [5, 5, 100, 1]));
    }

    [Fact]
    public void LiveView_AnyTerminal_NeverDrawsBeyondIt()
    {
        using var text = new StringWriter();
        var view = new LiveView(text, static () => (40, 10), colours: false);
        view.Say("a line that is far longer than the terminal is wide, and goes on and on and on");
        IReadOnlyList<string> lines = view.Render(Sample(), 40);
        Assert.All(lines, static l => Assert.True(l.TrimEnd().Length <= 40, l));
        view.Show(Sample());
        Assert.True(text.ToString().Count(static c => c == '\n') <= 9);
    }

    [Fact]
    public void LiveView_ControlCharactersInAFinding_DoNotReachTheTerminal()
    {
        using var text = new StringWriter();
        var view = new LiveView(text, static () => (120, 50), colours: false);
        Assert.DoesNotContain(view.Render(Sample(), 120), static l => l.Any(char.IsControl));
    }

    [Fact]
    public void LineView_CampaignGoesOn_SaysSoEveryFewSecondsOnly()
    {
        using var text = new StringWriter();
        using var view = new LineView(text);
        for (int tick = 0; tick < 100; tick++)
        {
            view.Show(Sample() with { Elapsed = tick / 10.0 });
        }

        Assert.Equal(2, text.ToString().Count(static c => c == '\n'));
        Assert.Contains("0:00:01 executions 1,000 (10/s), corpus 20, probes 30 of 60 (50.0 %)", text.ToString(), StringComparison.Ordinal);
    }

    private static CampaignView Sample() => new()
    {
        Target = "t[bold]",
        Seed = 1,
        Directory = "d",
        Elapsed = 1,
        Fresh = 1000,
        PerSecond = 10,
        Findings = [new FoundFinding("k\u001b[2J", "what\nwas seen, in many words that need much room on a narrow terminal", 0, 5, null)],
        Workers = [new WorkerLine(0, "fuzzing", 0, 10, new WorkerStatus { Executions = 1000, Corpus = 20, ProbesSeen = 30, ProbesTotal = 60, Mutators = [new MutatorFigures("m", 3, 2)] })],
    };
}
