using System.CommandLine;
using System.Text.Json;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary><c>fuzz</c> and what belongs to it: options and help.</summary>
internal static class FuzzCommands
{
    /// <summary>The command that a worker process runs; not for people.</summary>
    public const string WorkerName = "fuzz-worker";

    /// <summary>The command that runs the inputs of <c>corpus min</c> and <c>corpus merge</c>; not for people.</summary>
    public const string CoverWorkerName = "cover-worker";

    /// <summary><c>vmfuzz fuzz</c>.</summary>
    public static Command Fuzz(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("fuzz", "Feed the machine made inputs until something breaks. Ctrl-C ends the campaign and keeps everything; a second one kills.");
        help[command] = """
            vmfuzz fuzz --seconds 60
            vmfuzz fuzz --target guest-code --jobs 4 --out /tmp/campaign
            vmfuzz fuzz --resume --out /tmp/campaign
            vmfuzz fuzz --target exit-handlers --jobs 1 --seed 7 --execs 100000
            vmfuzz fuzz --list

            Status: 0 nothing found, 1 findings, 2 wrong usage.
            """;
        var options = new FuzzOptionSet(command);
        command.SetAction(parsed =>
        {
            if (options.WantsList(parsed))
            {
                return List(host, options.Plugins(parsed), options.WantsJson(parsed));
            }

            FuzzArguments arguments = options.Read(parsed);
            return arguments.Driver.Run(host, arguments);
        });
        command.Add(Rerun(host, help));
        return command;
    }

    /// <summary><c>vmfuzz fuzz-worker</c>.</summary>
    public static Command Worker(Host host)
    {
        var command = new Command(WorkerName, "A worker process of a campaign; started by 'vmfuzz fuzz'.") { Hidden = true };
        command.SetAction(_ => WorkerCommand.Execute(host));
        return command;
    }

    /// <summary><c>vmfuzz cover-worker</c>.</summary>
    public static Command CoverWorker(Host host)
    {
        var command = new Command(CoverWorkerName, "Runs inputs for 'vmfuzz corpus min' and 'merge'; started by them.") { Hidden = true };
        command.SetAction(_ => CoverProcess.Serve(host));
        return command;
    }

    /// <summary><c>vmfuzz corpus</c>.</summary>
    public static Command Corpus(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("corpus", "Make, look at and thin out folders of inputs.");
        help[command] = """
            vmfuzz corpus add boot.vmtrace more.bin --out seeds
            vmfuzz corpus list seeds
            vmfuzz fuzz --input seeds --seconds 60
            vmfuzz corpus min fuzz-out/exit-handlers small
            vmfuzz corpus merge other/worker00 --out small
            """;
        command.Add(CorpusAdd(host, help));
        command.Add(CorpusList(host, help));
        command.Add(CorpusMin(host, help));
        command.Add(CorpusMerge(host, help));
        return command;
    }

    private static Command Rerun(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("rerun", "Run one execution of a campaign that has ended once more, from its index alone.");
        help[command] = """
            vmfuzz fuzz rerun fuzz-out/exit-handlers --worker 0 --execution 4711
            vmfuzz fuzz rerun fuzz-out/exit-handlers --execution 4711 --trace case.vmtrace
            """;
        var directory = new Argument<string>("DIR") { Description = "The directory of the campaign." };
        var worker = new Option<string>("--worker") { HelpName = "N", Description = "Whose execution. Default: 0." };
        var execution = new Option<string>("--execution") { HelpName = "N", Description = "Its index.", Required = true };
        var trace = new Option<string>("--trace") { HelpName = "FILE", Description = "Write its trace." };
        Option<bool> json = CommandTree.JsonOption("The report as one JSON object.");
        command.Add(directory);
        command.Add(worker);
        command.Add(execution);
        command.Add(trace);
        command.Add(json);
        command.SetAction(parsed => RerunCommand.Execute(
            host,
            parsed.GetValue(directory)!,
            (int)FuzzOptionSet.Number(parsed, worker, 0, 0, FuzzOptionSet.MostJobs - 1),
            FuzzOptionSet.Number(parsed, execution, 0, 0, ulong.MaxValue),
            parsed.GetValue(trace) ?? "",
            parsed.GetValue(json)));
        return command;
    }

    private static Command CorpusAdd(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("add", "Add inputs to a folder: made from traces, or from any files. What is there already is left out.");
        help[command] = """
            vmfuzz corpus add boot.vmtrace --out seeds
            vmfuzz corpus add boot.vmtrace --out seeds --target guest-code
            """;
        CorpusOptions options = CorpusOptions.Of(command, "SOURCE", "Traces, files with one input each, folders of inputs, directories of campaigns.", output: true);
        command.SetAction(parsed => CorpusCommands.Add(host, options.Sources(parsed), options.Output(parsed), options.Target(parsed, null), options.WantsJson(parsed)));
        return command;
    }

    private static Command CorpusList(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("list", "Say what is in a folder of inputs, a campaign, a trace or a file.");
        help[command] = "vmfuzz corpus list fuzz-out/exit-handlers/worker00";
        var directory = new Argument<string>("DIR") { Description = "What to look into." };
        Option<bool> json = CommandTree.JsonOption("JSON Lines: one object an input.");
        command.Add(directory);
        command.Add(json);
        command.SetAction(parsed => CorpusCommands.List(host, parsed.GetValue(directory)!, parsed.GetValue(json)));
        return command;
    }

    private static Command CorpusMin(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("min", "Keep a small part of a corpus that reaches everything that the whole reaches. Runs every input.");
        help[command] = "vmfuzz corpus min fuzz-out/exit-handlers small";
        CorpusOptions options = CorpusOptions.Of(command, "IN", "The corpus: a folder of inputs, or the directory of a campaign.", output: false);
        command.SetAction(parsed => CorpusCommands.Minimize(
            host, options.Sources(parsed)[0], options.Output(parsed), options.Target(parsed, FuzzOptionSet.DefaultTarget)!, options.Plugins(parsed), options.WantsJson(parsed)));
        return command;
    }

    private static Command CorpusMerge(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("merge", "Add those inputs to a folder that reach what nothing in it reaches. Runs every input.");
        help[command] = "vmfuzz corpus merge monday/worker00 tuesday --out seeds";
        CorpusOptions options = CorpusOptions.Of(command, "SOURCE", "Folders of inputs, directories of campaigns, files, traces.", output: true);
        command.SetAction(parsed => CorpusCommands.Merge(
            host, options.Sources(parsed), options.Output(parsed), options.Target(parsed, FuzzOptionSet.DefaultTarget)!, options.Plugins(parsed), options.WantsJson(parsed)));
        return command;
    }

    private static int List(Host host, FuzzPlugins plugins, bool json)
    {
        if (json)
        {
            JsonReport.Write(host.Out, writer =>
            {
                writer.WriteStartArray("targets");
                foreach (FuzzTargetRow target in plugins.Targets)
                {
                    WriteRow(writer, target.Name, target.Text, null);
                }

                writer.WriteEndArray();
                writer.WriteStartArray("drivers");
                foreach (FuzzDriver driver in FuzzDriver.All)
                {
                    WriteRow(writer, driver.Name, driver.Text, driver.Missing());
                }

                writer.WriteEndArray();
            });
            return ExitStatus.Fine;
        }

        Tables.Write(host, ["target", "what inputs are fed to"], plugins.Targets.Select(static t => new[] { t.Name, t.Text }));
        host.Out.WriteLine();
        Tables.Write(host, ["driver", "who runs the campaign"], FuzzDriver.All.Select(static d => new[] { d.Name, d.Missing() is { } missing ? $"{d.Text} (not here: {missing})" : d.Text }));
        return ExitStatus.Fine;
    }

    private static void WriteRow(Utf8JsonWriter writer, string name, string text, string? missing)
    {
        writer.WriteStartObject();
        writer.WriteString("name", name);
        writer.WriteString("text", text);
        if (missing is not null)
        {
            writer.WriteString("missing", missing);
        }

        writer.WriteEndObject();
    }
}
