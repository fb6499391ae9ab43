using System.CommandLine;

namespace VmFuzz.Cli;

/// <summary><c>explain</c>, <c>reproduce</c>, <c>findings</c>: options and help.</summary>
internal static class FindingCommands
{
    /// <summary><c>vmfuzz explain</c>.</summary>
    public static Command Explain(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("explain", "Say in words what an input or a finding is. Any bytes are an input.");
        help[command] = """
            vmfuzz explain campaign/worker00/findings/retire.rip-cpuid-1a2b3c4d
            vmfuzz explain campaign/worker00/queue/id:000007,src:000003,time:12,execs:4711,op:code.insert
            vmfuzz explain input.bin --json
            """;
        var path = new Argument<string>("PATH") { Description = "A finding's directory, or a file." };
        Option<bool> json = CommandTree.JsonOption("The same as one JSON object.");
        command.Add(path);
        command.Add(json);
        command.SetAction(parsed => ExplainCommand.Execute(host, parsed.GetValue(path)!, parsed.GetValue(json)));
        return command;
    }

    /// <summary><c>vmfuzz reproduce</c>.</summary>
    public static Command Reproduce(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("reproduce", "Run a finding or an input again on a fresh machine and say what breaks.");
        help[command] = """
            vmfuzz reproduce campaign/worker00/findings/retire.rip-cpuid-1a2b3c4d
            vmfuzz reproduce input.bin --target guest-code
            vmfuzz reproduce campaign/worker00/findings/x --plugin handlers.dll

            Status: 0 nothing breaks any more, 1 something does, 2 wrong usage.
            """;
        var path = new Argument<string>("PATH") { Description = "A finding's directory, or a file." };
        var target = new Option<string>("--target") { HelpName = "NAME", Description = "Feed it to this target; 'vmfuzz fuzz --list' names them. Otherwise the one it was found in." };
        var plugins = new Option<string[]>("--plugin") { HelpName = "FILE", Description = "An assembly with targets. May be given several times." };
        var seconds = new Option<string>("--seconds") { HelpName = "N", Description = $"End an input that is known to hang or to kill its process after this time. Default {ReproduceCommand.DefaultSeconds}." };
        var here = new Option<bool>("--here") { Description = "Run it in this process, whatever it may do to it.", Hidden = true };
        Option<bool> json = CommandTree.JsonOption("The same as one JSON object.");
        command.Add(path);
        command.Add(target);
        command.Add(plugins);
        command.Add(seconds);
        command.Add(here);
        command.Add(json);
        command.SetAction(parsed => ReproduceCommand.Execute(
            host, parsed.GetValue(path)!, parsed.GetValue(target), parsed.GetValue(plugins) ?? [], parsed.GetValue(seconds), parsed.GetValue(here), parsed.GetValue(json)));
        return command;
    }

    /// <summary><c>vmfuzz findings</c>.</summary>
    public static Command Findings(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("findings", "List the findings of a campaign, those of all workers merged, and write reports for CI.");
        help[command] = """
            vmfuzz findings campaign
            vmfuzz findings campaign --sarif findings.sarif --junit findings.xml --force
            vmfuzz findings campaign --json

            Status: 0 there are none, 1 there are some, 2 wrong usage.
            """;
        var path = new Argument<string>("DIR") { Description = "A campaign's directory, or one of its workers'." };
        var sarif = new Option<string>("--sarif") { HelpName = "FILE", Description = "Write SARIF 2.1.0." };
        var junit = new Option<string>("--junit") { HelpName = "FILE", Description = "Write JUnit XML." };
        var force = new Option<bool>("--force") { Description = "Replace reports that exist." };
        Option<bool> json = CommandTree.JsonOption("The same as one JSON object.");
        command.Add(path);
        command.Add(sarif);
        command.Add(junit);
        command.Add(force);
        command.Add(json);
        command.SetAction(parsed => FindingsCommand.Execute(
            host, parsed.GetValue(path)!, parsed.GetValue(sarif), parsed.GetValue(junit), parsed.GetValue(force), parsed.GetValue(json)));
        return command;
    }

    /// <summary><c>vmfuzz corpus keep</c>.</summary>
    public static Command Keep(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("keep", "Make a regression of a finding that was fixed: a folder with the input and what is expected of it.");
        help[command] = """
            vmfuzz corpus keep campaign/worker00/findings/x --out corpus/regressions --from "a campaign of 60 s"
            """;
        var path = new Argument<string>("FINDING") { Description = "A finding's directory." };
        var output = new Option<string>("--out", "-o") { HelpName = "DIR", Description = "Folder of the regressions.", Required = true };
        var from = new Option<string>("--from") { HelpName = "TEXT", Description = "Where it came from, for people." };
        command.Add(path);
        command.Add(output);
        command.Add(from);
        command.SetAction(parsed => KeepCommand.Execute(host, parsed.GetValue(path)!, parsed.GetValue(output) ?? "", parsed.GetValue(from)));
        return command;
    }
}
