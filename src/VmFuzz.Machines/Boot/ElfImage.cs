using System.Collections.Immutable;

namespace VmFuzz.Machines;

/// <summary>A segment of an ELF image, checked to lie in it.</summary>
/// <param name="Type">PT_LOAD, PT_NOTE and so on.</param>
/// <param name="Physical">Physical address.</param>
/// <param name="Size">Bytes in memory.</param>
/// <param name="Bytes">Those that the file has.</param>
internal readonly record struct ElfSegment(uint Type, ulong Physical, ulong Size, ReadOnlyMemory<byte> Bytes);

/// <summary>An ELF image of 32 or 64 bits for x86 (ELF specification, "ELF Header" and "Program Header").</summary>
/// <param name="Wide">Whether it has 64 bits.</param>
/// <param name="Entry">Its entry point.</param>
/// <param name="Segments">Its segments.</param>
internal sealed record ElfImage(bool Wide, ulong Entry, ImmutableArray<ElfSegment> Segments)
{
    /// <summary>Type of a segment that is loaded.</summary>
    public const uint Load = 1;

    /// <summary>Type of a segment of notes.</summary>
    public const uint Note = 4;

    private const int MostSegments = 64;

    /// <summary>Whether an image starts as ELF images do.</summary>
    public static bool Recognises(ReadOnlySpan<byte> image) => image.StartsWith("\x7F"u8) && image[1..].StartsWith("ELF"u8);

    /// <summary>Reads the headers.</summary>
    /// <returns>What is wrong, or null.</returns>
    public static string? TryRead(string name, ReadOnlyMemory<byte> image, out ElfImage elf)
    {
        elf = null!;
        var reader = new ImageReader(image.Span);
        ulong kind = reader.Field(4, 1);
        if (kind is not (1 or 2) || reader.Field(5, 1) != 1)
        {
            return $"{name}: the ELF image is not one of 32 or 64 little-endian bits; give one for x86";
        }

        bool wide = kind == 2;
        ulong machine = reader.Field(18, 2);
        if (machine != (wide ? 62UL : 3UL))
        {
            return $"{name}: the ELF image is for machine {machine}; give one for x86";
        }

        ulong entry = reader.Field(24, wide ? 8 : 4);
        ulong table = wide ? reader.Field(32, 8) : reader.Field(28, 4);
        ulong entrySize = reader.Field(wide ? 54UL : 42UL, 2);
        ulong count = reader.Field(wide ? 56UL : 44UL, 2);
        if (reader.Failed || entrySize < (wide ? 56UL : 32UL) || count is 0 or > MostSegments || !reader.Contains(table, count * entrySize))
        {
            return $"{name}: the ELF image's program headers ({count} of {entrySize} bytes at 0x{table:x}) do not lie in its {image.Length} bytes; it may be truncated: give the whole image";
        }

        var segments = ImmutableArray.CreateBuilder<ElfSegment>((int)count);
        for (ulong i = 0; i < count; i++)
        {
            ulong at = table + (i * entrySize);
            ulong offset = wide ? reader.Field(at + 8, 8) : reader.Field(at + 4, 4);
            ulong physical = wide ? reader.Field(at + 24, 8) : reader.Field(at + 12, 4);
            ulong fileSize = wide ? reader.Field(at + 32, 8) : reader.Field(at + 16, 4);
            ulong size = wide ? reader.Field(at + 40, 8) : reader.Field(at + 20, 4);
            uint type = (uint)reader.Field(at, 4);
            if (type is not (Load or Note))
            {
                continue;
            }

            if (!reader.Contains(offset, fileSize) || (type == Load && fileSize > size))
            {
                return $"{name}: segment {i} of the ELF image has {fileSize} bytes at 0x{offset:x}, of {image.Length}; it may be truncated: give the whole image";
            }

            segments.Add(new ElfSegment(type, physical, size, image.Slice((int)offset, (int)fileSize)));
        }

        elf = new ElfImage(wide, entry, segments.ToImmutable());
        return null;
    }

    /// <summary>Places all segments that are loaded.</summary>
    /// <returns>What is wrong, or null.</returns>
    public string? Place(BootPlan plan)
    {
        foreach (ElfSegment segment in Segments)
        {
            if (segment.Type == Load && plan.Place("a segment of the kernel", segment.Physical, segment.Size, segment.Bytes) is { } wrong)
            {
                return wrong;
            }
        }

        return null;
    }

    /// <summary>Finds a note.</summary>
    /// <param name="owner">Its owner's name.</param>
    /// <param name="type">Its type.</param>
    /// <param name="content">Its content.</param>
    public bool TryFindNote(ReadOnlySpan<byte> owner, uint type, out ReadOnlyMemory<byte> content)
    {
        content = default;
        foreach (ElfSegment segment in Segments)
        {
            if (segment.Type != Note)
            {
                continue;
            }

            var reader = new ImageReader(segment.Bytes.Span);
            for (ulong at = 0; reader.Contains(at, 12);)
            {
                ulong nameSize = reader.Field(at, 4);
                ulong size = reader.Field(at + 4, 4);
                ulong found = reader.Field(at + 8, 4);
                ulong name = at + 12;
                ulong start = name + Aligned(nameSize);
                if (!reader.Contains(name, nameSize) || !reader.Contains(start, size))
                {
                    break;
                }

                if (found == type && segment.Bytes.Span.Slice((int)name, (int)nameSize).TrimEnd((byte)0).SequenceEqual(owner))
                {
                    content = segment.Bytes.Slice((int)start, (int)size);
                    return true;
                }

                at = start + Aligned(size);
            }
        }

        return false;

        static ulong Aligned(ulong size) => (size + 3) & ~3UL;
    }
}
