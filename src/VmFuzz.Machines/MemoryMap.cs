using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using VmFuzz.Arch;

namespace VmFuzz.Machines;

/// <summary>
/// The memory of an imported machine: runs of whole pages by rising address, as a text of lines of two hexadecimal numbers,
/// address and length.
/// </summary>
public static class MemoryMap
{
    /// <summary>Most runs.</summary>
    public const int MaxRuns = 1024;

    /// <summary>Where addresses end: what lies there is the hypervisor's own.</summary>
    public const ulong End = 0xF_0000_0000;

    /// <summary>Writes a map. Runs that meet become one.</summary>
    /// <param name="runs">Runs in any order.</param>
    /// <param name="map">The text as bytes, when the result is null.</param>
    /// <returns>What is wrong; or null.</returns>
    public static string? TryWrite(IEnumerable<(ulong Address, ulong Bytes)> runs, out byte[] map)
    {
        map = [];
        var text = new StringBuilder();
        ulong start = 0;
        ulong end = 0;
        foreach ((ulong address, ulong bytes) in runs.OrderBy(static run => run.Address))
        {
            if (Wrong(address, bytes, end) is { } wrong)
            {
                return wrong;
            }

            if (address != end || end == start)
            {
                Line(start, end);
                start = address;
            }

            end = address + bytes;
        }

        Line(start, end);
        map = Encoding.ASCII.GetBytes(text.ToString());
        return map.Length == 0 ? "there is no memory" : null;

        void Line(ulong from, ulong to)
        {
            if (to != from)
            {
                text.Append(CultureInfo.InvariantCulture, $"{from:x} {to - from:x}\n");
            }
        }
    }

    /// <summary>Reads a map.</summary>
    /// <returns>What is wrong; or null.</returns>
    public static string? TryRead(ReadOnlySpan<byte> map, out ImmutableArray<(ulong Address, ulong Bytes)> runs)
    {
        runs = [];
        var found = ImmutableArray.CreateBuilder<(ulong Address, ulong Bytes)>();
        ulong end = 0;
        ulong total = 0;
        foreach (ReadOnlySpan<char> line in Encoding.ASCII.GetString(map[..Math.Min(map.Length, MaxRuns * 40)]).AsSpan().EnumerateLines())
        {
            int space = line.IndexOf(' ');
            if (line.IsEmpty)
            {
                continue;
            }

            if (space < 0 || !TryHex(line[..space], out ulong address) || !TryHex(line[(space + 1)..], out ulong bytes))
            {
                return "the map of memory is not made of lines of two numbers";
            }

            if (Wrong(address, bytes, end) is { } wrong)
            {
                return wrong;
            }

            end = address + bytes;
            total += bytes;
            if (found.Count == MaxRuns || total > MachineOptions.MaxMemory)
            {
                return $"there are more than {MaxRuns} pieces of memory, or more than {MachineOptions.MaxMemory >> 30} GiB";
            }

            found.Add((address, bytes));
        }

        runs = found.ToImmutable();
        return runs.IsEmpty ? "there is no memory" : null;
    }

    private static string? Wrong(ulong address, ulong bytes, ulong end) =>
        bytes == 0 || (address & (Gpa.PageSize - 1)) != 0 || (bytes & (Gpa.PageSize - 1)) != 0
            ? $"0x{bytes:x} bytes of memory at 0x{address:x} are not whole pages"
        : address < end ? $"the memory at 0x{address:x} overlaps what lies before it"
        : address >= End || bytes > End - address ? $"the memory at 0x{address:x} ends behind 0x{End:x}"
        : null;

    private static bool TryHex(ReadOnlySpan<char> text, out ulong value) =>
        ulong.TryParse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out value);
}
