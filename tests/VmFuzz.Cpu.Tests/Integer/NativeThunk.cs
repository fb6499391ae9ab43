using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Iced.Intel;
using VmFuzz.Cpu.Tests.Silicon;

namespace VmFuzz.Cpu.Tests.Integer;

/// <summary>
/// Runs one register-only instruction on the host, with all registers but RSP and the flags loaded and stored: in 64-bit
/// code, or in a segment of 32- or 16-bit code that it enters and leaves by far jumps.
/// </summary>
internal sealed unsafe class NativeThunk : IDisposable
{
    // A page of code, then, a page further on, one of data: stores must not look like self-modifying code. Then a stack below
    // 4 GiB, which signal handlers use that come while the segment runs.
    private const int Size = 0x23000;
    private const int DataOffset = 0x2000;
    private const int FlagsSlot = 16;
    private const int StackSlot = 17;
    private const int LowStackSlot = 18;
    private const int EntrySlot = 19;
    private const int ImageOffset = DataOffset + 0x200;
    private const int ImageSize = 512;
    private const int YmmOffset = ImageOffset + ImageSize;
    private const int YmmSize = 16 * 32;

    private static int s_descriptors = -1;

    /// <summary>Address of a window of memory that exists at the same address on the host and in the guest.</summary>
    public const ulong WindowAddress = 0x5000_0000;

    public const int WindowSize = 0x2000;

    /// <summary>Name of the collection of tests that map the window: they take turns.</summary>
    public const string WindowTests = "native-window";

    private readonly byte* _page;

    private readonly int _bitness;
    private readonly int _selector;
    private readonly bool _vectors;

    private NativeThunk(byte* page, int bitness, int selector, bool vectors)
    {
        _page = page;
        _bitness = bitness;
        _selector = selector;
        _vectors = vectors;
    }

    /// <summary>Why <see cref="TryCreate"/> gives none.</summary>
    public const string Needs = "needs an x64 Linux host that maps executable memory and, for 32- and 16-bit code, has modify_ldt";

    /// <summary>The host's side of the window, when <see cref="TryMapWindow"/> succeeded.</summary>
    public static Span<byte> Window => new((byte*)WindowAddress, WindowSize);

    /// <summary>Sixteen registers (RSP unused), then the flags.</summary>
    public Span<ulong> State => new(_page + DataOffset, 17);

    /// <summary>The FXSAVE image that is loaded before the instruction and stored after it, where vectors were asked for.</summary>
    public Span<byte> Image => new(_page + ImageOffset, ImageSize);

    /// <summary>All of the YMM registers, where vectors were asked for and the host has AVX; they are loaded after the image.</summary>
    public Span<byte> Ymm => new(_page + YmmOffset, Avx.IsSupported ? YmmSize : 0);

    public static NativeThunk? TryCreate(int bitness = 64, bool vectors = false)
    {
        if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            return null;
        }

        // PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT
        nint page = HostCalls.Map(0, Size, 7, 0x62, -1, 0);
        if (page == -1)
        {
            return null;
        }

        int selector = bitness == 64 ? 0 : HostCalls.CodeSegment(Interlocked.Increment(ref s_descriptors), page, bitness);
        if (selector >= 0)
        {
            return new NativeThunk((byte*)page, bitness, selector, vectors);
        }

        _ = HostCalls.Unmap(page, Size);
        return null;
    }

    /// <summary>Maps the window at its fixed address. False when something else is there.</summary>
    public static bool TryMapWindow() => HostCalls.TryMapAt((nint)WindowAddress, WindowSize, executable: false);

    public static void UnmapWindow() => _ = HostCalls.Unmap((nint)WindowAddress, WindowSize);

    public void Load(ReadOnlySpan<byte> instruction)
    {
        int at = 0;
        Emit(ref at, 0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57); // push rbx rbp r12 to r15
        if (_bitness != 64)
        {
            Emit(ref at, 0x8C, 0xD0, 0x8E, 0xD8, 0x8E, 0xC0); // mov eax,ss; mov ds,eax; mov es,eax
        }

        if (_vectors)
        {
            Emit(ref at, 0x48, 0x0F, 0xAE, 0x0D); // fxrstor64 [rip+image]
            EmitDisplacement(ref at, ImageOffset);
            EmitYmm(ref at, 0x10); // vmovups ymm, [rip+ymm]
        }

        Emit(ref at, 0xFF, 0x35); // push [rip+flags]
        EmitSlot(ref at, FlagsSlot);
        Emit(ref at, 0x9D); // popfq
        EmitMoves(ref at, 0x8B);
        if (_bitness == 64)
        {
            Emit(ref at, instruction);
        }
        else
        {
            EmitThroughSegment(ref at, instruction);
        }

        EmitMoves(ref at, 0x89);
        Emit(ref at, 0x9C, 0x8F, 0x05); // pushfq; pop [rip+flags]
        EmitSlot(ref at, FlagsSlot);
        if (_vectors)
        {
            Emit(ref at, 0x48, 0x0F, 0xAE, 0x05); // fxsave64 [rip+image]
            EmitDisplacement(ref at, ImageOffset);
            Emit(ref at, 0xDB, 0xE3); // fninit
            EmitYmm(ref at, 0x11); // vmovups [rip+ymm], ymm
        }

        if (_bitness != 64)
        {
            EmitMove(ref at, 0x8B, 4, StackSlot);
            Emit(ref at, 0x31, 0xC0, 0x8E, 0xD8, 0x8E, 0xC0); // xor eax,eax; mov ds,eax; mov es,eax
        }

        Emit(ref at, 0xFC, 0x41, 0x5F, 0x41, 0x5E, 0x41, 0x5D, 0x41, 0x5C, 0x5D, 0x5B, 0xC3); // cld; pops; ret
    }

    public void Run() => ((delegate* unmanaged<void>)_page)();

    public void Dispose() => _ = HostCalls.Unmap((nint)_page, Size);

    private void EmitThroughSegment(ref int at, ReadOnlySpan<byte> instruction)
    {
        EmitMove(ref at, 0x89, 4, StackSlot);
        EmitMove(ref at, 0x8B, 4, LowStackSlot);
        Emit(ref at, 0xFF, 0x2D); // jmp far [rip+entry]
        EmitSlot(ref at, EntrySlot);
        uint page = (uint)(nuint)_page;
        Slot(LowStackSlot) = page + Size - 16;
        Slot(EntrySlot) = (uint)at + (_bitness == 32 ? page : 0) | ((ulong)_selector << 32);
        Emit(ref at, instruction);
        if (_bitness == 16)
        {
            Emit(ref at, 0x66);
        }

        // jmp far 33:next, Linux's 64-bit code segment
        Emit(ref at, 0xEA);
        *(uint*)(_page + at) = page + (uint)at + 6;
        *(ushort*)(_page + at + 4) = 0x33;
        at += 6;
    }

    private ref ulong Slot(int slot) => ref ((ulong*)(_page + DataOffset))[slot];

    private void EmitMoves(ref int at, byte opcode)
    {
        for (int register = 0; register < 16; register++)
        {
            if (register != 4)
            {
                EmitMove(ref at, opcode, register, register);
            }
        }
    }

    private void EmitMove(ref int at, byte opcode, int register, int slot)
    {
        Emit(ref at, (byte)(0x48 | (register >= 8 ? 4 : 0)), opcode, (byte)(5 | ((register & 7) << 3)));
        EmitSlot(ref at, slot);
    }

    private void EmitYmm(ref int at, byte opcode)
    {
        for (int register = 0; Avx.IsSupported && register < 16; register++)
        {
            Emit(ref at, 0xC5, (byte)(register < 8 ? 0xFC : 0x7C), opcode, (byte)(5 | ((register & 7) << 3)));
            EmitDisplacement(ref at, YmmOffset + (register * 32));
        }
    }

    private void Emit(ref int at, params ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(new Span<byte>(_page + at, bytes.Length));
        at += bytes.Length;
    }

    private void EmitSlot(ref int at, int slot) => EmitDisplacement(ref at, DataOffset + (slot * 8));

    private void EmitDisplacement(ref int at, int offset)
    {
        *(int*)(_page + at) = offset - (at + 4);
        at += 4;
    }
}
