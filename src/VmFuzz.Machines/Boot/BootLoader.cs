using System.Collections.Immutable;

namespace VmFuzz.Machines;

/// <summary>Makes a plan of a request.</summary>
/// <returns>What is wrong with the images, in one line that says what to do; null when nothing is.</returns>
internal delegate string? BootMethod(BootRequest request, BootPlan plan);

/// <summary>A boot protocol.</summary>
/// <param name="Protocol">The protocol.</param>
/// <param name="Needs">What an image of it is, for the message about one that is not.</param>
/// <param name="Recognises">Whether an image is of this protocol, by its first bytes.</param>
/// <param name="Load">Loads it.</param>
internal sealed record BootLoader(BootProtocol Protocol, string Needs, Func<ReadOnlyMemory<byte>, bool> Recognises, BootMethod Load)
{
    /// <summary>All protocols, in the order in which an image's is looked for.</summary>
    public static readonly ImmutableArray<BootLoader> Rows =
    [
        new(BootProtocol.Multiboot, "an ELF image of 32 bits with a multiboot 1 header in its first 8 KiB", MultibootLoader.Recognises, MultibootLoader.Load),
        new(BootProtocol.Pvh, "an ELF image with a PVH entry, or a bzImage that holds one compressed with LZ4 or gzip", PvhLoader.Recognises, PvhLoader.Load),
        new(BootProtocol.Linux64, "a bzImage with a 64-bit entry", static image => BzImage.Recognises(image.Span) && BzImage.HasWideEntry(image.Span), LinuxLoader.Load64),
        new(BootProtocol.Linux32, "a bzImage", static image => BzImage.Recognises(image.Span), LinuxLoader.Load32),
    ];

    /// <summary>Whether an image is a kernel of any protocol.</summary>
    public static bool Knows(ReadOnlyMemory<byte> image)
    {
        foreach (BootLoader row in Rows)
        {
            if (row.Recognises(image))
            {
                return true;
            }
        }

        return ElfImage.Recognises(image.Span);
    }

    /// <summary>Plans how the kernel in a machine's options is loaded.</summary>
    /// <param name="options">Options with an image of the role <see cref="MachineImage.KernelRole"/>.</param>
    /// <param name="low">End of the machine's memory below 4 GiB.</param>
    /// <param name="plan">The plan, when the result is null.</param>
    /// <returns>What is wrong, in one line that says what to do; or null.</returns>
    public static string? TryPlan(MachineOptions options, ulong low, out BootPlan plan)
    {
        BootRequest request = BootRequest.Of(options, low);
        plan = new BootPlan(request);
        ReadOnlyMemory<byte> image = request.Kernel.Bytes;
        foreach (BootLoader row in Rows)
        {
            if ((options.Boot == BootProtocol.Auto || options.Boot == row.Protocol) && row.Recognises(image))
            {
                return row.Load(request, plan);
            }

            if (options.Boot == row.Protocol)
            {
                return $"{request.Kernel.Name}: --boot {row.Protocol.ToString().ToLowerInvariant()} needs {row.Needs}; leave --boot out, or give another kernel";
            }
        }

        return $"{request.Kernel.Name}: not a kernel; give a bzImage, an ELF image with a PVH entry or one with a multiboot 1 header (raw code runs on -machine flat)";
    }
}
