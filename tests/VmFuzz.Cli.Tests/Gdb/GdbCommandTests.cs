using System.Diagnostics;
using System.Text;
using System.Text.Json;

namespace VmFuzz.Cli.Tests.Gdb;

/// <summary>The options, and the real gdb at the command.</summary>
public class GdbCommandTests : CommandFixture
{
    private const string Marker = "target remote ";

    [Theory]
    [InlineData("-gdb", "1234", "not an address for gdb")]
    [InlineData("-gdb", "tcp:1234", "not an address for gdb")]
    [InlineData("-gdb", "tcp::70000", "not an address for gdb")]
    [InlineData("-gdb", "tcp:elsewhere:1", "not an address of this machine")]
    [InlineData("-S", "-S", "there is no gdb to wait for")]
    [InlineData("--gdb-arch", "i386", "there is no gdb to wait for")]
    public void Run_WithWrongGdb_IsRefused(string option, string value, string text) =>
        Refuses(option == value ? Run("run", "-kernel", HelloFile, option) : Run("run", "-kernel", HelloFile, option, value), text);

    [Fact]
    public void Run_WithUnknownArchitecture_IsRefused() =>
        Refuses(Run("run", "-kernel", HelloFile, "-s", "--gdb-arch", "arm"), "does not know the architecture 'arm'", "use i8086, i386, x86-64");

    [Fact]
    public void Gdb_ToldThatCodeHas16Bits_DecodesIt()
    {
        string guest = Make("load.bin", [0xBE, 0x14, 0x00, 0x00, 0x00, 0xF4]);
        (_, string talk) = UnderGdb(["run", "-kernel", guest, "--gdb-arch", "i8086"], "x/i $cs_base + $pc", "detach");
        Assert.Contains("mov    $0x14,%si", talk, StringComparison.Ordinal);
    }

    [Fact]
    public void Run_WithGdbThatNeverComes_RunsToItsEnd()
    {
        Ran ran = Run("run", "-kernel", HelloFile, "-gdb", "tcp::0");
        Assert.Equal(0, ran.Status);
        Assert.Equal("hi\n", ran.Out);
        Assert.Contains("gdb can connect: target remote 127.0.0.1:", ran.Err, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("hello64", "long64", "bare", "0x10007")]
    [InlineData("hello64", "long64", "kvm", "0x10007")]
    [InlineData("hello32", "protected32", "bare", "0x10005")]
    [InlineData("hello32", "protected32", "kvm", "0x10005")]
    [InlineData("hello16", "real16", "bare", "0x10003")]
    [InlineData("hello16", "real16", "kvm", "0x10003")]
    public void Gdb_AtARecording_LooksAndChangesNothing(string guest, string mode, string accel, string loop)
    {
        string kernel = Path.Combine(Root, "corpus", "guests", guest + ".bin");
        string[] machine = ["-kernel", kernel, "--flat-mode", mode, "-accel", accel];
        Assert.Equal(0, Run(["record", .. machine, "-o", At("alone.vmtrace")]).Status);
        (Ran ran, string talk) = UnderGdb(
            ["record", .. machine, "-o", At("watched.vmtrace")],
            $"break *{loop}", "continue", "printf \"first %x %x\\n\", $cs_base + $pc, $cr0 & 1", "stepi", "printf \"then %x %c\\n\", $cs_base + $pc, $al",
            "printf \"code %x\\n\", *(unsigned char*)0x10000", "set $al = 1", "delete", "continue");
        Assert.Equal(0, ran.Status);
        Assert.Equal("hi\n", ran.Out);
        ulong at = Convert.ToUInt64(loop, 16);
        Assert.Contains($"first {at:x} {(mode == "real16" ? 0 : 1)}", talk, StringComparison.Ordinal);
        Assert.Contains($"then {at + (mode == "real16" ? 2UL : 1UL):x} h", talk, StringComparison.Ordinal);
        Assert.Contains($"code {File.ReadAllBytes(kernel)[0]:x}", talk, StringComparison.Ordinal);
        Assert.Contains("a recorded or replayed run cannot be changed", talk, StringComparison.Ordinal);
        Assert.Contains("exited with code 01", talk, StringComparison.Ordinal);
        Assert.Equal(File.ReadAllBytes(At("alone.vmtrace")), File.ReadAllBytes(At("watched.vmtrace")));

        (Ran replayed, talk) = UnderGdb(["replay", At("alone.vmtrace"), "--json"], $"break *{loop}", "continue", "stepi", "delete", "continue");
        Assert.Equal("Identical", replayed.Json.GetProperty("outcome").GetString());
        Assert.Contains("exited with code 01", talk, StringComparison.Ordinal);
    }

    [Fact]
    public void Gdb_AtARun_CanChangeTheGuest()
    {
        string guest = Make("exit.bin", [0xB8, 0x34, 0x12, 0x00, 0x00, 0x90, 0xF4]);
        (Ran ran, string talk) = UnderGdb(
            ["run", "-kernel", guest, "--json", "--dump-state"], "stepi", "set $rax = 0x77", "set $xmm3.uint128 = 5", "print $xmm3.uint128", "monitor position", "detach");
        JsonElement json = ran.Json;
        Assert.Equal("0x77", json.GetProperty("state").GetProperty("rax").GetString());
        Assert.Equal(3UL, json.GetProperty("retired").GetUInt64());
        Assert.Contains("= 5", talk, StringComparison.Ordinal);
        Assert.Contains("instruction 1, 1 ns, console 0 bytes", talk, StringComparison.Ordinal);
    }

    [Fact]
    public void Gdb_KillsAnEndlessRun_LeavesAWholeTrace()
    {
        string endless = Make("endless.bin", Endless);
        string trace = At("endless.vmtrace");
        (Ran ran, _) = UnderGdb(["record", "-kernel", endless, "-o", trace], "stepi", "kill");
        Assert.Equal(0, ran.Status);
        Assert.Contains("stopped by the user", ran.Err, StringComparison.Ordinal);
        Assert.Equal(0, Run("replay", trace).Status);
    }

    [Fact]
    public void Gdb_ThatGoesAway_LetsTheRunGoOn()
    {
        (Ran ran, _) = UnderGdb(["run", "-kernel", HelloFile], "break *0x10004", "disconnect");
        Assert.Equal(0, ran.Status);
        Assert.Equal("hi\n", ran.Out);
    }

    // Runs the command in this process, stopped at its start, with gdb's commands after it connected.
    private static (Ran Ran, string Talk) UnderGdb(string[] command, params string[] commands)
    {
        string? gdb = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator).Select(static f => Path.Combine(f, "gdb")).FirstOrDefault(File.Exists);
        Assert.SkipWhen(gdb is null, "gdb is not installed");
        using var output = new StringWriter();
        using var error = new LineWriter();
        int status = -1;
        var run = new Thread(() => status = Program.Run([.. command, "-gdb", "tcp::0", "-S"], output, error));
        run.Start();
        string target = error.Await(static line => line.Contains(Marker, StringComparison.Ordinal));
        var start = new ProcessStartInfo(gdb!) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        foreach (string argument in (string[])["--batch", "-nx", "-ex", target[target.IndexOf(Marker, StringComparison.Ordinal)..], .. commands.SelectMany(static c => (string[])["-ex", c])])
        {
            start.ArgumentList.Add(argument);
        }

        using Process process = Process.Start(start)!;
        var talk = new StringBuilder();
        process.OutputDataReceived += Add;
        process.ErrorDataReceived += Add;
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        process.StandardInput.Close();
        process.WaitForExit();
        run.Join();
        return (new Ran(status, output.ToString(), error.ToString()), talk.ToString());

        void Add(object sender, DataReceivedEventArgs line)
        {
            lock (talk)
            {
                talk.AppendLine(line.Data);
            }
        }
    }

    /// <summary>Text that another thread can wait for.</summary>
    private sealed class LineWriter : StringWriter
    {
        private readonly object _gate = new();

        public override void WriteLine(string? value)
        {
            lock (_gate)
            {
                base.WriteLine(value);
                Monitor.PulseAll(_gate);
            }
        }

        public string Await(Predicate<string> isIt)
        {
            lock (_gate)
            {
                for (; ; )
                {
                    if (ToString().Split('\n').FirstOrDefault(line => isIt(line)) is { } found)
                    {
                        return found;
                    }

                    Assert.True(Monitor.Wait(_gate, 30_000), "the command did not say where gdb can connect: " + this);
                }
            }
        }
    }
}
