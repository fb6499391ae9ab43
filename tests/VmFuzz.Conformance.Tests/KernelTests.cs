using System.Globalization;
using System.Text.Json;

namespace VmFuzz.Conformance.Tests;

/// <summary>
/// Kernels and firmware as Debian installs them, in processes of their own: a recording and its replay. The default is the first
/// part of a boot; VMFUZZ_LONG=1 goes on to the end.
/// </summary>
public sealed class KernelTests
{
    private const string Modules = "/boot";
    private const string Line = "vmfuzz: init runs";
    private const string SeaBios = "/usr/share/seabios/bios-256k.bin";

    // No interrupt but the timer's and the console's is needed; nothing depends on how fast the host is.
    private const string CommandLine = "earlyprintk=ttyS0,115200,keep acpi=off pci=off nosmp noapic nolapic mitigations=off nokaslr tsc=reliable "
        + "tsc_early_khz=1000000 no_timer_check lpj=4000000 panic=-1 reboot=t random.trust_cpu=on cryptomgr.notests i8042.nopnp";

    private static bool Long => Environment.GetEnvironmentVariable("VMFUZZ_LONG") == "1";

    [Theory]
    [InlineData("bare", "pvh")]
    [InlineData("kvm", "pvh")]
    public void Linux_ToItsFirstLine_ReplaysInAnotherProcess(string accel, string boot) =>
        Records(Linux(accel, boot, "Linux version"), 100_000_000);

    [Theory]
    [InlineData("bare", "pvh")]
    [InlineData("bare", "linux64")]
    [InlineData("bare", "linux32")]
    [InlineData("kvm", "pvh")]
    public void Linux_ToInit_ReplaysInAnotherProcess(string accel, string boot)
    {
        Assert.SkipUnless(Long, "VMFUZZ_LONG=1 boots Linux to its init");
        Records(Linux(accel, boot, Line), 1_000_000_000);
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

    [Theory]
    [InlineData("bare")]
    [InlineData("kvm")]
    public void SeaBios_WithNothingToBoot_SaysSo(string accel)
    {
        Assert.SkipUnless(File.Exists(SeaBios), $"{SeaBios} is not installed (package seabios)");
        Records(["run", "-machine", "pc", "-accel", accel, "-bios", SeaBios, "--until-serial", "No bootable device"], 50_000_000);
    }

    /// <summary>The newest cloud kernel; skips where there is none.</summary>
    internal static string Kernel()
    {
        string? kernel = Directory.Exists(Modules)
            ? Directory.EnumerateFiles(Modules, "vmlinuz-*-cloud-amd64").Order(StringComparer.Ordinal).LastOrDefault()
            : null;
        Assert.SkipWhen(kernel is null, "no cloud kernel is installed (package linux-image-cloud-amd64)");
        return kernel!;
    }

    private static string[] Linux(string accel, string boot, string until)
    {
        string initrd = Path.Combine(Repository.Guests, "linux-init.bin");
        return
        [
            "run", "-machine", "microvm", "-accel", accel, "-m", "72M", "-kernel", Kernel(), "-initrd", initrd, "--boot", boot,
            "-append", CommandLine, "--until-serial", until,
        ];
    }

    // Records a run that must show its text, and replays it in another process.
    private static void Records(string[] run, ulong limit)
    {
        string folder = Directory.CreateTempSubdirectory("vmfuzz").FullName;
        try
        {
            string path = Path.Combine(folder, "boot.vmtrace");
            string most = limit.ToString(CultureInfo.InvariantCulture);
            (int status, string output, string error) = Command.Run(["record", .. run[1..], "--max-instructions", most, "-o", path]);
            Assert.True(status == 0, $"status {status}\n{output}\n{error}");
            JsonElement replay = Command.Replays(path);
            Assert.Equal("Identical", replay.GetProperty("outcome").GetString(), ignoreCase: true);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
