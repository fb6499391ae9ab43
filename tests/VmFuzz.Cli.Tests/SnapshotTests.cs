using System.Text;

namespace VmFuzz.Cli.Tests;

public sealed class SnapshotTests : CommandFixture
{
    [Theory]
    [InlineData("bare")]
    [InlineData("kvm")]
    public void Snapshot_OfARun_IsGoneOnWithAndRecorded(string accel)
    {
        string snapshot = At("s.vmsnap");
        Ran made = Run("snapshot", "-accel", accel, "-kernel", HelloFile, "--at-text", "h", "-o", snapshot);
        Assert.True(made.Status == 0, made.Err);
        Assert.Equal("h", made.Out.TrimEnd('\n'));
        Assert.Contains("s.vmsnap: the machine after 2 instructions", made.Err, StringComparison.Ordinal);
        Ran rest = Run("run", "--from", snapshot);
        Assert.StartsWith("i", rest.Out, StringComparison.Ordinal);
        Assert.Contains("5 instructions after the first 2", rest.Err, StringComparison.Ordinal);
        string trace = At("r.vmtrace");
        Assert.Equal(0, Run("record", "--from", snapshot, "-o", trace).Status);
        Assert.Equal(0, Run("replay", trace).Status);
        Assert.Equal(0, Run("snapshot", "--from", snapshot, "--at", "4", "-o", At("later.vmsnap")).Status);
        Assert.Equal("", Run("run", "--from", At("later.vmsnap")).Out);
        Assert.Contains("snapshot state after 2 instructions", Run("trace", "info", snapshot).Out, StringComparison.Ordinal);
    }

    [Fact]
    public void Snapshot_OfATrace_IsTheMachineThere()
    {
        string trace = Record();
        Ran made = Run("snapshot", trace, "--at", "3", "-o", At("s.vmsnap"));
        Assert.True(made.Status == 0, made.Err);
        Assert.StartsWith("i", Run("run", "--from", At("s.vmsnap")).Out, StringComparison.Ordinal);
        Ran late = Run("snapshot", trace, "--at", "300", "-o", At("late.vmsnap"));
        Assert.Equal(1, late.Status);
        Assert.Contains("the trace ends before the position", late.Err, StringComparison.Ordinal);
        Assert.False(File.Exists(At("late.vmsnap")));
    }

    [Fact]
    public void Snapshot_WhoseRunEndsBefore_IsNotMade()
    {
        Ran ran = Run("snapshot", "-kernel", HelloFile, "--at-text", "never", "-o", At("s.vmsnap"), "--json");
        Assert.Equal(1, ran.Status);
        Assert.False(ran.Json.GetProperty("snapshot").GetProperty("made").GetBoolean());
        Assert.False(File.Exists(At("s.vmsnap")));
    }

    [Fact]
    public void Snapshot_WrongUse_IsRefused()
    {
        string snapshot = At("s.vmsnap");
        Assert.Equal(0, Run("snapshot", "-kernel", HelloFile, "--at", "3", "-o", snapshot).Status);
        string trace = Record();
        Refuses(Run("snapshot", "-kernel", HelloFile, "--at", "3", "-o", snapshot), "exists already", "--force");
        Refuses(Run("snapshot", "-kernel", HelloFile, "--at", "3", "-o", HelloFile, "--force"), "uses already");
        Refuses(Run("snapshot", "-kernel", HelloFile, "-o", At("n")), "there is no position", "--at N");
        Refuses(Run("snapshot", "-kernel", HelloFile, "--at", "x", "-o", At("n")), "'x' is not a position");
        Refuses(Run("snapshot", trace, "-m", "8M", "--at", "1", "-o", At("n")), "--m is for a run");
        Refuses(Run("snapshot", snapshot, "--at", "4", "-o", At("n")), "run --from");
        Refuses(Run("run", "--from", snapshot, "-m", "8M"), "--m is for a new machine");
        Refuses(Run("run", "--from", trace), "a trace, not a snapshot");
        Refuses(Run("replay", snapshot), "run --from");
        Refuses(Run("run", "--from", At("none")), "does not exist");
        Refuses(Run("record", "--from", snapshot, "-o", snapshot, "--force"), "uses already");
        byte[] bytes = File.ReadAllBytes(snapshot);
        bytes[bytes.Length / 2] ^= 1;
        Refuses(Run("run", "--from", Make("bad.vmsnap", bytes)), "bad.vmsnap", "undamaged copy");
        Refuses(Run("run", "--from", Make("cut.vmsnap", bytes[..(bytes.Length / 3)])), "cut.vmsnap");
    }

    [Fact]
    public void Import_OfMemoryAndRegisters_Runs()
    {
        // mov eax,[0x1010]; add eax,1; mov [0x1014],eax; hlt
        Import("""{"mode":"protected32","rest":"default","regs":{"rip":"0x1000","rsp":"0x1ff0"},"mem":[{"at":"0x1000","file":"ram.bin"}]}""",
            [0xA1, 0x10, 0x10, 0, 0, 0x83, 0xC0, 0x01, 0xA3, 0x14, 0x10, 0, 0, 0xF4, 0, 0, 0x29]);
        string trace = At("r.vmtrace");
        Ran ran = Run("record", "--from", At("s.vmsnap"), "--dump-state", "-o", trace);
        Assert.True(ran.Status == 0, ran.Err);
        Assert.Contains("rax=0x2a", ran.Err, StringComparison.Ordinal);
        Assert.Contains("4 instructions", ran.Err, StringComparison.Ordinal);
        Assert.Equal(0, Run("replay", trace).Status);
    }

    // mov eax,[0x5000]; in al,dx; jmp to 0x7000; a write to 0x5000: then a halt.
    [Theory]
    [InlineData("A10050000090F4", "memory at 0x5000")]
    [InlineData("EC90F4", "port 0x64")]
    [InlineData("E9FB5F000090F4", "memory at 0x7000")]
    [InlineData("A30050000090F4", "memory at 0x5000")]
    public void Import_GuestThatReachesWhatIsNotHeld_StopsThere(string code, string what)
    {
        Import("""{"mode":"protected32","rest":"default","regs":{"rip":"0x1000","rdx":"0x64"},"mem":[{"at":"0x1000","file":"ram.bin"}]}""", Convert.FromHexString(code));
        Ran ran = Run("run", "--from", At("s.vmsnap"));
        Assert.Equal(1, ran.Status);
        Assert.Contains($"the guest reached {what}, which the snapshot does not hold, at RIP 0x", ran.Err, StringComparison.Ordinal);
    }

    // The table that CR3 names lies outside of what was imported.
    [Fact]
    public void Import_WithoutThePageTables_StopsAtTheFirstWalk()
    {
        Import("""{"mode":"long","rest":"default","regs":{"rip":"0x1000","cr3":"0x9000"},"mem":[{"at":"0x1000","file":"ram.bin"}]}""", [0xF4]);
        Ran ran = Run("run", "--from", At("s.vmsnap"));
        Assert.Equal(1, ran.Status);
        Assert.Contains("memory at 0x9000", ran.Err, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("[]", "not a JSON object")]
    [InlineData("{", "not JSON")]
    [InlineData("""{"regs":{},"mem":[]}""", "registers are missing: rax")]
    [InlineData("""{"rest":"zero"}""", "the member 'rest' is none, or not as it must be")]
    [InlineData("""{"rest":"default","mode":"protected32"}""", "there is no memory")]
    [InlineData("""{"rest":"default","mode":"protected32","regs":{"rix":"0x1"}}""", "no register 'rix'")]
    [InlineData("""{"rest":"default","mem":[{"at":"0x1000","file":"ram.bin"}]}""", "long mode needs cr3")]
    [InlineData("""{"rest":"default","mode":"protected32","mem":[{"at":"0x1001","file":"ram.bin"}]}""", "not whole pages")]
    [InlineData("""{"rest":"default","mode":"protected32","mem":[{"at":"0x1000","file":"ram.bin"},{"at":"0x1000","file":"ram.bin"}]}""", "overlaps")]
    [InlineData("""{"rest":"default","mode":"protected32","mem":[{"at":"0xfffffffffffff000","file":"ram.bin"}]}""", "ends behind")]
    [InlineData("""{"rest":"default","mode":"protected32","mem":[{"at":"0x1000","file":"none.bin"}]}""", "does not exist")]
    [InlineData("""{"rest":"default","mode":"protected32","mem":[{"at":4096,"file":"ram.bin"}]}""", "a piece of mem")]
    [InlineData("""{"rest":"default","mode":"protected32","regs":{"cr0":"0x80000000"},"mem":[{"at":"0x1000","file":"ram.bin"}]}""", "cr0 has PG without PE")]
    public void Import_OfABadDescription_IsRefused(string json, string wrong)
    {
        Make("ram.bin", new byte[4096]);
        Refuses(Run("snapshot", "--import", Make("d.json", Encoding.UTF8.GetBytes(json)), "-o", At("s.vmsnap")), wrong);
        Assert.False(File.Exists(At("s.vmsnap")));
    }

    private void Import(string json, byte[] code)
    {
        byte[] page = new byte[4096];
        code.CopyTo(page, 0);
        Make("ram.bin", page);
        Ran made = Run("snapshot", "--import", Make("d.json", Encoding.UTF8.GetBytes(json)), "-o", At("s.vmsnap"));
        Assert.True(made.Status == 0, made.Err);
    }
}
