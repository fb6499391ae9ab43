using System.Runtime.InteropServices;

namespace VmFuzz.Fuzz.Afl;

/// <summary>The calls of Linux that the fork server is made of.</summary>
internal static unsafe partial class Native
{
    public const int PollIn = 1;
    private const int IpcStat = 2;
    private const int SegmentSizeOffset = 48; // In struct shmid_ds of 64-bit Linux, behind struct ipc_perm.
    private const int ParentDeathSignal = 1;
    private const int Sigkill = 9;
    private const int GetDescriptorFlags = 1;

    /// <summary>Whether a descriptor is open.</summary>
    public static bool IsOpen(int fd) => Fcntl(fd, GetDescriptorFlags) >= 0;

    /// <summary>Maps a segment of shared memory; null when there is none of that number.</summary>
    public static byte* Attach(int id, out long length)
    {
        length = 0;

        // SAFETY: struct shmid_ds is 112 bytes; the kernel fills it and keeps no pointer.
        byte* info = stackalloc byte[256];
        if (ShmCtl(id, IpcStat, info) != 0)
        {
            return null;
        }

        length = *(long*)(info + SegmentSizeOffset);
        nint address = ShmAt(id, 0, 0);
        return address == -1 ? null : (byte*)address;
    }

    /// <summary>A page shared with children, which inherit the descriptor; null when there is none to be had.</summary>
    public static int* CreatePage(out int fd)
    {
        fd = MemFd("vmfuzz", 0);
        return fd < 0 || Ftruncate(fd, Environment.SystemPageSize) != 0 ? null : MapPage(fd);
    }

    /// <summary>Maps the page behind a descriptor; null when that cannot be done.</summary>
    public static int* MapPage(int fd)
    {
        // SAFETY: the mapping stays for the life of the process, and the file behind it has a whole page.
        nint address = Mmap(0, (nuint)Environment.SystemPageSize, 3, 1, fd, 0);
        return address == -1 ? null : (int*)address;
    }

    /// <summary>Reads four bytes from a pipe; false at its end.</summary>
    public static bool TryRead(int fd, out uint value)
    {
        uint read = 0;
        nint count;
        do
        {
            count = Read(fd, (byte*)&read, 4);
        }
        while (count < 0 && Marshal.GetLastSystemError() == 4);
        value = read;
        return count == 4;
    }

    /// <summary>Writes four bytes to a pipe; false when nobody reads it.</summary>
    public static bool TryWrite(int fd, uint value) => Write(fd, (byte*)&value, 4) == 4;

    /// <summary>Reads a file from its beginning, whatever was read before.</summary>
    public static int ReadFromStart(int fd, Span<byte> buffer)
    {
        Lseek(fd, 0, 0);
        int total = 0;
        fixed (byte* first = buffer)
        {
            while (total < buffer.Length && Read(fd, first + total, (nuint)(buffer.Length - total)) is > 0 and nint count)
            {
                total += (int)count;
            }
        }

        return total;
    }

    /// <summary>Waits until a pipe can be read; false when its other end is gone.</summary>
    public static bool WaitReadable(int fd)
    {
        PollDescriptor descriptor = new() { Fd = fd, Events = PollIn };
        while (Poll(&descriptor, 1, -1) < 0)
        {
        }

        return (descriptor.Returned & PollIn) != 0;
    }

    /// <summary>Dies as soon as the parent does.</summary>
    public static void DieWithParent() => _ = Prctl(ParentDeathSignal, Sigkill, 0, 0, 0);

    [LibraryImport("libc", EntryPoint = "fcntl")]
    private static partial int Fcntl(int fd, int command);

    [LibraryImport("libc", EntryPoint = "shmctl")]
    private static partial int ShmCtl(int id, int command, byte* info);

    [LibraryImport("libc", EntryPoint = "shmat")]
    private static partial nint ShmAt(int id, nint address, int flags);

    [LibraryImport("libc", EntryPoint = "memfd_create", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int MemFd(string name, uint flags);

    [LibraryImport("libc", EntryPoint = "ftruncate")]
    private static partial int Ftruncate(int fd, long length);

    [LibraryImport("libc", EntryPoint = "mmap")]
    private static partial nint Mmap(nint address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport("libc", EntryPoint = "read")]
    private static partial nint Read(int fd, byte* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "write")]
    private static partial nint Write(int fd, byte* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "lseek")]
    private static partial long Lseek(int fd, long offset, int whence);

    [LibraryImport("libc", EntryPoint = "poll")]
    private static partial int Poll(PollDescriptor* descriptors, nuint count, int timeout);

    [LibraryImport("libc", EntryPoint = "prctl")]
    private static partial int Prctl(int option, nuint a, nuint b, nuint c, nuint d);

    private struct PollDescriptor
    {
        public int Fd;
        public short Events;
        public short Returned;
    }
}
