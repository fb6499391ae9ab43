using System.Text;
using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;

namespace VmFuzz.Conformance.Tests;

/// <summary>U-Boot as Debian's u-boot-qemu installs it.</summary>
public sealed class FirmwareTests
{
    private const string Until = "DRAM:";

    private static string Rom(string board) => $"/usr/lib/u-boot/{board}/u-boot.rom";

    private static MachineOptions Options(string board, Accelerator accelerator)
    {
        Assert.SkipUnless(File.Exists(Rom(board)), $"{Rom(board)} is not installed (package u-boot-qemu)");
        return new MachineOptions
        {
            Kind = MachineKind.Pc,
            Accelerator = accelerator,
            Memory = 128 << 20,
            UntilSerial = Until,
            MaxInstructions = 200_000_000,
            Images = [new MachineImage("bios", "u-boot.rom", File.ReadAllBytes(Rom(board)))],
        };
    }

    private static byte[] Record(MachineOptions options, IInputSource source, out string console, out MachineStop stop)
    {
        Assert.Null(options.Validate());
        var text = new StringBuilder();
        using var stream = new MemoryStream();
        using (Machine machine = Machine.Create(options, source))
        {
            machine.ConsoleOutput = value => text.Append((char)value);
            using var recorder = new Recorder(machine, new TraceWriter(stream, TraceHeaders.Of(options, "test"), leaveOpen: true));
            stop = machine.Run();
            Assert.False(recorder.DigestBroken);
        }

        console = text.ToString();
        return stream.ToArray();
    }

    private static ReplayResult? Replay(byte[] trace)
    {
        using TraceReader reader = TraceReader.Open(trace);
        if (TraceHeaders.TryOptions(reader, compareOnly: false, out MachineOptions options) is not null)
        {
            return null;
        }

        using var replayer = new Replayer(reader, options);
        return replayer.Run();
    }

    [Theory]
    [InlineData("qemu-x86")]
    [InlineData("qemu-x86_64")]
    public void Banner_OnBothAccelerators_IsTheSame(string board)
    {
        Record(Options(board, Accelerator.Bare), new ScriptedInputs(0), out string bare, out MachineStop stop);
        Assert.Equal(MachineStopKind.SerialMatch, stop.Kind);
        Record(Options(board, Accelerator.Kvm), new ScriptedInputs(0), out string kvm, out stop);
        Assert.Equal(MachineStopKind.SerialMatch, stop.Kind);
        Assert.Contains("U-Boot", bare, StringComparison.Ordinal);
        // Each stops a little after the text, at its own place.
        Assert.Equal(bare[..(bare.IndexOf(Until, StringComparison.Ordinal) + Until.Length)], kvm[..(kvm.IndexOf(Until, StringComparison.Ordinal) + Until.Length)]);
    }

    [Theory]
    [InlineData("qemu-x86", Accelerator.Bare)]
    [InlineData("qemu-x86", Accelerator.Kvm)]
    [InlineData("qemu-x86_64", Accelerator.Bare)]
    [InlineData("qemu-x86_64", Accelerator.Kvm)]
    public void Boot_Recorded_ReplaysInAnotherProcess(string board, Accelerator accelerator)
    {
        MachineOptions options = Options(board, accelerator);
        string folder = Directory.CreateTempSubdirectory("vmfuzz").FullName;
        try
        {
            string path = Path.Combine(folder, "boot.vmtrace");
            (int status, string output, string error) = Command.Run(
                ["record", "-machine", "pc", "-accel", accelerator == Accelerator.Kvm ? "kvm" : "bare", "-bios", Rom(board), "--until-serial", Until, "-o", path]);
            Assert.True(status == 0, $"status {status}\n{output}\n{error}");
            Assert.Contains("U-Boot", output, StringComparison.Ordinal);
            Command.Replays(path);
            Assert.Equal(ReplayOutcome.Identical, Replay(File.ReadAllBytes(path))!.Outcome);
            Assert.Equal(MachineKind.Pc, options.Kind);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void Boot_WithKicksAndTypedBytes_ReplaysIdentically(Accelerator accelerator)
    {
        MachineOptions options = Options("qemu-x86", accelerator);
        var chaos = new ChaosOptions { Nmis = 0, Interrupts = 0, Kicks = 100, TypedBytes = 100, Span = 900_000 };
        byte[] trace = Record(options, new ChaosSource(chaos, new SplitMix(5).Next), out string console, out MachineStop stop);
        Assert.Equal(MachineStopKind.SerialMatch, stop.Kind);
        Assert.Contains("U-Boot", console, StringComparison.Ordinal);
        ReplayResult result = Replay(trace)!;
        Assert.Equal(ReplayOutcome.Identical, result.Outcome);
        Assert.True(result.Counts.Inputs >= 100, $"{result.Counts.Inputs} inputs");
    }

    [Fact]
    public void BootTrace_WithARandomBitFlippedOrCut_IsNeverAccepted()
    {
        byte[] trace = Record(Options("qemu-x86", Accelerator.Kvm), new ScriptedInputs(0), out _, out _);
        var random = new SplitMix(1);
        int count = Environment.GetEnvironmentVariable("VMFUZZ_LONG") == "1" ? 1000 : 50;
        for (int i = 0; i < count; i++)
        {
            if (i % 5 == 0)
            {
                int length = (int)random.Below((ulong)trace.Length);
                Assert.False(IsAccepted(trace[..length]), $"the first {length} bytes are taken for a whole trace");
                continue;
            }

            ulong bit = random.Below((ulong)trace.Length * 8);
            trace[bit >> 3] ^= (byte)(1 << (int)(bit & 7));
            Assert.False(IsAccepted(trace), $"bit {bit & 7} of byte {bit >> 3} is flipped and nobody says so");
            trace[bit >> 3] ^= (byte)(1 << (int)(bit & 7));
        }
    }

    private static bool IsAccepted(byte[] trace)
    {
        using TraceReader reader = TraceReader.Open(trace);
        return reader.Status.IsWhole && Replay(trace) is { Outcome: ReplayOutcome.Identical };
    }
}
