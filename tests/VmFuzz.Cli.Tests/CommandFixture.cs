using System.Diagnostics;
using System.Text.Json;

namespace VmFuzz.Cli.Tests;

/// <summary>What a command left behind.</summary>
public sealed record Ran(int Status, string Out, string Err)
{
    public JsonElement Json => JsonDocument.Parse(Out).RootElement;
}

/// <summary>A folder of its own, guests in it, and the command in process.</summary>
public abstract class CommandFixture : IDisposable
{
    // mov al,'h'; out 0xe9,al; mov al,'i'; out 0xe9,al; rdrand ebx; cpuid; hlt
    protected static readonly byte[] Hello = [0xB0, 0x68, 0xE6, 0xE9, 0xB0, 0x69, 0xE6, 0xE9, 0x0F, 0xC7, 0xF3, 0x0F, 0xA2, 0xF4];

    // jmp $
    protected static readonly byte[] Endless = [0xEB, 0xFE];

    // mov al,0x15; out 0xf4,al
    protected static readonly byte[] Exits = [0xB0, 0x15, 0xE6, 0xF4];

    protected CommandFixture()
    {
        Folder = Directory.CreateTempSubdirectory("vmfuzz-cli-").FullName;
        HelloFile = Make("hello.bin", Hello);
    }

    /// <summary>The repository.</summary>
    protected static string Root { get; } = FindRoot();

    protected string Folder { get; }

    protected string HelloFile { get; }

    public void Dispose()
    {
        // A worker whose supervisor was killed may still write its last files.
        for (int tries = 50; Directory.Exists(Folder); tries--)
        {
            try
            {
                Directory.Delete(Folder, recursive: true);
            }
            catch (IOException) when (tries > 0)
            {
                Thread.Sleep(100);
            }
        }

        GC.SuppressFinalize(this);
    }

    /// <summary>Waits until a campaign has run something.</summary>
    protected static void AwaitExecutions(Process process) => Await(
        process,
        static line => line.Contains("executions ", StringComparison.Ordinal) && !line.Contains("executions 0 ", StringComparison.Ordinal));

    /// <summary>Waits for a line on the error stream; what follows is read and dropped, because a full pipe would stop the process.</summary>
    protected static void Await(Process process, Predicate<string> isIt)
    {
        while (process.StandardError.ReadLine() is { } line && !isIt(line))
        {
        }

        new Thread(() => process.StandardError.ReadToEnd()) { IsBackground = true }.Start();
    }

    /// <summary>Skips where SIGINT is ignored and so does nothing to any child.</summary>
    protected static void NeedsInterrupts()
    {
        const string Key = "SigIgn:";
        const ulong Interrupt = 1UL << 1;
        Assert.SkipUnless(File.Exists("/bin/kill") && File.Exists("/proc/self/status"), "needs /bin/kill and /proc");
        string ignored = File.ReadLines("/proc/self/status").First(static l => l.StartsWith(Key, StringComparison.Ordinal))[Key.Length..].Trim();
        Assert.SkipWhen(
            (Convert.ToUInt64(ignored, 16) & Interrupt) != 0, "SIGINT is ignored here, as in what a script starts in the background");
    }

    protected static Ran Run(params string[] args)
    {
        var output = new StringWriter();
        var error = new StringWriter();
        int status = Program.Run(args, output, error);
        return new Ran(status, output.ToString(), error.ToString());
    }

    /// <summary>Status 2 and exactly one line that holds these texts.</summary>
    protected static void Refuses(Ran ran, params string[] texts)
    {
        Assert.Equal(2, ran.Status);
        Assert.Equal("", ran.Out);
        Assert.StartsWith("vmfuzz: ", ran.Err, StringComparison.Ordinal);
        Assert.Equal(1, ran.Err.Count(static c => c == '\n'));
        foreach (string text in texts)
        {
            Assert.Contains(text, ran.Err, StringComparison.Ordinal);
        }
    }

    protected string At(string name) => Path.Combine(Folder, name);

    protected string Make(string name, byte[] bytes)
    {
        string path = At(name);
        File.WriteAllBytes(path, bytes);
        return path;
    }

    protected string Record(params string[] more)
    {
        string path = At("t.vmtrace");
        Ran ran = Run([.. (string[])["record", "-kernel", HelloFile, "-o", path], .. more]);
        Assert.Equal(0, ran.Status);
        return path;
    }

    protected static Process Start(params string[] args)
    {
        var start = new ProcessStartInfo(Environment.ProcessPath is { } own && Path.GetFileNameWithoutExtension(own) == "dotnet" ? own : "dotnet")
        {
            UseShellExecute = false,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.ArgumentList.Add(typeof(Program).Assembly.Location);
        foreach (string arg in args)
        {
            start.ArgumentList.Add(arg);
        }

        return Process.Start(start)!;
    }

    private static string FindRoot()
    {
        string folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "VmFuzz.sln")))
        {
            folder = Path.GetDirectoryName(folder) ?? throw new InvalidOperationException("the tests do not run inside the repository");
        }

        return folder;
    }
}
