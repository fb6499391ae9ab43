using System.Buffers.Binary;
using System.Text;
using VmFuzz.Arch;

namespace VmFuzz.Machines;

/// <summary>Multiboot 1 (GNU "Multiboot Specification" 0.6.96) with an ELF image of 32 bits; the initial RAM disk is its module.</summary>
internal static class MultibootLoader
{
    private const uint HeaderMagic = 0x1BAD_B002;
    private const uint BootMagic = 0x2BAD_B002;
    private const int HeaderRange = 8192;
    private const int InformationSize = 120;
    private const int RangeSize = 24;
    private const int ModuleSize = 16;

    // Memory sizes, boot device, command line, modules, memory map, loader's name.
    private const uint Flags = 0x24F;
    private const ulong ModuleOffset = 0;
    private const ulong NameOffset = 0x40;
    private const ulong MapOffset = 0x100;

    public static bool Recognises(ReadOnlyMemory<byte> image) => ElfImage.Recognises(image.Span) && HasHeader(image.Span);

    public static string? Load(BootRequest request, BootPlan plan)
    {
        if (ElfImage.TryRead(request.Kernel.Name, request.Kernel.Bytes, out ElfImage elf) is { } wrong)
        {
            return wrong;
        }

        if (elf.Wide || elf.Entry > uint.MaxValue)
        {
            return $"{request.Kernel.Name}: multiboot 1 loads ELF images of 32 bits and this one has 64; give the 32-bit form (objcopy -O elf32-i386)";
        }

        plan.Mode = StartMode.Protected32;
        plan.Entry = elf.Entry;
        plan.Registers = [(Gpr.Rax, BootMagic), (Gpr.Rbx, BootPlan.BootInformation)];

        // As QEMU and GRUB do, the file's name goes first.
        string line = request.CommandLine.Length == 0 ? request.Kernel.Name : $"{request.Kernel.Name} {request.CommandLine}";
        return elf.Place(plan)
            ?? plan.PlaceCommandLine(line, BootRequest.MaxCommandLine)
            ?? plan.PlaceInitrd(uint.MaxValue, out ulong module)
            ?? PlaceInformation(request, plan, module);
    }

    private static string? PlaceInformation(BootRequest request, BootPlan plan, ulong module)
    {
        var map = new byte[request.Ram.Length * RangeSize];
        for (int i = 0; i < request.Ram.Length; i++)
        {
            Span<byte> range = map.AsSpan(i * RangeSize);
            BinaryPrimitives.WriteUInt32LittleEndian(range, RangeSize - 4);
            BinaryPrimitives.WriteUInt64LittleEndian(range[4..], request.Ram[i].Base);
            BinaryPrimitives.WriteUInt64LittleEndian(range[12..], request.Ram[i].Length);
            BinaryPrimitives.WriteUInt32LittleEndian(range[20..], 1);
        }

        var modules = new byte[ModuleSize];
        bool has = request.Initrd is not null;
        if (request.Initrd is { } initrd)
        {
            Put(modules, 0, module);
            Put(modules, 4, module + (ulong)initrd.Bytes.Length);
            Put(modules, 8, BootPlan.BootLists + NameOffset);
        }

        // The module's text is its name; what does not fit is cut off, and a zero ends it.
        byte[] name = new byte[MapOffset - NameOffset];
        byte[] text = Encoding.UTF8.GetBytes(request.Initrd?.Name ?? "");
        text.AsSpan(0, Math.Min(text.Length, name.Length - 1)).CopyTo(name);
        var info = new byte[InformationSize];
        Put(info, 0, Flags);
        Put(info, 4, BootRequest.ConventionalEnd >> 10);
        Put(info, 8, request.Ram.Length > 1 ? request.Ram[1].Length >> 10 : 0);
        Put(info, 12, 0x8000_FFFF);
        Put(info, 16, BootPlan.CommandLineAddress);
        Put(info, 20, has ? 1u : 0);
        Put(info, 24, has ? BootPlan.BootLists + ModuleOffset : 0);
        Put(info, 44, (ulong)map.Length);
        Put(info, 48, BootPlan.BootLists + MapOffset);
        Put(info, 64, BootPlan.BootInformation + InformationSize);
        byte[] whole = [.. info, .. "vmfuzz\0"u8];
        return plan.Place("the multiboot information", BootPlan.BootInformation, (ulong)whole.Length, whole)
            ?? plan.PlaceList("the list of modules", ModuleOffset, modules)
            ?? plan.PlaceList("the module's name", NameOffset, name)
            ?? plan.PlaceList("the memory map", MapOffset, map);
    }

    private static bool HasHeader(ReadOnlySpan<byte> image)
    {
        for (int at = 0; at + 12 <= Math.Min(image.Length, HeaderRange); at += 4)
        {
            uint magic = BinaryPrimitives.ReadUInt32LittleEndian(image[at..]);
            if (magic == HeaderMagic
                && magic + BinaryPrimitives.ReadUInt32LittleEndian(image[(at + 4)..]) + BinaryPrimitives.ReadUInt32LittleEndian(image[(at + 8)..]) == 0)
            {
                return true;
            }
        }

        return false;
    }

    private static void Put(Span<byte> bytes, int offset, ulong value) => BinaryPrimitives.WriteUInt32LittleEndian(bytes[offset..], (uint)value);
}
