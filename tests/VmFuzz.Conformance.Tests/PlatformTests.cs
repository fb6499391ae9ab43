using VmFuzz.Machines;

namespace VmFuzz.Conformance.Tests;

/// <summary>Guests that use the devices of a PC: the corpus's own, and SeaBIOS as Debian's seabios installs it.</summary>
public sealed class PlatformTests
{
    private const string SeaBios = "/usr/share/seabios/bios-256k.bin";

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void InterruptControllers_OfAPc_DeliverInOrder(Accelerator accelerator)
    {
        GuestRun run = GuestRun.Of(MachineKind.Pc, new MachineImage(MachineImage.BiosRole, "apic.bin", Repository.Guest("apic")), accelerator, 1_000_000);
        Assert.Equal(MachineStopKind.DebugExit, run.Stop.Kind);
        Assert.Equal("0106001400010000a419242b-5107776100c20d6262e717272727300f02E120gFFFFFFFF8109-820D0Dh00FFFFFFFF000001FFA1\n", run.Output);
    }

    [Theory]
    [InlineData("bare")]
    [InlineData("kvm")]
    public void InterruptControllers_UnderChaos_ReplayInAnotherProcess(string accelerator)
    {
        string folder = Directory.CreateTempSubdirectory("vmfuzz").FullName;
        try
        {
            string path = Path.Combine(folder, "apic.vmtrace");
            string rom = Path.Combine(Repository.Guests, "apic.bin");
            (int status, string output, string error) = Command.Run(
                ["record", "-machine", "pc", "-accel", accelerator, "-bios", rom, "--chaos", "3", "--chaos-span", "20000", "--chaos-nmis", "0", "-o", path]);
            Assert.True(status == 0, $"status {status}\n{output}\n{error}");
            Command.Replays(path);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void UnitTestMachine_ForATestImage_HasWhatItExpects(Accelerator accelerator)
    {
        var kernel = new MachineImage(MachineImage.KernelRole, "unittest.bin", Repository.Guest("unittest"));
        GuestRun run = GuestRun.Of(MachineKind.UnitTest, kernel, accelerator, 1_000_000);
        Assert.Equal("mflsaip\n", run.Output);
        Assert.Equal(MachineStopKind.PowerOff, run.Stop.Kind);
    }

    [Theory]
    [InlineData(Accelerator.Bare)]
    [InlineData(Accelerator.Kvm)]
    public void SeaBios_OnAPc_FindsItsProcessorAndTables(Accelerator accelerator)
    {
        Assert.SkipUnless(File.Exists(SeaBios), $"{SeaBios} is not installed (package seabios)");
        var rom = new MachineImage(MachineImage.BiosRole, "bios-256k.bin", File.ReadAllBytes(SeaBios));
        GuestRun run = GuestRun.Of(MachineKind.Pc, rom, accelerator, 30_000_000);
        foreach (string line in (ReadOnlySpan<string>)["Found 1 cpu(s) max supported 1 cpu(s)", "ACPI: parse DSDT at"])
        {
            Assert.True(run.Output.Contains(line, StringComparison.Ordinal), $"{line} is missing: {run.Stop.Text}\n{run.Output}");
        }
    }
}
