using System.Runtime.InteropServices;

namespace VmFuzz.Cpu.Tests.Silicon;

/// <summary>
/// Runs one x87 instruction on the host in 64-bit code: from an FXSAVE image to another, with RFLAGS and a window of memory that
/// RAX points to. It must not fault, so no exception may be pending.
/// </summary>
internal sealed unsafe class X87Thunk : IDisposable
{
    /// <summary>Bytes of the window.</summary>
    public const int WindowBytes = 128;

    /// <summary>Bytes of an image.</summary>
    public const int ImageBytes = 512;

    // A page of code, then one of data: the images and the window, 64 bytes apart from each other at least, then RFLAGS.
    private const int PageBytes = 0x1000;
    private const int BeforeOffset = PageBytes;
    private const int AfterOffset = BeforeOffset + ImageBytes;
    private const int WindowOffset = AfterOffset + ImageBytes;
    private const int FlagsOffset = WindowOffset + (2 * WindowBytes);
    private const int MxcsrOffset = FlagsOffset + 8;

    private readonly byte* _page;
    private int _instructionAt;

    private X87Thunk(byte* page) => _page = page;

    /// <summary>Why <see cref="TryCreate"/> gives none.</summary>
    public const string Needs = "needs an x64 Linux host that maps executable memory";

    public Span<byte> Before => new(_page + BeforeOffset, ImageBytes);

    public Span<byte> After => new(_page + AfterOffset, ImageBytes);

    public Span<byte> Window => new(_page + WindowOffset, WindowBytes);

    public ref ulong Flags => ref *(ulong*)(_page + FlagsOffset);

    /// <summary>Where the instruction is: what an instruction pointer in an image counts from.</summary>
    public ulong InstructionAddress => (ulong)_page + (ulong)_instructionAt;

    /// <summary>Where the window is.</summary>
    public ulong WindowAddress => (ulong)_page + WindowOffset;

    public static X87Thunk? TryCreate()
    {
        if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            return null;
        }

        // PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT
        nint page = HostCalls.Map(0, 2 * PageBytes, 7, 0x62, -1, 0);
        return page == -1 ? null : new X87Thunk((byte*)page);
    }

    public void Load(ReadOnlySpan<byte> instruction)
    {
        *(uint*)(_page + MxcsrOffset) = 0x1F80;
        int at = 0;
        Emit(ref at, 0x48, 0x8D, 0x05); // lea rax, [window]
        EmitDisplacement(ref at, WindowOffset);
        Emit(ref at, 0x48, 0x0F, 0xAE, 0x0D); // fxrstor64 [before]
        EmitDisplacement(ref at, BeforeOffset);
        Emit(ref at, 0xFF, 0x35); // push [flags]
        EmitDisplacement(ref at, FlagsOffset);
        Emit(ref at, 0x9D); // popfq
        _instructionAt = at;
        Emit(ref at, instruction);
        Emit(ref at, 0x9C, 0x8F, 0x05); // pushfq; pop [flags]
        EmitDisplacement(ref at, FlagsOffset);
        Emit(ref at, 0x48, 0x0F, 0xAE, 0x05); // fxsave64 [after]
        EmitDisplacement(ref at, AfterOffset);
        Emit(ref at, 0xDB, 0xE3, 0x0F, 0xAE, 0x15); // fninit; ldmxcsr [mxcsr]
        EmitDisplacement(ref at, MxcsrOffset);
        Emit(ref at, 0xC3);
    }

    public void Run() => ((delegate* unmanaged<void>)_page)();

    public void Dispose() => _ = HostCalls.Unmap((nint)_page, 2 * PageBytes);

    private void Emit(ref int at, params ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(new Span<byte>(_page + at, bytes.Length));
        at += bytes.Length;
    }

    private void EmitDisplacement(ref int at, int offset)
    {
        *(int*)(_page + at) = offset - (at + 4);
        at += 4;
    }
}
