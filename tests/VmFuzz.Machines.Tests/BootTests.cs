using System.Text;
using VmFuzz.Machines;

namespace VmFuzz.Machines.Tests;

/// <summary>Kernels of every boot protocol start and find what they were given; images that nobody vouches for break nothing.</summary>
public sealed class BootTests
{
    [Theory]
    [InlineData("pvh", BootProtocol.Auto)]
    [InlineData("pvh32", BootProtocol.Auto)]
    [InlineData("pvh-lz4", BootProtocol.Auto)]
    [InlineData("pvh-gzip", BootProtocol.Pvh)]
    [InlineData("linux", BootProtocol.Auto)]
    [InlineData("linux", BootProtocol.Linux32)]
    [InlineData("pvh-lz4", BootProtocol.Linux64)]
    public void Kernel_OnBothAccelerators_FindsCommandLineAndInitrd(string kind, BootProtocol boot)
    {
        Assert.Equal("quiet*", Run(BootImages.Options(BootImages.Make(kind), boot)));
        Assert.Equal("quiet*", Run(BootImages.Options(BootImages.Make(kind), boot, Accelerator.Kvm)));
        Assert.Equal("quiet*", Run(BootImages.Options(BootImages.Make(kind), boot) with { Kind = MachineKind.Pc }));
    }

    [Fact]
    public void Multiboot_OnBothAccelerators_FindsItsNameCommandLineAndModule()
    {
        Assert.Equal("kernel quiet*", Run(BootImages.Options(BootImages.Make("multiboot"))));
        Assert.Equal("kernel quiet*", Run(BootImages.Options(BootImages.Make("multiboot"), BootProtocol.Multiboot, Accelerator.Kvm)));
    }

    [Theory]
    [InlineData("pvh", BootProtocol.Linux64, "needs a bzImage")]
    [InlineData("linux", BootProtocol.Pvh, "needs an ELF image with a PVH entry")]
    [InlineData("pvh", BootProtocol.Multiboot, "needs an ELF image of 32 bits")]
    public void Protocol_ThatTheImageIsNotOf_IsRefused(string kind, BootProtocol boot, string says) =>
        Assert.Contains(says, BootImages.Options(BootImages.Make(kind), boot).Validate(), StringComparison.Ordinal);

    [Fact]
    public void Kernel_ThatIsNone_IsRefused() =>
        Assert.Contains("not a kernel", BootImages.Options(new byte[5000]).Validate(), StringComparison.Ordinal);

    [Fact]
    public void Segment_OnTheStartState_IsRefused()
    {
        byte[] kernel = BootImages.Make("pvh");
        kernel[0x140 + 24 + 2] = 0; // The segment's address becomes 0.
        Assert.Contains("overlap", BootImages.Options(kernel).Validate(), StringComparison.Ordinal);
    }

    [Fact]
    public void Segment_BeyondMemory_IsRefused()
    {
        byte[] kernel = BootImages.Make("pvh");
        kernel[0x140 + 24 + 3] = 0x40;
        Assert.Contains("-m", BootImages.Options(kernel).Validate(), StringComparison.Ordinal);
    }

    [Fact]
    public void Payload_ThatSaysItIsHuge_IsRefusedBeforeAnythingIsAllocated()
    {
        byte[] kernel = BootImages.Make("pvh-lz4");
        kernel[^1] = 0x0F; // 240 MiB from a kilobyte.
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Contains("cannot hold", BootImages.Options(kernel).Validate(), StringComparison.Ordinal);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1 << 20);
    }

    [Fact]
    public void CommandLine_LongerThanTheKernelTakes_IsRefused() =>
        Assert.Contains("-append", (BootImages.Options(BootImages.Make("linux")) with { CommandLine = new string('a', 256) }).Validate(), StringComparison.Ordinal);

    [Fact]
    public void Initrd_LargerThanMemory_IsRefused()
    {
        MachineOptions options = BootImages.Options(BootImages.Make("pvh"));
        options = options with { Images = [options.Images[0], new MachineImage(MachineImage.InitrdRole, "initrd", new byte[9 << 20])] };
        Assert.Contains("initrd", options.Validate(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("pvh")]
    [InlineData("pvh32")]
    [InlineData("multiboot")]
    [InlineData("pvh-lz4")]
    [InlineData("pvh-gzip")]
    [InlineData("linux")]
    public void Image_CutOrChangedAnywhere_IsLoadedOrRefusedInOneLine(string kind)
    {
        byte[] whole = BootImages.Make(kind);
        for (int length = 1; length < whole.Length; length++)
        {
            IsSound(whole[..length]);
        }

        ulong random = 1;
        foreach (byte value in (byte[])[0, 1, 0x7F, 0x80, 0xFF])
        {
            for (int at = 0; at < whole.Length; at++)
            {
                byte[] changed = [.. whole];
                changed[at] = value;
                random = (random * 6364136223846793005) + 1442695040888963407;
                changed[(int)(random >> 33) % whole.Length] = (byte)(random >> 25);
                IsSound(changed);
            }
        }
    }

    // Whatever the bytes are, all protocols give a machine or one line that says what is wrong.
    private static void IsSound(byte[] kernel)
    {
        foreach (BootProtocol boot in Enum.GetValues<BootProtocol>())
        {
            MachineOptions options = BootImages.Options(kernel, boot);
            if (options.Validate() is { } wrong)
            {
                Assert.DoesNotContain('\n', wrong);
                Assert.Matches("(give|leave|use|more with -m)", wrong);
            }
        }
    }

    private static string Run(MachineOptions options)
    {
        Assert.Null(options.Validate());
        using Machine machine = Machine.Create(options, new NoInputs());
        var text = new StringBuilder();
        machine.ConsoleOutput = value => text.Append((char)value);
        MachineStop stop = machine.Run();
        Assert.True(stop.Kind == MachineStopKind.DebugExit, $"{stop.Kind}: {stop.Text}");
        return text.ToString();
    }
}
