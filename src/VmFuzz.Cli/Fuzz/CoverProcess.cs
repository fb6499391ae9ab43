using System.Buffers.Binary;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary>
/// Runs inputs in a process beside this one, and says what each reached: an input that ends the process, or never ends,
/// is named in one line, and the others go on.
/// </summary>
internal sealed class CoverProcess : IDisposable
{
    private const string Ready = "ready";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly string _setup;
    private readonly Action<string> _say;
    private Process? _process;
    private StringBuilder _error = new();
    private Thread? _drain;

    /// <summary>Prepares; the process starts with the first input.</summary>
    /// <param name="target">What inputs are fed to.</param>
    /// <param name="plugins">Where the target may be from.</param>
    /// <param name="say">Takes lines for people.</param>
    public CoverProcess(FuzzTargetRow target, FuzzPlugins plugins, Action<string> say) =>
        (_setup, _say) = (WorkerReport.Format<string[]>([target.Name, .. plugins.Paths]), say);

    /// <summary>What an input reaches; nothing when it ended the process.</summary>
    public uint[] Run(ReadInput input)
    {
        _process ??= Start();
        string? answer = null;
        bool hung = false;
        try
        {
            _process.StandardInput.WriteLine(Convert.ToBase64String(input.Bytes));
            _process.StandardInput.Flush();
            Task<string?> reading = _process.StandardOutput.ReadLineAsync();
            hung = !reading.Wait(Patience);
            answer = hung ? null : reading.Result;
        }
        catch (IOException)
        {
            // It is gone; how it ended says why.
        }

        if (answer is not null)
        {
            return Cells(Convert.FromBase64String(answer));
        }

        string why = hung ? string.Create(CultureInfo.InvariantCulture, $"it did not end in {Patience.TotalSeconds} s") : $"it ends the process that runs it ({Place(_process).Where})";
        Dispose();
        _say($"{input.Origin} is left out: {why}");
        return [];
    }

    /// <summary>The other side: answers inputs until there are no more.</summary>
    public static int Serve(Host host)
    {
        if (host.OpenInput is null || host.RawOut is not { } output)
        {
            throw NotForPeople();
        }

        // What plug-ins print must not get between the answers.
        Console.SetOut(host.Err);
        using var input = new StreamReader(host.OpenInput());
        using var answers = new StreamWriter(output, new UTF8Encoding(false)) { AutoFlush = true };
        if (input.ReadLine() is not { } first || WorkerReport.TryParse<string[]>(first) is not [var name, .. var paths])
        {
            throw NotForPeople();
        }

        FuzzPlugins plugins = FuzzPlugins.Load(paths);
        CoverRunner runner = CoverRunner.Open(plugins.Find(name) ?? throw NotForPeople(), plugins);
        answers.WriteLine(Ready);
        while (input.ReadLine() is { } line)
        {
            answers.WriteLine(Convert.ToBase64String(runner.Run(Convert.FromBase64String(line))));
        }

        return ExitStatus.Fine;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_process is { } process)
        {
            _process = null;
            process.Kill();
            process.WaitForExit();
            _drain?.Join();
            process.Dispose();
        }
    }

    private static UserError NotForPeople() => new($"{FuzzCommands.CoverWorkerName} is started by 'vmfuzz corpus min' and 'merge': use those");

    private static uint[] Cells(byte[] answer)
    {
        var cells = new uint[answer.Length / sizeof(uint)];
        for (int i = 0; i < cells.Length; i++)
        {
            cells[i] = BinaryPrimitives.ReadUInt32LittleEndian(answer.AsSpan(i * sizeof(uint)));
        }

        return cells;
    }

    private Process Start()
    {
        Process process = WorkerProcess.Begin(WorkerProcess.Recipe(memoryMib: 0, FuzzCommands.CoverWorkerName));
        var error = new StringBuilder();
        _error = error;
        _drain = new Thread(() =>
        {
            while (process.StandardError.ReadLine() is { } line)
            {
                error.AppendLine(line);
            }
        })
        { IsBackground = true, Name = "cover worker errors" };
        _drain.Start();
        process.StandardInput.WriteLine(_setup);
        process.StandardInput.Flush();
        return process.StandardOutput.ReadLine() is Ready
            ? process
            : throw UserError.At($"the process that runs inputs cannot begin ({Place(process).Text})", process.StartInfo.FileName, "see whether 'vmfuzz fuzz' runs the same target");
    }

    private DeathPlace Place(Process process)
    {
        process.WaitForExit();
        _drain?.Join();
        return DeathPlace.Of(process.ExitCode > 128 ? process.ExitCode - 128 : 0, process.ExitCode, _error.ToString());
    }
}
