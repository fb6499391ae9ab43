using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using VmFuzz.Cli.Exec;
using VmFuzz.Cli.Lockstep;

namespace VmFuzz.Cli;

/// <summary>Commands, their options and their help.</summary>
internal static class CommandTree
{
    /// <summary>No bundling of letters, no response files.</summary>
    public static ParserConfiguration Parsing { get; } = new() { EnablePosixBundling = false, ResponseFileTokenReplacer = null };

    /// <summary>All commands.</summary>
    public static RootCommand Build(Host host)
    {
        var root = new RootCommand("A virtual machine under glass: runs x86-64 guests deterministically, records every entry, exit and event, and replays them bit by bit.");
        var help = new Dictionary<Command, string>
        {
            [root] = """
                vmfuzz record -machine pc -accel kvm -bios u-boot.rom --until-serial "DRAM:" -o boot.vmtrace
                vmfuzz replay boot.vmtrace
                vmfuzz trace dump boot.vmtrace --kind exit --to 40
                vmfuzz fuzz --seconds 60

                Status: 0 fine; 1 a finding, a divergence, or an awaited text that did not come;
                2 wrong usage or unreadable input; 3 an engine bug.
                """,
        };
        root.Add(Run(host, help));
        root.Add(Record(host, help));
        root.Add(Replay(host, help));
        root.Add(SnapshotCommand.Create(host, help));
        root.Add(Trace(host, help));
        root.Add(FuzzCommands.Fuzz(host, help));
        root.Add(FuzzCommands.Worker(host));
        root.Add(FuzzCommands.CoverWorker(host));
        Command corpus = FuzzCommands.Corpus(host, help);
        corpus.Add(FindingCommands.Keep(host, help));
        root.Add(corpus);
        root.Add(FindingCommands.Explain(host, help));
        root.Add(FindingCommands.Reproduce(host, help));
        root.Add(FindingCommands.Findings(host, help));
        root.Add(IsaCommand.Create(host, help));
        root.Add(ExecCommand.Create(host, help));
        root.Add(LockstepCommand.Create(host, help));
        root.Add(DoctorOf(host, help));
        foreach (Option option in root.Options)
        {
            if (option is HelpOption { Action: HelpAction standard } helpOption)
            {
                helpOption.Action = new ExampleHelp(standard, help);
            }
        }

        return root;
    }

    /// <summary>The words that lead to a command.</summary>
    public static string PathOf(Command command)
    {
        string path = "";
        for (Symbol? at = command; at is not null and not RootCommand; at = at.Parents.FirstOrDefault())
        {
            path = at.Name + (path.Length == 0 ? "" : " " + path);
        }

        return path.Length == 0 ? "vmfuzz" : "vmfuzz " + path;
    }

    /// <summary>The <c>--json</c> option of a command.</summary>
    public static Option<bool> JsonOption(string description) => new("--json") { Description = description };

    /// <summary>The <c>--check</c> option of a command.</summary>
    public static Option<bool> CheckOption() => new("--check") { Description = "Also look at the fuzzer's invariants at every exit and entry (-accel kvm); a broken one is status 1." };

    private static Command Run(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("run", "Run a guest. Its console goes to standard output, a summary to standard error.");
        help[command] = """
            vmfuzz run -machine pc -bios u-boot.rom --until-serial "DRAM:"
            vmfuzz run -machine flat -kernel guest.bin --flat-mode real16 --dump-state
            vmfuzz run -machine flat -accel kvm -kernel guest.bin --log exits,int --max-instructions 100000
            vmfuzz run -bios u-boot.rom -serial stdio < keys.txt
            vmfuzz run -bios u-boot.rom --expect-script prompt.expect
            vmfuzz run --from booted.vmsnap --max-instructions 30_000_000
            vmfuzz run -kernel guest.bin -s -S
            """;
        var options = new MachineOptionSet(command);
        command.SetAction(parsed => RunCommand.Execute(host, options.Read(parsed), null, force: false));
        return command;
    }

    private static Command Record(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("record", "Run a guest and record everything that is needed to run it again, bit by bit. Ctrl-C ends the run and leaves a whole trace.");
        help[command] = """
            vmfuzz record -machine pc -accel kvm -bios u-boot.rom --until-serial "DRAM:" -o boot.vmtrace
            vmfuzz record -machine flat -kernel guest.bin --chaos 7 -o chaos.vmtrace
            vmfuzz record -machine flat -kernel guest.bin --chaos entropy --chaos-nmis 1000 --force -o chaos.vmtrace
            """;
        var output = new Option<string>("--output", "-o") { HelpName = "FILE", Description = "The trace to write.", Required = true };
        var force = new Option<bool>("--force") { Description = "Replace the output if it exists." };
        command.Add(output);
        command.Add(force);
        var options = new MachineOptionSet(command);
        command.SetAction(parsed => RunCommand.Execute(host, options.Read(parsed), parsed.GetValue(output) ?? "", parsed.GetValue(force)));
        return command;
    }

    private static Command Replay(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("replay", "Run a recorded guest again and verify every event. The first difference stops it and is shown in full.");
        help[command] = """
            vmfuzz replay boot.vmtrace
            vmfuzz replay boot.vmtrace --check
            vmfuzz replay boot.vmtrace -s -S
            vmfuzz replay cut.vmtrace --allow-truncated
            vmfuzz replay old.vmtrace --compare
            vmfuzz replay campaign/worker00/findings/x/trace.vmtrace --plugin handlers.dll --check
            """;
        var file = new Argument<string>("FILE") { Description = "The trace." };
        var compare = new Option<bool>("--compare") { Description = "Also replay traces of other engine versions, to see the first difference." };
        var truncated = new Option<bool>("--allow-truncated") { Description = "Accept a trace whose end is missing when all of it is verified." };
        var plugins = new Option<string[]>("--plugin") { HelpName = "FILE", Description = "An assembly whose handlers the recorded run had. May be given several times." };
        Option<bool> check = CheckOption();
        Option<bool> json = JsonOption("The report as one JSON object.");
        command.Add(file);
        command.Add(compare);
        command.Add(truncated);
        command.Add(plugins);
        command.Add(check);
        command.Add(json);
        var gdb = new Gdb.GdbOptionSet(command);
        command.SetAction(parsed => ReplayCommand.Execute(host, parsed.GetValue(file)!, parsed.GetValue(plugins) ?? [], parsed.GetValue(compare), parsed.GetValue(truncated), parsed.GetValue(check), gdb.Read(parsed), parsed.GetValue(json)));
        return command;
    }

    private static Command Trace(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("trace", "Look into a trace without running it.");
        help[command] = """
            vmfuzz trace info boot.vmtrace
            vmfuzz trace dump boot.vmtrace --from 100 --to 120
            """;
        command.Add(TraceInfo(host, help));
        command.Add(TraceDump(host, help));
        return command;
    }

    private static Command TraceInfo(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("info", "Say what a trace is: whole or not, engine, machine, images, events by kind, exits by reason.");
        help[command] = """
            vmfuzz trace info boot.vmtrace
            vmfuzz trace info boot.vmtrace --json
            """;
        var file = new Argument<string>("FILE") { Description = "The trace." };
        Option<bool> json = JsonOption("The same as one JSON object.");
        command.Add(file);
        command.Add(json);
        command.SetAction(parsed => TraceCommands.Info(host, parsed.GetValue(file)!, parsed.GetValue(json)));
        return command;
    }

    private static Command TraceDump(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("dump", "Show events, one a line: number, VCPU, retired instructions, kind, fields.");
        help[command] = """
            vmfuzz trace dump boot.vmtrace --from 100 --to 120
            vmfuzz trace dump boot.vmtrace --kind entry,exit
            vmfuzz trace dump boot.vmtrace --kind input --json
            """;
        var file = new Argument<string>("FILE") { Description = "The trace." };
        var from = new Option<string>("--from") { HelpName = "N", Description = "First event to show." };
        var to = new Option<string>("--to") { HelpName = "N", Description = "Last event to show." };
        var kind = new Option<string[]>("--kind") { HelpName = "KIND", Description = $"Show only these: {string.Join(", ", VmFuzz.Trace.TraceSchema.Rows.Select(static r => r.Name))}. Separated by commas, or given several times." };
        Option<bool> json = JsonOption("JSON Lines: one object an event.");
        command.Add(file);
        command.Add(from);
        command.Add(to);
        command.Add(kind);
        command.Add(json);
        command.SetAction(parsed => TraceCommands.Dump(host, parsed.GetValue(file)!, parsed.GetValue(from), parsed.GetValue(to), parsed.GetValue(kind) ?? [], parsed.GetValue(json)));
        return command;
    }

    private static Command DoctorOf(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("doctor", "Show what is here and what it is for, and test the engine: ten instructions recorded and replayed.");
        help[command] = """
            vmfuzz doctor
            vmfuzz doctor --json
            """;
        Option<bool> json = JsonOption("The same as one JSON object.");
        command.Add(json);
        command.SetAction(parsed => Doctor.Execute(host, parsed.GetValue(json)));
        return command;
    }

    /// <summary>The library's help, then examples.</summary>
    private sealed class ExampleHelp(HelpAction standard, Dictionary<Command, string> examples) : SynchronousCommandLineAction
    {
        public override bool ClearsParseErrors => true;

        public override int Invoke(ParseResult parseResult)
        {
            int status = standard.Invoke(parseResult);
            if (examples.TryGetValue(parseResult.CommandResult.Command, out string? text))
            {
                TextWriter writer = parseResult.InvocationConfiguration.Output;
                writer.WriteLine("Examples:");
                foreach (string line in text.Split('\n'))
                {
                    writer.WriteLine(line.Length == 0 ? "" : "  " + line.TrimEnd('\r'));
                }

                writer.WriteLine();
            }

            return status;
        }
    }
}
