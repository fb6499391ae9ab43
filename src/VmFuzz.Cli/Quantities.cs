using System.Globalization;

namespace VmFuzz.Cli;

/// <summary>Numbers as people write them, and as they are shown.</summary>
internal static class Quantities
{
    /// <summary>Reads a decimal or 0x-prefixed number; underscores may group its digits.</summary>
    public static bool TryNumber(string text, out ulong value)
    {
        string digits = text.Replace("_", "", StringComparison.Ordinal);
        return digits.StartsWith("0x", StringComparison.OrdinalIgnoreCase)
            ? ulong.TryParse(digits.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out value)
            : ulong.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out value);
    }

    /// <summary>Reads a size of memory: a number of MiB, or with suffix K, M, G or T.</summary>
    public static bool TryMemory(string text, out ulong bytes)
    {
        bytes = 0;
        if (text.Length == 0)
        {
            return false;
        }

        int shift = char.ToUpperInvariant(text[^1]) switch
        {
            'B' => 0,
            'K' => 10,
            'M' => 20,
            'G' => 30,
            'T' => 40,
            _ => -1,
        };
        string digits = shift < 0 ? text : text[..^1];
        shift = shift < 0 ? 20 : shift;
        if (!TryNumber(digits, out ulong number) || number > ulong.MaxValue >> shift)
        {
            return false;
        }

        bytes = number << shift;
        return true;
    }

    /// <summary>A text from a file as it may be shown: control characters, which could steer a terminal, as <c>?</c>.</summary>
    public static string Plain(string text) =>
        string.Create(text.Length, text, static (to, from) =>
        {
            for (int i = 0; i < to.Length; i++)
            {
                to[i] = char.IsControl(from[i]) ? '?' : from[i];
            }
        });

    /// <summary>A number with grouped digits.</summary>
    public static string Grouped(ulong value) => value.ToString("N0", CultureInfo.InvariantCulture);

    /// <summary>A digest.</summary>
    public static string Digest(ulong value) => "0x" + value.ToString("x16", CultureInfo.InvariantCulture);

    /// <summary>Seconds with three decimals.</summary>
    public static string Seconds(double value) => value.ToString("F3", CultureInfo.InvariantCulture);

    /// <summary>Million instructions a second.</summary>
    public static string Mips(ulong retired, double seconds) =>
        (seconds > 0 ? retired / seconds / 1e6 : 0).ToString("F1", CultureInfo.InvariantCulture);
}
