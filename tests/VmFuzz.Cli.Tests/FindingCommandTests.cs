using System.Text.Json;
using VmFuzz.Arch;
using VmFuzz.Fuzzing;
using VmFuzz.Vmx;

namespace VmFuzz.Cli.Tests;

public class FindingCommandTests : CommandFixture
{
    private static FuzzInput Input()
    {
        FuzzInput input = new() { Target = FuzzTarget.ExitHandlers };
        input.Exits.Add(new MadeExit(new VmExit((uint)ExitReason.MovDr, new DebugRegisterQualification(7, false, Gpr.Rbx).Value, InstructionLength: 3)));
        return input;
    }

    private string MakeFinding(string worker = "worker00", string oracle = "retire.rip", string target = "exit-handlers", string text = "RIP did not move")
    {
        Finding finding = new()
        {
            Violation = new(oracle, "MovDr", text),
            State = FindingState.Confirmed,
            Campaign = new(target, "", "worker00", 1, EngineIdentity.Here([]), []),
            Execution = 12,
            Digest = 0x1234,
        };
        string folder = At(Path.Combine("c", worker, "findings", FindingNames.Slug(finding.Violation.Key)));
        Directory.CreateDirectory(folder);
        File.WriteAllBytes(Path.Combine(folder, "finding.json"), FindingJson.Write(finding));
        File.WriteAllBytes(Path.Combine(folder, "input"), FuzzCodec.Encode(Input()));
        return folder;
    }

    [Fact]
    public void Explain_Finding_SaysWhatBrokeAndWhatTheInputIs()
    {
        string folder = MakeFinding();
        Ran ran = Run("explain", folder);
        Assert.Equal(0, ran.Status);
        Assert.StartsWith("retire.rip@MovDr\n", ran.Out, StringComparison.Ordinal);
        Assert.Contains("what broke  RIP did not move", ran.Out, StringComparison.Ordinal);
        Assert.Contains("debug register  dr7", ran.Out, StringComparison.Ordinal);
        Assert.Contains($"vmfuzz reproduce {folder}", ran.Out, StringComparison.Ordinal);
        JsonElement json = Run("explain", folder, "--json").Json;
        Assert.Equal("retire.rip@MovDr", json.GetProperty("finding").GetProperty("key").GetString());
        Assert.Equal("exits", json.GetProperty("sections")[1].GetProperty("id").GetString());
        Assert.Equal("dr7", json.GetProperty("sections")[1].GetProperty("facts")[0].GetProperty("parts")[0].GetProperty("parts")[1].GetProperty("value").GetString());
    }

    [Theory]
    [InlineData("")]
    [InlineData("hello, these are no sections")]
    [InlineData("\u0081\u0000\u00FF\u001b[2J")]
    public void Explain_AnyFile_IsAnInput(string content)
    {
        string path = Make("any", System.Text.Encoding.Latin1.GetBytes(content));
        Ran ran = Run("explain", path);
        Assert.Equal(0, ran.Status);
        Assert.Contains("setup\n", ran.Out, StringComparison.Ordinal);
        Assert.Contains($"vmfuzz reproduce {path} --target ", ran.Out, StringComparison.Ordinal);
        Assert.DoesNotContain('\u001b', ran.Out);
    }

    [Fact]
    public void Explain_FileOfACampaign_KnowsItsTarget()
    {
        Directory.CreateDirectory(At("c/worker00/queue"));
        File.WriteAllBytes(At("c/worker00/queue/id:000000"), FuzzCodec.Encode(Input()));
        File.WriteAllText(At("c/campaign.json"), "{\"format\":1,\"target\":\"mine\",\"plugins\":[\"my.dll\"]}");
        Assert.EndsWith("/queue/id:000000 --plugin my.dll\n", Run("explain", At("c/worker00/queue/id:000000")).Out, StringComparison.Ordinal);
        Refuses(Run("reproduce", At("c/worker00/queue/id:000000")), "there is no target 'mine'", "--plugin my.dll");
    }

    [Theory]
    [InlineData("explain")]
    [InlineData("reproduce")]
    public void Command_UnusablePath_IsRefusedInOneLine(string command)
    {
        Refuses(Run(command, At("nothing")), "does not exist");
        Refuses(Run(command, Folder), "there is no finding");
        string folder = MakeFinding();
        Refuses(Run(command, At("c")), "this is a campaign", "vmfuzz findings");
        File.Delete(Path.Combine(folder, "input"));
        Refuses(Run(command, folder), "has no input");
        File.WriteAllText(Path.Combine(folder, "finding.json"), "{\"schema\":\n7}");
        Refuses(Run(command, folder), "finding.json cannot be used");
        File.WriteAllText(Path.Combine(folder, "finding.json"), "\u001b");
        Refuses(Run(command, folder), "finding.json cannot be used");
    }

    [Theory]
    [InlineData("--target", "other", "there is no target 'other'")]
    [InlineData("--plugin", "nothing.dll", "the plug-in does not exist")]
    [InlineData("--seconds", "0", "is not a number of seconds")]
    [InlineData("--seconds", "x", "is not a number of seconds")]
    public void Reproduce_NonsenseOption_IsRefused(string option, string value, string text) =>
        Refuses(Run("reproduce", HelloFile, option, value), text);

    [Fact]
    public void Findings_OfTwoWorkers_AreMergedAndReported()
    {
        MakeFinding("worker00");
        MakeFinding("worker01");
        MakeFinding("worker01", "ledger.pins");
        Ran ran = Run("findings", At("c"), "--sarif", At("f.sarif"), "--junit", At("f.xml"));
        Assert.Equal(1, ran.Status);
        Assert.Contains("2 findings, 2 workers", ran.Out, StringComparison.Ordinal);
        Assert.Contains("exit-handlers, confirmed, 0 bytes, execution 12, 2 workers", ran.Out, StringComparison.Ordinal);
        using JsonDocument sarif = JsonDocument.Parse(File.ReadAllBytes(At("f.sarif")));
        Assert.Equal(2, sarif.RootElement.GetProperty("runs")[0].GetProperty("results").GetArrayLength());
        Assert.Contains("<failure", File.ReadAllText(At("f.xml")), StringComparison.Ordinal);
        JsonElement json = Run("findings", At("c"), "--json").Json;
        Assert.Equal(2, json.GetProperty("findings").GetArrayLength());
        Assert.Equal(1, json.GetProperty("status").GetInt32());
    }

    [Fact]
    public void Findings_NoneYet_IsFine()
    {
        Directory.CreateDirectory(At("c/worker00/queue"));
        Ran ran = Run("findings", At("c"));
        Assert.Equal(0, ran.Status);
        Assert.Contains("0 findings, 1 worker", ran.Out, StringComparison.Ordinal);
    }

    [Fact]
    public void Findings_UnfitReport_IsRefusedAndNothingIsTouched()
    {
        string folder = MakeFinding();
        string input = Path.Combine(folder, "input");
        byte[] before = File.ReadAllBytes(input);
        Refuses(Run("findings", At("c"), "--sarif", input, "--force"), "campaign's own files");
        Refuses(Run("findings", At("c"), "--junit", At("c/campaign.json"), "--force"), "campaign's own files");
        Refuses(Run("findings", At("c"), "--sarif", HelloFile), "exists already");
        Refuses(Run("findings", At("c"), "--sarif", At("x"), "--junit", At("x")), "--sarif");
        Refuses(Run("findings", At("c"), "--sarif", At("no/such/x")), "directory");
        Refuses(Run("findings", At("c"), "--sarif", At("c")), "is a directory");
        File.CreateSymbolicLink(At("link"), input);
        Refuses(Run("findings", At("c"), "--sarif", At("link"), "--force"), "campaign's own files");
        Refuses(Run("findings", At("nothing")), "there is no campaign");
        Refuses(Run("findings", HelloFile), "this is a file");
        Refuses(Run("findings", Folder + "/c/worker00/findings"), "there is no campaign");
        Assert.Equal(before, File.ReadAllBytes(input));
        Assert.Equal(Hello, File.ReadAllBytes(HelloFile));
        Assert.False(File.Exists(At("x")));
        Assert.Equal(1, Run("findings", At("c"), "--sarif", HelloFile, "--force").Status);
    }
}
