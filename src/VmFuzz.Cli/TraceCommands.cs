using System.Globalization;
using VmFuzz.Fuzzing;
using VmFuzz.Machines;
using VmFuzz.Trace;

namespace VmFuzz.Cli;

/// <summary><c>vmfuzz trace info</c> and <c>vmfuzz trace dump</c>.</summary>
internal static class TraceCommands
{
    /// <summary>Says what a trace is and what is in it.</summary>
    public static int Info(Host host, string path, bool json)
    {
        using TraceReader reader = OpenAny(path);
        TraceHeader header = reader.Header!;
        var kinds = new ulong[TraceSchema.Rows.Length + 1];
        var exits = new SortedDictionary<ulong, ulong>();
        var end = new TraceEvent();
        var counts = new ulong[TraceSchema.MaxVcpus];
        var item = new TraceEvent();
        for (TraceCursor cursor = reader.Events(); cursor.MoveNext(item);)
        {
            kinds[(int)item.Kind]++;
            counts[item.Vcpu] = Math.Max(counts[item.Vcpu], item.Retired);
            if (item.Kind == TraceEventKind.Exit)
            {
                exits[item.ExitReason] = exits.GetValueOrDefault(item.ExitReason) + 1;
            }
            else if (item.Kind == TraceEventKind.End)
            {
                end.CopyFrom(item);
            }
        }

        // Each VCPU counts its own.
        ulong retired = counts.Aggregate(0UL, static (sum, count) => unchecked(sum + count));
        int status = StatusOf(reader);
        if (json)
        {
            JsonReport.Write(host.Out, writer => InfoJson(writer, path, reader, header, kinds, exits, end, retired, status));
        }
        else
        {
            InfoText(host, path, reader, header, kinds, exits, end, retired);
        }

        return Warn(host, path, reader, status);
    }

    /// <summary>Shows events, one a line.</summary>
    public static int Dump(Host host, string path, string? fromText, string? toText, string[] kindNames, bool json)
    {
        ulong from = Number(fromText, "--from", 0);
        ulong to = Number(toText, "--to", ulong.MaxValue);
        if (from > to)
        {
            throw UserError.At("the range is empty", $"--from {from} --to {to}", "give a --to that is not before --from");
        }

        uint wanted = Kinds(kindNames);
        using TraceReader reader = OpenAny(path);
        TraceCursor cursor = reader.Events();
        if (from != 0 && (from >= reader.EventCount || !cursor.Seek(from)))
        {
            throw UserError.At($"there is no event {from}", path, reader.EventCount == 0 ? "the trace holds none" : $"the last one is {reader.EventCount - 1}");
        }

        var text = new TraceText(TraceNaming.Names);
        var item = new TraceEvent();
        using var buffered = new BufferedWriter(host.Out);
        while (cursor.Next <= to && cursor.MoveNext(item))
        {
            if ((wanted & (1U << (int)item.Kind)) != 0)
            {
                buffered.WriteLine(json ? text.Json(item) : text.Line(item));
            }
        }

        buffered.Flush();
        return Warn(host, path, reader, StatusOf(reader));
    }

    // What is before the damage can be looked at.
    private static TraceReader OpenAny(string path)
    {
        InputFiles.MustExist(path, "the trace");
        TraceReader reader = TraceReader.Open(path);
        if (reader.Readable)
        {
            return reader;
        }

        reader.Dispose();
        return ReplayCommand.Open(path);
    }

    private static int StatusOf(TraceReader reader) => reader.Status.Kind switch
    {
        TraceStatusKind.Whole => ExitStatus.Fine,
        TraceStatusKind.Truncated => ExitStatus.Finding,
        _ => ExitStatus.Usage,
    };

    private static int Warn(Host host, string path, TraceReader reader, int status)
    {
        if (status != ExitStatus.Fine)
        {
            host.Err.WriteLine($"vmfuzz: the trace is {reader.Status}: {path}: only what comes before is shown");
        }

        return status;
    }

    private static ulong Number(string? text, string option, ulong otherwise)
    {
        if (text is null)
        {
            return otherwise;
        }

        return Quantities.TryNumber(text, out ulong value)
            ? value
            : throw UserError.At($"'{text}' is not the number of an event", option, "write decimal digits");
    }

    private static uint Kinds(string[] names)
    {
        uint wanted = names.Length == 0 ? uint.MaxValue : 0;
        foreach (string name in names.SelectMany(static n => n.Split(',')))
        {
            TraceEventRow? row = TraceSchema.Rows.FirstOrDefault(r => string.Equals(r.Name, name, StringComparison.Ordinal));
            wanted |= row is not null
                ? 1U << (int)row.Kind
                : throw UserError.At($"there is no kind of event '{name}'", "--kind", $"use {string.Join(", ", TraceSchema.Rows.Select(static r => r.Name))}");
        }

        return wanted;
    }

    private static void InfoText(Host host, string path, TraceReader reader, TraceHeader header, ulong[] kinds, SortedDictionary<ulong, ulong> exits, TraceEvent end, ulong retired)
    {
        TextWriter writer = host.Out;
        writer.WriteLine($"{path}: {reader.Status}");
        writer.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {Quantities.Grouped((ulong)reader.Length)} bytes, format {header.FormatVersion}, engine {Quantities.Plain(header.EngineVersion)}, semantics {header.SemanticsVersion}, rows {Quantities.Digest(header.RowsHash)} ({Fit(header)})"));
        writer.WriteLine($"  source {Quantities.Plain(header.Source)}");
        writer.WriteLine($"  {Quantities.Plain(string.Join(", ", header.Machine.Where(static s => s.Value.Length != 0).Select(static s => $"{s.Key} {s.Value}")))}");
        foreach (TraceBlobReference blob in header.Blobs)
        {
            writer.WriteLine($"  {Quantities.Plain(blob.Role)} {Quantities.Plain(blob.Name)}, {Quantities.Grouped((ulong)blob.Length)} bytes, {blob.Hash} ({(reader.HasBlob(blob) ? "in the file" : "not in the file")})");
        }

        writer.WriteLine($"  {Quantities.Grouped(reader.EventCount)} events, {Quantities.Grouped(retired)} instructions");
        if (reader.HasEnd)
        {
            writer.WriteLine($"  ended with {Quantities.Plain(end.Text)}");
            writer.WriteLine($"  digest {Quantities.Digest(end.Digest)}, memory {Quantities.Digest(end.MemoryDigest)}, console {Quantities.Grouped(end.ConsoleLength)} bytes");
        }

        writer.WriteLine();
        Tables.Write(host, ["event", "#count"], TraceSchema.Rows
            .Where(r => kinds[(int)r.Kind] != 0)
            .Select(r => new[] { r.Name, Quantities.Grouped(kinds[(int)r.Kind]) }));
        if (exits.Count != 0)
        {
            writer.WriteLine();
            Tables.Write(host, ["exit reason", "#count"], exits
                .OrderByDescending(static e => e.Value)
                .Select(static e => new[] { ArchitectureNames.Exit(e.Key), Quantities.Grouped(e.Value) }));
        }
    }

    private static string Fit(TraceHeader header) =>
        header.SemanticsVersion != Engine.SemanticsVersion || header.RowsHash != Engine.RowsHash ? "another engine's; replay with --compare"
        : header.Plugins.Length == 0 ? "this engine's"
        : $"this engine's with {Quantities.Plain(string.Join(", ", header.Plugins))}; replay with --plugin";

    private static void InfoJson(System.Text.Json.Utf8JsonWriter json, string path, TraceReader reader, TraceHeader header, ulong[] kinds, SortedDictionary<ulong, ulong> exits, TraceEvent end, ulong retired, int status)
    {
        json.WriteString("command", "trace info");
        json.WriteNumber("status", status);
        json.WriteString("path", path);
        json.WriteString("trace", reader.Status.ToString());
        json.WriteNumber("bytes", reader.Length);
        json.WriteNumber("format", header.FormatVersion);
        json.WriteString("engine", header.EngineVersion);
        json.WriteNumber("semantics", header.SemanticsVersion);
        json.WriteString("rows", Quantities.Digest(header.RowsHash));
        json.WriteString("source", header.Source);
        json.WriteStartObject("machine");
        foreach (TraceSetting setting in header.Machine)
        {
            json.WriteString(setting.Key, setting.Value);
        }

        json.WriteEndObject();
        json.WriteStartArray("images");
        foreach (TraceBlobReference blob in header.Blobs)
        {
            json.WriteStartObject();
            json.WriteString("role", blob.Role);
            json.WriteString("name", blob.Name);
            json.WriteNumber("bytes", blob.Length);
            json.WriteString("hash", blob.Hash);
            json.WriteBoolean("included", reader.HasBlob(blob));
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteNumber("events", reader.EventCount);
        json.WriteNumber("retired", retired);
        json.WriteStartObject("kinds");
        foreach (TraceEventRow row in TraceSchema.Rows)
        {
            if (kinds[(int)row.Kind] != 0)
            {
                json.WriteNumber(row.Name, kinds[(int)row.Kind]);
            }
        }

        json.WriteEndObject();
        json.WriteStartObject("exitReasons");
        foreach ((ulong reason, ulong count) in exits)
        {
            json.WriteNumber(ArchitectureNames.Exit(reason), count);
        }

        json.WriteEndObject();
        if (reader.HasEnd)
        {
            json.WriteString("end", end.Text);
            json.WriteString("digest", Quantities.Digest(end.Digest));
            json.WriteString("memoryDigest", Quantities.Digest(end.MemoryDigest));
            json.WriteNumber("consoleBytes", end.ConsoleLength);
        }
    }

    /// <summary>Collects lines, so that a dump of a million events is not a million writes.</summary>
    private sealed class BufferedWriter(TextWriter writer) : IDisposable
    {
        private readonly System.Text.StringBuilder _text = new();

        public void WriteLine(string line)
        {
            _text.Append(line).Append('\n');
            if (_text.Length > 1 << 15)
            {
                Flush();
            }
        }

        public void Flush()
        {
            writer.Write(_text.ToString());
            _text.Clear();
        }

        public void Dispose() => _text.Clear();
    }
}
