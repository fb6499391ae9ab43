using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;

namespace VmFuzz.Fuzzing.Tests;

public sealed class TraceSeedsTests
{
    // 20 times: mov eax, n; cpuid; out 0xe9, al; then out 0xf4, al.
    private static byte[] Guest()
    {
        List<byte> code = [];
        for (byte i = 0; i < 20; i++)
        {
            code.AddRange([0xB8, i, 0, 0, 0, 0x31, 0xC9, 0x0F, 0xA2, 0xE6, 0xE9]);
        }

        code.AddRange([0xE6, 0xF4, 0xF4]);
        return [.. code];
    }

    private static MemoryStream Record()
    {
        MachineOptions options = new()
        {
            Accelerator = Accelerator.Kvm,
            MaxInstructions = 1000,
            Images = [new MachineImage("code", "guest", Guest())],
        };
        MemoryStream file = new();
        using Machine machine = Machine.Create(options, new ChaosSource(new ChaosOptions { Nmis = 0, Interrupts = 0, Kicks = 0, TypedBytes = 2, Span = 40 }, static () => 0x4000_0000_0000_0000));
        using (Recorder recorder = new(machine, new TraceWriter(file, TraceHeaders.Of(options, "test"), leaveOpen: true)))
        {
            machine.Run();
        }

        return file;
    }

    [Fact]
    public void FromTrace_RecordedRun_GivesWindowsOfExitsAndTheGuest()
    {
        using TraceReader reader = TraceReader.Open(Record());
        Assert.True(reader.Counts.Exits > 16, $"{reader.Counts.Exits} exits");
        IReadOnlyList<FuzzInput> seeds = TraceSeeds.FromTrace(reader);
        FuzzInput guest = Assert.Single(seeds, static s => s.Target == FuzzTarget.GuestCode);
        Assert.Equal(Guest(), guest.Code);
        Assert.NotEmpty(guest.Events);
        List<FuzzInput> windows = [.. seeds.Where(static s => s.Target == FuzzTarget.ExitHandlers)];
        Assert.Equal(reader.Counts.Exits, (ulong)windows.Sum(static w => w.Exits.Count));
        Assert.Contains(windows, static w => w.Exits.Exists(static e => e.Exit.Basic == ExitReason.Cpuid));
        Assert.All(windows, static w => Assert.NotEmpty(w.Registers));
        Assert.Contains(windows, static w => w.Exits.Exists(static e => e.Registers.Any(static r => r.Register == 0)));
        Assert.All(windows, static w => Assert.All(w.Exits, static e => Assert.Contains(e.GuestState, static f => f.Field == VmcsField.GuestRip)));
        Assert.All(seeds, static s => Assert.True(FuzzCodec.Decode(FuzzCodec.Encode(s.Clone())).SameAs(s)));
    }

    [Fact]
    public void FromTrace_FewWanted_TakesThemEvenly()
    {
        using TraceReader reader = TraceReader.Open(Record());
        IReadOnlyList<FuzzInput> seeds = TraceSeeds.FromTrace(reader, most: 2);
        Assert.InRange(seeds.Count(static s => s.Target == FuzzTarget.ExitHandlers), 1, 2);
        Assert.DoesNotContain(TraceSeeds.FromTrace(reader, most: 0), static s => s.Target == FuzzTarget.ExitHandlers);
    }

    [Fact]
    public void FromTrace_NotATrace_GivesNothing()
    {
        using TraceReader reader = TraceReader.Open(new byte[] { 1, 2, 3 });
        Assert.Empty(TraceSeeds.FromTrace(reader));
    }
}
