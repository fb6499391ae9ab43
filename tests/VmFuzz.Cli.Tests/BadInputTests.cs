using System.Text;
using VmFuzz.Trace;

namespace VmFuzz.Cli.Tests;

public class BadInputTests : CommandFixture
{
    [Theory]
    [InlineData("-m", "3Q", "'3Q' is not a size")]
    [InlineData("-m", "0", "cannot be had")]
    [InlineData("-m", "1500K", "cannot be had")]
    [InlineData("-m", "99999999T", "is not a size")]
    [InlineData("-m", "64G", "cannot be had")]
    [InlineData("-machine", "q35", "there is no machine 'q35'")]
    [InlineData("-machine", "flat,usb=on", "no property 'usb=on'")]
    [InlineData("-accel", "tcg", "there is no accelerator 'tcg'")]
    [InlineData("-cpu", "host", "there is no processor model 'host'")]
    [InlineData("-rtc", "base=yesterday", "is not a start of the clock")]
    [InlineData("-rtc", "base=1969-12-31", "the year 1969")]
    [InlineData("-serial", "pty", "cannot lead to 'pty'")]
    [InlineData("-serial", "file:", "there is no file name")]
    [InlineData("--flat-mode", "long32", "there is no mode 'long32'")]
    [InlineData("--load-address", "0x100", "do not lie between")]
    [InlineData("--load-address", "here", "'here' is not a number")]
    [InlineData("--max-instructions", "-1", "'-1' is not a number")]
    [InlineData("--max-instructions", "0", "no instructions")]
    [InlineData("--max-instructions", "99999999999999999999", "is not a number")]
    [InlineData("--exit-cost", "2000000000", "too large")]
    [InlineData("--until-serial", "", "no text to wait for")]
    [InlineData("--log", "exits,all", "there is no log 'all'")]
    [InlineData("--log-file", "x.txt", "nothing to log")]
    [InlineData("--chaos", "much", "'much' is not a seed")]
    [InlineData("--chaos-nmis", "5", "there is no chaos")]
    [InlineData("--frobnicate", "5", "--frobnicate")]
    [InlineData("-smp", "0", "is not a number of processors")]
    [InlineData("-smp", "cpus=9", "is not a number of processors")]
    [InlineData("-smp", "2", "only -machine pc and unit-test")]
    [InlineData("--schedule-seed", "5", "one processor has no turns to draw")]
    [InlineData("-bios", "x.rom", "a flat machine has no firmware")]
    public void Run_NonsenseOption_IsRefusedInOneLine(string option, string value, string text)
    {
        string[] machine = option == "-machine" ? [] : ["-machine", "flat"];
        Ran ran = Run([.. (string[])["run", .. machine, "-kernel", HelloFile, option, value]]);
        Refuses(ran, text);
    }

    [Fact]
    public void Run_SeveralProcessorsUnderKvm_IsRefusedInOneLine() => Refuses(
        Run("run", "-machine", "pc", "-accel", "kvm", "-smp", "2", "-bios", Make("x.rom", new byte[4096])),
        "-smp 2", "use -accel bare");

    [Theory]
    [InlineData("not a kernel", "-machine", "microvm")]
    [InlineData("firmware or a kernel, not both", "-machine", "microvm", "-bios", "x.rom")]
    [InlineData("--append goes with a kernel", "-machine", "flat", "-append", "quiet")]
    [InlineData("--initrd goes with a kernel", "-machine", "flat", "-initrd", "x")]
    [InlineData("there is no boot protocol", "-machine", "microvm", "--boot", "uefi")]
    public void Kernel_ThatCannotBoot_SaysWhy(string says, params string[] options) =>
        Refuses(Run([.. (string[])["run", "-kernel", HelloFile], .. options]), says);

    [Fact]
    public void Record_TextToWaitForTooLong_IsRefusedAndWritesNothing()
    {
        string path = Path.Combine(Folder, "t.vmtrace");
        Refuses(Run("record", "-kernel", HelloFile, "--until-serial", new string('a', 70_000), "-o", path), "--until-serial", "longer than");
        Assert.False(File.Exists(path));
    }

    [Fact]
    public void Run_CodeAboveFourGigabytes_IsRefused() =>
        Refuses(Run("run", "-m", "8G", "-kernel", HelloFile, "--load-address", "0x140000000"), "do not lie between");

    [Fact]
    public void TraceInfo_ControlCharactersInTheHeader_DoNotReachTheTerminal()
    {
        string path = Path.Combine(Folder, "t.vmtrace");
        Assert.Equal(0, Run("record", "-kernel", HelloFile, "-o", path).Status);
        byte[] bytes = File.ReadAllBytes(path);
        using (TraceReader reader = TraceReader.Open(bytes))
        using (FileStream file = File.Create(path))
        {
            TracePatcher.Rewrite(reader, file, static _ => TracePatch.Keep, static h => h with
            {
                Source = "live\u001b[2J",
                EngineVersion = "1\n2",
                Blobs = [h.Blobs[0] with { Name = "\u001b]0;title\a" }],
            });
        }

        Ran ran = Run("trace", "info", path);
        Assert.Equal(0, ran.Status);
        Assert.DoesNotContain(ran.Out, static c => char.IsControl(c) && c != '\n');
        Assert.Contains("engine 1?2,", ran.Out, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData()]
    [InlineData("--nothing")]
    [InlineData("explode")]
    [InlineData("trace")]
    [InlineData("replay")]
    [InlineData("run")]
    [InlineData("run", "-machine", "pc")]
    [InlineData("record", "-machine", "flat")]
    [InlineData("run", "-machine", "pc", "-kernel", "x")]
    [InlineData("run", "-m")]
    [InlineData("trace", "dump", "x", "--kind", "entry", "y")]
    public void Command_Incomplete_IsStatusTwo(params string[] args)
    {
        Ran ran = Run(args);
        Assert.Equal(2, ran.Status);
        Assert.Equal("", ran.Out);
        Assert.False(string.IsNullOrEmpty(ran.Err));
    }

    [Fact]
    public void Rom_Missing_IsRefused() =>
        Refuses(Run("run", "-machine", "pc", "-bios", At("none.rom")), "does not exist", "none.rom");

    [Fact]
    public void Rom_Directory_IsRefused() =>
        Refuses(Run("run", "-machine", "pc", "-bios", Folder), "is a directory", Folder);

    [Fact]
    public void Rom_Empty_IsRefused() =>
        Refuses(Run("run", "-machine", "pc", "-bios", Make("empty.rom", [])), "is empty", "empty.rom");

    [Fact]
    public void Rom_Truncated_IsRefused() =>
        Refuses(Run("run", "-machine", "pc", "-bios", Make("cut.rom", new byte[5000])), "5000 bytes", "cut.rom", "truncated");

    [Fact]
    public void Rom_Oversized_IsRefused() =>
        Refuses(Run("run", "-machine", "pc", "-bios", Make("big.rom", new byte[(16 << 20) + 4096])), "larger than 16 MiB", "big.rom");

    [Fact]
    public void Rom_EndlessDevice_IsRefused()
    {
        Assert.SkipUnless(File.Exists("/dev/zero"), "there is no /dev/zero");
        Refuses(Run("run", "-machine", "pc", "-bios", "/dev/zero"), "larger than 16 MiB");
    }

    [Fact]
    public void Kernel_EmptyOrTooLargeForMemory_IsRefused()
    {
        Refuses(Run("run", "-kernel", Make("empty.bin", [])), "is empty");
        Refuses(Run("run", "-m", "1M", "-kernel", Make("big.bin", new byte[1 << 20])), "do not lie between");
    }

    [Fact]
    public void Output_Exists_IsKeptWithoutForce()
    {
        string path = Make("old.vmtrace", "precious"u8.ToArray());
        Refuses(Run("record", "-kernel", HelloFile, "-o", path), "exists already", "--force");
        Assert.Equal("precious", File.ReadAllText(path));
        Assert.Equal(0, Run("record", "-kernel", HelloFile, "-o", path, "--force").Status);
        Assert.Equal(0, Run("replay", path).Status);
    }

    [Fact]
    public void Output_IsAnInput_IsRefusedEvenWithForce()
    {
        Refuses(Run("record", "-kernel", HelloFile, "-o", HelloFile, "--force"), "uses already");
        string link = At("link.bin");
        File.CreateSymbolicLink(link, HelloFile);
        Refuses(Run("record", "-kernel", HelloFile, "-o", link, "--force"), "uses already");
        Refuses(Run("run", "-kernel", HelloFile, "-serial", "file:" + HelloFile), "uses already");
        Refuses(Run("run", "-kernel", HelloFile, "--log", "int", "--log-file", Folder + "/./hello.bin"), "uses already");
        string same = At("same.txt");
        Refuses(Run("record", "-kernel", HelloFile, "-serial", "file:" + same, "-o", same), "uses already");
        Assert.Equal(Hello, File.ReadAllBytes(HelloFile));
        Assert.False(File.Exists(same));
    }

    [Fact]
    public void Output_NoFolderOrFolderItself_IsRefused()
    {
        Refuses(Run("record", "-kernel", HelloFile, "-o", At("none/t.vmtrace")), "directory of the output does not exist");
        Refuses(Run("record", "-kernel", HelloFile, "-o", Folder), "the output is a directory");
        Refuses(Run("record", "-kernel", HelloFile, "-o", ""), "no file name");
    }

    [Fact]
    public void Output_UnwritableFolder_IsRefused()
    {
        // A file that cannot be made, for the superuser too.
        Assert.SkipUnless(Directory.Exists("/proc/self"), "there is no /proc");
        Refuses(Run("record", "-kernel", HelloFile, "-o", "/proc/self/t.vmtrace"), "/proc/self/t.vmtrace");
    }

    [Fact]
    public void Output_DeviceIsFull_IsRefusedWithThePlace()
    {
        Assert.SkipUnless(File.Exists("/dev/full"), "there is no /dev/full");
        Refuses(Run("record", "-kernel", HelloFile, "-serial", "none", "-o", "/dev/full", "--force"), "/dev/full");
    }

    [Fact]
    public void Output_BadGuest_LeavesNothing()
    {
        string path = At("t.vmtrace");
        Refuses(Run("record", "-machine", "pc", "-bios", At("none.rom"), "-o", path), "does not exist");
        Assert.False(File.Exists(path));
        File.WriteAllText(path, "precious");
        Refuses(Run("record", "-machine", "pc", "-bios", At("none.rom"), "-o", path, "--force"), "does not exist");
        Assert.Equal("precious", File.ReadAllText(path));
    }

    [Theory]
    [InlineData("replay")]
    [InlineData("trace", "info")]
    [InlineData("trace", "dump")]
    public void Trace_Unreadable_IsRefused(params string[] command)
    {
        Refuses(Run([.. command, At("none.vmtrace")]), "does not exist");
        Refuses(Run([.. command, Folder]), "is a directory");
        Refuses(Run([.. command, Make("empty.vmtrace", [])]), "empty.vmtrace");
        Refuses(Run([.. command, Make("foreign.vmtrace", Encoding.UTF8.GetBytes("PNG and not a trace at all"))]), "foreign.vmtrace", "not a trace");
    }

    [Fact]
    public void Trace_OtherSemantics_IsRefusedUnlessCompared()
    {
        string path = Record();
        using (TraceReader reader = TraceReader.Open(File.ReadAllBytes(path)))
        {
            using FileStream copy = File.Create(At("other.vmtrace"));
            TracePatcher.Rewrite(reader, copy, static _ => TracePatch.Keep, static h => h with { SemanticsVersion = 999 });
        }

        Refuses(Run("replay", At("other.vmtrace")), "semantics version 999", "--compare");
        Ran compared = Run("replay", At("other.vmtrace"), "--compare");
        Assert.Equal(0, compared.Status);
    }

    [Fact]
    public void Dump_BadRangeOrKind_IsRefused()
    {
        string path = Record();
        Refuses(Run("trace", "dump", path, "--from", "5", "--to", "4"), "the range is empty");
        Refuses(Run("trace", "dump", path, "--from", "100000"), "there is no event 100000");
        Refuses(Run("trace", "dump", path, "--from", "x"), "'x' is not the number");
        Refuses(Run("trace", "dump", path, "--kind", "entries"), "there is no kind of event 'entries'", "entry");
    }
}
