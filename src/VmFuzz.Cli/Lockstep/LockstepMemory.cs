using VmFuzz.Machines;
using VmFuzz.Testing;

namespace VmFuzz.Cli.Lockstep;

/// <summary>Where programs, their data and their stack lie; linear addresses are physical ones.</summary>
/// <param name="Data">First byte of the data.</param>
/// <param name="Stack">First byte of the stack's page.</param>
/// <param name="StackPointer">Where the stack starts: in the middle of its page.</param>
/// <param name="Code">First byte of the place for programs.</param>
/// <param name="CodeEnd">Its end.</param>
internal sealed record LockstepMemory(ulong Data, ulong Stack, ulong StackPointer, ulong Code, ulong CodeEnd)
{
    /// <summary>Bytes of memory of the machine.</summary>
    public const ulong Bytes = 8 << 20;

    /// <summary>FS.base of 64-bit code.</summary>
    public const ulong FsBase = 0x1_0000;

    /// <summary>GS.base of 64-bit code, above every address in use, so that sums wrap.</summary>
    public const ulong GsBase = 0xFFFF_FFFF_FFFF_8000;

    /// <summary>Bytes of the data: two pages, so that an access can cross from one to the other.</summary>
    public const int DataBytes = 0x2000;

    /// <summary>Bytes of the stack.</summary>
    public const int StackBytes = 0x1000;

    /// <summary>The layout of a mode; real mode has all but its code below 64 KiB.</summary>
    public static LockstepMemory Of(FlatMode mode) => mode == FlatMode.Real16
        ? new LockstepMemory(GuestLayout.Of(mode).Data, 0x7000, 0x7800, 0x1_0000, 0x9_0000)
        : new LockstepMemory(GuestLayout.Of(mode).Data, 0x28_0000, 0x28_0800, 0x40_0000, 0x80_0000);
}
