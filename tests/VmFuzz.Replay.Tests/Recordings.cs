using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Testing;
using VmFuzz.Trace;

namespace VmFuzz.Replay.Tests;

/// <summary>Traces that the tests share.</summary>
internal static class Recordings
{
    public static string Root { get; } = FindRoot();

    public static string Traces { get; } = Path.Combine(Root, "corpus", "traces");

    public static byte[] Golden(string name) => File.ReadAllBytes(Path.Combine(Traces, name + ".vmtrace"));

    /// <summary>The beginning of the chaos guest, with many inputs of every kind that it takes.</summary>
    public static byte[] Chaos(Accelerator accelerator, ulong seed = 3, ulong limit = 20_000, Action<Machine>? change = null)
    {
        var options = new MachineOptions
        {
            Accelerator = accelerator,
            MaxInstructions = limit,
            Images = [new MachineImage("code", "chaos.bin", File.ReadAllBytes(Path.Combine(Root, "corpus", "guests", "chaos.bin")))],
        };
        var chaos = new ChaosOptions { Nmis = 12, Interrupts = 12, Kicks = 12, TypedBytes = 12, Span = limit - 1000 };
        return Record(options, new ChaosSource(chaos, new SplitMix(seed).Next), change);
    }

    public static byte[] Record(MachineOptions options, IInputSource source, Action<Machine>? change = null, MachineVariants? variants = null)
    {
        Assert.Null(options.Validate());
        using var stream = new MemoryStream();
        using (Machine machine = Machine.Create(options, source, variants))
        {
            using var recorder = new Recorder(machine, new TraceWriter(stream, TraceHeaders.Of(options, "test"), leaveOpen: true));
            change?.Invoke(machine);
            machine.Run();
        }

        return stream.ToArray();
    }

    public static List<TraceEvent> Events(byte[] trace)
    {
        using TraceReader reader = TraceReader.Open(trace);
        TraceCursor cursor = reader.Events();
        var events = new List<TraceEvent>();
        for (var item = new TraceEvent(); cursor.MoveNext(item); item = new TraceEvent())
        {
            events.Add(item);
        }

        return events;
    }

    /// <summary>Replays whatever can be replayed; null with a reason when it is refused.</summary>
    public static ReplayResult? Replay(byte[] trace, out string refused, bool compareOnly = false)
    {
        using TraceReader reader = TraceReader.Open(trace);
        refused = TraceHeaders.TryOptions(reader, compareOnly, out MachineOptions options) ?? "";
        if (refused.Length != 0)
        {
            return null;
        }

        using var replayer = new Replayer(reader, options);
        return replayer.Run();
    }

    public static byte[] Rewrite(byte[] trace, Func<TraceEvent, TracePatch> change, Func<TraceHeader, TraceHeader>? header = null)
    {
        using TraceReader reader = TraceReader.Open(trace);
        using var copy = new MemoryStream();
        TracePatcher.Rewrite(reader, copy, change, header);
        return copy.ToArray();
    }

    /// <summary>Writes an event twice; the second is changed first.</summary>
    public static byte[] Insert(byte[] trace, ulong sequence, Action<TraceEvent> change)
    {
        using TraceReader reader = TraceReader.Open(trace);
        using var stream = new MemoryStream();
        using (TraceWriter writer = new(stream, reader.Header!, leaveOpen: true))
        {
            foreach (TraceBlobReference blob in reader.Blobs)
            {
                writer.AddBlob(reader.ReadBlob(blob));
            }

            TraceCursor cursor = reader.Events();
            var item = new TraceEvent();
            while (cursor.MoveNext(item))
            {
                if (item.Kind == TraceEventKind.End)
                {
                    writer.Finish(item);
                    break;
                }

                writer.Append(item);
                if (item.Sequence == sequence)
                {
                    change(item);
                    writer.Append(item);
                }
            }
        }

        return stream.ToArray();
    }

    private static string FindRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "VmFuzz.sln")))
            {
                return folder.FullName;
            }
        }

        throw new InvalidOperationException("The tests run outside the repository: there is no VmFuzz.sln above them.");
    }
}
