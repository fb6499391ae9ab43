using System.Text;
using VmFuzz.Arch;

namespace VmFuzz.Machines;

/// <summary>
/// What a loader makes of its images: bytes at addresses, and the state in which the processor starts. Places are checked
/// against memory and against each other, so that a hostile image can name no place that is not its own.
/// </summary>
internal sealed class BootPlan(BootRequest request)
{
    /// <summary>Where the kernel's own structures lie: behind the descriptor table and the page tables of <see cref="StartState"/>.</summary>
    public const ulong BootInformation = 0x7000;

    /// <summary>Where a list of modules and a memory map lie.</summary>
    public const ulong BootLists = 0x8000;

    /// <summary>Where the command line lies.</summary>
    public const ulong CommandLineAddress = 0x2_0000;

    private const ulong ListBytes = 0x1000;

    private readonly List<Placement> _placements =
    [
        new("the start state", StartState.First, StartState.End - StartState.First, default),
    ];

    /// <summary>The images and the memory they go to.</summary>
    public BootRequest Request => request;

    /// <summary>Mode in which the kernel starts.</summary>
    public StartMode Mode { get; set; }

    /// <summary>Where it starts.</summary>
    public ulong Entry { get; set; }

    /// <summary>Selectors of its segments.</summary>
    public StartSelectors Selectors { get; set; } = StartSelectors.Plain;

    /// <summary>General registers that are not zero.</summary>
    public IReadOnlyList<(Gpr Register, ulong Value)> Registers { get; set; } = [];

    /// <summary>Gives a range to a part of the start state; what no bytes cover stays zero.</summary>
    /// <param name="what">The part, for the message.</param>
    /// <param name="address">First address.</param>
    /// <param name="size">Bytes in memory, at least those given.</param>
    /// <param name="bytes">Its content.</param>
    /// <returns>What is wrong, or null.</returns>
    public string? Place(string what, ulong address, ulong size, ReadOnlyMemory<byte> bytes)
    {
        if (size == 0)
        {
            return null;
        }

        if (!Fits(address, size))
        {
            return $"{request.Kernel.Name}: {what} needs {size} bytes at 0x{address:x}, where there is not so much memory; give more with -m";
        }

        foreach (Placement other in _placements)
        {
            if (address < other.Address + other.Size && other.Address < address + size)
            {
                return $"{request.Kernel.Name}: {what} at 0x{address:x} ({size} bytes) and {other.What} at 0x{other.Address:x} ({other.Size} bytes) overlap; give more memory with -m, or another image";
            }
        }

        _placements.Add(new Placement(what, address, size, bytes));
        return null;
    }

    /// <summary>Places the command line with its end, at <see cref="CommandLineAddress"/>.</summary>
    /// <param name="text">The text.</param>
    /// <param name="most">Most bytes that the kernel takes, without the end.</param>
    public string? PlaceCommandLine(string text, int most)
    {
        byte[] bytes = new byte[Encoding.UTF8.GetByteCount(text) + 1];
        Encoding.UTF8.GetBytes(text, bytes);
        return bytes.Length - 1 > most
            ? $"-append: the command line has {bytes.Length - 1} bytes; {request.Kernel.Name} takes {most}: give a shorter one"
            : Place("the command line", CommandLineAddress, (ulong)bytes.Length, bytes);
    }

    /// <summary>Places the initial RAM disk at the end of the memory below 4 GiB and a kernel's own limit.</summary>
    /// <param name="highest">Highest address that its last byte may have.</param>
    /// <param name="address">Where it lies; 0 without one.</param>
    public string? PlaceInitrd(ulong highest, out ulong address)
    {
        address = 0;
        if (request.Initrd is not { } initrd)
        {
            return null;
        }

        ulong end = Math.Min(request.Ram[^1].Base >= 1UL << 32 ? End(request.Ram[^2]) : End(request.Ram[^1]), highest + 1);
        ulong size = (ulong)initrd.Bytes.Length;
        if (size > end)
        {
            return $"{initrd.Name}: {size} bytes do not fit below 0x{end:x}; give more memory with -m";
        }

        address = (end - size) & ~((ulong)Gpa.PageSize - 1);
        return Place($"the initial RAM disk {initrd.Name}", address, size, initrd.Bytes);
    }

    /// <summary>Places the kernel's own list, of at most a page, at <see cref="BootLists"/> plus an offset.</summary>
    public string? PlaceList(string what, ulong offset, ReadOnlyMemory<byte> bytes) =>
        (ulong)bytes.Length > ListBytes - offset
            ? $"{request.Kernel.Name}: {what} has {bytes.Length} bytes; that is too many"
            : Place(what, BootLists + offset, (ulong)bytes.Length, bytes);

    /// <summary>Writes everything to a machine's memory and puts the processor into its start state.</summary>
    public void Apply(Machine machine)
    {
        StartState.Enter(machine.Processor, machine.Memory, Mode, Entry, Selectors);
        foreach (Placement placement in _placements)
        {
            machine.Memory.TryLoad(new Gpa(placement.Address), placement.Bytes.Span);
        }

        foreach ((Gpr register, ulong value) in Registers)
        {
            StartState.Set(machine.Processor, register, value);
        }
    }

    private static ulong End(MemoryRange range) => range.Base + range.Length;

    private bool Fits(ulong address, ulong size)
    {
        foreach (MemoryRange range in request.Ram)
        {
            if (address >= range.Base && size <= range.Length && address - range.Base <= range.Length - size)
            {
                return true;
            }
        }

        return false;
    }

    private readonly record struct Placement(string What, ulong Address, ulong Size, ReadOnlyMemory<byte> Bytes);
}
