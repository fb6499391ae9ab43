using System.Collections.Immutable;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary>A campaign that fuzzers from outside run: starts them, watches what they write, and judges what they saved.</summary>
internal sealed class OutsideCampaign : IDisposable
{
    private const int TickMilliseconds = 100;
    private const double StopSeconds = 10;
    private const double LookSeconds = 0.5;

    private readonly FuzzArguments _arguments;
    private readonly CampaignDirectory _directory;
    private readonly IFuzzView _view;
    private readonly Slot[] _slots;
    private readonly Stopwatch _watch = Stopwatch.StartNew();
    private readonly HashSet<string> _saved = new(StringComparer.Ordinal);
    private ImmutableArray<FoundFinding> _findings = [];
    private ulong _before;
    private double _next;
    private volatile int _interrupts;

    private OutsideCampaign(FuzzArguments arguments, CampaignDirectory directory, IFuzzView view, Func<int, FuzzArguments, CampaignDirectory, OutsideFuzzer> make)
    {
        (_arguments, _directory, _view) = (arguments, directory, view);
        _slots = [.. Enumerable.Range(0, arguments.Jobs).Select(worker => new Slot(make(worker, arguments, directory)))];
    }

    private CampaignView View
    {
        get
        {
            double elapsed = _watch.Elapsed.TotalSeconds;
            ImmutableArray<WorkerLine> lines = [.. _slots.Select(static s => s.Line())];
            ulong fresh = (ulong)lines.Sum(static l => (long)l.Status.Executions);
            fresh -= Math.Min(fresh, _before);
            return new CampaignView
            {
                Target = _directory.File.Target,
                Seed = _directory.File.Seed,
                Directory = _directory.Shown,
                Elapsed = elapsed,
                Limit = _arguments.Seconds,
                Fresh = fresh,
                PerSecond = elapsed > 0 ? fresh / elapsed : 0,
                Workers = lines,
                Findings = _findings,
            };
        }
    }

    /// <summary>Runs a campaign.</summary>
    /// <param name="host">Where to.</param>
    /// <param name="arguments">What was asked for.</param>
    /// <param name="make">Makes a worker.</param>
    /// <returns>The status of the command.</returns>
    public static int Execute(Host host, FuzzArguments arguments, Func<int, FuzzArguments, CampaignDirectory, OutsideFuzzer> make)
    {
        using CampaignDirectory directory = CampaignDirectory.Open(arguments, static () => BitConverter.ToUInt32(RandomNumberGenerator.GetBytes(4)));
        CampaignView end;
        string? problem;
        using (IFuzzView view = host.ErrorIsTerminal ? LiveView.OfTerminal(host.Err) : new LineView(host.Err))
        {
            WriteSeeds(arguments, directory, view.Say);
            using var campaign = new OutsideCampaign(arguments, directory, view, make);
            ImmutableArray<PosixSignalRegistration> trap = host.OwnsProcess
                ? [.. ((PosixSignal[])[PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP]).Select(signal => PosixSignalRegistration.Create(signal, campaign.Interrupt))]
                : [];
            problem = campaign.Run();
            end = campaign.View;
            foreach (PosixSignalRegistration registration in trap)
            {
                registration.Dispose();
            }
        }

        return FuzzReport.Write(host, arguments, end, problem);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Slot slot in _slots)
        {
            slot.Process?.Dispose();
        }
    }

    private string? Run()
    {
        _before = (ulong)_slots.Sum(static s => (long)s.Fuzzer.Figures().Executions);
        _saved.UnionWith(Findings());
        foreach (Slot slot in _slots)
        {
            slot.Start(Left());
        }

        double stoppedAt = 0;
        while (!_slots.All(static s => s.Ended))
        {
            Thread.Sleep(TickMilliseconds);
            double now = _watch.Elapsed.TotalSeconds;
            bool over = _interrupts > 0 || (_arguments.Seconds > 0 && now >= _arguments.Seconds);
            stoppedAt = over && stoppedAt == 0 ? now : stoppedAt;
            foreach (Slot slot in _slots)
            {
                // What holds its own time gets a little more of it.
                slot.Watch(stoppedAt != 0 && (_interrupts > 0 || now > stoppedAt + 2), _interrupts > 1 || (stoppedAt != 0 && now > stoppedAt + StopSeconds), over ? null : Left());
            }

            if (now >= _next)
            {
                _next = now + LookSeconds;
                Look();
            }
        }

        _findings = [.. OutsideFindings.Collect(OutsideFuzzer.FindingsOf(_directory), OutsideFuzzer.SeedsOf(_directory), _slots.Select(static s => s.Fuzzer), _arguments, _view.Say)];
        return _findings.IsEmpty && _slots.All(static s => s.Problem is not null) ? _slots[0].Problem : null;
    }

    private void Look()
    {
        foreach (string file in Findings().Where(_saved.Add))
        {
            _view.Say($"saved {Path.GetRelativePath(_directory.Root, file)}");
        }

        _view.Show(View);
    }

    private IEnumerable<string> Findings() =>
        Directory.Exists(OutsideFuzzer.FindingsOf(_directory)) ? Directory.EnumerateFiles(OutsideFuzzer.FindingsOf(_directory)) : [];

    private double Left() => _arguments.Seconds > 0 ? Math.Max(1, _arguments.Seconds - _watch.Elapsed.TotalSeconds) : 0;

    private void Interrupt(PosixSignalContext context)
    {
        context.Cancel = _interrupts < 2;
        Interlocked.Increment(ref _interrupts);
    }

    // Fuzzers want at least one file to start from.
    private static void WriteSeeds(FuzzArguments arguments, CampaignDirectory directory, Action<string> say)
    {
        string folder = OutsideFuzzer.SeedsOf(directory);
        if (Directory.Exists(folder) && Directory.EnumerateFiles(folder).Any())
        {
            return;
        }

        Directory.CreateDirectory(folder);
        FuzzTarget kind = arguments.Target.Kind;
        IEnumerable<ReadInput> inputs = SeedInputs.Of(kind)
            .Select(static input => new ReadInput("seed", FuzzCodec.Encode(input), input))
            .Concat(arguments.Inputs.SelectMany(path => InputFolder.Read(path, kind, say)))
            .DefaultIfEmpty(new ReadInput("empty", FuzzCodec.Encode(new FuzzInput { Target = kind }), new FuzzInput { Target = kind }));
        InputFolder.Write(folder, InputFolder.Distinct(inputs, new HashSet<string>(StringComparer.Ordinal)));
    }

    private sealed class Slot(OutsideFuzzer fuzzer)
    {
        private int _restarts;

        public OutsideFuzzer Fuzzer => fuzzer;

        public OutsideProcess? Process { get; private set; }

        public string? Problem { get; private set; }

        public bool Ended { get; private set; }

        public WorkerLine Line() => new(fuzzer.Worker, Problem is not null ? "failed" : Ended ? "ended" : "running", _restarts, 0, fuzzer.Figures());

        public void Start(double seconds)
        {
            Directory.CreateDirectory(Path.GetDirectoryName(fuzzer.Root)!);
            Process = OutsideProcess.Start(fuzzer.Recipe(seconds), fuzzer.Root + ".log", fuzzer.Hear);
        }

        // Time is null when the campaign is over.
        public void Watch(bool stop, bool kill, double? time)
        {
            if (Ended || Process is null)
            {
                return;
            }

            if (!Process.HasExited)
            {
                (kill ? Process.Kill : stop ? Process.Stop : (Action)(static () => { }))();
                return;
            }

            OutsideEnd end = fuzzer.Judge(Process.Finish());
            string last = Process.LastLine;
            Process.Dispose();
            Process = null;
            if (end == OutsideEnd.Again && time is { } seconds)
            {
                _restarts++;
                Start(seconds);
                return;
            }

            Ended = true;
            Problem = end == OutsideEnd.Broken && time is not null ? $"{last} (see {fuzzer.Root}.log)" : null;
        }
    }
}
