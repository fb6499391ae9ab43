using System.Globalization;
using System.Text;
using VmFuzz.Fuzzing;

namespace VmFuzz.Bugs.Runner;

/// <summary>The results as a table in Markdown: medians over the seeds, a column pair for each way of fuzzing.</summary>
internal static class HuntReport
{
    public static string Markdown(IReadOnlyList<HuntRecord> records)
    {
        FuzzMode[] modes = [.. Enum.GetValues<FuzzMode>().Where(mode => records.Any(r => r.Mode == mode))];
        StringBuilder text = new("| bug | what | target | exits |");
        foreach (FuzzMode mode in modes)
        {
            text.Append(CultureInfo.InvariantCulture, $" {Name(mode)}: found | executions | seconds |");
        }

        text.Append(" oracle |\n|---|---|---|---|").Insert(text.Length, "---|---|---|", modes.Length).Append("---|\n");
        foreach (PlantedBug bug in PlantedBugs.All)
        {
            HuntRecord[] own = [.. records.Where(r => r.Bug == bug.Id)];
            if (own.Length == 0)
            {
                continue;
            }

            text.Append(CultureInfo.InvariantCulture, $"| {bug.Id} | {bug.Title} | {bug.Target} | {bug.MinExits} |");
            foreach (FuzzMode mode in modes)
            {
                HuntRecord[] runs = [.. own.Where(r => r.Mode == mode)];
                int found = runs.Count(static r => r.Found);
                text.Append(CultureInfo.InvariantCulture, $" {found}/{runs.Length} | {Median(runs, static r => r.Executions)} | {Median(runs, static r => r.Elapsed)} |");
            }

            text.Append(CultureInfo.InvariantCulture, $" {string.Join(", ", own.Where(static r => r.Found).GroupBy(static r => r.Oracle, StringComparer.Ordinal).OrderByDescending(static g => g.Count()).Select(static g => g.Key))} |\n");
        }

        return text.ToString();
    }

    public static string Name(FuzzMode mode) => mode.ToString().ToLowerInvariant();

    // A hunt that found nothing counts as longer than any that did.
    private static string Median(HuntRecord[] runs, Func<HuntRecord, double> value)
    {
        if (runs.Length == 0)
        {
            return "";
        }

        double[] values = [.. runs.Select(r => r.Found ? value(r) : double.PositiveInfinity).Order()];
        double median = values[(values.Length - 1) / 2];
        return double.IsInfinity(median) ? "-" : median.ToString("0.##", CultureInfo.InvariantCulture);
    }
}
