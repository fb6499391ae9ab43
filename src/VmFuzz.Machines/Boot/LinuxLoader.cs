using System.Buffers.Binary;
using VmFuzz.Arch;

namespace VmFuzz.Machines;

/// <summary>
/// The 32- and 64-bit entries of a bzImage (Linux kernel documentation, "The Linux/x86 Boot Protocol"); ESI or RSI points to the
/// boot parameters. Memory test programs use it too.
/// </summary>
internal static class LinuxLoader
{
    private const int ParametersSize = 4096;
    private const int MapCount = 0x1E8;
    private const int Map = 0x2D0;
    private const int MapEntry = 20;
    private const int VideoMode = 0x1FA;
    private const int LoaderType = 0x210;
    private const int LoadFlags = 0x211;
    private const int Code32Start = 0x214;
    private const int RamdiskImage = 0x218;
    private const int RamdiskSize = 0x21C;
    private const int CommandLinePointer = 0x228;
    private const int InitrdMost = 0x22C;
    private const int CommandLineSize = 0x238;
    private const int PreferredAddress = 0x258;
    private const int InitSize = 0x260;
    private const byte LoadedHigh = 1;
    private const byte UnknownLoader = 0xFF;
    private const ushort NormalVideo = 0xFFFF;
    private const ulong WideEntryOffset = 0x200;
    private const ulong High = 0x10_0000;
    private const uint Usable = 1;

    // What kernels that do not say take, by the protocol's description.
    private const uint DefaultInitrdMost = 0x37FF_FFFF;

    // The version in which a kernel says where it wants to lie and how much memory it needs.
    private const int SizedVersion = 0x20A;

    public static string? Load32(BootRequest request, BootPlan plan) => Load(request, plan, StartMode.Protected32, 0);

    public static string? Load64(BootRequest request, BootPlan plan) => Load(request, plan, StartMode.Long64, WideEntryOffset);

    private static string? Load(BootRequest request, BootPlan plan, StartMode mode, ulong entry)
    {
        ReadOnlyMemory<byte> image = request.Kernel.Bytes;
        ReadOnlySpan<byte> bytes = image.Span;
        int system = BzImage.SystemOffset(bytes);
        int header = Math.Min(BzImage.HeaderEnd(bytes), Map);
        if (system >= bytes.Length)
        {
            return $"{request.Kernel.Name}: the bzImage's set-up part has {system} bytes and the file {bytes.Length}; it may be truncated: give the whole image";
        }

        if ((bytes[LoadFlags] & LoadedHigh) == 0)
        {
            return $"{request.Kernel.Name}: the kernel is a zImage, loaded below 1 MiB; give a bzImage";
        }

        // Only fields that the header's version has are read.
        bool sized = BzImage.VersionOf(bytes) >= SizedVersion && header >= InitSize + 4;
        ulong preferred = sized ? BinaryPrimitives.ReadUInt64LittleEndian(bytes[PreferredAddress..]) : 0;
        ulong address = preferred == 0 ? High : preferred;
        ReadOnlyMemory<byte> code = image[system..];
        ulong size = Math.Max((ulong)code.Length, sized ? BinaryPrimitives.ReadUInt32LittleEndian(bytes[InitSize..]) : 0);
        int lineMost = (int)Math.Min(BinaryPrimitives.ReadUInt32LittleEndian(bytes[CommandLineSize..]), BootRequest.MaxCommandLine);
        uint initrdMost = BinaryPrimitives.ReadUInt32LittleEndian(bytes[InitrdMost..]);
        plan.Mode = mode;
        plan.Entry = address + entry;
        plan.Selectors = StartSelectors.Linux;
        plan.Registers = [(Gpr.Rsi, BootPlan.BootInformation)];
        return plan.Place("the kernel", address, size, code)
            ?? plan.PlaceCommandLine(request.CommandLine, lineMost)
            ?? plan.PlaceInitrd(initrdMost == 0 ? DefaultInitrdMost : initrdMost, out ulong initrd)
            ?? plan.Place("the boot parameters", BootPlan.BootInformation, ParametersSize, Parameters(request, bytes[BzImage.Header..header], address, initrd));
    }

    private static byte[] Parameters(BootRequest request, ReadOnlySpan<byte> header, ulong address, ulong initrd)
    {
        byte[] parameters = new byte[ParametersSize];
        header.CopyTo(parameters.AsSpan(BzImage.Header));
        BinaryPrimitives.WriteUInt16LittleEndian(parameters.AsSpan(VideoMode), NormalVideo);
        parameters[LoaderType] = UnknownLoader;
        Put(parameters, Code32Start, address);
        Put(parameters, RamdiskImage, initrd);
        Put(parameters, RamdiskSize, (ulong)(request.Initrd?.Bytes.Length ?? 0));
        Put(parameters, CommandLinePointer, BootPlan.CommandLineAddress);
        parameters[MapCount] = (byte)request.Ram.Length;
        for (int i = 0; i < request.Ram.Length; i++)
        {
            Span<byte> range = parameters.AsSpan(Map + (i * MapEntry));
            BinaryPrimitives.WriteUInt64LittleEndian(range, request.Ram[i].Base);
            BinaryPrimitives.WriteUInt64LittleEndian(range[8..], request.Ram[i].Length);
            BinaryPrimitives.WriteUInt32LittleEndian(range[16..], Usable);
        }

        return parameters;
    }

    private static void Put(Span<byte> bytes, int offset, ulong value) => BinaryPrimitives.WriteUInt32LittleEndian(bytes[offset..], (uint)value);
}
