using System.Collections.Immutable;
using System.Globalization;
using System.Text;

namespace VmFuzz.Replay;

/// <summary>What a step of a script does.</summary>
public enum ConsoleStepKind : byte
{
    /// <summary>Waits until the guest has printed the text.</summary>
    Expect,
    /// <summary>Types the text.</summary>
    Send,
    /// <summary>Ends the run.</summary>
    Stop,
}

/// <summary>One step of a script.</summary>
/// <param name="Kind">What it does.</param>
/// <param name="Text">Its bytes; empty for a stop.</param>
/// <param name="Line">Its line in the file, from 1.</param>
public sealed record ConsoleStep(ConsoleStepKind Kind, ImmutableArray<byte> Text, int Line);

/// <summary>
/// A conversation with a guest's console, a step a line: <c>expect "TEXT"</c>, <c>send "TEXT"</c>, <c>stop</c>. Empty lines and
/// those that start with # say nothing.
/// </summary>
/// <remarks>
/// In a text \r, \n, \t, \e, \\ and \" are what they are in C, and \xNN is a byte; all else is UTF-8. The key Enter is \r.
/// </remarks>
public sealed class ConsoleScript
{
    /// <summary>Longest file. Unit: characters.</summary>
    public const int MaxLength = 1 << 20;

    /// <summary>Most steps.</summary>
    public const int MaxSteps = 10_000;

    /// <summary>Longest text of a step. Unit: bytes.</summary>
    public const int MaxText = 4096;

    private static readonly ImmutableArray<(string Word, ConsoleStepKind Kind)> Words =
    [
        ("expect", ConsoleStepKind.Expect),
        ("send", ConsoleStepKind.Send),
        ("stop", ConsoleStepKind.Stop),
    ];

    private static readonly ImmutableArray<(char Letter, byte Value)> Escapes =
    [
        ('r', 0x0D), ('n', 0x0A), ('t', 0x09), ('e', 0x1B), ('\\', 0x5C), ('"', 0x22),
    ];

    private ConsoleScript(ImmutableArray<ConsoleStep> steps) => Steps = steps;

    /// <summary>The steps.</summary>
    public ImmutableArray<ConsoleStep> Steps { get; }

    /// <summary>Reads a script.</summary>
    /// <param name="text">The whole file.</param>
    /// <param name="script">The script, when the result is null.</param>
    /// <returns>What is wrong and in which line, in one line; or null.</returns>
    public static string? TryParse(string text, out ConsoleScript script)
    {
        script = new ConsoleScript([]);
        if (text.Length > MaxLength)
        {
            return $"the script is longer than {MaxLength} characters";
        }

        var steps = ImmutableArray.CreateBuilder<ConsoleStep>();
        int number = 0;
        foreach (ReadOnlySpan<char> whole in text.AsSpan().EnumerateLines())
        {
            number++;
            ReadOnlySpan<char> line = whole.Trim();
            if (line.IsEmpty || line[0] == '#')
            {
                continue;
            }

            if (TryStep(line, number, out ConsoleStep step) is { } wrong)
            {
                return string.Create(CultureInfo.InvariantCulture, $"line {number}: {wrong}");
            }

            if (steps.Count == MaxSteps)
            {
                return $"the script has more than {MaxSteps} steps";
            }

            steps.Add(step);
        }

        if (steps.Count == 0)
        {
            return "the script has no steps; write lines such as expect \"login:\" and send \"root\\r\"";
        }

        script = new ConsoleScript(steps.ToImmutable());
        return null;
    }

    private static string? TryStep(ReadOnlySpan<char> line, int number, out ConsoleStep step)
    {
        step = new ConsoleStep(ConsoleStepKind.Stop, [], number);
        int end = line.IndexOfAny(' ', '\t', '"');
        ReadOnlySpan<char> word = end < 0 ? line : line[..end];
        ReadOnlySpan<char> rest = end < 0 ? [] : line[end..].TrimStart();
        foreach ((string name, ConsoleStepKind kind) in Words)
        {
            if (!word.SequenceEqual(name))
            {
                continue;
            }

            if (kind == ConsoleStepKind.Stop)
            {
                return rest.IsEmpty ? null : "nothing follows 'stop'";
            }

            string? wrong = TryText(rest, out ImmutableArray<byte> text);
            step = new ConsoleStep(kind, text, number);
            return wrong;
        }

        return $"there is no step '{word}'; use {string.Join(", ", Words.Select(static w => w.Word))}";
    }

    private static string? TryText(ReadOnlySpan<char> quoted, out ImmutableArray<byte> text)
    {
        text = [];
        if (quoted.Length < 2 || quoted[0] != '"' || quoted[^1] != '"')
        {
            return "the text stands between double quotes";
        }

        var bytes = ImmutableArray.CreateBuilder<byte>();
        ReadOnlySpan<char> inner = quoted[1..^1];
        while (!inner.IsEmpty)
        {
            int plain = inner.IndexOfAny('\\', '"');
            if (plain != 0)
            {
                ReadOnlySpan<char> part = plain < 0 ? inner : inner[..plain];
                bytes.AddRange(Encoding.UTF8.GetBytes(part.ToString()));
                inner = inner[part.Length..];
                continue;
            }

            int used = Escape(inner, out byte value);
            if (used == 0)
            {
                return inner[0] == '"'
                    ? "a double quote in the text is written \\\""
                    : "after \\ stands r, n, t, e, \\, \", or x and two hexadecimal digits";
            }

            bytes.Add(value);
            inner = inner[used..];
        }

        if (bytes.Count is 0 or > MaxText)
        {
            return bytes.Count == 0 ? "the text is empty" : $"the text is longer than {MaxText} bytes";
        }

        text = bytes.ToImmutable();
        return null;
    }

    // Characters of the escape, or 0.
    private static int Escape(ReadOnlySpan<char> text, out byte value)
    {
        value = 0;
        if (text.Length < 2 || text[0] != '\\')
        {
            return 0;
        }

        if (text[1] == 'x')
        {
            return text.Length >= 4 && byte.TryParse(text[2..4], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out value) ? 4 : 0;
        }

        foreach ((char letter, byte meant) in Escapes)
        {
            if (text[1] == letter)
            {
                value = meant;
                return 2;
            }
        }

        return 0;
    }
}
