using System.Collections.Immutable;
using System.Text;

namespace VmFuzz.Testing;

/// <summary>Start values of the general registers; the stack pointer's is not used.</summary>
/// <param name="Values">Sixteen values in encoding order (RAX, RCX, RDX, RBX, RSP, ...).</param>
public sealed record RegisterFile(ImmutableArray<ulong> Values)
{
    /// <summary>All registers 0.</summary>
    public static RegisterFile Zero { get; } = new([.. new ulong[16]]);

    /// <inheritdoc/>
    public bool Equals(RegisterFile? other) => other is not null && Values.AsSpan().SequenceEqual(other.Values.AsSpan());

    /// <inheritdoc/>
    public override int GetHashCode() => (int)Values[0];

    /// <inheritdoc/>
    public override string ToString()
    {
        var text = new StringBuilder();
        foreach (ulong value in Values)
        {
            text.Append(text.Length > 0 ? " " : "").Append(value.ToString("x", System.Globalization.CultureInfo.InvariantCulture));
        }

        return text.ToString();
    }
}
