using System.Diagnostics;

namespace VmFuzz.Fuzz.Tests;

/// <summary>Programs that the tests start, and a folder for what they leave.</summary>
public sealed class HostProcess : IDisposable
{
    /// <summary>What is executed: an exit for CPUID, then one for an I/O instruction on port 0.</summary>
    public static readonly byte[] Fault = [0, 10, 0, 30, 0];

    /// <summary>An exit for CPUID, then one for HLT.</summary>
    public static readonly byte[] Death = [0, 10, 0, 12, 0];

    /// <summary>An exit for CPUID, then one for RDTSC.</summary>
    public static readonly byte[] Hang = [0, 10, 0, 16, 0];

    /// <summary>Where things go; gone after the test.</summary>
    public string Folder { get; } = Directory.CreateTempSubdirectory("vmfuzz-").FullName;

    /// <summary>Path of a host beside the tests.</summary>
    public static string Afl { get; } = Path.Combine(AppContext.BaseDirectory, "VmFuzz.Fuzz.Afl");

    /// <summary>Path of a host beside the tests.</summary>
    public static string LibFuzzer { get; } = Path.Combine(AppContext.BaseDirectory, "VmFuzz.Fuzz.LibFuzzer");

    /// <summary>Options that open a planted target, with probes in it.</summary>
    public static string[] Planted(string target) => [$"--target={target}", $"--entry={Tests.Planted.Entry}", "--instrument=VmFuzz.Fuzz.Tests"];

    /// <summary>Options that open the target of <see cref="PlantedPlugin"/>, with probes in the model.</summary>
    public static string[] Plugin => [$"--target={PlantedPlugin.Name}", $"--plugin={typeof(PlantedPlugin).Assembly.Location}"];

    /// <summary>Whether a program is on the path.</summary>
    public static bool IsInstalled(string program) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Any(folder => File.Exists(Path.Combine(folder, program)));

    /// <summary>Writes a file and gives its path.</summary>
    public string Write(string name, byte[] bytes)
    {
        string path = Path.Combine(Folder, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllBytes(path, bytes);
        return path;
    }

    /// <summary>Runs a program to its end.</summary>
    /// <returns>Its exit status, and both its outputs together.</returns>
    public static (int Status, string Output) Run(string program, IEnumerable<string> arguments, params (string Name, string Value)[] environment)
    {
        ProcessStartInfo start = new(program, arguments) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        foreach ((string name, string value) in environment)
        {
            start.Environment[name] = value;
        }

        using Process process = Process.Start(start)!;
        process.StandardInput.Close();
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output + error.GetAwaiter().GetResult());
    }

    public void Dispose() => Directory.Delete(Folder, recursive: true);
}
