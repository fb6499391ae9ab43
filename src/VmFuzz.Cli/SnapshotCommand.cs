using System.CommandLine;
using System.Globalization;
using VmFuzz.Machines;
using VmFuzz.Replay;
using VmFuzz.Replay.Snapshots;
using VmFuzz.Trace;

namespace VmFuzz.Cli;

/// <summary><c>vmfuzz snapshot</c>: saves a machine in the middle of a run or of a trace, for <c>--from</c> to go on.</summary>
internal static class SnapshotCommand
{
    /// <summary>The command.</summary>
    public static Command Create(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("snapshot", "Save a machine at a position of a run or of a trace. 'vmfuzz run --from FILE' goes on from there, and so does record.");
        help[command] = """
            vmfuzz snapshot -bios u-boot.rom --at-text "=> " -o prompt.vmsnap
            vmfuzz snapshot boot.vmtrace --at 700_000 -o middle.vmsnap
            vmfuzz snapshot --from middle.vmsnap --at 750_000 -o later.vmsnap
            vmfuzz snapshot --import dump.json -o dump.vmsnap
            vmfuzz record --from prompt.vmsnap --until-serial "DRAM:" -o rest.vmtrace
            """;
        var trace = new Argument<string?>("TRACE") { Description = "The trace to take the machine from; without it, a run with the options below is.", Arity = ArgumentArity.ZeroOrOne };
        var at = new Option<string>("--at") { HelpName = "N", Description = "Where: the first boundary between two instructions of the guest at which N are retired, or more." };
        var text = new Option<string>("--at-text") { HelpName = "TEXT", Description = "Where: when the guest has printed this." };
        var import = new Option<string>("--import") { HelpName = "FILE", Description = "Make the machine of memory and registers from elsewhere, which this JSON file describes (src/docs/snapshots.md). It has no devices; reaching what was not imported ends a run." };
        var output = new Option<string>("--output", "-o") { HelpName = "FILE", Description = "The snapshot to write.", Required = true };
        var force = new Option<bool>("--force") { Description = "Replace the output if it exists." };
        command.Add(trace);
        command.Add(at);
        command.Add(text);
        command.Add(import);
        command.Add(output);
        command.Add(force);
        var options = new MachineOptionSet(command);
        command.SetAction(parsed =>
        {
            var request = new SnapshotRequest(PositionOf(parsed.GetValue(at)), parsed.GetValue(text), parsed.GetValue(output) ?? "", parsed.GetValue(force));
            if (parsed.GetValue(import) is { } description)
            {
                return OfImport(host, description, request, options, parsed);
            }

            if (request.At == ulong.MaxValue && string.IsNullOrEmpty(request.Text))
            {
                throw UserError.At("there is no position", "vmfuzz snapshot", "give --at N or --at-text TEXT");
            }

            return parsed.GetValue(trace) is { } path
                ? OfTrace(host, path, request, options, parsed)
                : OfRun(host, request, options.Read(parsed));
        });
        return command;
    }

    /// <summary>Saves a machine that paused where a request said; says so when it did not.</summary>
    public static SnapshotResult Save(Machine machine, SnapshotRequest request) => new(
        request.Path,
        machine.Processor.Retired,
        machine.Stop.Kind == MachineStopKind.Paused ? Snapshot.Save(machine, request.Path, request.Force) : null);

    private static int OfRun(Host host, SnapshotRequest request, RunArguments arguments)
    {
        MustHaveOneProcessor(arguments.Options, "-smp");
        InputFiles.MustBeWritable(request.Path, "-o", arguments.InputPaths, request.Force);
        return RunCommand.Execute(host, arguments with { Snapshot = request }, null, force: false);
    }

    private static int OfTrace(Host host, string path, SnapshotRequest request, MachineOptionSet options, ParseResult parsed)
    {
        if (options.FirstGiven(parsed) is { } given)
        {
            throw UserError.At($"{given} is for a run", path, "leave it out: the machine is the trace's");
        }

        InputFiles.MustBeWritable(request.Path, "-o", [path], request.Force);
        using TraceReader reader = ReplayCommand.Open(path);
        if (TraceHeaders.TryOptions(reader, compareOnly: false, out MachineOptions machine) is { } wrong)
        {
            throw new UserError($"{path}: {wrong}");
        }

        MustHaveOneProcessor(machine, path);
        using var replayer = new Replayer(reader, machine);
        request.Pause(replayer.Machine);
        ReplayResult result = replayer.Run();
        if (result.Divergence is { } divergence)
        {
            host.Err.WriteLine(string.Create(CultureInfo.InvariantCulture, $"vmfuzz: the replay diverged at event {divergence.Sequence}: {path}: see 'vmfuzz replay {path}'"));
            return ExitStatus.Finding;
        }

        SnapshotResult saved = Save(replayer.Machine, request);
        host.Err.WriteLine($"vmfuzz: {(saved.Bytes is null ? "the trace ends before the position" : result.Stop.Text)}");
        host.Err.WriteLine(saved.Text());
        return saved.Bytes is null ? ExitStatus.Finding : ExitStatus.Fine;
    }

    private static void MustHaveOneProcessor(MachineOptions options, string where)
    {
        if (options.Processors != 1)
        {
            throw UserError.At("a snapshot holds the machine of one processor", where, $"this one has {options.Processors}: take the snapshot of a machine without -smp");
        }
    }

    private static int OfImport(Host host, string description, SnapshotRequest request, MachineOptionSet options, ParseResult parsed)
    {
        if (request.At != ulong.MaxValue || request.Text is not null)
        {
            throw UserError.At("an imported machine has not run", $"--import {description}", "leave out --at and --at-text");
        }

        if (options.FirstGiven(parsed, butCpu: true) is { } given)
        {
            throw UserError.At($"{given} is for a run", $"--import {description}", "leave it out; only -cpu goes with --import");
        }

        InputFiles.MustBeWritable(request.Path, "-o", [description], request.Force);
        using Machine machine = SnapshotImport.Read(description, options.CpuOf(parsed));
        var saved = new SnapshotResult(request.Path, 0, Snapshot.Save(machine, request.Path, request.Force));
        host.Err.WriteLine(saved.Text());
        return ExitStatus.Fine;
    }

    private static ulong PositionOf(string? text) =>
        text is null ? ulong.MaxValue
        : Quantities.TryNumber(text, out ulong at) && at <= MachineOptions.MaxInstructionLimit ? at
        : throw UserError.At($"'{text}' is not a position", "--at", "give a count of instructions");
}

/// <summary>A snapshot that was asked for.</summary>
/// <param name="Path">Its file.</param>
/// <param name="Retired">Instructions that the machine had retired at the end.</param>
/// <param name="Bytes">Bytes of the file; null when the run ended before the position and none was made.</param>
internal sealed record SnapshotResult(string Path, ulong Retired, long? Bytes)
{
    /// <summary>As a line for people.</summary>
    public string Text() => Bytes is { } bytes
        ? $"  {Path}: the machine after {Quantities.Grouped(Retired)} instructions, {Quantities.Grouped((ulong)bytes)} bytes"
        : $"  {Path}: not made, the run ended before the position, after {Quantities.Grouped(Retired)} instructions";

    /// <summary>Into a report.</summary>
    public void Write(System.Text.Json.Utf8JsonWriter json)
    {
        json.WriteStartObject("snapshot");
        json.WriteString("path", Path);
        json.WriteBoolean("made", Bytes is not null);
        json.WriteNumber("bytes", Bytes ?? 0);
        json.WriteEndObject();
    }
}
