using System.Globalization;
using System.Text.Json;
using VmFuzz.Bugs.Runner;
using VmFuzz.Coverage;
using VmFuzz.Fuzzing;

namespace VmFuzz.Bugs;

/// <summary>
/// Hunts the planted faults and reports executions and seconds to the first trigger. Results are on disk after every
/// hunt; a run that is ended and started again goes on where it was.
/// </summary>
internal static class Program
{
    private static int Main(string[] arguments)
    {
        if (HuntOptions.Parse(arguments, out string error) is not { } options)
        {
            Console.Error.WriteLine(error);
            Console.Error.WriteLine(HuntOptions.Usage);
            return 2;
        }

        if (options.List)
        {
            foreach (PlantedBug bug in PlantedBugs.All)
            {
                Console.WriteLine($"{bug.Id,-16} {bug.Target,-13} {bug.MinExits} {bug.Title}\n                 {bug.Published}\n                 {bug.Reference}");
            }

            return 0;
        }

        Func<byte[], byte[]> run = Hunt.Run;
        (int first, int cells) = (0, 0);
        if (!options.Plain && Instrument(out run, out first, out cells) is { } bad)
        {
            Console.Error.WriteLine(bad);
            return 3;
        }

        HuntFile file = new(options.Json);
        foreach (FuzzMode mode in options.Modes)
        {
            foreach (PlantedBug bug in options.Bugs)
            {
                for (ulong seed = 1; seed <= (ulong)options.Seeds; seed++)
                {
                    HuntOrder order = new(bug.Id, mode, seed, options.Seconds, options.Executions, first, cells, options.Target);
                    if (!file.IsDone(order))
                    {
                        byte[] answer = run(JsonSerializer.SerializeToUtf8Bytes(order, HuntJson.Default.HuntOrder));
                        HuntRecord record = JsonSerializer.Deserialize(answer, HuntJson.Default.HuntRecord)!;
                        file.Add(order, record);
                        Console.WriteLine(Line(record));
                    }
                }
            }
        }

        if (options.Markdown is not null)
        {
            File.WriteAllText(options.Markdown, HuntReport.Markdown(file.Records));
        }

        return 0;
    }

    private static string? Instrument(out Func<byte[], byte[]> run, out int first, out int cells)
    {
        run = Hunt.Run;
        (first, cells) = (0, 0);
        if ((CoverageLoader.TryCreate(new CoverageLoaderOptions(), out CoverageLoader loader)
            ?? loader.TryBind("VmFuzz.Bugs", typeof(Hunt).FullName!, nameof(Hunt.Run), out run)) is { } error)
        {
            return error.ToString();
        }

        (first, cells) = (loader.FirstProbe, loader.Cells);
        return null;
    }

    private static string Line(HuntRecord r) => string.Create(CultureInfo.InvariantCulture,
        $"{r.Bug,-16} {HuntReport.Name(r.Mode),-9} seed {r.Seed}: {(r.Found ? "found" : "not found")} after {r.Executions} executions, {r.Elapsed:0.00} s{(r.Found ? $", {r.Oracle}@{r.Where}: {r.Text}" : "")}{(r.Noise.Count == 0 ? "" : $" [not counted: {string.Join(", ", r.Noise)}]")}");
}
