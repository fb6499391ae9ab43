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

    /// <summary>The upper halves of the YMM registers.</summary>
    public UInt128[] High { get; } = new UInt128[16];

    /// <summary>Selectors of ES, SS and DS.</summary>
    public ushort[] Segments { get; } = new ushort[3];

    public uint Mxcsr { get; set; } = 0x1F80;

    public ushort Fcw { get; set; } = 0x37F;

    public ushort Fsw { get; set; }

    /// <summary>The x87 registers R0 to R7, 80 bits each; the low 64 of them are the MMX registers.</summary>
    public UInt128[] X87 { get; } = new UInt128[8];

    /// <summary>A bit for each x87 register that is not empty, as FXSAVE has it.</summary>
    public byte Full { get; set; }

    /// <summary>The tag word as far as it is known: valid or empty.</summary>
    public ushort Tags => (ushort)Enumerable.Range(0, 8).Sum(r => (Full & (1 << r)) != 0 ? 0 : 3 << (r * 2));

    /// <summary>A register of the x87 stack, counted from its top.</summary>
    public ref UInt128 Stack(int place) => ref X87[(((Fsw >> 11) & 7) + place) & 7];
}

/// <summary>An exception as a processor raised it. The address is CR2, of #PF.</summary>
internal readonly record struct SiliconFault(int Vector, ulong ErrorCode, ulong Address);

/// <summary>A few instructions and what they start from.</summary>
/// <param name="Bitness">64, 32 or 16; the latter two in compatibility mode.</param>
/// <param name="Code">The instructions, HLT at their end; they stand at <see cref="NativeSandbox.CodeAddress"/>.</param>
/// <param name="Start">The registers.</param>
/// <param name="Memory">What the window holds; the rest of it is zero.</param>
internal sealed record SiliconCase(int Bitness, byte[] Code, SiliconState Start, List<(ulong At, byte[] Bytes)> Memory);
