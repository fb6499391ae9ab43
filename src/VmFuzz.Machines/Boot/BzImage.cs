using System.Buffers.Binary;

namespace VmFuzz.Machines;

/// <summary>
/// The header of a bzImage (Linux kernel documentation, "The Linux/x86 Boot Protocol"). Offsets are those of the file, and of
/// the page of boot parameters that a kernel is handed.
/// </summary>
internal static class BzImage
{
    /// <summary>First byte of the header.</summary>
    public const int Header = 0x1F1;

    /// <summary>Oldest version that is loaded: 2.06, the first with a size of the command line.</summary>
    public const int OldestVersion = 0x206;

    private const int Magic = 0x202;
    private const int Version = 0x206;
    private const int SectorSize = 512;

    // XLF_KERNEL_64, and the version it came with.
    private const int WideEntry = 1;
    private const int WideVersion = 0x20C;
    private const int ExtendedFlags = 0x236;

    /// <summary>Whether an image has the header.</summary>
    public static bool Recognises(ReadOnlySpan<byte> image) =>
        image.Length > 0x280 && image[Magic..].StartsWith("HdrS"u8) && VersionOf(image) >= OldestVersion;

    /// <summary>Version of the boot protocol, such as 0x20f.</summary>
    public static int VersionOf(ReadOnlySpan<byte> image) => BinaryPrimitives.ReadUInt16LittleEndian(image[Version..]);

    /// <summary>Whether there is an entry in 64-bit mode.</summary>
    public static bool HasWideEntry(ReadOnlySpan<byte> image) => VersionOf(image) >= WideVersion && (image[ExtendedFlags] & WideEntry) != 0;

    /// <summary>Where the part for protected mode starts: behind the boot sector and the set-up sectors.</summary>
    public static int SystemOffset(ReadOnlySpan<byte> image) => ((image[Header] == 0 ? 4 : image[Header]) + 1) * SectorSize;

    /// <summary>First byte behind the header.</summary>
    public static int HeaderEnd(ReadOnlySpan<byte> image) => Magic + image[0x201];
}
