using System.ComponentModel;
using System.Diagnostics;

namespace VmFuzz.Conformance.Tests;

/// <summary>The committed bytes of the guests are what their sources give.</summary>
public sealed class GuestSourceTests
{
    public static TheoryData<string> Names() =>
        [.. Directory.EnumerateFiles(Repository.Guests, "*.asm").Select(static path => Path.GetFileNameWithoutExtension(path)!).Order(StringComparer.Ordinal)];

    [Theory]
    [MemberData(nameof(Names))]
    public void Guest_AssembledAgain_GivesTheCommittedBytes(string name)
    {
        string output = Path.GetTempFileName();
        try
        {
            var start = new ProcessStartInfo("nasm", ["-f", "bin", "-Werror", "-o", output, name + ".asm"])
            {
                WorkingDirectory = Repository.Guests,
                RedirectStandardError = true,
                UseShellExecute = false,
            };
            Process? nasm = null;
            try
            {
                nasm = Process.Start(start);
            }
            catch (Win32Exception)
            {
                Assert.Skip("nasm is not installed");
            }

            using (nasm)
            {
                string errors = nasm!.StandardError.ReadToEnd();
                nasm.WaitForExit();
                Assert.Equal("", errors);
            }

            Assert.Equal(Repository.Guest(name), File.ReadAllBytes(output));
        }
        finally
        {
            File.Delete(output);
        }
    }

    [Fact]
    public void Bytes_InTheFolder_AllHaveASource()
    {
        string[] sources = [.. Directory.EnumerateFiles(Repository.Guests, "*.asm").Select(static path => Path.GetFileNameWithoutExtension(path)!).Order(StringComparer.Ordinal)];
        string[] bytes = [.. Directory.EnumerateFiles(Repository.Guests, "*.bin").Select(static path => Path.GetFileNameWithoutExtension(path)!).Order(StringComparer.Ordinal)];
        Assert.Equal(sources, bytes);
    }

    [Fact]
    public void Guests_InTheCorpus_AreAllInItsReadme()
    {
        string readme = File.ReadAllText(Path.Combine(Repository.Root, "corpus", "README.md"));
        Assert.All(Names(), row => Assert.Contains($"| `{row.Data}` |", readme, StringComparison.Ordinal));
    }
}
