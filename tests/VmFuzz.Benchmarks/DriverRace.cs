using System.Diagnostics;
using System.Globalization;
using System.Text.Json;

namespace VmFuzz.Benchmarks;

/// <summary>The same target under every driver, one after the other, each in a process of its own on one worker.</summary>
internal static class DriverRace
{
    /// <summary>What a driver did.</summary>
    /// <param name="Driver">Its name.</param>
    /// <param name="PerSecond">Executions a second, the start included; 0 when it did not run.</param>
    /// <param name="Probes">Probes seen, the fuzzer's own figure.</param>
    /// <param name="Findings">Distinct findings.</param>
    /// <param name="Problem">Why it did not run, or null.</param>
    public sealed record Result(string Driver, double PerSecond, ulong Probes, int Findings, string? Problem);

    /// <summary>Runs a target under drivers and prints a table with ratios.</summary>
    /// <param name="target">Name of a target.</param>
    /// <param name="seconds">Wall seconds for each driver.</param>
    /// <param name="drivers">Names of drivers; the first one is what the others are compared with.</param>
    /// <param name="options">Further options of <c>vmfuzz fuzz</c>, for instance <c>--plugin FILE</c>.</param>
    /// <returns>The results, in the order of the drivers.</returns>
    public static IReadOnlyList<Result> Run(string target, int seconds, string[] drivers, params string[] options)
    {
        Result[] results = [.. drivers.Select(driver => Race(driver, target, seconds, options))];
        Console.WriteLine($"{target,-16} {"driver",-10} {"executions/s",14} {drivers[0] + " is",14} {"probes",8} {"findings",9}");
        foreach (Result result in results)
        {
            string ratio = result.PerSecond == 0 ? "-" : string.Create(CultureInfo.InvariantCulture, $"{results[0].PerSecond / result.PerSecond:0.0} x");
            Console.WriteLine(result.Problem is null
                ? string.Create(CultureInfo.InvariantCulture, $"{"",-16} {result.Driver,-10} {result.PerSecond,14:0} {ratio,14} {result.Probes,8} {result.Findings,9}")
                : $"{"",-16} {result.Driver,-10} did not run: {result.Problem}");
        }

        return results;
    }

    private static Result Race(string driver, string target, int seconds, string[] options)
    {
        string folder = Directory.CreateTempSubdirectory("vmfuzz-").FullName;
        try
        {
            string command = Path.Combine(AppContext.BaseDirectory, "vmfuzz.dll");
            string[] words =
            [
                command, "fuzz", "--driver", driver, "--target", target, "--seconds", seconds.ToString(CultureInfo.InvariantCulture),
                "--jobs", "1", "--seed", "1", "--json", "--out", Path.Combine(folder, "out"), .. options,
            ];
            using Process process = Process.Start(new ProcessStartInfo("dotnet", words) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true })!;
            Task<string> error = process.StandardError.ReadToEndAsync();
            string output = process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            if (process.ExitCode > 1)
            {
                return new Result(driver, 0, 0, 0, error.Result.Trim().Split('\n')[^1]);
            }

            using JsonDocument report = JsonDocument.Parse(output);
            JsonElement root = report.RootElement;
            return new Result(
                driver,
                root.GetProperty("executionsPerSecond").GetDouble(),
                root.GetProperty("probesSeen").GetUInt64(),
                root.GetProperty("findings").GetArrayLength(),
                null);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
