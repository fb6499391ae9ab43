using System.Globalization;
using VmFuzz.Machines;
using VmFuzz.Replay;

namespace VmFuzz.Cli;

/// <summary>What is said at the end of a run.</summary>
internal sealed record RunReport
{
    public required string Command { get; init; }

    public required MachineStop Stop { get; init; }

    public required RunCounts Counts { get; init; }

    /// <summary>Instructions that the machine had retired before this run: those of the snapshot it went on from.</summary>
    public ulong Before { get; init; }

    public required ulong Retired { get; init; }

    public required ulong VirtualTime { get; init; }

    public required ulong ConsoleLength { get; init; }

    public required double Seconds { get; init; }

    public string? TracePath { get; init; }

    public ulong TraceEvents { get; init; }

    public long TraceBytes { get; init; }

    public ulong Digest { get; init; }

    public ulong MemoryDigest { get; init; }

    public IReadOnlyList<KeyValuePair<string, string>>? State { get; init; }

    public InvariantCheck? Invariants { get; init; }

    /// <summary>The snapshot that was made or asked for; null when the run was for none.</summary>
    public SnapshotResult? Snapshot { get; init; }

    /// <summary>The step that the script did not finish; null when it did, or when there is none.</summary>
    public ConsoleStep? Waits { get; init; }

    public required int Status { get; init; }

    public void Write(Host host, bool json)
    {
        if (json)
        {
            JsonReport.Write(host.Out, WriteJson);
        }
        else
        {
            WriteText(host.Err);
        }
    }

    private void WriteText(TextWriter writer)
    {
        writer.WriteLine($"vmfuzz: {Stop.Text}");
        if (Stop.Kind == MachineStopKind.DebugExit)
        {
            writer.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  guest status {Stop.GuestStatus}"));
        }
        else if (Stop.Kind == MachineStopKind.Unimplemented)
        {
            writer.WriteLine("  this engine does not have it yet; please report it with the guest");
        }

        if (Waits is not null && Snapshot is null)
        {
            writer.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  the script came to line {Waits.Line}: {(Waits.Kind == ConsoleStepKind.Expect ? "its text did not appear" : "it was not done")}"));
        }

        writer.WriteLine("  " + InstructionsText(Before, Retired, Seconds));
        writer.WriteLine(CountsText(Counts));
        if (TracePath is not null)
        {
            writer.WriteLine($"  {TracePath}: {Quantities.Grouped(TraceEvents)} events, {Quantities.Grouped((ulong)TraceBytes)} bytes");
            writer.WriteLine($"  digest {Quantities.Digest(Digest)}, memory {Quantities.Digest(MemoryDigest)}");
        }

        if (Snapshot is not null)
        {
            writer.WriteLine(Snapshot.Text());
        }

        if (Invariants is not null)
        {
            writer.WriteLine(Invariants.Text());
        }

        if (State is not null)
        {
            StateDump.Write(writer, State);
        }
    }

    /// <summary>Instructions and speed for people; replay prints the same.</summary>
    public static string InstructionsText(ulong before, ulong retired, double seconds)
    {
        string after = before == 0 ? "" : $" after the first {Quantities.Grouped(before)}";
        return $"{Quantities.Grouped(retired - before)} instructions{after} in {Quantities.Seconds(seconds)} s ({Quantities.Mips(retired - before, seconds)} MIPS)";
    }

    /// <summary>Counts as a line for people; replay prints the same.</summary>
    public static string CountsText(RunCounts counts) => string.Create(
        CultureInfo.InvariantCulture,
        $"  entries {Quantities.Grouped(counts.Entries)}, exits {Quantities.Grouped(counts.Exits)}, injected {Quantities.Grouped(counts.Injected)}, delivered {Quantities.Grouped(counts.Delivered)}, inputs {Quantities.Grouped(counts.Inputs)}");

    private void WriteJson(System.Text.Json.Utf8JsonWriter json)
    {
        json.WriteString("command", Command);
        json.WriteNumber("status", Status);
        json.WriteString("stop", Stop.Kind.ToString());
        json.WriteString("text", Stop.Text);
        json.WriteNumber("guestStatus", Stop.GuestStatus);
        json.WriteNumber("before", Before);
        json.WriteNumber("retired", Retired);
        json.WriteNumber("virtualNanoseconds", VirtualTime);
        json.WriteNumber("consoleBytes", ConsoleLength);
        json.WriteNumber("seconds", Math.Round(Seconds, 6));
        JsonReport.Counts(json, Counts);
        if (Waits is not null)
        {
            json.WriteNumber("scriptLine", Waits.Line);
        }

        if (TracePath is not null)
        {
            json.WriteStartObject("trace");
            json.WriteString("path", TracePath);
            json.WriteNumber("events", TraceEvents);
            json.WriteNumber("bytes", TraceBytes);
            json.WriteEndObject();
            json.WriteString("digest", Quantities.Digest(Digest));
            json.WriteString("memoryDigest", Quantities.Digest(MemoryDigest));
        }

        Snapshot?.Write(json);
        Invariants?.Write(json);
        if (State is not null)
        {
            json.WriteStartObject("state");
            foreach ((string name, string value) in State)
            {
                json.WriteString(name, value);
            }

            json.WriteEndObject();
        }
    }
}
