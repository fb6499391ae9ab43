using System.Globalization;

namespace VmFuzz.Testing;

/// <summary>
/// Seed of a property's cases. Pinned, so that a test run is the same everywhere; a test project may take another from its
/// environment (by habit VMFUZZ_SEED) and hand it to <see cref="Parse"/>.
/// </summary>
/// <param name="Seed">First word.</param>
/// <param name="Gamma">Second word; odd.</param>
public readonly record struct PropertySeed(ulong Seed, ulong Gamma)
{
    /// <summary>The pinned seed.</summary>
    public static PropertySeed Pinned { get; } = new(0x5EED_0001, 0x9E37_79B9_7F4A_7C15);

    /// <summary>Reads <c>SEED</c> or <c>SEED,GAMMA</c>, decimal.</summary>
    /// <param name="text">The text; null or empty gives the pinned seed.</param>
    /// <exception cref="FormatException">The text is something else.</exception>
    public static PropertySeed Parse(string? text)
    {
        if (string.IsNullOrEmpty(text))
        {
            return Pinned;
        }

        string[] parts = text.Split(',');
        ulong gamma = Pinned.Gamma;
        return ulong.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out ulong seed)
            && (parts.Length == 1 || (parts.Length == 2 && ulong.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out gamma)))
            ? new PropertySeed(seed, gamma | 1)
            : throw new FormatException($"'{text}' is not a seed: SEED or SEED,GAMMA in decimal");
    }

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Seed},{Gamma}");
}
