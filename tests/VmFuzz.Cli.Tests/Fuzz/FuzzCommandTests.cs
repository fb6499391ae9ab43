using System.Text.Json;
using VmFuzz.Machines;

namespace VmFuzz.Cli.Tests;

public class FuzzCommandTests : CommandFixture
{
    [Theory]
    [InlineData("--target", "nothing", "there is no target 'nothing'")]
    [InlineData("--driver", "nothing", "there is no driver 'nothing'")]
    [InlineData("--seconds", "0", "cannot be had")]
    [InlineData("--seconds", "-1", "is not a number of seconds")]
    [InlineData("--seconds", "soon", "is not a number of seconds")]
    [InlineData("--execs", "0", "too small")]
    [InlineData("--execs", "many", "is not a number")]
    [InlineData("--jobs", "0", "too small")]
    [InlineData("--jobs", "1000", "too large")]
    [InlineData("--seed", "x", "is not a number")]
    [InlineData("--seed", "99999999999999999999", "is not a number")]
    [InlineData("--input", "/nowhere/at/all", "does not exist")]
    [InlineData("--plugin", "/nowhere/plug.dll", "does not exist")]
    [InlineData("--hang-seconds", "0", "cannot be had")]
    [InlineData("--memory-mib", "1", "too small")]
    [InlineData("--frobnicate", "1", "--frobnicate")]
    public void Fuzz_NonsenseOption_IsRefusedInOneLineAndMakesNothing(string option, string value, string text)
    {
        Refuses(Run("fuzz", "--out", At("out"), option, value), text);
        Assert.False(Directory.Exists(At("out")));
    }

    [Fact]
    public void Fuzz_EmptyOutput_IsRefused() => Refuses(Run("fuzz", "--out", ""), "--out");

    [Fact]
    public void Fuzz_OutputIsAFile_IsRefused() => Refuses(Run("fuzz", "--out", HelloFile), "is a file");

    [Fact]
    public void Fuzz_PluginIsNoAssembly_IsRefused() => Refuses(Run("fuzz", "--out", At("out"), "--plugin", HelloFile), "the plug-in is of no use");

    [Fact]
    public void Fuzz_PluginOffersNothing_IsRefused() =>
        Refuses(Run("fuzz", "--out", At("out"), "--plugin", typeof(Engine).Assembly.Location), "has no public class");

    [Fact]
    public void Fuzz_InputIsAFile_IsRefused() => Refuses(Run("fuzz", "--out", At("out"), "--input", HelloFile), "name the directory");

    [Fact]
    public void Fuzz_CampaignIsThereAlready_IsRefusedAndUntouched()
    {
        string[] before = MakeCampaign();
        Refuses(Run("fuzz", "--out", At("out")), "add --resume", "another --out");
        Assert.Equal(before, Directory.GetFileSystemEntries(At("out")));
    }

    [Fact]
    public void Fuzz_DirectoryOfOtherThings_IsRefused()
    {
        Directory.CreateDirectory(At("out"));
        File.WriteAllText(Path.Combine(At("out"), "letter.txt"), "dear");
        Refuses(Run("fuzz", "--out", At("out")), "holds other things");
    }

    [Fact]
    public void Fuzz_ResumeOfNothing_IsRefused() => Refuses(Run("fuzz", "--resume", "--out", At("out")), "no campaign to go on with");

    [Theory]
    [InlineData("format", "2", "has format 2")]
    [InlineData("semantics", "999", "another engine")]
    [InlineData("rows", "\"0x0\"", "another engine")]
    public void Fuzz_ResumeOfAnotherVersion_IsRefused(string key, string value, string text)
    {
        MakeCampaign();
        Change(key, value);
        Refuses(Run("fuzz", "--resume", "--out", At("out")), text, "--input");
    }

    [Fact]
    public void Fuzz_ResumeOfADamagedCampaign_IsRefused()
    {
        MakeCampaign();
        File.WriteAllText(Path.Combine(At("out"), CampaignFile.Name), "{");
        Refuses(Run("fuzz", "--resume", "--out", At("out")), "cannot be read");
    }

    [Theory]
    [InlineData("the campaign's target is exit-handlers", "--target", "guest-code")]
    [InlineData("the campaign's seed is 7", "--seed", "8")]
    [InlineData("runs with coverage", "--no-coverage")]
    public void Fuzz_ResumeOfAnotherCampaign_IsRefused(string text, params string[] options)
    {
        MakeCampaign();
        Refuses(Run([.. (string[])["fuzz", "--resume", "--out", At("out")], .. options]), text);
    }

    [Fact]
    public void Fuzz_CampaignRunsThere_IsRefused()
    {
        MakeCampaign();
        using FileStream held = new(Path.Combine(At("out"), ".lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        Refuses(Run("fuzz", "--resume", "--out", At("out")), "a campaign is running there");
    }

    [Fact]
    public void Fuzz_List_NamesEveryTargetAndDriver()
    {
        Ran ran = Run("fuzz", "--list");
        Assert.Equal(0, ran.Status);
        foreach (string name in (string[])["exit-handlers", "vmcs-entry", "guest-code", "built-in"])
        {
            Assert.Contains(name, ran.Out, StringComparison.Ordinal);
        }

        JsonElement json = Run("fuzz", "--list", "--json").Json;
        Assert.Equal("exit-handlers", json.GetProperty("targets")[0].GetProperty("name").GetString());
    }

    [Fact]
    public void FuzzWorker_StartedByHand_IsRefused() => Refuses(Run("fuzz-worker"), "vmfuzz fuzz");

    [Theory]
    [InlineData("--execution", "x", "is not a number")]
    [InlineData("--execution", "1", "no campaign")]
    public void Rerun_Nonsense_IsRefused(string option, string value, string text) =>
        Refuses(Run("fuzz", "rerun", At("nothing"), option, value), text);

    [Fact]
    public void Rerun_NoSuchWorker_IsRefused()
    {
        MakeCampaign();
        Refuses(Run("fuzz", "rerun", At("out"), "--worker", "3", "--execution", "1"), "no worker 3");
    }

    // What a first campaign leaves, without running one.
    private string[] MakeCampaign()
    {
        Directory.CreateDirectory(At("out"));
        var arguments = new FuzzArguments
        {
            Target = VmFuzz.Fuzzing.FuzzTargetRow.BuiltIn[0],
            Driver = FuzzDriver.BuiltIn,
            Output = At("out"),
            ShownOutput = At("out"),
        };
        File.WriteAllBytes(Path.Combine(At("out"), CampaignFile.Name), CampaignFile.Of(arguments, 7).ToBytes());
        return Directory.GetFileSystemEntries(At("out"));
    }

    private void Change(string key, string value)
    {
        string path = Path.Combine(At("out"), CampaignFile.Name);
        File.WriteAllText(path, System.Text.RegularExpressions.Regex.Replace(File.ReadAllText(path), $"\"{key}\": [^,]*,", $"\"{key}\": {value},"));
    }
}
