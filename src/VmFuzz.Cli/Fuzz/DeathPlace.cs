using System.Globalization;

namespace VmFuzz.Cli;

/// <summary>Where a process died, as far as it can be told: stable from input to input.</summary>
/// <param name="Where">The place.</param>
/// <param name="Text">One line for people.</param>
internal sealed record DeathPlace(string Where, string Text)
{
    private const string Overflow = "Stack overflow.";
    private const string Unhandled = "Unhandled exception. ";
    private const string EngineBug = "vmfuzz: engine bug: ";

    /// <summary>Reads it from how the process ended and what it wrote.</summary>
    /// <param name="signal">The signal that ended it; 0 for none.</param>
    /// <param name="status">Its exit status.</param>
    /// <param name="error">Its standard error.</param>
    public static DeathPlace Of(int signal, int status, string error)
    {
        string[] lines = error.Split('\n');
        int overflow = Array.FindIndex(lines, static l => l.StartsWith(Overflow, StringComparison.Ordinal));
        if (overflow >= 0)
        {
            string where = Repeated(lines.AsSpan(overflow));
            return new(where.Length == 0 ? "stack-overflow" : $"stack-overflow in {where}", "the stack overflowed, which ends a process");
        }

        foreach (string start in (string[])[Unhandled, EngineBug])
        {
            int at = Array.FindIndex(lines, l => l.StartsWith(start, StringComparison.Ordinal));
            if (at >= 0)
            {
                string what = lines[at][start.Length..];
                string type = what.Split(':')[0].Trim();
                string where = lines.Skip(at).Select(Frame).FirstOrDefault(static f => f.Length != 0) ?? "";
                return new(where.Length == 0 ? type : $"{type} in {where}", what);
            }
        }

        return signal != 0
            ? new(string.Create(CultureInfo.InvariantCulture, $"signal-{signal}"), string.Create(CultureInfo.InvariantCulture, $"signal {signal} ended the process"))
            : new(string.Create(CultureInfo.InvariantCulture, $"status-{status}"), string.Create(CultureInfo.InvariantCulture, $"the process ended itself with status {status}"));
    }

    // Where in a recursion the stack ends is chance; the set of its methods is not.
    private static string Repeated(ReadOnlySpan<string> lines)
    {
        string first = "";
        string least = "";
        bool inside = false;
        foreach (string line in lines)
        {
            if (line.StartsWith("----", StringComparison.Ordinal))
            {
                if (inside)
                {
                    break;
                }

                inside = true;
                continue;
            }

            string frame = Frame(line);
            first = first.Length == 0 ? frame : first;
            if (inside && frame.Length != 0 && (least.Length == 0 || string.CompareOrdinal(frame, least) < 0))
            {
                least = frame;
            }
        }

        return least.Length == 0 ? first : least;
    }

    private static string Frame(string line)
    {
        string text = line.Trim();
        if (!text.StartsWith("at ", StringComparison.Ordinal))
        {
            return "";
        }

        int end = text.IndexOf('(', StringComparison.Ordinal);
        return text[3..(end < 0 ? text.Length : end)].Trim();
    }
}
