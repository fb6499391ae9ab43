namespace VmFuzz.Cpu.Tests.Silicon;

/// <summary>What instructions in user mode can see and change besides memory.</summary>
internal sealed class SiliconState
{
    /// <summary>The general registers.</summary>
    public ulong[] Registers { get; } = new ulong[16];

    public ulong Flags { get; set; }

    /// <summary>The offset in the code segment.</summary>
    public ulong Rip { get; set; }

    public UInt128[] Xmm { get; } = new UInt128[16];

    /// <summary>Selectors of ES, SS and DS.</summary>
    public ushort[] Segments { get; } = new ushort[3];

    public uint Mxcsr { get; set; } = 0x1F80;

    public ushort Fcw { get; set; } = 0x37F;

    public ushort Fsw { get; set; }
}

/// <summary>An exception as a processor raised it. The address is CR2, of #PF.</summary>
internal readonly record struct SiliconFault(int Vector, ulong ErrorCode, ulong Address);

/// <summary>A few instructions and what they start from.</summary>
/// <param name="Bitness">64, 32 or 16; the latter two in compatibility mode.</param>
/// <param name="Code">The instructions, HLT at their end; they stand at <see cref="NativeSandbox.CodeAddress"/>.</param>
/// <param name="Start">The registers.</param>
/// <param name="Memory">What the window holds; the rest of it is zero.</param>
internal sealed record SiliconCase(int Bitness, byte[] Code, SiliconState Start, List<(ulong At, byte[] Bytes)> Memory);
