using System.Text.Json;

namespace VmFuzz.Cli.Tests;

public class RunTests : CommandFixture
{
    [Theory]
    [InlineData("bare")]
    [InlineData("kvm")]
    public void Run_FlatGuest_PrintsConsoleAndSummary(string accel)
    {
        Ran ran = Run("run", "-machine", "flat", "-accel", accel, "-kernel", HelloFile);
        Assert.Equal(0, ran.Status);
        Assert.Equal("hi\n", ran.Out);
        Assert.Contains("halted", ran.Err, StringComparison.Ordinal);
        Assert.Contains("7 instructions", ran.Err, StringComparison.Ordinal);
    }

    [Fact]
    public void Run_Json_IsOneObjectAndConsoleGoesToError()
    {
        Ran ran = Run("run", "--machine", "flat", "--kernel", HelloFile, "--json", "--dump-state");
        JsonElement json = ran.Json;
        Assert.Equal("Halted", json.GetProperty("stop").GetString());
        Assert.Equal(7UL, json.GetProperty("retired").GetUInt64());
        Assert.Equal(2UL, json.GetProperty("consoleBytes").GetUInt64());
        Assert.Equal("0x1000e", json.GetProperty("state").GetProperty("rip").GetString());
        Assert.StartsWith("hi", ran.Err, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("bare")]
    [InlineData("kvm")]
    public void Run_DumpState_ShowsGuestRegisters(string accel)
    {
        string guest = Make("exit.bin", [0xB8, 0x34, 0x12, 0x00, 0x00, 0xF4]);
        JsonElement json = Run("run", "-accel", accel, "-kernel", guest, "--json", "--dump-state").Json;
        Assert.Equal("0x1234", json.GetProperty("state").GetProperty("rax").GetString());
        Assert.Equal("0x10006", json.GetProperty("state").GetProperty("rip").GetString());
        Assert.Equal("0x80010031", json.GetProperty("state").GetProperty("cr0").GetString());
    }

    [Fact]
    public void Run_UntilSerial_IsFineOnlyWhenTextCame()
    {
        Assert.Equal(0, Run("run", "-kernel", HelloFile, "--until-serial", "hi").Status);
        Assert.Equal(1, Run("run", "-kernel", HelloFile, "--until-serial", "ho").Status);
        string endless = Make("endless.bin", Endless);
        Ran limit = Run("run", "-kernel", endless, "--until-serial", "hi", "--max-instructions", "1000");
        Assert.Equal(1, limit.Status);
        Assert.Contains("did not show \"hi\"", limit.Err, StringComparison.Ordinal);
    }

    [Fact]
    public void Run_MaxInstructions_StopsExactlyThere()
    {
        string endless = Make("endless.bin", Endless);
        JsonElement json = Run("run", "-kernel", endless, "--max-instructions", "1_234", "--json").Json;
        Assert.Equal(0, json.GetProperty("status").GetInt32());
        Assert.Equal(1234UL, json.GetProperty("retired").GetUInt64());
    }

    [Fact]
    public void Run_GuestStatus_IsTheProcessesOnlyWhenAsked()
    {
        string exits = Make("exits.bin", Exits);
        Ran plain = Run("run", "-kernel", exits);
        Assert.Equal(0, plain.Status);
        Assert.Contains("guest status 43", plain.Err, StringComparison.Ordinal);
        Assert.Equal(43, Run("run", "-kernel", exits, "--exit-with-guest").Status);
    }

    [Fact]
    public void Run_Log_ShowsWhatWasAskedFor()
    {
        Ran ran = Run("run", "-accel", "kvm", "-kernel", HelloFile, "--log", "exits,in_asm,inputs");
        Assert.Contains("entry", ran.Err, StringComparison.Ordinal);
        Assert.Contains("(IoInstruction)", ran.Err, StringComparison.Ordinal);
        Assert.Contains("in_asm 00010000: mov al,68h", ran.Err, StringComparison.Ordinal);
        Assert.Contains("kind=random", ran.Err, StringComparison.Ordinal);
        Assert.DoesNotContain("first-access", ran.Err, StringComparison.Ordinal);
    }

    [Fact]
    public void Run_LogFile_HoldsTheLog()
    {
        string log = At("log.txt");
        Ran ran = Run("run", "-kernel", HelloFile, "--log", "in_asm", "--log-file", log);
        Assert.DoesNotContain("in_asm", ran.Err, StringComparison.Ordinal);
        Assert.Equal(7, File.ReadAllLines(log).Length);
    }

    [Fact]
    public void Run_SerialFileAndNone_KeepStandardOutputEmpty()
    {
        string serial = At("serial.txt");
        Assert.Equal("", Run("run", "-kernel", HelloFile, "-serial", "file:" + serial).Out);
        Assert.Equal("hi", File.ReadAllText(serial));
        Assert.Equal("", Run("run", "-kernel", HelloFile, "-serial", "none").Out);
    }

    [Fact]
    public void Run_Modes_StartTheGuestInThem()
    {
        // In 16-bit code b8 has a 16-bit immediate, so the HLT comes earlier.
        string guest = Make("mode.bin", [0xB8, 0x01, 0x02, 0xF4, 0x00, 0xF4]);
        Assert.Equal("0x201", Rax("real16"));
        Assert.Equal("0xf40201", Rax("protected32"));
        Assert.Equal("0xf40201", Rax("long64"));

        string? Rax(string mode) => Run("run", "-kernel", guest, "--flat-mode", mode, "--json", "--dump-state").Json
            .GetProperty("state").GetProperty("rax").GetString();
    }

    [Fact]
    public void Run_LoadAddress_IsWhereTheGuestStarts()
    {
        JsonElement json = Run("run", "-kernel", HelloFile, "--load-address", "0x20000", "--json", "--dump-state").Json;
        Assert.Equal("0x2000e", json.GetProperty("state").GetProperty("rip").GetString());
    }

    [Theory]
    [InlineData("run")]
    [InlineData("record")]
    [InlineData("replay")]
    [InlineData("trace")]
    [InlineData("trace", "info")]
    [InlineData("trace", "dump")]
    [InlineData("doctor")]
    [InlineData("isa")]
    public void Help_EachCommand_HasExamples(params string[] command)
    {
        Ran ran = Run([.. command, "--help"]);
        Assert.Equal(0, ran.Status);
        Assert.Contains("Examples:", ran.Out, StringComparison.Ordinal);
        Assert.Contains("vmfuzz " + string.Join(' ', command), ran.Out, StringComparison.Ordinal);
        Assert.Equal("", ran.Err);
    }

    [Fact]
    public void Doctor_Json_PassesItsSelfTests()
    {
        Ran ran = Run("doctor", "--json");
        Assert.Equal(0, ran.Status);
        JsonElement[] tests = [.. ran.Json.GetProperty("checks").EnumerateArray().Where(static c => c.GetProperty("name").GetString()!.StartsWith("self-test", StringComparison.Ordinal))];
        Assert.Equal(2, tests.Length);
        Assert.All(tests, static t => Assert.Equal("passed", t.GetProperty("state").GetString()));
        Assert.Contains("self-test, kvm", Run("doctor").Out, StringComparison.Ordinal);
    }
}
