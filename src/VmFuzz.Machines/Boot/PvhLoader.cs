using System.Buffers.Binary;
using VmFuzz.Arch;

namespace VmFuzz.Machines;

/// <summary>
/// PVH (Xen's "x86/HVM direct boot ABI"): an ELF image whose note names a 32-bit entry; EBX points to a description of modules,
/// command line and memory. Of a bzImage the kernel is taken out, as a boot loader of this protocol must.
/// </summary>
internal static class PvhLoader
{
    // XEN_ELFNOTE_PHYS32_ENTRY.
    private const uint EntryNote = 18;
    private const uint Magic = 0x336E_C578;
    private const int StartInfoSize = 56;
    private const int ModuleSize = 32;
    private const int RangeSize = 24;
    private const uint Usable = 1;
    private const ulong ModuleOffset = 0;
    private const ulong MapOffset = 0x100;

    public static bool Recognises(ReadOnlyMemory<byte> image) =>
        BzImage.Recognises(image.Span)
            ? KernelPayload.IsReadable(image)
            : ElfImage.Recognises(image.Span) && ElfImage.TryRead("", image, out ElfImage elf) is null && TryEntry(elf, out _);

    public static string? Load(BootRequest request, BootPlan plan)
    {
        ReadOnlyMemory<byte> image = request.Kernel.Bytes;
        if (BzImage.Recognises(image.Span) && KernelPayload.TryExtract(request.Kernel, out image) is { } damaged)
        {
            return damaged;
        }

        if (ElfImage.TryRead(request.Kernel.Name, image, out ElfImage elf) is { } wrong)
        {
            return wrong;
        }

        if (!TryEntry(elf, out ulong entry))
        {
            return $"{request.Kernel.Name}: the kernel has no PVH entry (built without CONFIG_PVH); use --boot linux64 with a bzImage";
        }

        plan.Mode = StartMode.Protected32;
        plan.Entry = entry;
        plan.Registers = [(Gpr.Rbx, BootPlan.BootInformation)];
        return elf.Place(plan)
            ?? plan.PlaceCommandLine(request.CommandLine, BootRequest.MaxCommandLine)
            ?? plan.PlaceInitrd(uint.MaxValue, out ulong initrd)
            ?? PlaceInformation(request, plan, initrd);
    }

    private static string? PlaceInformation(BootRequest request, BootPlan plan, ulong initrd)
    {
        var map = new byte[request.Ram.Length * RangeSize];
        for (int i = 0; i < request.Ram.Length; i++)
        {
            Span<byte> range = map.AsSpan(i * RangeSize);
            BinaryPrimitives.WriteUInt64LittleEndian(range, request.Ram[i].Base);
            BinaryPrimitives.WriteUInt64LittleEndian(range[8..], request.Ram[i].Length);
            BinaryPrimitives.WriteUInt32LittleEndian(range[16..], Usable);
        }

        var module = new byte[ModuleSize];
        BinaryPrimitives.WriteUInt64LittleEndian(module, initrd);
        BinaryPrimitives.WriteUInt64LittleEndian(module.AsSpan(8), (ulong)(request.Initrd?.Bytes.Length ?? 0));
        bool has = request.Initrd is not null;
        var info = new byte[StartInfoSize];
        BinaryPrimitives.WriteUInt32LittleEndian(info, Magic);
        BinaryPrimitives.WriteUInt32LittleEndian(info.AsSpan(4), 1);
        BinaryPrimitives.WriteUInt32LittleEndian(info.AsSpan(12), has ? 1u : 0);
        BinaryPrimitives.WriteUInt64LittleEndian(info.AsSpan(16), has ? BootPlan.BootLists + ModuleOffset : 0);
        BinaryPrimitives.WriteUInt64LittleEndian(info.AsSpan(24), BootPlan.CommandLineAddress);
        BinaryPrimitives.WriteUInt64LittleEndian(info.AsSpan(40), BootPlan.BootLists + MapOffset);
        BinaryPrimitives.WriteUInt32LittleEndian(info.AsSpan(48), (uint)request.Ram.Length);
        return plan.Place("the start information", BootPlan.BootInformation, StartInfoSize, info)
            ?? plan.PlaceList("the list of modules", ModuleOffset, module)
            ?? plan.PlaceList("the memory map", MapOffset, map);
    }

    private static bool TryEntry(ElfImage elf, out ulong entry)
    {
        entry = 0;
        if (!elf.TryFindNote("Xen"u8, EntryNote, out ReadOnlyMemory<byte> content) || content.Length is not (4 or 8))
        {
            return false;
        }

        entry = content.Length == 8 ? BinaryPrimitives.ReadUInt64LittleEndian(content.Span) : BinaryPrimitives.ReadUInt32LittleEndian(content.Span);
        return entry <= uint.MaxValue;
    }
}
