using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace VmFuzz.Conformance.Tests;

/// <summary>
/// Kernels and firmware as Debian installs them, in processes of their own: a recording and its replay. The default is the first
/// part of a boot; VMFUZZ_LONG=1 goes on to the end.
/// </summary>
public sealed partial class KernelTests
{
    private const string Modules = "/boot";
    private const string Line = "vmfuzz: init runs";
    private const string SeaBios = "/usr/share/seabios/bios-256k.bin";

    // No interrupt but the timer's and the console's is needed; nothing depends on how fast the host is.
    private const string CommandLine = "earlyprintk=ttyS0,115200,keep acpi=off pci=off nosmp noapic nolapic mitigations=off nokaslr tsc=reliable "
        + "tsc_early_khz=1000000 no_timer_check lpj=4000000 panic=-1 reboot=t random.trust_cpu=on cryptomgr.notests i8042.nopnp";

    // With the ACPI tables and the APICs of a pc.
    private const string CommandLineOfPc = "earlyprintk=ttyS0,115200,keep pci=off mitigations=off nokaslr tsc=reliable "
        + "tsc_early_khz=1000000 no_timer_check lpj=4000000 panic=-1 reboot=t random.trust_cpu=on cryptomgr.notests i8042.nopnp";

    private static readonly string Init = Path.Combine(Repository.Guests, "linux-init.bin");

    private static bool Long => Environment.GetEnvironmentVariable("VMFUZZ_LONG") == "1";

    [Theory]
    [InlineData("bare", "pvh")]
    [InlineData("kvm", "pvh")]
    public void Linux_ToItsFirstLine_ReplaysInAnotherProcess(string accel, string boot) =>
        Command.RecordsAndReplays(Linux(accel, boot, "Linux version"), 100_000_000);

    [Theory]
    [InlineData("bare", "pvh")]
    [InlineData("bare", "linux64")]
    [InlineData("bare", "linux32")]
    [InlineData("kvm", "pvh")]
    public void Linux_ToInit_ReplaysInAnotherProcess(string accel, string boot)
    {
        Assert.SkipUnless(Long, "VMFUZZ_LONG=1 boots Linux to its init");
        Command.RecordsAndReplays(Linux(accel, boot, Line), 1_000_000_000);
    }

    [Fact]
    public void Linux_WhoseInitStartsTheMachineAgain_EndsWithATripleFault()
    {
        Assert.SkipUnless(Long, "VMFUZZ_LONG=1 boots Linux to its end");
        string[] boot = Linux("bare", "pvh", Line);
        (int status, string output, string error) = Command.Run([.. boot[..^2], "--max-instructions", "1000000000"]);
        Assert.True(status == 0, error);
        Assert.Contains(Line, output, StringComparison.Ordinal);
        Assert.Contains("triple fault", error, StringComparison.Ordinal);
    }

    [Fact]
    public void Linux_OnTwoProcessorsUnderThreeSeeds_GivesThreeTracesThatReplay()
    {
        Assert.SkipUnless(Long, "VMFUZZ_LONG=1 boots Linux on two processors");
        string[] boot = LinuxOfPc();
        var digests = new HashSet<string>(StringComparer.Ordinal);
        foreach (string seed in (string[])["1", "2", "3"])
        {
            string console = Command.RecordsAndReplays([.. boot, "-smp", "2", "--schedule-seed", seed], 1_500_000_000, out JsonElement report);
            Assert.Contains("smp: Brought up 1 node, 2 CPUs", console, StringComparison.Ordinal);
            Assert.True(digests.Add(report.GetProperty("digest").GetString()!), $"seed {seed} gives the run of another one");
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Linux_UnderTwoHundredRandomEvents_ReplaysUnderTwentySeeds(int processors)
    {
        Assert.SkipUnless(Long, "VMFUZZ_LONG=1 boots Linux twenty times under random events");
        string[] boot = processors == 1 ? Linux("bare", "pvh", Line) : LinuxOfPc();
        for (int seed = 1; seed <= 20; seed++)
        {
            string text = seed.ToString(CultureInfo.InvariantCulture);
            string[] schedule = processors == 1 ? [] : ["-smp", "2", "--schedule-seed", text];

            // NMIs wait until the kernel has a handler; each VCPU counts its own instructions.
            Command.RecordsAndReplays(
                [
                    .. boot, .. schedule, "--chaos", text, "--chaos-nmis", "40", "--chaos-interrupts", "80", "--chaos-bytes", "80",
                    "--chaos-kicks", "0", "--chaos-from", "60000000", "--chaos-span", processors == 1 ? "300000000" : "100000000",
                ],
                1_500_000_000,
                out JsonElement report);
            Assert.True(report.GetProperty("inputs").GetUInt64() >= 200, $"seed {seed}");
        }
    }

    [Fact]
    public void SmallGuest_OnTwoProcessorsUnderThreeSeeds_GivesThreeTracesThatReplay()
    {
        string rom = Path.Combine(Repository.Guests, "smp.bin");
        var outputs = new HashSet<string>(StringComparer.Ordinal);
        foreach (string seed in (string[])["1", "2", "0x3"])
        {
            string console = Command.RecordsAndReplays(["run", "-machine", "pc", "-smp", "2", "--schedule-seed", seed, "-bios", rom], 10_000_000);
            Assert.Contains("almtinr", console, StringComparison.Ordinal);
            Assert.True(outputs.Add(console), $"seed {seed} gives the run of another one");
        }
    }

    [Theory]
    [InlineData("1", "Found 2 cpu(s) max supported 2 cpu(s)", "2")]
    [InlineData("2", "Found 4 cpu(s) max supported 4 cpu(s)", "4")]
    public void SeaBios_OnSeveralProcessors_FindsThem(string seed, string line, string processors)
    {
        Assert.SkipUnless(File.Exists(SeaBios), $"{SeaBios} is not installed (package seabios)");
        Command.RecordsAndReplays(["run", "-machine", "pc", "-smp", processors, "--schedule-seed", seed, "-bios", SeaBios, "--until-serial", line], 50_000_000);
    }

    [Theory]
    [InlineData("bare")]
    [InlineData("kvm")]
    public void SeaBios_WithNothingToBoot_SaysSo(string accel)
    {
        Assert.SkipUnless(File.Exists(SeaBios), $"{SeaBios} is not installed (package seabios)");
        Command.RecordsAndReplays(["run", "-machine", "pc", "-accel", accel, "-bios", SeaBios, "--until-serial", "No bootable device"], 50_000_000);
    }

    [Fact]
    public void SeaBios_OnBothAccelerators_SaysTheSame()
    {
        Assert.SkipUnless(File.Exists(SeaBios), $"{SeaBios} is not installed (package seabios)");
        Assert.Equal(
            Console(["run", "-machine", "pc", "-accel", "bare", "-bios", SeaBios, "--until-serial", "No bootable device"], 50_000_000),
            Console(["run", "-machine", "pc", "-accel", "kvm", "-bios", SeaBios, "--until-serial", "No bootable device"], 50_000_000));
    }

    // Times depend on random values, which are inputs, and on what exits cost: time stamps, and the offsets of the clock.
    [Fact]
    public void Linux_OnBothAccelerators_SaysTheSame()
    {
        (string until, ulong limit) = Long ? (Line, 1_000_000_000UL) : ("Memory:", 200_000_000UL);
        Assert.Equal(Console(Linux("bare", "pvh", until), limit), Console(Linux("kvm", "pvh", until), limit));
    }

    private static string Console(string[] run, ulong limit)
    {
        (int status, string output, string error) = Command.Run([.. run, "--exit-cost", "0", "--max-instructions", limit.ToString(CultureInfo.InvariantCulture)]);
        Assert.True(status == 0, $"status {status}\n{output}\n{error}");
        return TimeStamp().Replace(output, "[]");
    }

    [GeneratedRegex(@"\[ *\d+\.\d+\]|Marking stable \(.*")]
    private static partial Regex TimeStamp();

    private static string[] Linux(string accel, string boot, string until) =>
    [
        "run", "-machine", "microvm", "-accel", accel, "-m", "72M", "-kernel", Kernel(), "-initrd", Init, "--boot", boot,
        "-append", CommandLine, "--until-serial", until,
    ];

    private static string[] LinuxOfPc() =>
        ["run", "-machine", "pc", "-m", "128M", "-kernel", Kernel(), "-initrd", Init, "-append", CommandLineOfPc, "--until-serial", Line];

    /// <summary>The newest cloud kernel; skips where there is none.</summary>
    internal static string Kernel()
    {
        string? kernel = Directory.Exists(Modules)
            ? Directory.EnumerateFiles(Modules, "vmlinuz-*-cloud-amd64").Order(StringComparer.Ordinal).LastOrDefault()
            : null;
        Assert.SkipWhen(kernel is null, "no cloud kernel is installed (package linux-image-cloud-amd64)");
        return kernel!;
    }
}
