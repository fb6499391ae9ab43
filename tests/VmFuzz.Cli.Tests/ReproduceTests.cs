using System.Collections.Immutable;
using System.Text.Json;
using VmFuzz.Arch;
using VmFuzz.Fuzzing;
using VmFuzz.Machines;

namespace VmFuzz.Cli.Tests;

/// <summary>A plug-in: this assembly.</summary>
public sealed class BrokenCpuid : IFuzzPlugin
{
    public string Identity => "broken CPUID 1";

    public ImmutableArray<FuzzTargetRow> Targets =>
    [
        new("broken-cpuid", FuzzTarget.GuestCode, "guest programs against a handler that throws", MachineVariants.None with
        {
            Kvm = static options => options with { Exits = options.Exits.With(ExitReason.Cpuid, static (_, in _) => throw new InvalidOperationException("no leaves")) },
        }),
    ];
}

public class ReproduceTests : CommandFixture
{
    private static string Plugin => typeof(BrokenCpuid).Assembly.Location;

    private string Triage(FuzzTargetRow target, Violation? claimed = null)
    {
        Assert.Null(Corpus.TryOpen(At("c/worker00"), static _ => { }, out Corpus? corpus));
        FuzzInput input = new() { Target = FuzzTarget.GuestCode };
        input.Code.AddRange([0x90, 0x31, 0xC0, 0x0F, 0xA2, 0x90, 0xF4]);
        Violation violation = claimed ?? InputProbe.Look(target.CreateExecutor, input, null).Violation!;
        var facts = new CampaignFacts(target.Name, "", 0, 7, EngineIdentity.Here(target.Name == "broken-cpuid" ? [new BrokenCpuid().Identity] : []), []);
        var sink = new FindingSink(corpus!, target, facts, static _ => { });
        return At("c/worker00/" + sink.Add(new FoundInput(input, violation, 3, 0, null, "", Fatal: false)));
    }

    [Fact]
    public void Reproduce_FindingOfAPlugin_StillShowsWithTheSameKeyAndDigest()
    {
        string folder = Triage(new BrokenCpuid().Targets[0]);
        Assert.Contains("cpuid", Run("explain", folder).Out, StringComparison.Ordinal);
        Ran ran = Run("reproduce", folder, "--plugin", Plugin);
        Assert.Equal(1, ran.Status);
        Assert.Contains("still shows crash.exception@InvalidOperationException", ran.Out, StringComparison.Ordinal);
        JsonElement json = Run("reproduce", folder, "--plugin", Plugin, "--json").Json;
        Assert.True(json.GetProperty("stillShows").GetBoolean());
        Assert.True(json.GetProperty("sameKey").GetBoolean());
        Assert.True(json.GetProperty("sameDigest").GetBoolean());
        Assert.True(json.GetProperty("sameEngine").GetBoolean());
        Refuses(Run("reproduce", folder), "there is no target 'broken-cpuid'");
        // The product's own handler does not throw: fixed.
        Ran good = Run("reproduce", folder, "--target", "guest-code");
        Assert.Equal(0, good.Status);
        Assert.Contains("does not show crash.exception", good.Out, StringComparison.Ordinal);
        Assert.Contains("recorded by another engine", good.Out, StringComparison.Ordinal);
    }

    [Fact]
    public void Reproduce_InputThatIsKnownToEndItsProcess_RunsInOneOfItsOwn()
    {
        string folder = Triage(FuzzTargetRow.BuiltIn.Single(static t => t.Kind == FuzzTarget.GuestCode), new Violation(OracleFolders.Death, "", "gone"));
        Ran ran = Run("reproduce", folder, "--seconds", "60");
        Assert.Equal("", ran.Err);
        Assert.Equal(0, ran.Status);
        Assert.Contains("does not show process-death any more: nothing breaks", ran.Out, StringComparison.Ordinal);
    }

    [Fact]
    public void Keep_Finding_BecomesARegression()
    {
        string folder = Triage(new BrokenCpuid().Targets[0]);
        Directory.CreateDirectory(At("r"));
        Ran ran = Run("corpus", "keep", folder, "--out", At("r"), "--from", "a test");
        Assert.Equal(0, ran.Status);
        string kept = ran.Out.Trim();
        Assert.Null(Regression.TryRead(kept, out Regression? regression));
        Assert.Equal(("broken-cpuid", "a test"), (regression!.Target, regression.From));
        Assert.NotNull(regression.Run(new BrokenCpuid().Targets[0].CreateExecutor));
        Assert.Equal(1, Run("reproduce", kept, "--plugin", Plugin).Status);
        Refuses(Run("corpus", "keep", folder, "--out", At("r")), "already");
        Refuses(Run("corpus", "keep", HelloFile, "--out", At("r")), "no finding's directory");
        Refuses(Run("corpus", "keep", folder, "--out", At("nothing")), "does not exist");
    }
}
