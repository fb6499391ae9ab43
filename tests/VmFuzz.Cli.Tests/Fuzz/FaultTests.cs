using System.Diagnostics;
using System.Globalization;
using VmFuzz.Fuzzing;
using VmFuzz.Replay;

namespace VmFuzz.Cli.Tests;

/// <summary>What becomes of a campaign when something around it fails: the command as users run it.</summary>
public class FaultTests : CommandFixture
{
    private static readonly string Plugin = typeof(HarmfulPlugin).Assembly.Location;

    private string[] Throwing => ["fuzz", "--target", HarmfulPlugin.Throws, "--plugin", Plugin, "--jobs", "1", "--seed", "3", "--no-coverage", "--out", At("out")];

    private string[] Plain => ["fuzz", "--jobs", "1", "--seed", "3", "--no-coverage", "--out", At("out")];

    [Theory]
    [InlineData(0)]
    [InlineData(150)]
    [InlineData(900)]
    public void Fuzz_SupervisorIsKilledBehindAFinding_ResumeHasItAndGoesOnCounting(int milliseconds)
    {
        using (Process process = Start(Throwing))
        {
            Await(process, static line => line.Contains("finding ", StringComparison.Ordinal));
            Thread.Sleep(milliseconds);
            process.Kill();
            process.WaitForExit();
        }

        Ran ran = Run([.. Throwing, "--resume", "--execs", "40", "--json"]);
        Assert.True(ran.Status == ExitStatus.Finding, ran.Err);
        var finding = Assert.Single(ran.Json.GetProperty("findings").EnumerateArray());
        Assert.True(Directory.Exists(finding.GetProperty("file").GetString()), ran.Out);
        Assert.Contains("no leaves", finding.GetProperty("text").GetString(), StringComparison.Ordinal);
        Assert.True(ran.Json.GetProperty("executionsTotal").GetUInt64() > 40);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(700)]
    public void Fuzz_SupervisorIsKilledAndResumed_NoIndexMeansTwoInputsAndEachRunsTheSameAgain(int milliseconds)
    {
        using (Process process = Start(Plain))
        {
            AwaitExecutions(process);
            Thread.Sleep(milliseconds);
            process.Kill();
            process.WaitForExit();
        }

        Ran ran = Run([.. Plain, "--resume", "--execs", "3000", "--json"]);
        Assert.True(ran.Status is ExitStatus.Fine or ExitStatus.Finding, ran.Err);
        (CorpusName Name, string Path)[] queue =
        [
            .. Directory.GetFiles(Path.Combine(At("out"), "worker00", "queue")).Order(StringComparer.Ordinal)
                .Select(static path => (CorpusName.Parse(Path.GetFileName(path))!, path)),
        ];
        Assert.Equal(queue.Length, queue.Select(static q => q.Name.Id).Distinct().Count());
        Assert.Equal(queue.Length, queue.Select(static q => q.Name.Executions).Distinct().Count());
        Assert.Contains(queue, static q => q.Name.Executions >= 65536);
        using var executor = new ExitHandlersExecutor();
        foreach ((CorpusName name, string path) in ((CorpusName, string)[])[queue[0], queue[queue.Length / 2], queue[^1]])
        {
            Ran again = Run("fuzz", "rerun", At("out"), "--execution", name.Executions.ToString(CultureInfo.InvariantCulture), "--json");
            Assert.True(again.Status == ExitStatus.Fine, again.Err + again.Out);
            executor.Run(FuzzCodec.Decode(File.ReadAllBytes(path)));
            Assert.Equal($"0x{executor.Digest():x16}", again.Json.GetProperty("digest").GetString());
        }
    }

    [Fact]
    public void Fuzz_CampaignRunsThereAlready_IsRefusedInOneLine()
    {
        using Process process = Start(Plain);
        AwaitExecutions(process);
        Refuses(Run([.. Plain, "--resume"]), "a campaign is running there");
        Refuses(Run(Plain), "there is a campaign already");
        process.Kill();
        process.WaitForExit();

        // Behind the worker that is left.
        Assert.Equal(0, Run([.. Plain, "--resume", "--execs", "5"]).Status & ~1);
    }

    [Fact]
    public void Fuzz_OutputCannotBeMade_IsRefusedInOneLine() => Refuses(Run("fuzz", "--out", "/proc/vmfuzz"), "the output cannot be made");

    [Fact]
    public void Fuzz_OutputCannotBeRead_IsRefusedInOneLine()
    {
        Assert.SkipWhen(Environment.IsPrivilegedProcess, "nothing is unreadable to root");
        Directory.CreateDirectory(At("out"));
        Assert.SkipUnless(Tool("chmod", "000", At("out")), "needs chmod");
        Refuses(Run("fuzz", "--out", At("out")), "cannot be");
        Tool("chmod", "700", At("out"));
    }

    [Fact]
    public void Fuzz_DiskIsFullAtTheStart_IsRefusedAndLeavesNothing()
    {
        using var disk = new TinyDisk(At("disk"));
        disk.Fill(leave: 0);
        string[] command = [.. Plain[..^1], Path.Combine(At("disk"), "out")];
        Refuses(Run(command), "cannot be written");
        Assert.False(Directory.Exists(Path.Combine(At("disk"), "out")));
        disk.MakeRoom();
        Assert.True(Run([.. command, "--execs", "5"]).Status is ExitStatus.Fine);
    }

    [Fact]
    public void Fuzz_DiskBecomesFull_GoesOnSaysSoAndKeepsItsFindings()
    {
        using var disk = new TinyDisk(At("disk"));
        disk.Fill(leave: 80 << 10);
        string[] command = [.. Throwing[..^1], Path.Combine(At("disk"), "out"), "--json"];
        Ran ran = Run([.. command, "--execs", "1500"]);
        Assert.True(ran.Status == ExitStatus.Finding, ran.Err);
        Assert.Equal(1500UL, ran.Json.GetProperty("executions").GetUInt64());
        Assert.True(ran.Json.GetProperty("unwritten").GetInt32() > 0, ran.Out);
        Assert.Contains("No space left", ran.Err, StringComparison.Ordinal);
        Assert.Contains("files could not be written", ran.Err, StringComparison.Ordinal);
        disk.MakeRoom();
        ran = Run([.. command, "--resume", "--execs", "20"]);
        Assert.True(ran.Status == ExitStatus.Finding, ran.Err);
        Assert.Equal(0, ran.Json.GetProperty("unwritten").GetInt32());
        Assert.All(ran.Json.GetProperty("findings").EnumerateArray(), static f => Assert.True(Directory.Exists(f.GetProperty("file").GetString())));
    }

    [Fact]
    public void Fuzz_InputsAreRandomBytes_RunsThem()
    {
        Directory.CreateDirectory(At("seeds"));
        var random = new SplitMix(5);
        for (int i = 0; i < 12; i++)
        {
            byte[] bytes = new byte[i * i * 700];
            for (int at = 0; at < bytes.Length; at++)
            {
                bytes[at] = (byte)random.Next();
            }

            File.WriteAllBytes(Path.Combine(At("seeds"), $"seed{i}"), bytes);
        }

        File.CreateSymbolicLink(Path.Combine(At("seeds"), "link"), At("nowhere"));
        Ran ran = Run([.. Plain, "--input", At("seeds"), "--execs", "200", "--json"]);
        Assert.True(ran.Status is ExitStatus.Fine, ran.Err);
        Assert.Equal(200UL, ran.Json.GetProperty("executions").GetUInt64());
        Assert.Contains("is a link: skipped", ran.Err, StringComparison.Ordinal);
    }

    [Fact]
    public void CorpusMinAndMerge_InputEndsTheProcess_IsNamedAndLeftOut()
    {
        MadeExit cpuid = new(new Vmx.VmExit((uint)Arch.ExitReason.Cpuid, InstructionLength: 2));
        MadeExit halt = new(new Vmx.VmExit((uint)Arch.ExitReason.Hlt, InstructionLength: 1));
        Directory.CreateDirectory(At("seeds"));
        foreach ((string name, MadeExit exit) in ((string, MadeExit)[])[("deadly", cpuid), ("harmless", halt)])
        {
            var input = new FuzzInput();
            input.Exits.Add(exit);
            File.WriteAllBytes(Path.Combine(At("seeds"), name), FuzzCodec.Encode(input));
        }

        string[] target = ["--target", HarmfulPlugin.Overflows, "--plugin", Plugin];
        foreach (string[] command in (string[][])[["corpus", "min", At("seeds"), At("small")], ["corpus", "merge", At("seeds"), "--out", At("merged")]])
        {
            Ran ran = Run([.. command, .. target]);
            Assert.Equal(ExitStatus.Fine, ran.Status);
            Assert.Equal(1, ran.Err.Count(static c => c == '\n'));
            Assert.Contains("deadly is left out: it ends the process that runs it (stack-overflow in", ran.Err, StringComparison.Ordinal);
            Assert.Contains("of 2 inputs 1 ", ran.Out, StringComparison.Ordinal);
        }
    }

    private static bool Tool(string name, params string[] arguments)
    {
        try
        {
            using Process process = Process.Start(new ProcessStartInfo(name, arguments) { RedirectStandardError = true, UseShellExecute = false })!;
            process.StandardError.ReadToEnd();
            process.WaitForExit();
            return process.ExitCode == 0;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return false;
        }
    }

    /// <summary>A file system of 600 KiB; a test that cannot have one is skipped.</summary>
    private sealed class TinyDisk : IDisposable
    {
        private const int Size = 600 << 10;
        private readonly string _folder;

        public TinyDisk(string folder)
        {
            _folder = folder;
            Directory.CreateDirectory(folder);
            Assert.SkipUnless(Environment.IsPrivilegedProcess && Tool("mount", "-t", "tmpfs", "-o", $"size={Size}", "tmpfs", folder), "needs to mount a tmpfs");
        }

        private string Ballast => Path.Combine(_folder, "ballast");

        public void Fill(int leave) => File.WriteAllBytes(Ballast, new byte[Size - leave]);

        public void MakeRoom() => File.Delete(Ballast);

        public void Dispose() => Tool("umount", "-l", _folder);
    }
}
