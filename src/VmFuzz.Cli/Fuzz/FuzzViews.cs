using System.Globalization;

namespace VmFuzz.Cli;

/// <summary>Where people watch a campaign.</summary>
internal interface IFuzzView : IDisposable
{
    /// <summary>How the campaign stands; called several times a second.</summary>
    void Show(CampaignView view);

    /// <summary>Something that people should know of.</summary>
    void Say(string line);

    /// <summary>A finding that was not known before.</summary>
    void Found(FoundFinding finding);
}

/// <summary>Plain lines, for logs and pipes: how it stands every few seconds, and each finding.</summary>
internal sealed class LineView(TextWriter writer) : IFuzzView
{
    private const double Pause = 5;

    private double _next = 1;

    /// <inheritdoc/>
    public void Show(CampaignView view)
    {
        if (view.Elapsed < _next)
        {
            return;
        }

        _next = view.Elapsed + Pause;
        writer.WriteLine(FuzzTexts.Line(view));
    }

    /// <inheritdoc/>
    public void Say(string line) => writer.WriteLine($"vmfuzz: {Quantities.Plain(line)}");

    /// <inheritdoc/>
    public void Found(FoundFinding finding) => writer.WriteLine($"vmfuzz: {FuzzTexts.Of(finding)}");

    /// <inheritdoc/>
    public void Dispose()
    {
    }
}

/// <summary>Figures in words.</summary>
internal static class FuzzTexts
{
    /// <summary>How a campaign stands, in one line.</summary>
    public static string Line(CampaignView view) => string.Create(
        CultureInfo.InvariantCulture,
        $"{Clock(view.Elapsed)} executions {Quantities.Grouped(view.Executions)} ({Rate(view.PerSecond)}/s), corpus {Quantities.Grouped(view.Corpus)}, {Coverage(view)}, features {Quantities.Grouped(view.Features)}, findings {view.Findings.Length}, workers {view.Workers.Length}");

    /// <summary>A finding in one line.</summary>
    public static string Of(FoundFinding finding) => Quantities.Plain(string.Create(
        CultureInfo.InvariantCulture,
        $"finding {finding.Key} by worker {finding.Worker} in execution {Quantities.Grouped(finding.Execution)}: {finding.Text}"));

    /// <summary>Probes reached.</summary>
    public static string Coverage(CampaignView view) => view.ProbesTotal == 0
        ? "no coverage"
        : string.Create(CultureInfo.InvariantCulture, $"probes {Quantities.Grouped(view.ProbesSeen)} of {Quantities.Grouped(view.ProbesTotal)} ({view.Coverage:F1} %)");

    /// <summary>Hours, minutes and seconds.</summary>
    public static string Clock(double seconds)
    {
        long whole = (long)seconds;
        return string.Create(CultureInfo.InvariantCulture, $"{whole / 3600}:{whole / 60 % 60:d2}:{whole % 60:d2}");
    }

    /// <summary>How long ago something was.</summary>
    public static string Ago(double seconds) => seconds < 0
        ? "never"
        : seconds < 60 ? string.Create(CultureInfo.InvariantCulture, $"{seconds:F0} s ago") : Clock(seconds) + " ago";

    /// <summary>Executions a second.</summary>
    public static string Rate(double perSecond) => Quantities.Grouped((ulong)Math.Max(0, perSecond));
}
