using System.Text;

namespace VmFuzz.Fuzzing.Tests;

public sealed class FuzzHostTests : IDisposable
{
    private readonly CampaignFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Host_AskedInTurn_AnswersAsTheCampaignDoes()
    {
        FakeExecutor executor = new(new FakeProbes());
        Func<byte[], byte[]> host = Open(new FuzzHostConfig { Target = "exit-handlers", Directory = _folder.At("w"), Seed = 7 }, executor);
        CampaignStatus status = Ask(host, new FuzzHostRequest { Op = FuzzHostRequest.Step, Executions = 5000, Time = 10 }).Status!;
        Assert.Equal(5000UL, status.Executions);
        Assert.Equal(5000UL, status.Next);
        Assert.Equal(10UL, status.Time);
        Assert.NotEmpty(status.Yields);
        Assert.True(status.Features > 0);
        Assert.True(status.DeepRuns > 50, "the default of a missing member is kept");

        FuzzHostResponse input = Ask(host, new FuzzHostRequest { Op = FuzzHostRequest.Input, Index = 3000 });
        FuzzHostResponse rerun = Ask(host, new FuzzHostRequest { Op = FuzzHostRequest.Rerun, Index = 3000 });
        Assert.Null(input.Error);
        Assert.NotEmpty(input.Input!);
        Assert.Equal(input.Input, rerun.Input);
        Assert.Equal(16, rerun.Digest!.Length);
        FuzzHostResponse none = Ask(host, new FuzzHostRequest { Op = FuzzHostRequest.Input, Index = 1UL << 40 });
        Assert.NotNull(none.Error);
        Assert.Null(none.Input);

        Assert.Null(Ask(host, new FuzzHostRequest { Op = FuzzHostRequest.Stats, Time = 2000, Clock = 5 }).Error);
        Assert.True(File.Exists(_folder.At("w/fuzzer_stats")));
        FuzzHostRequest hang = new() { Op = FuzzHostRequest.Finding, Index = 3000, Oracle = OracleFolders.Hang, Where = "x", Text = "y" };
        Assert.Contains(Ask(host, hang).Status!.Findings, static f => f.Key == "hang@x" && f.File.StartsWith("findings/hang", StringComparison.Ordinal));

        Assert.Contains("there are step", Ask(host, new FuzzHostRequest { Op = "dance" }).Error, StringComparison.Ordinal);
        Assert.NotNull(FuzzHostResponse.FromJson(host([1, 2, 3])).Error);
        Assert.Null(Ask(host, new FuzzHostRequest { Op = FuzzHostRequest.Stop }).Error);
        Assert.True(executor.Disposed);
        Assert.Contains("closed", Ask(host, new FuzzHostRequest { Op = FuzzHostRequest.Step }).Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{"target":"nothing","directory":"D"}""", "there is no target")]
    [InlineData("""{"target":"exit-handlers"}""", "directory")]
    [InlineData("""{"target":"exit-handlers","directory":"D","plugins":["/none.dll"]}""", "/none.dll")]
    [InlineData("""{"target":"exit-handlers","directory":"D","probeCount":1000000000}""", "coverage map")]
    [InlineData("null", "not understood")]
    [InlineData("{", "not understood")]
    public void Host_WithABadConfiguration_RefusesEveryRequest(string json, string part)
    {
        string text = json.Replace("\"D\"", $"\"{_folder.At("w")}\"", StringComparison.Ordinal);
        Func<byte[], byte[]> host = FuzzHost.Open(Encoding.UTF8.GetBytes(text), static _ => new FakeExecutor(new FakeProbes()));
        FuzzHostResponse answer = Ask(host, new FuzzHostRequest { Op = FuzzHostRequest.Step, Executions = 1 });
        Assert.True(answer.Refused);
        Assert.Contains(part, answer.Error, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder.At("w")));
    }

    [Fact]
    public void Host_OnADirectoryWithACampaign_AsksForResume()
    {
        FuzzHostConfig config = new() { Target = "exit-handlers", Directory = _folder.At("w") };
        Func<byte[], byte[]> host = Open(config, new FakeExecutor(new FakeProbes()));
        Ask(host, new FuzzHostRequest { Op = FuzzHostRequest.Step, Executions = 100 });
        Ask(host, new FuzzHostRequest { Op = FuzzHostRequest.Stop });
        FakeExecutor refused = new(new FakeProbes());
        Assert.Contains("resume", Ask(Open(config, refused), new FuzzHostRequest { Op = FuzzHostRequest.Status }).Error, StringComparison.Ordinal);
        Assert.True(refused.Disposed);
        host = Open(config with { Resume = true }, new FakeExecutor(new FakeProbes()));
        Assert.Equal(100UL, Ask(host, new FuzzHostRequest { Op = FuzzHostRequest.Status }).Status!.Executions);
        Ask(host, new FuzzHostRequest { Op = FuzzHostRequest.Stop });
    }

    private static Func<byte[], byte[]> Open(FuzzHostConfig config, FakeExecutor executor) => FuzzHost.Open(config.ToJson(), _ => executor);

    private static FuzzHostResponse Ask(Func<byte[], byte[]> host, FuzzHostRequest request) => FuzzHostResponse.FromJson(host(request.ToJson()));
}
