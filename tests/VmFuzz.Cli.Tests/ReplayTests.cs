using System.Diagnostics;
using System.Text.Json;
using VmFuzz.Arch;
using VmFuzz.Trace;

namespace VmFuzz.Cli.Tests;

public class ReplayTests : CommandFixture
{
    [Theory]
    [InlineData("bare")]
    [InlineData("kvm")]
    public void Replay_OwnRecording_ReportsTheSameFacts(string accel)
    {
        string path = At("t.vmtrace");
        JsonElement recorded = Run("record", "-accel", accel, "-kernel", HelloFile, "-o", path, "--json").Json;
        Ran ran = Run("replay", path, "--json");
        Assert.Equal(0, ran.Status);
        Assert.Equal("Identical", ran.Json.GetProperty("outcome").GetString());
        foreach (string fact in (string[])["retired", "entries", "exits", "injected", "delivered", "inputs"])
        {
            Assert.Equal(recorded.GetProperty(fact).GetUInt64(), ran.Json.GetProperty(fact).GetUInt64());
        }

        Assert.Equal(recorded.GetProperty("digest").GetString(), ran.Json.GetProperty("digest").GetString());
        Assert.Equal(recorded.GetProperty("memoryDigest").GetString(), ran.Json.GetProperty("memoryDigest").GetString());
        Assert.Equal(recorded.GetProperty("trace").GetProperty("events").GetUInt64(), ran.Json.GetProperty("events").GetUInt64());
        Assert.Contains("identical to the recording", Run("replay", path).Out, StringComparison.Ordinal);
    }

    [Fact]
    public void Replay_Chaos_NeedsNoSeed()
    {
        string path = Record("--chaos", "7", "--chaos-span", "10", "--chaos-nmis", "0");
        Assert.Equal(0, Run("replay", path).Status);
        path = Record("--force", "--chaos", "entropy", "--chaos-span", "10", "--chaos-nmis", "0");
        Ran ran = Run("replay", path, "--json");
        Assert.Equal(0, ran.Status);
        Assert.True(ran.Json.GetProperty("inputs").GetUInt64() > 0);
    }

    [Fact]
    public void Replay_CheckOfGoldenTraces_IsCleanAndSaysHowOften()
    {
        string[] traces = Directory.GetFiles(Path.Combine(Root, "corpus", "traces"), "*.vmtrace");
        Assert.NotEmpty(traces);
        foreach (string trace in traces)
        {
            Ran ran = Run("replay", trace, "--check");
            Assert.True(ran.Status == 0, trace + ": " + ran.Out);
            bool exits = trace.EndsWith("-kvm.vmtrace", StringComparison.Ordinal);
            Assert.Contains(exits ? " invariants held, looked at " : "no invariants checked", ran.Out, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Record_Check_CountsLikeTheReplay()
    {
        string path = At("t.vmtrace");
        JsonElement recorded = Run("record", "-accel", "kvm", "-kernel", HelloFile, "-o", path, "--check", "--json").Json;
        JsonElement replayed = Run("replay", path, "--check", "--json").Json;
        string held = recorded.GetProperty("invariants").GetProperty("held").GetRawText();
        Assert.Equal(held, replayed.GetProperty("invariants").GetProperty("held").GetRawText());
        Assert.Equal(recorded.GetProperty("exits").GetUInt64(), recorded.GetProperty("invariants").GetProperty("held").GetProperty("retire.rip").GetUInt64());
        Assert.False(Run("replay", path, "--json").Json.TryGetProperty("invariants", out _));
    }

    [Fact]
    public void Replay_ChangedInput_ReportsWhereAndWhatToDo()
    {
        string path = Record();
        byte[] bytes = File.ReadAllBytes(path);
        ulong at = FirstInput(bytes);
        File.WriteAllBytes(path, TracePatcher.Change(bytes, at, static e => e.Value ^= 1));
        Ran ran = Run("replay", path);
        Assert.Equal(1, ran.Status);
        Assert.Contains("DIVERGED", ran.Out, StringComparison.Ordinal);
        Assert.Contains($"first difference: event {at}, instruction 4", ran.Out, StringComparison.Ordinal);
        Assert.Contains("digest: expected 0x", ran.Out, StringComparison.Ordinal);
        Assert.Contains("likely cause: random", ran.Out, StringComparison.Ordinal);
        Assert.Contains($"vmfuzz trace dump {path} --from 0 --to {at}", ran.Out, StringComparison.Ordinal);
        JsonElement json = Run("replay", path, "--json").Json.GetProperty("divergence");
        Assert.Equal(at, json.GetProperty("event").GetUInt64());
        Assert.NotEqual(0, json.GetProperty("differences").GetArrayLength());
    }

    [Fact]
    public void Replay_ChangedRegister_NamesIt()
    {
        string path = At("t.vmtrace");
        Assert.Equal(0, Run("record", "-accel", "kvm", "-kernel", HelloFile, "-o", path).Status);
        byte[] bytes = File.ReadAllBytes(path);
        ulong at = First(bytes, static e => e.Kind == TraceEventKind.Exit && e.Deltas.Length != 0 && e.Deltas[0].Field == 0);
        File.WriteAllBytes(path, TracePatcher.Change(bytes, at, static e =>
        {
            TraceDelta old = e.Deltas[0];
            TraceDelta[] rest = e.Deltas[1..].ToArray();
            e.ClearDeltas();
            e.AddDelta(old.Component, old.Field, old.Value ^ 0x100);
            foreach (TraceDelta delta in rest)
            {
                e.AddDelta(delta.Component, delta.Field, delta.Value);
            }
        }));
        Ran ran = Run("replay", path);
        Assert.Equal(1, ran.Status);
        Assert.Contains("    rax: expected 0x", ran.Out, StringComparison.Ordinal);
    }

    [Fact]
    public void Replay_Truncated_VerifiesPrefixAndSaysSo()
    {
        string endless = Make("endless.bin", Endless);
        string path = At("t.vmtrace");
        Assert.Equal(0, Run("record", "-kernel", endless, "--max-instructions", "3000000", "-o", path).Status);
        byte[] bytes = File.ReadAllBytes(path);
        File.WriteAllBytes(path, bytes[..^10]);
        Ran ran = Run("replay", path);
        Assert.Equal(1, ran.Status);
        Assert.Contains("truncated", ran.Out, StringComparison.Ordinal);
        Assert.Contains("--allow-truncated", ran.Err, StringComparison.Ordinal);
        Assert.Equal(0, Run("replay", path, "--allow-truncated").Status);
        Assert.Equal(1, Run("trace", "info", path).Status);
    }

    [Fact]
    public void Replay_Damaged_IsRefusedWithThePlace()
    {
        string path = Record();
        byte[] bytes = File.ReadAllBytes(path);
        bytes[bytes.Length / 2] ^= 4;
        File.WriteAllBytes(path, bytes);
        Refuses(Run("replay", path), "damaged", "offset", path);
        Refuses(Run("replay", path, "--allow-truncated"), "damaged");
    }

    [Fact]
    public void Info_Trace_TellsMachineAndCounts()
    {
        string path = Record("-accel", "kvm");
        Ran ran = Run("trace", "info", path);
        Assert.Equal(0, ran.Status);
        foreach (string text in (string[])["whole", "machine flat", "accel kvm", "code hello.bin", "IoInstruction", "userspace-exit"])
        {
            Assert.Contains(text, ran.Out, StringComparison.Ordinal);
        }

        JsonElement json = Run("trace", "info", path, "--json").Json;
        Assert.Equal("kvm", json.GetProperty("machine").GetProperty("accel").GetString());
        Assert.Equal(2, json.GetProperty("exitReasons").GetProperty("IoInstruction").GetInt32());
        Assert.Equal(14, json.GetProperty("images")[0].GetProperty("bytes").GetInt32());
    }

    [Fact]
    public void Dump_RangeAndKind_ShowsOnlyThose()
    {
        string path = Record("-accel", "kvm");
        string[] all = Lines(Run("trace", "dump", path));
        string[] some = Lines(Run("trace", "dump", path, "--from", "2", "--to", "4"));
        Assert.Equal(all[2..5], some);
        string[] exits = Lines(Run("trace", "dump", path, "--kind", "exit", "--json"));
        Assert.NotEmpty(exits);
        Assert.All(exits, static line => Assert.Equal("exit", JsonDocument.Parse(line).RootElement.GetProperty("event").GetString()));
        Assert.Contains(exits, static line => line.Contains("\"reason-name\":\"Cpuid\"", StringComparison.Ordinal));
        Assert.Contains("rax:=0x68", string.Join('\n', all), StringComparison.Ordinal);
        Assert.Contains("PrimaryControls:=", all[0], StringComparison.Ordinal);
    }

    [Fact]
    public async Task Process_RecordAndReplay_InTwoProcesses()
    {
        string path = At("t.vmtrace");
        using Process record = Start("record", "-accel", "kvm", "-kernel", HelloFile, "-o", path);
        string console = await record.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await record.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, record.ExitCode);
        Assert.Equal("hi\n", console);
        using Process replay = Start("replay", path);
        string report = await replay.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await replay.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, replay.ExitCode);
        Assert.Contains("identical to the recording", report, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("bare")]
    [InlineData("kvm")]
    public async Task Process_Interrupted_LeavesWholeReplayableTrace(string accel)
    {
        NeedsInterrupts();
        string endless = Make("loud.bin", [0xB0, 0x2E, 0xE6, 0xE9, 0xB0, 0x0A, 0xE6, 0xE9, 0xEB, 0xFE]);
        string path = At("t.vmtrace");
        using Process record = Start("record", "-accel", accel, "-kernel", endless, "-o", path);
        Assert.Equal(".", await record.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken));
        using (Process kill = Process.Start("/bin/kill", ["-INT", record.Id.ToString(System.Globalization.CultureInfo.InvariantCulture)]))
        {
            await kill.WaitForExitAsync(TestContext.Current.CancellationToken);
        }

        string error = await record.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await record.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, record.ExitCode);
        Assert.Contains("stopped by the user", error, StringComparison.Ordinal);
        Assert.Equal(0, Run("replay", path).Status);
    }

    [Theory]
    [InlineData("bare")]
    [InlineData("kvm")]
    public async Task Process_PipedInput_ReachesTheGuestAndReplays(string accel)
    {
        // Polls the line status, reads a byte, echoes it to port 0xe9, and ends after 'q'.
        string echo = Make("echo.bin",
        [
            0xBA, 0xFD, 0x03, 0x00, 0x00, 0xEC, 0xA8, 0x01, 0x74, 0xFB,
            0xBA, 0xF8, 0x03, 0x00, 0x00, 0xEC, 0xE6, 0xE9, 0x3C, 0x71, 0x75, 0xEA, 0xF4,
        ]);
        string path = At("t.vmtrace");
        using Process record = Start("record", "-accel", accel, "-kernel", echo, "-serial", "stdio", "-o", path);
        await record.StandardInput.WriteAsync("abcq");
        record.StandardInput.Close();
        Assert.Equal("abcq\n", await record.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken));
        await record.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, record.ExitCode);
        JsonElement replayed = Run("replay", path, "--json").Json;
        Assert.Equal(0, replayed.GetProperty("status").GetInt32());
        Assert.Equal(4UL, replayed.GetProperty("inputs").GetUInt64());
    }

    private static string[] Lines(Ran ran)
    {
        Assert.Equal(0, ran.Status);
        return ran.Out.Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }

    private static ulong FirstInput(byte[] bytes) => First(bytes, static e => e.Kind == TraceEventKind.Input && e.InputKind == InputKind.Random);

    private static ulong First(byte[] bytes, Predicate<TraceEvent> wanted)
    {
        using TraceReader reader = TraceReader.Open(bytes);
        var item = new TraceEvent();
        for (TraceCursor cursor = reader.Events(); cursor.MoveNext(item);)
        {
            if (wanted(item))
            {
                return item.Sequence;
            }
        }

        throw new InvalidOperationException("there is no such event");
    }
}
