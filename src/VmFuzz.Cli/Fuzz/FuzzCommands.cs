using System.CommandLine;
using System.Text.Json;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary><c>fuzz</c> and what belongs to it: options and help.</summary>
internal static class FuzzCommands
{
    /// <summary>The command that a worker process runs; not for people.</summary>
    public const string WorkerName = "fuzz-worker";

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
        return command;
    }

    /// <summary><c>vmfuzz fuzz-worker</c>.</summary>
    public static Command Worker(Host host)
    {
        var command = new Command(WorkerName, "A worker process of a campaign; started by 'vmfuzz fuzz'.") { Hidden = true };
        command.SetAction(_ => WorkerCommand.Execute(host));
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
