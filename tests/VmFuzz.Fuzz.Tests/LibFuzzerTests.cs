namespace VmFuzz.Fuzz.Tests;

/// <summary>The host for libFuzzer.</summary>
public sealed class LibFuzzerTests : IDisposable
{
    private const int ErrorStatus = 77; // Of libFuzzer, after it has written an artifact.

    private readonly HostProcess _made = new();

    public void Dispose() => _made.Dispose();

    [Fact]
    public void Host_WithoutArguments_SaysHowToUseIt()
    {
        (int status, string output) = HostProcess.Run(HostProcess.LibFuzzer, []);
        Assert.Equal(2, status);
        Assert.Contains("-max_total_time=60", output, StringComparison.Ordinal);
    }

    [Fact]
    public void Host_WithoutTheArchive_NamesThePackage()
    {
        // Nothing is on this path; the archive may be there or not.
        (int status, string output) = HostProcess.Run(HostProcess.LibFuzzer, ["--check"], ("PATH", _made.Folder));
        Assert.Equal(2, status);
        Assert.Contains("(Debian: ", output, StringComparison.Ordinal);
        Assert.Single(output.Trim().Split('\n'));
    }

    [Theory]
    [InlineData("bytes")]
    [InlineData("structured", "--structured")]
    public void LibFuzzer_OnAPlantedFault_FindsIt(string how, params string[] more)
    {
        NeedLibFuzzer();
        string prefix = Path.Combine(_made.Folder, how);
        string[] seed = [_made.Write("seeds/zero", new byte[16])];
        (int status, string output) = HostProcess.Run(
            HostProcess.LibFuzzer,
            [.. HostProcess.Planted("order"), .. more, "-seed=1", "-max_len=64", "-runs=3000000", "-max_total_time=60", $"-artifact_prefix={prefix}-", Path.GetDirectoryName(seed[0])!]);
        Assert.True(status == ErrorStatus, output);
        string artifact = Assert.Single(Directory.GetFiles(_made.Folder, how + "-crash-*"));
        Assert.Contains("planted@order", output, StringComparison.Ordinal);
        Assert.Equal(ErrorStatus, HostProcess.Run(HostProcess.LibFuzzer, [.. HostProcess.Planted("order"), artifact]).Status);
    }

    [Fact]
    public void LibFuzzer_WithAFile_AlsoRunsItUnderOtherConditions()
    {
        NeedLibFuzzer();
        string fine = _made.Write("fine", [0, 1]);
        string fault = _made.Write("fault", HostProcess.Fault);
        string[] options = [.. HostProcess.Planted("deep"), $"-artifact_prefix={_made.Folder}/"];
        Assert.Equal(0, HostProcess.Run(HostProcess.LibFuzzer, [.. options, fine]).Status);
        Assert.Equal(ErrorStatus, HostProcess.Run(HostProcess.LibFuzzer, [.. options, fine, fault]).Status);
    }

    [Fact]
    public void LibFuzzer_WithAFolderOfFindings_GoesOnBehindThem()
    {
        NeedLibFuzzer();
        string corpus = Path.GetDirectoryName(_made.Write("corpus/fault", HostProcess.Fault))!;
        string findings = Path.Combine(_made.Folder, "findings");
        (int status, string output) = HostProcess.Run(
            HostProcess.LibFuzzer,
            [.. HostProcess.Planted("order"), $"--findings={findings}", $"-artifact_prefix={_made.Folder}/", "-seed=1", "-max_len=64", "-runs=5000", corpus]);
        Assert.True(status == 0, output);
        Assert.Contains("planted@order", output, StringComparison.Ordinal);
        Assert.Single(Directory.GetFiles(findings));
    }

    [Fact]
    public void LibFuzzer_OnAHandlerOfAPlugin_FindsItsFault()
    {
        NeedLibFuzzer();
        string findings = Path.Combine(_made.Folder, "findings");
        (int status, string output) = HostProcess.Run(
            HostProcess.LibFuzzer,
            [.. HostProcess.Plugin, "--structured", $"--findings={findings}", $"-artifact_prefix={_made.Folder}/", "-seed=1", "-runs=5000", "-max_total_time=60"]);
        Assert.True(status == 0, output);
        Assert.Single(Directory.GetFiles(findings), static name => name.Contains("PlantedPlugin", StringComparison.Ordinal));
    }

    private static void NeedLibFuzzer()
    {
        (int status, string output) = HostProcess.Run(HostProcess.LibFuzzer, ["--check"]);
        Assert.SkipUnless(status == 0, output.Trim());
    }
}
