using System.Buffers.Binary;
using System.IO.Compression;
using VmFuzz.Machines;

namespace VmFuzz.Machines.Tests;

/// <summary>
/// Small kernels, made here, of every boot protocol. Each prints its command line and the first byte of its initial RAM disk on
/// port 0xe9, reading both from where its protocol says they are, and ends with status 1.
/// </summary>
internal static class BootImages
{
    public const string Initrd = "*";

    private const uint Physical = 0x20_0000;

    // mov esi, [ebx + command line]; print to the zero; then the initial RAM disk's address into ESI.
    private static readonly byte[] Print = [0xAC, 0x84, 0xC0, 0x74, 0x04, 0xE6, 0xE9, 0xEB, 0xF7];

    // lodsb; out 0xe9, al; xor al, al; out 0xf4, al; hlt
    private static readonly byte[] End = [0xAC, 0xE6, 0xE9, 0x30, 0xC0, 0xE6, 0xF4, 0xF4];

    private static readonly byte[] PvhCode = [0x8B, 0x73, 24, .. Print, 0x8B, 0x43, 16, 0x8B, 0x30, .. End];

    private static readonly byte[] MultibootCode = [0x8B, 0x73, 16, .. Print, 0x8B, 0x43, 24, 0x8B, 0x30, .. End];

    // The same bytes in 32- and 64-bit mode.
    private static readonly byte[] LinuxCode = [0x89, 0xF3, 0x8B, 0xB3, 0x28, 2, 0, 0, .. Print, 0x8B, 0xB3, 0x18, 2, 0, 0, .. End];

    /// <summary>A kernel of a kind: the protocol's name, or pvh-lz4 and pvh-gzip for a bzImage around one.</summary>
    public static byte[] Make(string kind) => kind switch
    {
        "pvh" => Elf(wide: true, PvhCode, note: true),
        "pvh32" => Elf(wide: false, PvhCode, note: true),
        "multiboot" => Multiboot(),
        "pvh-lz4" => BzImage(Lz4(Elf(wide: true, PvhCode, note: true))),
        "pvh-gzip" => BzImage(Gzip(Elf(wide: true, PvhCode, note: true))),
        _ => BzImage([]),
    };

    /// <summary>Options of a microvm that boots it.</summary>
    public static MachineOptions Options(byte[] kernel, BootProtocol boot = BootProtocol.Auto, Accelerator accelerator = Accelerator.Bare) => new()
    {
        Kind = MachineKind.Microvm,
        Accelerator = accelerator,
        Memory = 8 << 20,
        Boot = boot,
        CommandLine = "quiet",
        MaxInstructions = 10_000,
        Images = [new MachineImage(MachineImage.KernelRole, "kernel", kernel), new MachineImage(MachineImage.InitrdRole, "initrd", "*"u8.ToArray())],
    };

    private static byte[] Multiboot()
    {
        byte[] elf = Elf(wide: false, MultibootCode, note: false);
        Put32(elf, 0xC0, 0x1BAD_B002);
        Put32(elf, 0xC4, 3);
        Put32(elf, 0xC8, 0xE452_4FFB);
        return elf;
    }

    // Note at 0x80, code at 0x100, program headers behind it.
    private static byte[] Elf(bool wide, byte[] code, bool note)
    {
        byte[] elf = new byte[0x200];
        byte[] ident = [0x7F, (byte)'E', (byte)'L', (byte)'F', wide ? (byte)2 : (byte)1, 1, 1];
        ident.CopyTo(elf, 0);
        Put16(elf, 16, 2);
        Put16(elf, 18, wide ? (ushort)62 : (ushort)3);
        Put32(elf, 24, Physical);
        int header = 0x140;
        Put32(elf, wide ? 32 : 28, (uint)header);
        Put16(elf, wide ? 54 : 42, wide ? (ushort)56 : (ushort)32);
        Put16(elf, wide ? 56 : 44, note ? (ushort)2 : (ushort)1);
        Segment(elf, wide, header, 1, 0x100, (uint)code.Length, 0x1000);
        if (note)
        {
            Segment(elf, wide, header + (wide ? 56 : 32), 4, 0x80, 20, 20);
            Put32(elf, 0x80, 4);
            Put32(elf, 0x84, 4);
            Put32(elf, 0x88, 18);
            "Xen\0"u8.CopyTo(elf.AsSpan(0x8C));
            Put32(elf, 0x90, Physical);
        }

        code.CopyTo(elf, 0x100);
        return elf;
    }

    private static void Segment(byte[] elf, bool wide, int at, uint type, uint offset, uint fileSize, uint size)
    {
        Put32(elf, at, type);
        Put32(elf, at + (wide ? 8 : 4), offset);
        Put32(elf, at + (wide ? 24 : 12), Physical);
        Put32(elf, at + (wide ? 32 : 16), fileSize);
        Put32(elf, at + (wide ? 40 : 20), size);
    }

    private static byte[] BzImage(byte[] payload)
    {
        const int System = 1024;
        const int Payload = 0x280;
        byte[] image = new byte[System + Payload + payload.Length];
        image[0x1F1] = 1;
        image[0x201] = 0x66;
        "HdrS"u8.CopyTo(image.AsSpan(0x202));
        Put16(image, 0x206, 0x20C);
        image[0x211] = 1;
        Put16(image, 0x236, 1);
        Put32(image, 0x238, 255);
        Put32(image, 0x248, Payload);
        Put32(image, 0x24C, (uint)payload.Length);
        Put32(image, 0x258, 0x10_0000);
        Put32(image, 0x260, 0x1000);
        LinuxCode.CopyTo(image, System);
        LinuxCode.CopyTo(image, System + 0x200);
        payload.CopyTo(image, System + Payload);
        return image;
    }

    // One block of literals only: token, length, bytes (LZ4 block format).
    private static byte[] Lz4(byte[] kernel)
    {
        var block = new List<byte> { 0xF0 };
        int rest = kernel.Length - 15;
        for (; rest >= 255; rest -= 255)
        {
            block.Add(255);
        }

        block.Add((byte)rest);
        block.AddRange(kernel);
        return [.. BitConverter.GetBytes(0x184C_2102), .. BitConverter.GetBytes(block.Count), .. block, .. BitConverter.GetBytes(kernel.Length)];
    }

    private static byte[] Gzip(byte[] kernel)
    {
        using var stream = new MemoryStream();
        using (var gzip = new GZipStream(stream, CompressionLevel.Optimal))
        {
            gzip.Write(kernel);
        }

        // The format's own last field is the size, as in a real image.
        return stream.ToArray();
    }

    private static void Put16(byte[] bytes, int at, ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(at), value);

    private static void Put32(byte[] bytes, int at, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(at), value);
}
