using System.Diagnostics;
using System.Text.Json;

namespace VmFuzz.Conformance.Tests;

/// <summary>
/// Guests that are talked to by scripts (corpus/consoles), each recorded and replayed in another process: U-Boot at its prompt;
/// with VMFUZZ_LONG=1 Debian's cloud kernel with a busybox shell, on interrupts.
/// </summary>
public sealed class ConsoleTests : IDisposable
{
    private const string Rom = "/usr/lib/u-boot/qemu-x86/u-boot.rom";
    private const string Busybox = "/bin/busybox";

    // Nothing that the machine could not do is switched off: pc has ACPI and APICs, microvm has not.
    private const string OfPc = "console=ttyS0 nokaslr panic=-1 random.trust_cpu=on cryptomgr.notests";
    private const string OfMicrovm = OfPc + " acpi=off pci=off noapic nolapic reboot=t";

    private readonly string _folder = Directory.CreateTempSubdirectory("vmfuzz").FullName;

    private static string Scripts => Path.Combine(Repository.Root, "corpus", "consoles");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("bare")]
    [InlineData("kvm")]
    public void UBoot_AtItsPrompt_AnswersAndReplays(string accel)
    {
        Assert.SkipUnless(File.Exists(Rom), $"{Rom} is not installed (package u-boot-qemu)");
        string output = Records("u-boot", "UserStop", "-machine", "pc", "-accel", accel, "-bios", Rom, "--max-instructions", "200000000");
        Assert.Contains("\nboard qemu-x86\r", output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("pc", "bare", OfPc, "PowerOff", "IO-APIC   4-edge      ttyS0")]
    [InlineData("pc", "kvm", OfPc, "PowerOff", "IO-APIC   4-edge      ttyS0")]
    [InlineData("microvm", "bare", OfMicrovm, "Halted", "XT-PIC      ttyS0")]
    public void Shell_OfLinux_RunsCommandsOnInterruptsAndReplays(string machine, string accel, string line, string end, string interrupts)
    {
        Assert.SkipUnless(Environment.GetEnvironmentVariable("VMFUZZ_LONG") == "1", "VMFUZZ_LONG=1 boots Linux to a shell");
        string initrd = MakeInitrd();
        string output = Records(
            "shell", end, "-machine", machine, "-accel", accel, "-m", "256M", "-kernel", KernelTests.Kernel(), "-initrd", initrd, "-append", line,
            "--max-instructions", "1000000000");
        Assert.Contains("ttyS0 at I/O 0x3f8 (irq = 4, base_baud = 115200) is a 16550A", output, StringComparison.Ordinal);
        Assert.Contains("Linux (none) 6.1.", output, StringComparison.Ordinal);
        Assert.Contains(interrupts, output, StringComparison.Ordinal);
        Assert.Contains("bin   dev   init  proc", output, StringComparison.Ordinal);
        Assert.Contains("\n42\r", output, StringComparison.Ordinal);
    }

    // From the prompt on, again and again, without the boot.
    [Fact]
    public void Shell_SavedAtItsPrompt_GoesOn()
    {
        Assert.SkipUnless(Environment.GetEnvironmentVariable("VMFUZZ_LONG") == "1", "VMFUZZ_LONG=1 boots Linux to a shell");
        string snapshot = Path.Combine(_folder, "prompt.vmsnap");
        (int status, _, string error) = Command.Run(
            ["snapshot", "-machine", "pc", "-m", "256M", "-kernel", KernelTests.Kernel(), "-initrd", MakeInitrd(), "-append", OfPc,
            "--at-text", "vmfuzz# ", "-o", snapshot, "--max-instructions", "1000000000"]);
        Assert.True(status == 0, error);
        string script = Path.Combine(_folder, "rest.expect");
        File.WriteAllText(script, "send \"echo $((40+2))\\r\"\nexpect \"\\n42\\r\"\nsend \"poweroff -f\\r\"\nexpect \"reboot: \"\n");
        Assert.Contains("\n42\r", RecordsScript(script, "PowerOff", "--from", snapshot, "--max-instructions", "1000000000"), StringComparison.Ordinal);
    }

    private string Records(string script, string end, params string[] run) =>
        RecordsScript(Path.Combine(Scripts, script + ".expect"), end, run);

    private string RecordsScript(string script, string end, params string[] run)
    {
        string trace = Path.Combine(_folder, "console.vmtrace");
        (int status, string output, string error) = Command.Run(["record", .. run, "--expect-script", script, "-o", trace]);
        Assert.True(status == 0, $"status {status}\n{output}\n{error}");
        JsonElement replay = Command.Replays(trace);
        Assert.StartsWith(end + ":", replay.GetProperty("end").GetString(), StringComparison.Ordinal);
        return output;
    }

    private string MakeInitrd()
    {
        Assert.SkipUnless(File.Exists(Busybox), $"{Busybox} is not installed (package busybox-static)");
        Assert.SkipUnless(File.Exists("/usr/bin/cpio") || File.Exists("/bin/cpio"), "cpio is not installed");
        string initrd = Path.Combine(_folder, "shell.cpio");
        using Process process = Process.Start(Path.Combine(Repository.Root, ".ci", "make-initramfs"), initrd);
        process.WaitForExit();
        Assert.Equal(0, process.ExitCode);
        return initrd;
    }
}
