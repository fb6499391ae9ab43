using System.Globalization;
using System.Text.Json;

namespace VmFuzz.Cli;

/// <summary>What is said at the end of a campaign.</summary>
internal static class FuzzReport
{
    /// <summary>Writes the summary.</summary>
    /// <param name="host">Where to.</param>
    /// <param name="arguments">What was asked for.</param>
    /// <param name="view">How the campaign stands.</param>
    /// <param name="problem">What went wrong with all workers; null when something ran.</param>
    /// <returns>The status of the command.</returns>
    public static int Write(Host host, FuzzArguments arguments, CampaignView view, string? problem)
    {
        int status = problem is not null ? ExitStatus.EngineBug : view.Findings.IsEmpty ? ExitStatus.Fine : ExitStatus.Finding;
        if (problem is not null)
        {
            host.Err.WriteLine($"vmfuzz: {Quantities.Plain(problem)}");
        }

        if (arguments.Json)
        {
            JsonReport.Write(host.Out, json => WriteJson(json, view, status));
        }
        else
        {
            WriteText(host.Out, view);
        }

        return status;
    }

    /// <summary>The command that looks at a finding.</summary>
    public static string CommandOf(FoundFinding finding, CampaignView view) => finding.File is { } file
        ? $"vmfuzz explain {Shell(Path.Combine(view.Directory, Path.GetRelativePath(Path.GetFullPath(view.Directory), file)))}"
        : string.Create(CultureInfo.InvariantCulture, $"vmfuzz fuzz rerun {Shell(view.Directory)} --worker {finding.Worker} --execution {finding.Execution}");

    private static void WriteText(TextWriter writer, CampaignView view)
    {
        writer.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"vmfuzz: {view.Target}, seed {view.Seed}: {(view.Findings.IsEmpty ? "nothing found" : view.Findings.Length == 1 ? "1 finding" : $"{view.Findings.Length} findings")}"));
        double mean = view.Elapsed > 0 ? view.Fresh / view.Elapsed : 0;
        string exits = view.Exits == 0 || view.Elapsed <= 0 ? "" : $", {FuzzTexts.Rate(view.Exits / view.Elapsed)} exits/s";
        string earlier = view.Fresh == view.Executions ? "" : $" ({Quantities.Grouped(view.Executions)} with those before)";
        writer.WriteLine($"  {Quantities.Grouped(view.Fresh)} executions{earlier} in {Quantities.Seconds(view.Elapsed)} s ({FuzzTexts.Rate(mean)}/s{exits}) by {Count(view.Workers.Length, "worker")}, {Count(view.Workers.Sum(static w => w.Restarts), "restart")}");
        writer.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  corpus {Quantities.Grouped(view.Corpus)}, {FuzzTexts.Coverage(view)}, features {Quantities.Grouped(view.Features)}, stability {view.Stability:F2} %"));
        foreach (FoundFinding finding in view.Findings)
        {
            writer.WriteLine($"  {FuzzTexts.Of(finding)}");
            writer.WriteLine($"    {Quantities.Plain(CommandOf(finding, view))}");
        }

        string kept = view.Unwritten == 0 ? "everything" : $"{Count(view.Unwritten, "file")} could not be written; the rest";
        writer.WriteLine($"  {kept} is in {Quantities.Plain(view.Directory)}; go on with: vmfuzz fuzz --resume --out {Shell(Quantities.Plain(view.Directory))}");
    }

    private static void WriteJson(Utf8JsonWriter json, CampaignView view, int status)
    {
        json.WriteString("command", "fuzz");
        json.WriteNumber("status", status);
        json.WriteString("target", view.Target);
        json.WriteNumber("seed", view.Seed);
        json.WriteString("directory", view.Directory);
        json.WriteNumber("seconds", Math.Round(view.Elapsed, 3));
        json.WriteNumber("executions", view.Fresh);
        json.WriteNumber("executionsTotal", view.Executions);
        json.WriteNumber("executionsPerSecond", view.Elapsed > 0 ? Math.Round(view.Fresh / view.Elapsed, 1) : 0);
        json.WriteNumber("exitsPerSecond", view.Elapsed > 0 ? Math.Round(view.Exits / view.Elapsed, 1) : 0);
        json.WriteNumber("corpus", view.Corpus);
        json.WriteNumber("unwritten", view.Unwritten);
        json.WriteNumber("probesSeen", view.ProbesSeen);
        json.WriteNumber("probesTotal", view.ProbesTotal);
        json.WriteNumber("features", view.Features);
        json.WriteNumber("stability", Math.Round(view.Stability, 2));
        json.WriteStartArray("findings");
        foreach (FoundFinding finding in view.Findings)
        {
            json.WriteStartObject();
            json.WriteString("key", finding.Key);
            json.WriteString("text", finding.Text);
            json.WriteNumber("worker", finding.Worker);
            json.WriteNumber("execution", finding.Execution);
            json.WriteString("file", finding.File);
            json.WriteString("look", CommandOf(finding, view));
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("workers");
        foreach (WorkerLine worker in view.Workers)
        {
            json.WriteStartObject();
            json.WriteNumber("worker", worker.Worker);
            json.WriteString("state", worker.State);
            json.WriteNumber("restarts", worker.Restarts);
            json.WriteNumber("executions", worker.Status.Executions);
            json.WriteNumber("corpus", worker.Status.Corpus);
            json.WriteNumber("memoryMib", worker.Status.MemoryMib);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("mutators");
        foreach (MutatorFigures mutator in view.Mutators.Take(10))
        {
            json.WriteStartObject();
            json.WriteString("id", mutator.Id);
            json.WriteNumber("tries", mutator.Tries);
            json.WriteNumber("finds", mutator.Finds);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static string Count(int count, string what) => string.Create(CultureInfo.InvariantCulture, $"{count} {what}{(count == 1 ? "" : "s")}");

    // Names of inputs hold no quotes; a directory may hold anything.
    private static string Shell(string text) =>
        text.All(static c => char.IsAsciiLetterOrDigit(c) || c is '/' or '.' or '-' or '_' or ':' or ',' or '+') ? text : "'" + text.Replace("'", "'\\''", StringComparison.Ordinal) + "'";
}
