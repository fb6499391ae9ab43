namespace VmFuzz.Cli.Tests;

public class CorpusCommandTests : CommandFixture
{
    [Fact]
    public void Add_TraceAndFile_WritesCanonicalInputsOnce()
    {
        string trace = Record("-accel", "kvm");
        Ran ran = Run("corpus", "add", trace, HelloFile, "--out", At("seeds"), "--json");
        Assert.Equal(0, ran.Status);
        int kept = ran.Json.GetProperty("kept").GetInt32();
        Assert.True(kept >= 2);
        Assert.Equal(kept, Directory.GetFiles(At("seeds")).Length);
        Assert.Equal(0, Run("corpus", "add", At("seeds"), trace, "--out", At("seeds"), "--json").Json.GetProperty("kept").GetInt32());
        foreach (string file in Directory.GetFiles(At("seeds")))
        {
            byte[] bytes = File.ReadAllBytes(file);
            Assert.Equal(bytes, VmFuzz.Fuzzing.FuzzCodec.Encode(VmFuzz.Fuzzing.FuzzCodec.Decode(bytes)));
        }
    }

    [Fact]
    public void Add_Target_LeavesOutOtherKinds()
    {
        string trace = Record("-accel", "kvm");
        Assert.Equal(0, Run("corpus", "add", trace, "--out", At("seeds"), "--target", "guest-code").Status);
        Ran list = Run("corpus", "list", At("seeds"));
        Assert.Contains("guest-code", list.Out, StringComparison.Ordinal);
        Assert.DoesNotContain("exit-handlers", list.Out, StringComparison.Ordinal);
    }

    [Fact]
    public void List_Json_IsAnObjectALine()
    {
        Run("corpus", "add", HelloFile, "--out", At("seeds"));
        Ran ran = Run("corpus", "list", At("seeds"), "--json");
        Assert.Contains("hello.bin", ran.Json.GetProperty("name").GetString(), StringComparison.Ordinal);
        Assert.True(ran.Json.GetProperty("bytes").GetInt32() > 0);
    }

    [Fact]
    public void Add_SourceIsMissing_IsRefused() => Refuses(Run("corpus", "add", At("none"), "--out", At("seeds")), "no such file");

    [Fact]
    public void Add_OutputIsAFile_IsRefused() => Refuses(Run("corpus", "add", HelloFile, "--out", HelloFile), "not a directory");

    [Fact]
    public void Add_OutputIsACampaign_IsRefused()
    {
        Directory.CreateDirectory(Path.Combine(At("out"), "queue"));
        Refuses(Run("corpus", "add", HelloFile, "--out", At("out")), "a campaign's");
    }

    [Fact]
    public void Min_OutputIsNotEmpty_IsRefused()
    {
        Run("corpus", "add", HelloFile, "--out", At("seeds"));
        Refuses(Run("corpus", "min", At("seeds"), At("seeds")), "not empty");
    }

    [Fact]
    public void Min_NoSuchTarget_IsRefused() => Refuses(Run("corpus", "min", Folder, At("x"), "--target", "nix"), "no target 'nix'");
}
