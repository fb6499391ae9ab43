namespace VmFuzz.Arch;

/// <summary>A guest-physical address. Unit: bytes. Range: 0 to 2^52 - 1 on the modelled processor.</summary>
/// <param name="Value">The address.</param>
public readonly record struct Gpa(ulong Value)
{
    /// <summary>Bytes in the smallest page.</summary>
    public const int PageSize = 4096;

    /// <summary>The page frame number: the address divided by 4096.</summary>
    public ulong Frame => Value >> 12;

    /// <summary>The address <paramref name="bytes"/> further on, modulo 2^64.</summary>
    public Gpa Plus(ulong bytes) => new(Value + bytes);

    /// <inheritdoc/>
    public override string ToString() => $"gpa:0x{Value:x}";
}

/// <summary>A guest linear address. Unit: bytes.</summary>
/// <param name="Value">The address.</param>
public readonly record struct Gva(ulong Value)
{
    /// <inheritdoc/>
    public override string ToString() => $"gva:0x{Value:x}";
}
