using System.Diagnostics;
using System.Globalization;

namespace VmFuzz.Cli;

/// <summary>What the end of a fuzzer's process means.</summary>
internal enum OutsideEnd
{
    /// <summary>It has done what it was told.</summary>
    Done,

    /// <summary>It has found something and ends for that; start it again.</summary>
    Again,

    /// <summary>It cannot run.</summary>
    Broken,
}

/// <summary>One worker of a campaign that a fuzzer from outside runs: how it is started, and what it leaves.</summary>
/// <param name="worker">Its number.</param>
/// <param name="arguments">What was asked for.</param>
/// <param name="directory">The campaign's directory.</param>
internal abstract class OutsideFuzzer(int worker, FuzzArguments arguments, CampaignDirectory directory)
{
    /// <summary>Its number.</summary>
    public int Worker { get; } = worker;

    /// <summary>Full path of its directory.</summary>
    public string Root { get; } = directory.Worker(worker);

    /// <summary>What was asked for.</summary>
    protected FuzzArguments Arguments { get; } = arguments;

    /// <summary>The seed of this worker; 31 bits, as fuzzers want them.</summary>
    protected uint Seed { get; } = (uint)(directory.File.Seed + (ulong)worker) & 0x7FFF_FFFF;

    /// <summary>Full path of the folder where hosts keep one input of each distinct finding.</summary>
    public static string FindingsOf(CampaignDirectory directory) => Path.Combine(directory.Root, "findings");

    /// <summary>Full path of the folder of inputs to start from.</summary>
    public static string SeedsOf(CampaignDirectory directory) => Path.Combine(directory.Root, "seeds");

    /// <summary>The program to start.</summary>
    /// <param name="seconds">How long it may run; 0 for no limit.</param>
    public abstract ProcessStartInfo Recipe(double seconds);

    /// <summary>Takes a line that the process wrote.</summary>
    public virtual void Hear(string line)
    {
    }

    /// <summary>Its figures, as far as they are known.</summary>
    public abstract WorkerStatus Figures();

    /// <summary>Files of inputs that killed the process or did not end.</summary>
    public abstract IEnumerable<string> Saved();

    /// <summary>What the end of the process means.</summary>
    public abstract OutsideEnd Judge(int exitCode);

    /// <summary>Whether a program is on the path.</summary>
    public static bool IsOnPath(string program) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Any(folder => folder.Length != 0 && File.Exists(Path.Combine(folder, program)));

    /// <summary>A host, as the beginning of a command line: its own program, or .NET's with its assembly.</summary>
    /// <param name="name">Name of the assembly, which lies beside this one.</param>
    public static string[] HostOf(string name)
    {
        string path = Path.Combine(AppContext.BaseDirectory, name);
        if (File.Exists(path) && (OperatingSystem.IsWindows() || (File.GetUnixFileMode(path) & UnixFileMode.UserExecute) != 0))
        {
            return [path];
        }

        string own = Environment.ProcessPath ?? "";
        string dotnet = Path.GetFileNameWithoutExtension(own) == "dotnet" ? own : Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet";
        return [dotnet, path + ".dll"];
    }

    /// <summary>The options of a host that say what is fuzzed.</summary>
    /// <param name="arguments">What was asked for.</param>
    public static IEnumerable<string> TargetOf(FuzzArguments arguments) =>
    [
        $"--target={arguments.Target.Name}",
        .. arguments.Plugins.Select(static path => $"--plugin={path}"),
        .. arguments.Coverage ? (string[])[] : ["--instrument="],
    ];

    /// <summary>The option of a host that says where distinct findings go.</summary>
    protected string FindingsOption { get; } = $"--findings={FindingsOf(directory)}";

    /// <summary>What every process of a campaign gets: a bound on its memory, no dumps.</summary>
    protected void Surround(ProcessStartInfo start)
    {
        start.Environment["DOTNET_GCHeapHardLimit"] = ((ulong)Arguments.Memory << 22).ToString("x", CultureInfo.InvariantCulture);
        start.Environment["DOTNET_DbgEnableMiniDump"] = "0";
    }

    /// <summary>This worker's share of the executions asked for; 0 for no limit.</summary>
    protected ulong Share => Arguments.Executions == 0 ? 0 : (Arguments.Executions + (ulong)Arguments.Jobs - 1) / (ulong)Arguments.Jobs;

    /// <summary>A whole number for a command line.</summary>
    protected static string Text(double number) => Math.Ceiling(number).ToString("F0", CultureInfo.InvariantCulture);
}
