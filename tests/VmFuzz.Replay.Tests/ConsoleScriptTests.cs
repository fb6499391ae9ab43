using System.Text;
using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Testing;

namespace VmFuzz.Replay.Tests;

public sealed class ConsoleScriptTests
{
    [Fact]
    public void TryParse_AllForms_GivesTheStepsWithTheirLines()
    {
        Assert.Null(ConsoleScript.TryParse("# a\r\n\r\n expect \"a\\\"\\\\ é\"\nsend\t\"\\r\\n\\t\\e\\x7f#\"\nstop\n", out ConsoleScript script));
        Assert.Equal([ConsoleStepKind.Expect, ConsoleStepKind.Send, ConsoleStepKind.Stop], script.Steps.Select(static s => s.Kind));
        Assert.Equal([3, 4, 5], script.Steps.Select(static s => s.Line));
        Assert.Equal(Encoding.UTF8.GetBytes("a\"\\ é"), script.Steps[0].Text);
        Assert.Equal([13, 10, 9, 27, 127, (byte)'#'], script.Steps[1].Text);
    }

    [Theory]
    [InlineData("", "no steps")]
    [InlineData("# nothing", "no steps")]
    [InlineData("expect \"a\"\nwait \"b\"", "line 2: there is no step 'wait'")]
    [InlineData("expect a", "line 1: the text stands between double quotes")]
    [InlineData("expect", "double quotes")]
    [InlineData("send \"", "double quotes")]
    [InlineData("send \"a\" \"b\"", "written \\\"")]
    [InlineData("send \"\\q\"", "after \\ stands")]
    [InlineData("send \"\\x4\"", "after \\ stands")]
    [InlineData("send \"a\\\"", "after \\ stands")]
    [InlineData("send \"\"", "the text is empty")]
    [InlineData("stop now", "nothing follows 'stop'")]
    public void TryParse_BadScript_SaysWhatAndWhere(string text, string wrong) =>
        Assert.Contains(wrong, ConsoleScript.TryParse(text, out _), StringComparison.Ordinal);

    [Fact]
    public void TryParse_OverALimit_IsRefused()
    {
        Assert.Contains("longer than 4096 bytes", ConsoleScript.TryParse($"send \"{new string('a', ConsoleScript.MaxText + 1)}\"", out _), StringComparison.Ordinal);
        Assert.Contains("more than", ConsoleScript.TryParse(string.Concat(Enumerable.Repeat("stop\n", ConsoleScript.MaxSteps + 1)), out _), StringComparison.Ordinal);
        Assert.Contains("longer than", ConsoleScript.TryParse(new string(' ', ConsoleScript.MaxLength + 1), out _), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Script_AnsweringAGuest_RepeatsAndReplays(Accelerator accelerator)
    {
        const string Text = "expect \">\"\nsend \"abc\"\nexpect \"b\"\nexpect \"c\"\nsend \"q\"\nexpect \"q\"";
        byte[] trace = Play(Text, accelerator, out string console, out ScriptSource source);
        Assert.Equal(">abcq", console);
        Assert.Null(source.Current);
        Assert.Equal(trace, Play(Text, accelerator, out _, out _));
        Assert.Equal(4UL, TraceAssert.Replays(trace).Counts.Inputs);
    }

    [Fact]
    public void Script_WhoseTextDoesNotCome_StaysThere()
    {
        Play("send \"xq\"\nexpect \"y\"\nstop", Accelerator.Bare, out string console, out ScriptSource source);
        Assert.Equal(">xq", console);
        Assert.Equal(2, source.Current?.Line);
    }

    [Fact]
    public void Script_ThatStops_EndsTheRunThroughTheDoor()
    {
        byte[] trace = Play("expect \">\"\nstop", Accelerator.Bare, out string console, out ScriptSource source);
        Assert.Equal(">", console);
        Assert.Null(source.Current);
        Assert.Equal(MachineStopKind.UserStop, TraceAssert.Replays(trace).Stop.Kind);
    }

    [Fact]
    public void Script_WithAnotherSource_LeavesItWhatIsItsOwn()
    {
        ConsoleScript.TryParse("expect \"x\"\nsend \"yz\"", out ConsoleScript script);
        var source = new ScriptSource(script, new ChaosSource(new ChaosOptions { Nmis = 1, Interrupts = 0, Kicks = 0, TypedBytes = 0, Span = 1 }, static () => 1));
        Assert.Equal(50UL, source.NextDue(0, 50));
        Assert.True(source.TryTake(InputPoint.Boundary, new Position(0, 50, 0), out Input input));
        Assert.Equal(InputKind.Nmi, input.Kind);
        Assert.Equal(ulong.MaxValue, source.NextDue(0, 50));
        Assert.False(source.Shown((byte)'w', 60));
        Assert.True(source.Shown((byte)'x', 61));
        Assert.Equal(61 + ScriptSource.ByteDistance, source.NextDue(0, 61));
        Assert.Equal(ulong.MaxValue, source.NextDue(1, 61));
        Assert.True(source.TryTake(InputPoint.Random, new Position(0, 62, 0), out input));
        Assert.Equal(InputKind.Random, input.Kind);
        Assert.True(source.TryTake(InputPoint.Blocked, new Position(0, 63, 0), out input));
        Assert.Equal(new Input(InputKind.ConsoleByte, 'y'), input);
        Assert.False(source.TryTake(InputPoint.Blocked, new Position(0, 63, 1), out _));
        Assert.True(source.TryTake(InputPoint.Blocked, new Position(0, 64, 0), out input));
        Assert.Equal(new Input(InputKind.ConsoleByte, 'z'), input);
    }

    private static byte[] Play(string text, Accelerator accelerator, out string console, out ScriptSource source)
    {
        Assert.Null(ConsoleScript.TryParse(text, out ConsoleScript script));
        var made = new ScriptSource(script, null);
        var output = new StringBuilder();
        var options = new MachineOptions
        {
            Accelerator = accelerator,
            MaxInstructions = 5_000_000,
            Images = [new MachineImage(MachineImage.CodeRole, "echo64.bin", File.ReadAllBytes(Path.Combine(Recordings.Root, "corpus", "guests", "echo64.bin")))],
        };
        byte[] trace = Recordings.Record(options, made, machine => machine.ConsoleOutput = value =>
        {
            output.Append((char)value);
            if (made.Shown(value, machine.Processor.Retired))
            {
                machine.Processor.RecomputeLimit();
            }
        });
        console = output.ToString();
        source = made;
        return trace;
    }
}
