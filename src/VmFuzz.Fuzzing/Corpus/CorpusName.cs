using System.Globalization;
using System.Text;

namespace VmFuzz.Fuzzing;

/// <summary>What the name of a corpus file says, as AFL++ writes it: <c>id:000007,src:000003,time:1200,execs:4711,op:havoc</c>.</summary>
public sealed record CorpusName
{
    private const int MostText = 100;

    /// <summary>Number in its folder.</summary>
    public uint Id { get; init; }

    /// <summary>Number of the input that it came from, or null.</summary>
    public uint? Source { get; init; }

    /// <summary>Number of the second input of a splice, or null.</summary>
    public uint? Second { get; init; }

    /// <summary>Signal that stands for what broke, in <c>crashes</c> only; null elsewhere.</summary>
    public byte? Signal { get; init; }

    /// <summary>Milliseconds since the campaign began; given by the caller.</summary>
    public ulong Time { get; init; }

    /// <summary>Executions until then.</summary>
    public ulong Executions { get; init; }

    /// <summary>Mutators that made it; empty for a seed.</summary>
    public string Operation { get; init; } = "";

    /// <summary>Name of the file that a seed was read from; empty for others.</summary>
    public string Original { get; init; } = "";

    /// <summary>Whether it was kept for new coverage.</summary>
    public bool Covers { get; init; }

    /// <summary>The file name: letters, digits and <c>:,+-._</c> only.</summary>
    public string Format()
    {
        var text = new StringBuilder(96);
        text.Append(CultureInfo.InvariantCulture, $"id:{Id:d6}");
        if (Signal is { } signal)
        {
            text.Append(CultureInfo.InvariantCulture, $",sig:{signal:d2}");
        }

        if (Source is { } source)
        {
            text.Append(CultureInfo.InvariantCulture, $",src:{source:d6}");
            if (Second is { } second)
            {
                text.Append(CultureInfo.InvariantCulture, $"+{second:d6}");
            }
        }

        text.Append(CultureInfo.InvariantCulture, $",time:{Time},execs:{Executions}");
        if (Original.Length != 0)
        {
            text.Append(",orig:").Append(Clean(Original));
        }
        else
        {
            text.Append(",op:").Append(Operation.Length == 0 ? "none" : Clean(Operation));
        }

        return text.Append(Covers ? ",+cov" : "").ToString();
    }

    /// <summary>Reads a file name.</summary>
    /// <returns>Null when it is not one of ours or of AFL++.</returns>
    public static CorpusName? Parse(string fileName)
    {
        ArgumentNullException.ThrowIfNull(fileName);
        CorpusName name = new();
        bool hasId = false;
        foreach (string part in fileName.Split(','))
        {
            int colon = part.IndexOf(':', StringComparison.Ordinal);
            string key = colon < 0 ? part : part[..colon];
            string value = colon < 0 ? "" : part[(colon + 1)..];
            switch (key)
            {
                case "id" when Number(value, uint.MaxValue, out ulong id):
                    name = name with { Id = (uint)id };
                    hasId = true;
                    break;
                case "src":
                    int plus = value.IndexOf('+', StringComparison.Ordinal);
                    string first = plus < 0 ? value : value[..plus];
                    name = name with
                    {
                        Source = Number(first, uint.MaxValue, out ulong source) ? (uint)source : null,
                        Second = plus >= 0 && Number(value[(plus + 1)..], uint.MaxValue, out ulong second) ? (uint)second : null,
                    };
                    break;
                case "sig" when Number(value, byte.MaxValue, out ulong signal):
                    name = name with { Signal = (byte)signal };
                    break;
                case "time" when Number(value, ulong.MaxValue, out ulong time):
                    name = name with { Time = time };
                    break;
                case "execs" when Number(value, ulong.MaxValue, out ulong execs):
                    name = name with { Executions = execs };
                    break;
                case "op":
                    name = name with { Operation = value == "none" ? "" : value };
                    break;
                case "orig":
                    name = name with { Original = value };
                    break;
                case "+cov":
                    name = name with { Covers = true };
                    break;
                default:
                    break;
            }
        }

        return hasId ? name : null;
    }

    private static bool Number(string text, ulong most, out ulong value) =>
        ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value) && value <= most;

    // Whatever a name is made of, it stays one name.
    private static string Clean(string text)
    {
        var clean = new StringBuilder(Math.Min(text.Length, MostText));
        foreach (char letter in text.AsSpan(0, Math.Min(text.Length, MostText)))
        {
            clean.Append(char.IsAsciiLetterOrDigit(letter) || letter is '.' or '-' or '_' or '+' ? letter : '_');
        }

        return clean.ToString();
    }
}
