using System.Runtime.InteropServices;
using Iced.Intel;

namespace VmFuzz.Cpu.Tests.Integer;

/// <summary>Runs one register-only instruction on the host, with all registers but RSP and the flags loaded and stored.</summary>
internal sealed unsafe partial class NativeThunk : IDisposable
{
    // One page of code, then one of data: stores must not look like self-modifying code.
    private const int Size = 0x3000;
    private const int DataOffset = 0x2000;
    private const int FlagsSlot = 16;

    /// <summary>Address of a window of memory that exists at the same address on the host and in the guest.</summary>
    public const ulong WindowAddress = 0x5000_0000;

    public const int WindowSize = 0x2000;

    private readonly byte* _page;

    private NativeThunk(byte* page) => _page = page;

    /// <summary>The host's side of the window, when <see cref="TryMapWindow"/> succeeded.</summary>
    public static Span<byte> Window => new((byte*)WindowAddress, WindowSize);

    /// <summary>Sixteen registers (RSP unused), then the flags.</summary>
    public Span<ulong> State => new(_page + DataOffset, 17);

    public static NativeThunk? TryCreate()
    {
        if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            return null;
        }

        // PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS
        nint page = Map(0, Size, 7, 0x22, -1, 0);
        return page == -1 ? null : new NativeThunk((byte*)page);
    }

    /// <summary>Maps the window at its fixed address. False when something else is there.</summary>
    public static bool TryMapWindow()
    {
        // PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
        nint page = Map((nint)WindowAddress, WindowSize, 3, 0x10_0022, -1, 0);
        if (page != -1 && page != (nint)WindowAddress)
        {
            _ = Unmap(page, WindowSize);
        }

        return page == (nint)WindowAddress;
    }

    public static void UnmapWindow() => _ = Unmap((nint)WindowAddress, WindowSize);

    public void Load(ReadOnlySpan<byte> instruction)
    {
        int at = 0;
        Emit(ref at, 0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57); // push rbx rbp r12 to r15
        Emit(ref at, 0xFF, 0x35); // push [rip+flags]
        EmitSlot(ref at, FlagsSlot);
        Emit(ref at, 0x9D); // popfq
        EmitMoves(ref at, 0x8B);
        foreach (byte b in instruction)
        {
            _page[at++] = b;
        }

        EmitMoves(ref at, 0x89);
        Emit(ref at, 0x9C, 0x8F, 0x05); // pushfq; pop [rip+flags]
        EmitSlot(ref at, FlagsSlot);
        Emit(ref at, 0xFC, 0x41, 0x5F, 0x41, 0x5E, 0x41, 0x5D, 0x41, 0x5C, 0x5D, 0x5B, 0xC3); // cld; pops; ret
    }

    public void Run() => ((delegate* unmanaged<void>)_page)();

    public void Dispose() => _ = Unmap((nint)_page, Size);

    private void EmitMoves(ref int at, byte opcode)
    {
        for (int register = 0; register < 16; register++)
        {
            if (register == 4)
            {
                continue;
            }

            Emit(ref at, (byte)(0x48 | (register >= 8 ? 4 : 0)), opcode, (byte)(5 | ((register & 7) << 3)));
            EmitSlot(ref at, register);
        }
    }

    private void Emit(ref int at, params ReadOnlySpan<byte> bytes)
    {
        foreach (byte b in bytes)
        {
            _page[at++] = b;
        }
    }

    private void EmitSlot(ref int at, int slot)
    {
        *(int*)(_page + at) = DataOffset + (slot * 8) - (at + 4);
        at += 4;
    }

    [LibraryImport("libc", EntryPoint = "mmap")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial nint Map(nint address, nint length, int protection, int flags, int file, nint offset);

    [LibraryImport("libc", EntryPoint = "munmap")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Unmap(nint address, nint length);
}
