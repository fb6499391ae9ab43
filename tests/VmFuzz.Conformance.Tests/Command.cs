using System.Diagnostics;
using System.Globalization;
using System.Text.Json;

namespace VmFuzz.Conformance.Tests;

/// <summary>The built vmfuzz command, in processes of its own.</summary>
internal static class Command
{
    /// <summary>The command beside the tests.</summary>
    public static string Assembly { get; } = Path.Combine(AppContext.BaseDirectory, "vmfuzz.dll");

    /// <summary>The command of another configuration, or null when it is not built.</summary>
    public static string? OfConfiguration(string configuration)
    {
        string path = Path.Combine(Repository.Root, "src", "VmFuzz.Cli", "bin", configuration, "net10.0", "vmfuzz.dll");
        return File.Exists(path) ? path : null;
    }

    /// <summary>Runs it; gives status, standard output and standard error.</summary>
    public static (int Status, string Output, string Error) Run(string[] arguments, string? assembly = null, params (string Name, string Value)[] environment)
    {
        var start = new ProcessStartInfo("dotnet")
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
            UseShellExecute = false,
        };
        start.ArgumentList.Add(assembly ?? Assembly);
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        foreach ((string name, string value) in environment)
        {
            start.Environment[name] = value;
        }

        using Process process = Process.Start(start)!;
        process.StandardInput.Close();
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output, error.GetAwaiter().GetResult());
    }

    /// <summary>Records a run that must end well, and replays it in another process.</summary>
    /// <param name="run">The arguments of <c>vmfuzz run</c>.</param>
    /// <param name="limit">Most instructions.</param>
    /// <returns>The console's text.</returns>
    public static string RecordsAndReplays(string[] run, ulong limit) => RecordsAndReplays(run, limit, out _);

    /// <inheritdoc cref="RecordsAndReplays(string[], ulong)"/>
    /// <param name="run">The arguments of <c>vmfuzz run</c>.</param>
    /// <param name="limit">Most instructions.</param>
    /// <param name="report">What the recording reports.</param>
    public static string RecordsAndReplays(string[] run, ulong limit, out JsonElement report)
    {
        // A long run takes the fast build where there is one.
        string? assembly = Environment.GetEnvironmentVariable("VMFUZZ_LONG") == "1" ? OfConfiguration("Release") : null;
        string folder = Directory.CreateTempSubdirectory("vmfuzz").FullName;
        try
        {
            string path = Path.Combine(folder, "boot.vmtrace");
            string most = limit.ToString(CultureInfo.InvariantCulture);
            (int status, string output, string console) = Run(["record", .. run[1..], "--max-instructions", most, "--json", "-o", path], assembly);
            Assert.True(status == 0, $"status {status}\n{output}\n{console}");
            JsonElement replay = Replays(path, assembly);
            Assert.Equal("Identical", replay.GetProperty("outcome").GetString(), ignoreCase: true);
            using JsonDocument document = JsonDocument.Parse(output);
            report = document.RootElement.Clone();
            return console;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>Replays a trace in another process; fails unless it is identical. Gives what the command reports as JSON.</summary>
    public static JsonElement Replays(string trace, string? assembly = null, params (string Name, string Value)[] environment)
    {
        (int status, string output, string error) = Run(["replay", trace, "--json"], assembly, environment);
        Assert.True(status == 0, $"status {status}\n{output}\n{error}");
        using JsonDocument document = JsonDocument.Parse(output);
        return document.RootElement.Clone();
    }
}
