namespace VmFuzz.Machines.Vectors;

/// <summary>The state that a vector's registers start from.</summary>
public enum VectorMode : byte
{
    /// <summary>Real mode, CS base 0x10000.</summary>
    Real,

    /// <summary>Protected mode without paging, 16-bit code, CS base 0x10000.</summary>
    Protected16,

    /// <summary>Protected mode without paging, 32-bit code, flat segments.</summary>
    Protected32,

    /// <summary>64-bit mode with four-level paging.</summary>
    Long,
}

/// <summary>The value of a register of up to 256 bits.</summary>
/// <param name="Low">Bits 127 to 0.</param>
/// <param name="High">Bits 255 to 128.</param>
public readonly record struct VectorValue(UInt128 Low, UInt128 High)
{
    /// <summary>A value of 64 bits.</summary>
    public static implicit operator VectorValue(ulong value) => new(value, 0);

    /// <summary>Bits up to the highest one that is set, 0 to 256.</summary>
    public int Length => High != 0
        ? 256 - (int)UInt128.LeadingZeroCount(High)
        : 128 - (int)UInt128.LeadingZeroCount(Low);
}

/// <summary>Bytes that a vector puts into memory.</summary>
/// <param name="At">Where: physical, or linear where the machine makes the page tables.</param>
/// <param name="Bytes">At least one.</param>
public readonly record struct VectorBytes(ulong At, ReadOnlyMemory<byte> Bytes);

/// <summary>A few instructions and the state they start from. Whatever is not given has a default.</summary>
public sealed class InstructionVector
{
    /// <summary>Most bytes of code.</summary>
    public const int MaxCode = 4096;

    /// <summary>Most pieces of memory.</summary>
    public const int MaxPieces = 64;

    /// <summary>Most bytes of memory, all pieces together.</summary>
    public const int MaxMemory = 64 << 10;

    /// <summary>Most instructions that may retire.</summary>
    public const ulong MaxRetired = 1_000_000;

    private readonly List<(int Register, VectorValue Value)> _registers = [];
    private readonly List<VectorBytes> _memory = [];
    private readonly ulong[] _given = new ulong[(VectorRegister.All.Length + 63) / 64];

    /// <summary>The mode; null for long mode, or for that of the vector before where the machine goes on.</summary>
    public VectorMode? Mode { get; set; }

    /// <summary>Instructions that may retire, 1 to <see cref="MaxRetired"/>.</summary>
    public ulong Max { get; set; } = 1;

    /// <summary>The instructions, put where CS:RIP points; at most <see cref="MaxCode"/> bytes.</summary>
    public ReadOnlyMemory<byte> Code { get; set; }

    /// <summary>Registers by index into <see cref="VectorRegister.All"/>, each at most once.</summary>
    public IReadOnlyList<(int Register, VectorValue Value)> Registers => _registers;

    /// <summary>Memory, in the order in which it is written.</summary>
    public IReadOnlyList<VectorBytes> Memory => _memory;

    /// <summary>Whether a register is given.</summary>
    public bool Has(int register) => (_given[register / 64] & (1UL << (register & 63))) != 0;

    /// <summary>Makes it an empty vector.</summary>
    public void Clear()
    {
        Mode = null;
        Max = 1;
        Code = default;
        _registers.Clear();
        _memory.Clear();
        Array.Clear(_given);
    }

    /// <summary>Gives a register.</summary>
    /// <returns>What is wrong; null when nothing is.</returns>
    public string? TrySet(int register, VectorValue value)
    {
        VectorRegister row = VectorRegister.All[register];
        if (!row.Settable)
        {
            return $"{row.Name} cannot be given";
        }

        if (value.Length > row.Bits)
        {
            return $"{row.Name} has {row.Bits} bits";
        }

        if (Has(register))
        {
            return $"{row.Name} is given twice";
        }

        _given[register / 64] |= 1UL << (register & 63);
        _registers.Add((register, value));
        return null;
    }

    /// <summary>Gives memory. The caller holds to <see cref="MaxPieces"/> and <see cref="MaxMemory"/>.</summary>
    public void Add(in VectorBytes piece) => _memory.Add(piece);
}
