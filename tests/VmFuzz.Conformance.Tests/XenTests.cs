using System.IO.Compression;

namespace VmFuzz.Conformance.Tests;

/// <summary>Xen as Debian installs it, by multiboot: its banner, and that it has no first domain to start.</summary>
public sealed class XenTests
{
    private const string Boot = "/boot";

    [Theory]
    [InlineData("bare")]
    [InlineData("kvm")]
    public void Banner_Recorded_ReplaysInAnotherProcess(string accel)
    {
        string? packed = Directory.Exists(Boot) ? Directory.EnumerateFiles(Boot, "xen-*-amd64.gz").Order(StringComparer.Ordinal).LastOrDefault() : null;
        Assert.SkipWhen(packed is null, "no Xen is installed (package xen-hypervisor-4.17-amd64)");
        string folder = Directory.CreateTempSubdirectory("vmfuzz").FullName;
        try
        {
            // Its boot loader unpacks it.
            string image = Path.Combine(folder, "xen");
            using (var gzip = new GZipStream(File.OpenRead(packed!), CompressionMode.Decompress))
            using (FileStream file = File.Create(image))
            {
                gzip.CopyTo(file);
            }

            string output = Command.RecordsAndReplays(
                ["run", "-machine", "pc", "-accel", accel, "-m", "512M", "-kernel", image, "-append", "com1=115200,8n1 console=com1", "--until-serial", "dom0 kernel not specified"],
                50_000_000);
            Assert.Contains("(XEN) Xen version 4.", output, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
