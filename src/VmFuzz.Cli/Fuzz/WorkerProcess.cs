using System.Collections.Concurrent;
using System.ComponentModel;
using System.Diagnostics;

namespace VmFuzz.Cli;

/// <summary>Something that came from a worker.</summary>
/// <param name="From">The process.</param>
/// <param name="Report">What it said; null when it has ended.</param>
internal readonly record struct WorkerNews(WorkerProcess From, WorkerReport? Report);

/// <summary>A worker process: orders go in, reports come out and wait in a queue.</summary>
internal sealed class WorkerProcess : IDisposable
{
    private const int MostError = 16 << 10;

    private readonly Process _process;
    private readonly StreamWriter _input;
    private readonly Lock _gate = new();
    private readonly System.Text.StringBuilder _head = new();
    private readonly Queue<string> _tail = new();

    private WorkerProcess(Process process)
    {
        _process = process;
        _input = process.StandardInput;
    }

    /// <summary>Process id.</summary>
    public int Id => _process.Id;

    /// <summary>Whether it has ended.</summary>
    public bool HasExited => _process.HasExited;

    /// <summary>The signal that ended it; 0 when none did.</summary>
    public int Signal => _process.ExitCode > 128 ? _process.ExitCode - 128 : 0;

    /// <summary>Status with which it ended.</summary>
    public int ExitCode => _process.ExitCode;

    /// <summary>What it wrote to standard error: the beginning and the last lines.</summary>
    public string Error
    {
        get
        {
            lock (_gate)
            {
                return _tail.Count == 0 ? _head.ToString() : _head + "...\n" + string.Join('\n', _tail) + "\n";
            }
        }
    }

    /// <summary>How a worker of this very program is started.</summary>
    /// <param name="memoryMib">Memory for its objects; 0 for no limit.</param>
    /// <param name="command">What it runs.</param>
    public static ProcessStartInfo Recipe(int memoryMib, string command = FuzzCommands.WorkerName)
    {
        string code = typeof(Program).Assembly.Location;
        string own = Environment.ProcessPath ?? "";
        var start = new ProcessStartInfo();
        if (Path.GetFileNameWithoutExtension(own) == Path.GetFileNameWithoutExtension(code))
        {
            start.FileName = own;
        }
        else
        {
            // Run by the host of .NET, or inside another program.
            start.FileName = Path.GetFileNameWithoutExtension(own) == "dotnet" ? own : Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet";
            start.ArgumentList.Add(code);
        }

        start.ArgumentList.Add(command);
        if (memoryMib > 0)
        {
            // An execution that wants without end fails inside, where it is caught, before the system has no memory left.
            start.Environment["DOTNET_GCHeapHardLimit"] = ((ulong)memoryMib << 22).ToString("x", System.Globalization.CultureInfo.InvariantCulture);
        }

        start.Environment["DOTNET_DbgEnableMiniDump"] = "0";
        return start;
    }

    /// <summary>Starts a worker and gives it its first order.</summary>
    /// <exception cref="UserError">The program cannot be started.</exception>
    public static WorkerProcess Start(ProcessStartInfo recipe, WorkerOrder order, BlockingCollection<WorkerNews> news)
    {
        var worker = new WorkerProcess(Begin(recipe));
        worker.Listen(news);
        worker.Tell(order);
        return worker;
    }

    /// <summary>Starts a process whose streams are all at hand.</summary>
    /// <exception cref="UserError">The program cannot be started.</exception>
    public static Process Begin(ProcessStartInfo recipe)
    {
        recipe.UseShellExecute = false;
        recipe.RedirectStandardInput = true;
        recipe.RedirectStandardOutput = true;
        recipe.RedirectStandardError = true;
        try
        {
            return Process.Start(recipe)!;
        }
        catch (Win32Exception error)
        {
            throw UserError.At($"a worker process cannot be started ({error.Message})", recipe.FileName, "check that this program may start processes");
        }
    }

    /// <summary>Gives an order; one that does not arrive is no error, as the end of the process is told anyway.</summary>
    public void Tell(WorkerOrder order)
    {
        try
        {
            _input.WriteLine(WorkerReport.Format(order));
            _input.Flush();
        }
        catch (IOException)
        {
        }
        catch (ObjectDisposedException)
        {
        }
    }

    /// <summary>Ends it at once.</summary>
    public void Kill()
    {
        try
        {
            _process.Kill();
        }
        catch (InvalidOperationException)
        {
        }
        catch (Win32Exception)
        {
        }
    }

    /// <summary>Processor time that it has used; zero when it has ended.</summary>
    public TimeSpan ProcessorTime()
    {
        try
        {
            _process.Refresh();
            return _process.TotalProcessorTime;
        }
        catch (InvalidOperationException)
        {
            return TimeSpan.Zero;
        }
        catch (Win32Exception)
        {
            return TimeSpan.Zero;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Kill();
        _process.Dispose();
    }

    private void Listen(BlockingCollection<WorkerNews> news)
    {
        var errors = new Thread(() => Drain(_process.StandardError, Keep)) { IsBackground = true, Name = "worker errors" };
        errors.Start();
        new Thread(() =>
        {
            Drain(_process.StandardOutput, line =>
            {
                if (WorkerReport.TryParse<WorkerReport>(line) is { } report)
                {
                    news.Add(new WorkerNews(this, report));
                }
                else
                {
                    Keep(line);
                }
            });
            _process.WaitForExit();
            errors.Join();
            news.Add(new WorkerNews(this, null));
        })
        { IsBackground = true, Name = "worker reports" }.Start();
    }

    private void Keep(string line)
    {
        lock (_gate)
        {
            if (_head.Length < MostError)
            {
                _head.Append(line.Length > 1000 ? line[..1000] : line).Append('\n');
                return;
            }

            _tail.Enqueue(line.Length > 1000 ? line[..1000] : line);
            if (_tail.Count > 20)
            {
                _tail.Dequeue();
            }
        }
    }

    private static void Drain(StreamReader reader, Action<string> take)
    {
        try
        {
            while (reader.ReadLine() is { } line)
            {
                take(line);
            }
        }
        catch (IOException)
        {
        }
        catch (ObjectDisposedException)
        {
        }
    }
}
