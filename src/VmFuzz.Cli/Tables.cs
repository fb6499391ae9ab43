using Spectre.Console;

namespace VmFuzz.Cli;

/// <summary>Tables for people.</summary>
internal static class Tables
{
    /// <summary>Writes a table; the first row holds the headings.</summary>
    /// <param name="host">Where to.</param>
    /// <param name="headings">The headings; one that starts with '#' is of a column of numbers.</param>
    /// <param name="rows">The cells.</param>
    public static void Write(Host host, IReadOnlyList<string> headings, IEnumerable<string[]> rows)
    {
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Out = new AnsiConsoleOutput(host.Out),
            Ansi = AnsiSupport.No,
            ColorSystem = ColorSystemSupport.NoColors,
            Interactive = InteractionSupport.No,
        });
        console.Profile.Width = host.OutputIsTerminal ? Math.Max(60, Console.WindowWidth) : 160;
        var table = new Table { Border = TableBorder.None };
        foreach (string heading in headings)
        {
            bool number = heading.StartsWith('#');
            var column = new TableColumn(new Text("  " + (number ? heading[1..] : heading))) { Padding = new Padding(0, 1) };
            table.AddColumn(number ? column.RightAligned() : column);
        }

        foreach (string[] row in rows)
        {
            table.AddRow(row.Select(static cell => new Text("  " + cell)));
        }

        console.Write(table);
    }
}
