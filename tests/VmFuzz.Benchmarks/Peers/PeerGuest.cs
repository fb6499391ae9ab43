using System.Buffers.Binary;
using System.Collections.Immutable;

namespace VmFuzz.Benchmarks.Peers;

/// <summary>The guest of corpus/guests/peers64.asm, and the ROM that holds it.</summary>
internal static class PeerGuest
{
    private const int KernelAt = 8;
    private const int RoundsAt = 16;
    private const int FinishAt = 24;

    private static readonly byte[] Flat = File.ReadAllBytes(Path.Combine(Folder(), "peers64.bin"));
    private static readonly byte[] WholeRom = File.ReadAllBytes(Path.Combine(Folder(), "peersrom.bin"));

    /// <summary>Its kernels, in the order of its table.</summary>
    public static ImmutableArray<string> Kernels { get; } =
        ["CRC-32, table", "sieve", "quicksort, calls", "memory copy", "bytecode interpreter", "multiply, divide"];

    /// <summary>Linear address at which a kernel is done; RBX is the checksum there.</summary>
    public static ulong Finish => BinaryPrimitives.ReadUInt64LittleEndian(Flat.AsSpan(FinishAt));

    /// <summary>The guest for <c>-machine flat</c>.</summary>
    public static byte[] Code(int kernel, ulong rounds) => Set(Flat, kernel, rounds);

    /// <summary>The ROM.</summary>
    public static byte[] Rom(int kernel, ulong rounds) => Set(WholeRom, kernel, rounds);

    private static byte[] Set(byte[] image, int kernel, ulong rounds)
    {
        byte[] copy = [.. image];
        BinaryPrimitives.WriteUInt64LittleEndian(copy.AsSpan(KernelAt), (ulong)kernel);
        BinaryPrimitives.WriteUInt64LittleEndian(copy.AsSpan(RoundsAt), rounds);
        return copy;
    }

    /// <summary>Where the repository's guests are.</summary>
    public static string Folder()
    {
        string folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "VmFuzz.sln")))
        {
            folder = Path.GetDirectoryName(folder) ?? throw new InvalidOperationException("the benchmarks do not run inside the repository");
        }

        return Path.Combine(folder, "corpus", "guests");
    }
}
