using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Replay.Gdb;
using VmFuzz.Testing;

namespace VmFuzz.Replay.Tests.Gdb;

public sealed class MachineDebuggerTests
{
    // mov byte [0x20000],7; nop; mov al,[0x20000]; hlt
    private static readonly byte[] Stores = [0xC6, 0x04, 0x25, 0x00, 0x00, 0x02, 0x00, 0x07, 0x90, 0x8A, 0x04, 0x25, 0x00, 0x00, 0x02, 0x00, 0xF4];

    public static TheoryData<string, FlatMode, Accelerator> Guests()
    {
        var data = new TheoryData<string, FlatMode, Accelerator>();
        foreach (Accelerator accelerator in (Accelerator[])[Accelerator.Bare, Accelerator.Kvm])
        {
            data.Add("hello16", FlatMode.Real16, accelerator);
            data.Add("hello32", FlatMode.Protected32, accelerator);
            data.Add("hello64", FlatMode.Long64, accelerator);
            data.Add("paging64", FlatMode.Long64, accelerator);
            data.Add("faults64", FlatMode.Long64, accelerator);
            data.Add("exits64", FlatMode.Long64, accelerator);
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Guests))]
    public void Recording_WhileGdbLooksAtEveryInstruction_IsTheSame(string guest, FlatMode mode, Accelerator accelerator)
    {
        MachineOptions options = Options(File.ReadAllBytes(Path.Combine(Recordings.Root, "corpus", "guests", guest + ".bin")), mode, accelerator);
        byte[] expected = Recordings.Record(options, new ScheduledSource(InputSchedule.Empty));
        var link = new ScriptedLink(Looks());
        Assert.Equal(expected, Recordings.Record(options, new ScheduledSource(InputSchedule.Empty), machine => Attach(machine, link)));
        Assert.Contains("T05thread:01;", link.Replies, StringComparer.Ordinal);
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Chaos_RecordedWhileGdbSteps_IsTheSame(Accelerator accelerator) => Assert.Equal(
        Recordings.Chaos(accelerator),
        Recordings.Chaos(accelerator, change: machine => Attach(machine, new ScriptedLink(Looks()))));

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Chaos_RecordedUnderBreakpointsAndWatchpoints_IsTheSame(Accelerator accelerator) => Assert.Equal(
        Recordings.Chaos(accelerator),
        Recordings.Chaos(accelerator, change: machine => Attach(machine, new ScriptedLink(["Z0,10000,1", "Z1,10010,1", "Z4,7000,1000", .. Enumerable.Repeat("c", 1000)]))));

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Breakpoint_InLoop_IsMetEachTime(Accelerator accelerator)
    {
        // hello64: OUT stands at 0x10008 and runs for 'h', 'i' and the end of the line.
        List<string> replies = Talk(accelerator, File.ReadAllBytes(Path.Combine(Recordings.Root, "corpus", "guests", "hello64.bin")), writable: false, "Z0,10008,1", "c", "p0", "c", "p0", "c", "p0", "z0,10008,1", "c");
        Assert.Equal(
            ["OK", "T05thread:01;", "6800000000000000", "T05thread:01;", "6900000000000000", "T05thread:01;", "0a00000000000000", "OK", "W01"],
            replies);
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Watchpoint_OnData_StopsBehindTheAccess(Accelerator accelerator)
    {
        const string RipBehindStore = "0800010000000000";
        const string RipBehindLoad = "1000010000000000";
        Assert.Equal(
            ["OK", "T05watch:20000;thread:01;", RipBehindStore, "OK", "OK", "T05rwatch:20000;thread:01;", RipBehindLoad],
            Talk(accelerator, Stores, writable: false, "Z2,20000,1", "c", "p10", "z2,20000,1", "Z3,20000,1", "c", "p10"));
        Assert.Equal(
            ["OK", "T05awatch:1ffff;thread:01;", RipBehindStore, "T05awatch:1ffff;thread:01;", RipBehindLoad],
            Talk(accelerator, Stores, writable: false, "Z4,1ffff,8", "c", "p10", "c", "p10"));
    }

    [Fact]
    public void Write_InRecordedRun_IsRefused()
    {
        List<string> replies = Talk(Accelerator.Bare, Stores, writable: false, "P0=0100000000000000", "M20000,1:05", "X20000,1:x", "c10009");
        Assert.Equal(4, replies.Count);
        Assert.All(replies, static reply => Assert.StartsWith("E.", reply, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Write_InLiveRun_ChangesTheGuest(Accelerator accelerator)
    {
        // Over the store; the load finds what gdb wrote. Code that gdb writes is what runs.
        List<string> replies = Talk(accelerator, Stores, writable: true, "M20000,1:05", "P10=0800010000000000", "P3=0900000000000000", "M10008,1:f9", "s", "s", "p0", "p3", "p11");
        Assert.Equal(["OK", "OK", "OK", "OK", "T05thread:01;", "T05thread:01;", "0500000000000000", "0900000000000000", "03000000"], replies);
    }

    [Fact]
    public void Memory_WithoutMemoryBehindIt_IsAnError() =>
        Assert.Equal(["E0e", "E0e", "c6"], Talk(Accelerator.Bare, Stores, writable: true, "mfee00000,4", "m800000000000,1", "m10000,1"));

    [Fact]
    public void Description_OfEachMode_NamesItsArchitecture()
    {
        foreach ((FlatMode mode, string name) in ((FlatMode, string)[])[(FlatMode.Real16, "i8086"), (FlatMode.Protected32, "i386"), (FlatMode.Long64, "i386:x86-64")])
        {
            var link = new ScriptedLink(["qXfer:features:read:target.xml:0,800"]);
            using Machine machine = Machine.Create(Options([0xF4], mode, Accelerator.Bare), new ScheduledSource(InputSchedule.Empty));
            Attach(machine, link);
            machine.Run();
            Assert.Contains($"<architecture>{name}</architecture>", link.Replies[0], StringComparison.Ordinal);
        }
    }

    private static List<string> Talk(Accelerator accelerator, byte[] code, bool writable, params string[] packets)
    {
        var link = new ScriptedLink(packets);
        using Machine machine = Machine.Create(Options(code, FlatMode.Long64, accelerator), new ScheduledSource(InputSchedule.Empty));
        using var debugger = new MachineDebugger(machine, link, writable, startStopped: true);
        debugger.Finish(machine.Run().GuestStatus);
        return link.Replies;
    }

    private static MachineOptions Options(byte[] code, FlatMode mode, Accelerator accelerator) => new()
    {
        Accelerator = accelerator,
        FlatMode = mode,
        MaxInstructions = 20_000,
        Images = [new MachineImage("code", "guest.bin", code)],
    };

    private static void Attach(Machine machine, IGdbLink link) => _ = new MachineDebugger(machine, link, writable: false, startStopped: true);

    private static IEnumerable<string> Looks()
    {
        for (; ; )
        {
            yield return "g";
            yield return "m10000,40";
            yield return "m800000,1000";
            yield return "mfee00000,4";
            yield return "s";
        }
    }
}
