using System.Runtime.InteropServices;

namespace VmFuzz.Cpu.Tests.Silicon;

/// <summary>The Linux system calls of the native tests.</summary>
internal static partial class HostCalls
{
    /// <summary>mmap; -1 where it fails.</summary>
    [LibraryImport("libc", EntryPoint = "mmap")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial nint Map(nint address, nint length, int protection, int flags, int file, nint offset);

    /// <summary>munmap.</summary>
    [LibraryImport("libc", EntryPoint = "munmap")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial int Unmap(nint address, nint length);

    /// <summary>Any system call.</summary>
    [LibraryImport("libc", EntryPoint = "syscall")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    public static partial nint Call(nint number, nint first, nint second, nint third, nint fourth = 0);

    /// <summary>Maps memory at a fixed address. False when something else is there.</summary>
    public static bool TryMapAt(nint address, nint length, bool executable)
    {
        // PROT_READ | PROT_WRITE (| PROT_EXEC), MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
        nint page = Map(address, length, executable ? 7 : 3, 0x10_0022, -1, 0);
        if (page != -1 && page != address)
        {
            _ = Unmap(page, length);
        }

        return page == address;
    }

    /// <summary>Makes a code segment in the LDT: 32-bit code is flat, 16-bit code starts at an address.</summary>
    /// <returns>Its selector, or -1.</returns>
    public static unsafe int CodeSegment(int entry, nint start, int bitness)
    {
        // struct user_desc: the entry; base; limit; then seg_32bit, two bits of contents (2 is code), limit_in_pages in bit 4.
        Span<uint> descriptor = bitness == 32
            ? [(uint)entry, 0, 0xF_FFFF, 0x15]
            : [(uint)entry, (uint)start, 0xFFFF, 0x04];
        fixed (uint* at = descriptor)
        {
            const int modifyLdt = 154;
            return Call(modifyLdt, 0x11, (nint)at, 16) == 0 ? (entry << 3) | 7 : -1;
        }
    }
}
