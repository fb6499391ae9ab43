using System.Collections.Immutable;
using System.Globalization;
using System.Text;

namespace VmFuzz.Fuzzing;

/// <summary>One thing that is said about an input.</summary>
/// <param name="Name">What it is about: a register, a field, a position.</param>
/// <param name="Value">What is said; one line.</param>
/// <param name="Parts">What it consists of.</param>
public sealed record InputFact(string Name, string Value, ImmutableArray<InputFact> Parts)
{
    /// <summary>A fact without parts.</summary>
    public InputFact(string name, string value)
        : this(name, value, [])
    {
    }
}

/// <summary>What is said about one section of an input.</summary>
/// <param name="Id">Stable name, for JSON.</param>
/// <param name="Title">Heading for people.</param>
/// <param name="Facts">The facts, in the order of the section.</param>
public sealed record InputSection(string Id, string Title, ImmutableArray<InputFact> Facts);

/// <summary>Numbers as descriptions write them, and sections as lines.</summary>
internal static class InputLines
{
    public static string Hex(ulong value) => "0x" + value.ToString("x", CultureInfo.InvariantCulture);

    public static string Decimal(ulong value) => value.ToString(CultureInfo.InvariantCulture);

    public static string YesNo(bool value) => value ? "yes" : "no";

    /// <summary>Bytes in hexadecimal, with blanks between them.</summary>
    public static string Bytes(ReadOnlySpan<byte> bytes)
    {
        var text = new StringBuilder(3 * bytes.Length);
        foreach (byte value in bytes)
        {
            text.Append(text.Length == 0 ? "" : " ").Append(value.ToString("x2", CultureInfo.InvariantCulture));
        }

        return text.ToString();
    }

    /// <summary>A heading, then a line a fact; parts stand under their fact. Names of one level are as wide as the widest.</summary>
    public static void Write(TextWriter writer, InputSection section)
    {
        writer.Write(section.Title + "\n");
        Write(writer, section.Facts, 2);
    }

    private static void Write(TextWriter writer, ImmutableArray<InputFact> facts, int indent)
    {
        int width = 0;
        foreach (InputFact fact in facts)
        {
            width = Math.Max(width, fact.Value.Length == 0 ? 0 : fact.Name.Length);
        }

        foreach (InputFact fact in facts)
        {
            string line = new string(' ', indent) + (fact.Value.Length == 0 ? fact.Name : fact.Name.PadRight(width) + "  " + fact.Value);
            writer.Write(line.TrimEnd() + "\n");
            Write(writer, fact.Parts, indent + 4);
        }
    }
}
