using System.Globalization;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace VmFuzz.Cli;

/// <summary>A screen on a terminal that is drawn over itself. Leaves nothing switched off when the process is killed.</summary>
internal sealed class LiveView : IFuzzView
{
    private const double Pause = 0.25;
    private const int MostLines = 4;
    private const int MostFindings = 6;
    private const int MostMutators = 5;

    private readonly TextWriter _writer;
    private readonly Func<(int Width, int Height)> _size;
    private readonly bool _colours;
    private readonly Queue<string> _said = new();
    private double _next;
    private int _drawn;

    /// <summary>Makes a screen.</summary>
    /// <param name="writer">The terminal.</param>
    /// <param name="size">Its size, asked for each time.</param>
    /// <param name="colours">Whether colours are wanted.</param>
    public LiveView(TextWriter writer, Func<(int Width, int Height)> size, bool colours) =>
        (_writer, _size, _colours) = (writer, size, colours);

    /// <summary>The screen of this process's terminal.</summary>
    public static LiveView OfTerminal(TextWriter writer) => new(
        writer,
        static () =>
        {
            try
            {
                return (Console.WindowWidth, Console.WindowHeight);
            }
            catch (IOException)
            {
                return (80, 24);
            }
        },
        Environment.GetEnvironmentVariable("NO_COLOR") is null or "");

    /// <inheritdoc/>
    public void Show(CampaignView view)
    {
        if (view.Elapsed < _next)
        {
            return;
        }

        _next = view.Elapsed + Pause;
        (int width, int height) = _size();
        Draw(Render(view, Math.Clamp(width, 40, 160)), Math.Max(4, height - 1));
    }

    /// <inheritdoc/>
    public void Say(string line)
    {
        _said.Enqueue(Quantities.Plain(line));
        if (_said.Count > MostLines)
        {
            _said.Dequeue();
        }
    }

    /// <inheritdoc/>
    public void Found(FoundFinding finding)
    {
    }

    /// <inheritdoc/>
    public void Dispose() => _writer.Flush();

    /// <summary>The screen as lines.</summary>
    internal IReadOnlyList<string> Render(CampaignView view, int width)
    {
        using var text = new StringWriter(CultureInfo.InvariantCulture);
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Out = new AnsiConsoleOutput(text),
            Ansi = _colours ? AnsiSupport.Yes : AnsiSupport.No,
            ColorSystem = _colours ? ColorSystemSupport.Standard : ColorSystemSupport.NoColors,
            Interactive = InteractionSupport.No,
        });
        console.Profile.Width = width;
        console.Profile.Capabilities.Unicode = true;
        string limit = view.Limit > 0 ? $" of {FuzzTexts.Clock(view.Limit)}" : "";
        console.Write(new Rule($"[bold]vmfuzz fuzz {Escape(view.Target)}[/]  {FuzzTexts.Clock(view.Elapsed)}{limit}") { Justification = Justify.Left });
        console.Write(Columns(Figures(view), Reached(view)));
        console.Write(Mutators(view, width));
        console.Write(Workers(view));
        if (!view.Findings.IsEmpty)
        {
            console.Write(Findings(view));
        }

        foreach (string line in _said)
        {
            console.Write(new Text(Cut(line, width) + "\n", new Style(Color.Grey)));
        }

        return text.ToString().TrimEnd('\n').Split('\n');
    }

    private static string Escape(string text) => Markup.Escape(Quantities.Plain(text));

    private static Grid Columns(IRenderable left, IRenderable right)
    {
        var grid = new Grid { Expand = true };
        grid.AddColumn().AddColumn();
        return grid.AddRow(left, right);
    }

    private static Grid Pairs(params (string Name, string Value)[] rows)
    {
        var grid = new Grid();
        grid.AddColumn(new GridColumn { NoWrap = true }).AddColumn(new GridColumn { NoWrap = true });
        foreach ((string name, string value) in rows)
        {
            grid.AddRow(new Text(name, new Style(Color.Grey)), new Text(value));
        }

        return grid;
    }

    private static Grid Figures(CampaignView view) => Pairs(
        ("executions", Quantities.Grouped(view.Executions)),
        ("per second", FuzzTexts.Rate(view.PerSecond)),
        ("corpus", Quantities.Grouped(view.Corpus)),
        ("last new", FuzzTexts.Ago(view.SinceNew)));

    private static Grid Reached(CampaignView view) => Pairs(
        ("probes", view.ProbesTotal == 0 ? "not counted" : FuzzTexts.Coverage(view)["probes ".Length..]),
        ("features", Quantities.Grouped(view.Features)),
        ("stability", string.Create(CultureInfo.InvariantCulture, $"{view.Stability:F2} %")),
        ("findings", view.Findings.Length.ToString(CultureInfo.InvariantCulture)));

    // On one line: a text that wraps would move what is below.
    private static string Cut(string text, int width) => text.Length < width ? text : text[..(width - 2)] + "…";

    private static Text Mutators(CampaignView view, int width)
    {
        IEnumerable<string> best = view.Mutators.Where(static m => m.Finds != 0).Take(MostMutators)
            .Select(static m => string.Create(CultureInfo.InvariantCulture, $"{m.Id} {m.Finds}/{Short(m.Tries)}"));
        string text = string.Join("  ", best);
        return new Text(Cut("mutators   " + (text.Length == 0 ? "-" : text), width) + "\n", new Style(Color.Grey));
    }

    private static string Short(ulong value) => value switch
    {
        < 10_000 => value.ToString(CultureInfo.InvariantCulture),
        < 10_000_000 => string.Create(CultureInfo.InvariantCulture, $"{value / 1000}k"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{value / 1_000_000}M"),
    };

    private static Table Workers(CampaignView view)
    {
        Table table = Bare();
        foreach (string heading in (string[])["worker", "state", "executions", "per second", "corpus", "probes", "findings", "MiB", "restarts"])
        {
            var column = new TableColumn(new Text(heading, new Style(Color.Grey))) { NoWrap = true };
            table.AddColumn(heading == "state" ? column : column.RightAligned());
        }

        foreach (WorkerLine worker in view.Workers)
        {
            WorkerStatus status = worker.Status;
            table.AddRow(((string[])[
                worker.Worker.ToString(CultureInfo.InvariantCulture),
                worker.State,
                Quantities.Grouped(status.Executions),
                FuzzTexts.Rate(worker.PerSecond),
                Quantities.Grouped(status.Corpus),
                Quantities.Grouped(status.ProbesSeen),
                status.Findings.ToString(CultureInfo.InvariantCulture),
                status.MemoryMib.ToString(CultureInfo.InvariantCulture),
                worker.Restarts.ToString(CultureInfo.InvariantCulture),
            ]).Select(static cell => new Text(cell)));
        }

        return table;
    }

    private static Table Findings(CampaignView view)
    {
        Table table = Bare();
        table.AddColumn(new TableColumn(new Text("finding", new Style(Color.Grey))));
        table.AddColumn(new TableColumn(new Text("execution", new Style(Color.Grey))) { NoWrap = true }.RightAligned());
        table.AddColumn(new TableColumn(new Text("what", new Style(Color.Grey))));
        foreach (FoundFinding finding in view.Findings.Reverse().Take(MostFindings))
        {
            table.AddRow(
                new Text(Quantities.Plain(finding.Key), new Style(Color.Red)) { Overflow = Overflow.Ellipsis },
                new Text(string.Create(CultureInfo.InvariantCulture, $"{finding.Worker}:{finding.Execution}")),
                new Text(Quantities.Plain(finding.Text)) { Overflow = Overflow.Ellipsis });
        }

        return table;
    }

    private static Table Bare() => new() { Border = TableBorder.None };

    // Over what was drawn last, line by line; what does not fit the terminal is left out, or it would scroll.
    private void Draw(IReadOnlyList<string> lines, int height)
    {
        var text = new System.Text.StringBuilder();
        if (_drawn > 0)
        {
            text.Append(CultureInfo.InvariantCulture, $"\u001b[{_drawn}A\r");
        }

        _drawn = Math.Min(lines.Count, height);
        foreach (string line in lines.Take(_drawn))
        {
            text.Append(line.TrimEnd()).Append("\u001b[0m\u001b[K\r\n");
        }

        text.Append("\u001b[J");
        _writer.Write(text.ToString());
        _writer.Flush();
    }
}
