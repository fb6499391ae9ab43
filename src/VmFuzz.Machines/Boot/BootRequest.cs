using System.Collections.Immutable;

namespace VmFuzz.Machines;

/// <summary>A range of a machine's memory map, as boot protocols hand it to a kernel.</summary>
/// <param name="Base">First guest-physical address.</param>
/// <param name="Length">Bytes.</param>
internal readonly record struct MemoryRange(ulong Base, ulong Length);

/// <summary>What a loader is given.</summary>
/// <param name="Kernel">The kernel's image.</param>
/// <param name="Initrd">The initial RAM disk, or the module of a multiboot kernel; null for none.</param>
/// <param name="CommandLine">The kernel's command line.</param>
/// <param name="Ram">The memory a kernel may use, in rising order; the first range starts at 0, the second at 1 MiB.</param>
internal sealed record BootRequest(MachineImage Kernel, MachineImage? Initrd, string CommandLine, ImmutableArray<MemoryRange> Ram)
{
    /// <summary>Longest command line. Unit: bytes of UTF-8. Linux takes 2047 on x86.</summary>
    public const int MaxCommandLine = 4095;

    /// <summary>End of the memory below the extended BIOS data area's usual place.</summary>
    public const ulong ConventionalEnd = 0x9_FC00;

    private const ulong OneMiB = 1 << 20;

    /// <summary>The request that a machine's options make.</summary>
    /// <param name="options">Options with an image of the role <see cref="MachineImage.KernelRole"/>.</param>
    /// <param name="low">End of the memory below 4 GiB.</param>
    public static BootRequest Of(MachineOptions options, ulong low)
    {
        var ram = ImmutableArray.CreateBuilder<MemoryRange>();
        ram.Add(new MemoryRange(0, ConventionalEnd));
        if (low > OneMiB)
        {
            ram.Add(new MemoryRange(OneMiB, low - OneMiB));
        }

        if (options.Memory > low)
        {
            ram.Add(new MemoryRange(1UL << 32, options.Memory - low));
        }

        return new BootRequest(
            options.Image(MachineImage.KernelRole)!, options.Image(MachineImage.InitrdRole), options.CommandLine, ram.ToImmutable());
    }
}
