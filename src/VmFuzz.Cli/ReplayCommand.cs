using System.Diagnostics;
using System.Globalization;
using VmFuzz.Cli.Gdb;
using VmFuzz.Fuzzing;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Trace;

namespace VmFuzz.Cli;

/// <summary><c>vmfuzz replay</c>.</summary>
internal static class ReplayCommand
{
    /// <summary>Replays a trace and verifies everything in it.</summary>
    public static int Execute(Host host, string path, IReadOnlyList<string> pluginFiles, bool compare, bool allowTruncated, bool check, GdbArguments? gdbAt, bool json)
    {
        using TraceReader reader = Open(path);
        FuzzPlugins plugins = FuzzPlugins.Load(pluginFiles);
        MachineVariants variants = MachineVariants.None;
        string? wrong = TraceHeaders.TryOptions(reader, compare, out MachineOptions options, knowsInput: true, plugins.Identities)
            ?? FuzzTraces.TryVariants(options, plugins.Targets, compare, out variants);
        if (wrong is not null)
        {
            throw new UserError($"{path}: {wrong}");
        }

        using var replayer = new Replayer(reader, options, variants);
        InvariantCheck? invariants = check ? new InvariantCheck(replayer.Machine, () => replayer.Events) : null;
        if (invariants?.Observer is { } observer)
        {
            replayer.Observe(observer);
        }

        using GdbSession? gdb = GdbSession.Open(host, gdbAt, replayer.Machine, writable: false, live: null);
        var watch = Stopwatch.StartNew();
        using var screen = new Screen(null, null, host.Err, owned: false);
        if (host.ErrorIsTerminal)
        {
            screen.StartProgress(() => string.Create(CultureInfo.InvariantCulture, $"{Quantities.Grouped(replayer.Machine.Retired)} instructions, {Quantities.Grouped(replayer.Events)} of {Quantities.Grouped(reader.EventCount)} events"));
        }

        ReplayResult result;
        try
        {
            result = replayer.Run();
            gdb?.Finish(result.Stop.GuestStatus);
        }
        finally
        {
            screen.StopProgress();
        }

        double seconds = watch.Elapsed.TotalSeconds;
        int status = result.Outcome switch
        {
            _ when invariants is { Broken: true } => ExitStatus.Finding,
            ReplayOutcome.Identical => ExitStatus.Fine,
            ReplayOutcome.IdenticalPrefix => allowTruncated ? ExitStatus.Fine : ExitStatus.Finding,
            _ => ExitStatus.Finding,
        };
        var end = new TraceEvent();
        bool hasEnd = result.Outcome == ReplayOutcome.Identical && reader.TryReadEnd(end);
        if (json)
        {
            JsonReport.Write(host.Out, writer => WriteJson(writer, path, reader, result, hasEnd ? end : null, invariants, status, seconds));
        }
        else
        {
            WriteText(host.Out, path, reader, result, hasEnd ? end : null, invariants, seconds);
            if (result.Outcome == ReplayOutcome.IdenticalPrefix && !allowTruncated)
            {
                host.Err.WriteLine($"vmfuzz: the trace is {reader.Status}: {path}: give --allow-truncated to accept the verified prefix");
            }
        }

        return status;
    }

    /// <summary>Opens a trace; damaged, foreign, future and headless ones are the user's error.</summary>
    public static TraceReader Open(string path)
    {
        InputFiles.MustExist(path, "the trace");
        TraceReader reader = TraceReader.Open(path);
        string? toDo = reader.Status.Kind switch
        {
            TraceStatusKind.Damaged => "get an undamaged copy of the file",
            TraceStatusKind.Foreign => "name a file that 'vmfuzz record' made",
            TraceStatusKind.Future => "use a newer vmfuzz",
            _ => reader.Readable ? null : "nothing in it can be replayed; record again",
        };
        if (toDo is null)
        {
            return reader;
        }

        TraceStatus status = reader.Status;
        reader.Dispose();
        throw UserError.At($"the trace cannot be read: {status}", path, toDo);
    }

    private static void WriteText(TextWriter writer, string path, TraceReader reader, ReplayResult result, TraceEvent? end, InvariantCheck? invariants, double seconds)
    {
        string outcome = result.Outcome switch
        {
            ReplayOutcome.Identical => "identical to the recording",
            ReplayOutcome.IdenticalPrefix => $"identical as far as the recording goes ({reader.Status})",
            _ => "DIVERGED",
        };
        writer.WriteLine($"{path}: {outcome}");
        writer.WriteLine($"  {Quantities.Grouped(result.Events)} of {Quantities.Grouped(reader.EventCount)} events verified, {RunReport.InstructionsText(result.Before, result.Retired, seconds)}");
        writer.WriteLine(RunReport.CountsText(result.Counts));
        if (end is not null)
        {
            writer.WriteLine($"  digest {Quantities.Digest(end.Digest)}, memory {Quantities.Digest(end.MemoryDigest)}");
            writer.WriteLine($"  the run ended with {Quantities.Plain(end.Text)}");
        }

        if (invariants is not null)
        {
            writer.WriteLine(invariants.Text());
        }

        if (result.Divergence is { } divergence)
        {
            WriteDivergence(writer, path, divergence);
        }
    }

    private static void WriteDivergence(TextWriter writer, string path, Divergence divergence)
    {
        var text = new TraceText(TraceNaming.Names);
        writer.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  first difference: event {divergence.Sequence}, instruction {divergence.Retired}"));
        writer.WriteLine($"  expected {(divergence.Expected is null ? "nothing more" : text.Line(divergence.Expected).TrimStart())}");
        writer.WriteLine($"  actual   {(divergence.Actual is null ? "the end of the run" : text.Line(WithNumber(divergence)).TrimStart())}");
        foreach (TraceDifference difference in divergence.Differences)
        {
            writer.WriteLine($"    {TraceNaming.Difference(difference.Field)}: expected {difference.Expected}, actual {difference.Actual}");
        }

        writer.WriteLine($"  likely cause: {divergence.Cause}");
        writer.WriteLine($"  look at it: {LookAt(path, divergence)}");
    }

    private static TraceEvent WithNumber(Divergence divergence)
    {
        divergence.Actual!.Sequence = divergence.Sequence;
        return divergence.Actual;
    }

    private static string LookAt(string path, Divergence divergence)
    {
        ulong from = divergence.Sequence < 5 ? 0 : divergence.Sequence - 5;
        return string.Create(CultureInfo.InvariantCulture, $"vmfuzz trace dump {path} --from {from} --to {divergence.Sequence}");
    }

    private static void WriteJson(System.Text.Json.Utf8JsonWriter json, string path, TraceReader reader, ReplayResult result, TraceEvent? end, InvariantCheck? invariants, int status, double seconds)
    {
        json.WriteString("command", "replay");
        json.WriteNumber("status", status);
        json.WriteString("path", path);
        json.WriteString("outcome", result.Outcome.ToString());
        json.WriteString("trace", reader.Status.ToString());
        json.WriteNumber("eventsVerified", result.Events);
        json.WriteNumber("events", reader.EventCount);
        json.WriteNumber("retired", result.Retired);
        json.WriteNumber("seconds", Math.Round(seconds, 6));
        JsonReport.Counts(json, result.Counts);
        if (end is not null)
        {
            json.WriteString("digest", Quantities.Digest(end.Digest));
            json.WriteString("memoryDigest", Quantities.Digest(end.MemoryDigest));
            json.WriteString("end", end.Text);
        }

        invariants?.Write(json);
        if (result.Divergence is not { } divergence)
        {
            return;
        }

        var text = new TraceText(TraceNaming.Names);
        json.WriteStartObject("divergence");
        json.WriteNumber("event", divergence.Sequence);
        json.WriteNumber("retired", divergence.Retired);
        json.WriteString("cause", divergence.Cause);
        json.WriteString("lookAt", LookAt(path, divergence));
        if (divergence.Expected is not null)
        {
            json.WritePropertyName("expected");
            json.WriteRawValue(text.Json(divergence.Expected));
        }

        if (divergence.Actual is not null)
        {
            json.WritePropertyName("actual");
            json.WriteRawValue(text.Json(WithNumber(divergence)));
        }

        json.WriteStartArray("differences");
        foreach (TraceDifference difference in divergence.Differences)
        {
            json.WriteStartObject();
            json.WriteString("field", TraceNaming.Difference(difference.Field));
            json.WriteString("expected", difference.Expected);
            json.WriteString("actual", difference.Actual);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }
}
