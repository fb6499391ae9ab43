using System.Collections.Immutable;

namespace VmFuzz.Testing;

/// <summary>The content of a file that should hold an input of the fuzzer: any bytes.</summary>
/// <param name="Bytes">The bytes.</param>
public sealed record InputFile(ImmutableArray<byte> Bytes)
{
    /// <inheritdoc/>
    public override string ToString() => Convert.ToHexStringLower(Bytes.AsSpan());
}
