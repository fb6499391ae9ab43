using System.Text.Json;
using VmFuzz.Arch;
using VmFuzz.Fuzzing;
using VmFuzz.Vmx;

namespace VmFuzz.Cli.Tests;

public class ReproduceTests : CommandFixture
{
    private static string Plugin => typeof(HarmfulPlugin).Assembly.Location;

    private static FuzzTargetRow Target(string name) => new HarmfulPlugin().Targets.Single(t => t.Name == name);

    private string Triage(FuzzTargetRow target, Violation? claimed = null)
    {
        Assert.Null(Corpus.TryOpen(At("c/worker00"), static _ => { }, out Corpus? corpus));
        FuzzInput input = new() { Target = FuzzTarget.ExitHandlers };
        input.Exits.Add(new MadeExit(new VmExit((uint)ExitReason.Cpuid, InstructionLength: 2)));
        input.Exits.Add(new MadeExit(new VmExit((uint)ExitReason.Hlt, InstructionLength: 1)));
        Violation violation = claimed ?? InputProbe.Look(target.CreateExecutor, input, null).Violation!;
        var facts = new CampaignFacts(target.Name, "", "worker00", 7, EngineIdentity.Here(target.Name.StartsWith("harmful", StringComparison.Ordinal) ? [new HarmfulPlugin().Identity] : []), []);
        var sink = new FindingSink(corpus!, target.CreateExecutor, facts, static _ => { });
        return At("c/worker00/" + sink.Add(new FoundInput(input, violation, 3, 0, null, "", Fatal: false)));
    }

    [Fact]
    public void Reproduce_FindingOfAPlugin_StillShowsWithTheSameKeyAndDigest()
    {
        string folder = Triage(Target(HarmfulPlugin.Throws));
        Assert.Contains("Cpuid (10)", Run("explain", folder).Out, StringComparison.Ordinal);
        Ran ran = Run("reproduce", folder, "--plugin", Plugin);
        Assert.Equal(1, ran.Status);
        Assert.Contains("still shows crash.exception@InvalidOperationException", ran.Out, StringComparison.Ordinal);
        JsonElement json = Run("reproduce", folder, "--plugin", Plugin, "--json").Json;
        Assert.True(json.GetProperty("stillShows").GetBoolean());
        Assert.True(json.GetProperty("sameKey").GetBoolean());
        Assert.True(json.GetProperty("sameDigest").GetBoolean());
        Assert.True(json.GetProperty("sameEngine").GetBoolean());
        Refuses(Run("reproduce", folder), "there is no target 'harmful-throw'");
        // The product's own handler does not throw: fixed.
        Ran good = Run("reproduce", folder, "--target", "exit-handlers");
        Assert.Equal(0, good.Status);
        Assert.Contains("does not show crash.exception", good.Out, StringComparison.Ordinal);
        Assert.Contains("recorded by another engine", good.Out, StringComparison.Ordinal);
    }

    [Fact]
    public void Reproduce_InputThatIsKnownToEndItsProcess_RunsInOneOfItsOwn()
    {
        string folder = Triage(FuzzTargetRow.BuiltIn.Single(static t => t.Kind == FuzzTarget.ExitHandlers), new Violation(OracleFolders.Death, "", "gone"));
        Ran ran = Run("reproduce", folder, "--seconds", "60");
        Assert.Equal("", ran.Err);
        Assert.Equal(0, ran.Status);
        Assert.Contains("does not show process-death any more: nothing breaks", ran.Out, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(HarmfulPlugin.Loops, OracleFolders.Hang, "2", "did not end within 2 s")]
    [InlineData(HarmfulPlugin.Overflows, OracleFolders.Death, "120", "ends the process that runs it")]
    public void Reproduce_InputThatStillEndsItsProcess_SaysSo(string target, string oracle, string seconds, string text)
    {
        string folder = Triage(Target(target), new Violation(oracle, "", "gone"));
        Ran ran = Run("reproduce", folder, "--plugin", Plugin, "--seconds", seconds);
        Assert.Equal(1, ran.Status);
        Assert.Contains("still shows: it " + text, ran.Out, StringComparison.Ordinal);
    }

    [Fact]
    public void Keep_Finding_BecomesARegression()
    {
        string folder = Triage(Target(HarmfulPlugin.Throws));
        Directory.CreateDirectory(At("r"));
        Ran ran = Run("corpus", "keep", folder, "--out", At("r"), "--from", "a test");
        Assert.Equal(0, ran.Status);
        string kept = ran.Out.Trim();
        Assert.Null(Regression.TryRead(kept, out Regression? regression));
        Assert.Equal(("harmful-throw", "a test"), (regression!.Target, regression.From));
        Assert.NotNull(regression.Run(Target(HarmfulPlugin.Throws).CreateExecutor));
        Assert.Equal(1, Run("reproduce", kept, "--plugin", Plugin).Status);
        Refuses(Run("corpus", "keep", folder, "--out", At("r")), "already");
        Refuses(Run("corpus", "keep", HelloFile, "--out", At("r")), "no finding's directory");
        Refuses(Run("corpus", "keep", folder, "--out", At("nothing")), "does not exist");
    }
}
