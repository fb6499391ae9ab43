using System.Diagnostics;
using VmFuzz.Cli.Terminal;

namespace VmFuzz.Cli.Tests;

/// <summary>What a person types, and what a script types for one.</summary>
public sealed class ConsoleTests : CommandFixture
{
    private static string Echo => Path.Combine(Root, "corpus", "guests", "echo64.bin");

    [Fact]
    public void Escape_Keys_AreOurs()
    {
        var keys = new EscapeKeys();
        Assert.Equal((KeyAction.Send, (byte)'x'), Take(keys, (byte)'x'));
        Assert.Equal(KeyAction.None, Take(keys, 1).Action);
        Assert.Equal(KeyAction.End, Take(keys, (byte)'x').Action);
        Assert.Equal(KeyAction.None, Take(keys, 1).Action);
        Assert.Equal(KeyAction.Help, Take(keys, (byte)'h').Action);
        Assert.Equal(KeyAction.None, Take(keys, 1).Action);
        Assert.Equal((KeyAction.Send, (byte)1), Take(keys, 1));
        Assert.Equal(KeyAction.None, Take(keys, 1).Action);
        Assert.Equal((KeyAction.Send, (byte)1), Take(keys, (byte)'a'));
        Assert.Equal(KeyAction.None, Take(keys, 1).Action);
        Assert.Equal(KeyAction.None, Take(keys, (byte)'z').Action);
        Assert.Equal((KeyAction.Send, (byte)3), Take(keys, 3)); // Ctrl-C is the guest's.
    }

    [Fact]
    public void ExpectScript_ThatIsAnswered_IsFineAndReplays()
    {
        string trace = At("t.vmtrace");
        Ran ran = Run("record", "-kernel", Echo, "--expect-script", Script("expect \">\"\nsend \"hi\\rq\"\n"), "-o", trace);
        Assert.True(ran.Status == 0, ran.Err);
        Assert.StartsWith(">hi\rq", ran.Out, StringComparison.Ordinal);
        Assert.Equal(0, Run("replay", trace).Status);
    }

    [Fact]
    public void ExpectScript_WhoseTextDoesNotCome_IsStatus1AndSaysWhere()
    {
        string script = Script("# first\nexpect \"]\"\n");
        Ran ran = Run("run", "-kernel", Echo, "--expect-script", script, "--max-instructions", "1000000");
        Assert.Equal(1, ran.Status);
        Assert.Contains("the script came to line 2: its text did not appear", ran.Err, StringComparison.Ordinal);
        Ran json = Run("run", "-kernel", Echo, "--expect-script", script, "--max-instructions", "1000000", "--json");
        Assert.Equal(2, json.Json.GetProperty("scriptLine").GetInt32());
    }

    [Fact]
    public void ExpectScript_ThatIsWrong_IsRefused()
    {
        Refuses(Run("run", "-kernel", HelloFile, "--expect-script", At("none")), "does not exist");
        Refuses(Run("run", "-kernel", HelloFile, "--expect-script", Script("wait \"a\"")), "line 1", "expect, send, stop");
        Refuses(Run("record", "-kernel", HelloFile, "--expect-script", Script("stop"), "-o", At("s.txt"), "--force"), "uses already");
    }

    // The terminal is one that script(1) makes; what it says afterwards is what stty(1) says.
    [Theory]
    [InlineData("\u0001xq", "stopped by the user", "0")]
    [InlineData("\u0001h\u0001\u0001aq", "Ctrl-A h", "0")]
    [InlineData("\u0003q", "guest status 1", "0")]
    public async Task Terminal_InRawMode_GivesKeysToTheGuestAndIsPutBack(string keys, string shown, string status)
    {
        Assert.SkipUnless(File.Exists("/usr/bin/script"), "script (package bsdutils) is not installed");
        string command = $"stty -a > {At("before")}; {Quote(DotNet)} {Quote(typeof(Program).Assembly.Location)} run -kernel {Quote(Echo)}; echo status=$?; stty -a > {At("after")}";
        var start = new ProcessStartInfo("/usr/bin/script", ["-qec", command, "/dev/null"])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            UseShellExecute = false,
        };
        using Process process = System.Diagnostics.Process.Start(start)!;
        Task<string> output = Task.Run(
            async () =>
            {
                // The guest's prompt says that the keyboard is connected.
                var text = new System.Text.StringBuilder();
                var buffer = new char[256];
                bool typed = false;
                for (int count = await process.StandardOutput.ReadAsync(buffer); count > 0; count = await process.StandardOutput.ReadAsync(buffer))
                {
                    text.Append(buffer, 0, count);
                    if (!typed && text.ToString().Contains("keys", StringComparison.Ordinal))
                    {
                        typed = true;
                        await process.StandardInput.WriteAsync(keys);
                        await process.StandardInput.FlushAsync();
                    }
                }

                return text.ToString();
            },
            TestContext.Current.CancellationToken);
        bool ended = process.WaitForExit(60_000);
        if (!ended)
        {
            process.Kill(entireProcessTree: true);
        }

        string all = await output;
        Assert.True(ended, all);
        Assert.Contains(shown, all, StringComparison.Ordinal);
        Assert.Contains("status=" + status, all, StringComparison.Ordinal);
        Assert.Equal(File.ReadAllText(At("before")), File.ReadAllText(At("after")));
    }

    private static string DotNet => Environment.ProcessPath is { } own && Path.GetFileNameWithoutExtension(own) == "dotnet" ? own : "dotnet";

    private static string Quote(string text) => "'" + text.Replace("'", "'\\''", StringComparison.Ordinal) + "'";

    private static (KeyAction Action, byte Sent) Take(EscapeKeys keys, byte value)
    {
        KeyAction action = keys.Take(value, out byte sent);
        return (action, sent);
    }

    private string Script(string text) => Make("s.txt", System.Text.Encoding.UTF8.GetBytes(text));
}
