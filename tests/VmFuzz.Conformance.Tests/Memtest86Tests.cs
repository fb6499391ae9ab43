namespace VmFuzz.Conformance.Tests;

/// <summary>
/// memtest86+ as Debian installs it, by the Linux boot protocol. The default is its first test of memory; VMFUZZ_LONG=1 goes on until
/// its clock has shown the next ones.
/// </summary>
public sealed class Memtest86Tests
{
    [Theory]
    [InlineData("ia32")]
    [InlineData("x64")]
    public void FirstPass_Recorded_ReplaysInAnotherProcess(string form) =>
        Assert.Contains("Memtest86+ v", Command.RecordsAndReplays(Test(form, "Address test"), 200_000_000), StringComparison.Ordinal);

    [Theory]
    [InlineData("ia32")]
    [InlineData("x64")]
    public void LaterTests_Recorded_FindNoErrorsAndReplay(string form)
    {
        Assert.SkipUnless(Environment.GetEnvironmentVariable("VMFUZZ_LONG") == "1", "VMFUZZ_LONG=1 goes on to the later tests");
        string output = Command.RecordsAndReplays(Test(form, "Moving inversions"), 8_000_000_000);
        Assert.Contains("Errors: 0", output, StringComparison.Ordinal);
        Assert.DoesNotMatch("Errors: +[1-9]", output);
    }

    // Without a pause, the program waits for no key at its start.
    private static string[] Test(string form, string until)
    {
        string path = $"/boot/memtest86+{form}.bin";
        Assert.SkipUnless(File.Exists(path), $"{path} is not installed (package memtest86+)");
        return ["run", "-machine", "pc", "-m", "16M", "-kernel", path, "-append", "console=ttyS0,115200 nopause", "--until-serial", until];
    }
}
