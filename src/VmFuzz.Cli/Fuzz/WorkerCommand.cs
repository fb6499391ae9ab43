using System.Runtime.InteropServices;
using System.Text;

namespace VmFuzz.Cli;

/// <summary>
/// <c>vmfuzz fuzz-worker</c>: one worker of a campaign. Its supervisor speaks through its standard input; when that ends
/// the supervisor is gone, and the worker ends too.
/// </summary>
internal static class WorkerCommand
{
    private static readonly TimeSpan LockPatience = TimeSpan.FromSeconds(15);

    /// <summary>Runs until told to end.</summary>
    public static int Execute(Host host)
    {
        if (host.OpenInput is null || host.RawOut is not { } output)
        {
            throw new UserError("fuzz-worker is started by 'vmfuzz fuzz': use that");
        }

        // What plug-ins print must not get between the reports.
        Console.SetOut(host.Err);
        var reports = new StreamWriter(output, new UTF8Encoding(false)) { AutoFlush = true };
        using var input = new StreamReader(host.OpenInput());
        if (input.ReadLine() is not { } first || WorkerReport.TryParse<WorkerOrder>(first) is not { Target.Length: not 0 } order)
        {
            throw new UserError("fuzz-worker is started by 'vmfuzz fuzz': use that");
        }

        var stop = new StopFlag();
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, static context => context.Cancel = true);
        using PosixSignalRegistration hangUp = PosixSignalRegistration.Create(PosixSignal.SIGHUP, static context => context.Cancel = true);
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, context =>
        {
            context.Cancel = true;
            stop.Raise();
        });
        var gate = new Lock();
        var campaign = new WorkerCampaign(order, Tell, () => stop.Raised);
        Listen(input, stop, TimeSpan.FromSeconds(Math.Max(1, order.HangSeconds)), () => Tell(new WorkerReport { Word = WorkerWord.Place, Text = campaign.Place() }));
        try
        {
            using FileStream held = Lock(order);
            campaign.Run();
            return ExitStatus.Fine;
        }
        catch (UserError error)
        {
            Tell(new WorkerReport { Word = WorkerWord.Refused, Text = error.Message });
            return ExitStatus.Usage;
        }

        void Tell(WorkerReport report)
        {
            try
            {
                lock (gate)
                {
                    reports.WriteLine(WorkerReport.Format(report));
                }
            }
            catch (IOException)
            {
                // Nobody reads any more; what is on the way to the disk still gets there.
                stop.Raise();
            }
        }
    }

    private static void Listen(StreamReader input, StopFlag stop, TimeSpan patience, Action place) => new Thread(() =>
    {
        bool orphan = false;
        try
        {
            string? line;
            while ((line = input.ReadLine()) is not null && WorkerReport.TryParse<WorkerOrder>(line) is { Place: true })
            {
                place();
            }

            orphan = line is null;
        }
        catch (IOException)
        {
            orphan = true;
        }

        stop.Raise();
        if (orphan)
        {
            // The execution may never end, and nobody is left to see it.
            Thread.Sleep(patience);
            using var own = System.Diagnostics.Process.GetCurrentProcess();
            own.Kill();
        }
    })
    { IsBackground = true, Name = "orders" }.Start();

    // A worker whose supervisor was killed may still be writing its last files.
    private static FileStream Lock(WorkerOrder order)
    {
        string path = Path.Combine(order.Root, ".lock-" + CampaignFile.WorkerName(order.Worker));
        var watch = System.Diagnostics.Stopwatch.StartNew();
        while (true)
        {
            try
            {
                return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException error) when (error is not DirectoryNotFoundException && watch.Elapsed < LockPatience)
            {
                Thread.Sleep(100);
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
                throw UserError.At($"the worker's lock cannot be had ({error.Message.ReplaceLineEndings(" ")})", path, "see whether another worker still runs there");
            }
        }
    }

    private sealed class StopFlag
    {
        private volatile bool _raised;

        public bool Raised => _raised;

        public void Raise() => _raised = true;
    }
}
