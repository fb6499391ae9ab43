using System.Collections.Immutable;
using System.CommandLine;
using System.Globalization;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary>The options of <c>fuzz</c>, and how they become <see cref="FuzzArguments"/>.</summary>
internal sealed class FuzzOptionSet
{
    /// <summary>The target when none is named.</summary>
    public const string DefaultTarget = "exit-handlers";

    /// <summary>Most workers.</summary>
    public const int MostJobs = 256;

    private readonly Option<string> _target = Text("--target", "NAME", $"What inputs are fed to; --list shows the targets. Default: {DefaultTarget}.");
    private readonly Option<string> _seconds = Text("--seconds", "N", "End after so many seconds. Default: when Ctrl-C is pressed.");
    private readonly Option<string> _execs = Text("--execs", "N", "End after so many executions, shared evenly by the workers.");
    private readonly Option<string> _jobs = Text("--jobs", "N", "Worker processes. Default: one for each core.");
    private readonly Option<string> _driver = Text("--driver", "NAME", $"Who runs the campaign: {string.Join(", ", FuzzDriver.All.Select(static d => d.Name))}. Default: {FuzzDriver.BuiltIn.Name}.");
    private readonly Option<string> _seed = Text("--seed", "N", "Same seed, same campaign: one worker repeats it execution by execution. Default: chosen, and shown.");
    private readonly Option<string> _out = Text("--out", "DIR", "Where everything goes: a directory for each worker, as AFL++ lays them out. Default: fuzz-out/TARGET.");
    private readonly Option<string[]> _input = new("--input") { HelpName = "DIR", Description = "Inputs to start from: any files, for instance the queue of another campaign. May be given several times." };
    private readonly Option<bool> _resume = new("--resume") { Description = "Go on with the campaign that the directory holds; its target and seed are kept." };
    private readonly Option<string[]> _plugin = new("--plugin") { HelpName = "DLL", Description = "An assembly with handlers and targets of your own. May be given several times." };
    private readonly Option<bool> _noCoverage = new("--no-coverage") { Description = "Let only what the machine did steer the campaign, not which code of the model was reached." };
    private readonly Option<string> _hang = Text("--hang-seconds", "N", $"Kill a worker whose execution does not end in so many seconds, and keep the input. Default: {FuzzArguments.DefaultHangSeconds}.");
    private readonly Option<string> _memory = Text("--memory-mib", "N", $"Start a worker anew, at the end of an epoch, when it has grown past this. Default: {FuzzArguments.DefaultMemory}.");
    private readonly Option<bool> _list = new("--list") { Description = "List targets and drivers, and do nothing else." };
    private readonly Option<bool> _json = CommandTree.JsonOption("The summary as one JSON object.");

    public FuzzOptionSet(Command command)
    {
        foreach (Option option in (Option[])[
            _target, _seconds, _execs, _jobs, _driver, _seed, _out, _input, _resume,
            _plugin, _noCoverage, _hang, _memory, _list, _json])
        {
            command.Options.Add(option);
        }
    }

    /// <summary>Whether only a list was asked for.</summary>
    public bool WantsList(ParseResult parsed) => parsed.GetValue(_list);

    /// <summary>Whether JSON was asked for.</summary>
    public bool WantsJson(ParseResult parsed) => parsed.GetValue(_json);

    /// <summary>The plug-ins that were named.</summary>
    public FuzzPlugins Plugins(ParseResult parsed) => FuzzPlugins.Load(parsed.GetValue(_plugin) ?? []);

    /// <summary>Checks everything; touches nothing.</summary>
    public FuzzArguments Read(ParseResult parsed)
    {
        FuzzPlugins plugins = Plugins(parsed);
        bool resume = parsed.GetValue(_resume);
        string? shown = parsed.GetValue(_out);
        if (shown is "")
        {
            throw UserError.At("there is no directory name", "--out", "name the directory of the campaign");
        }

        // A campaign that goes on knows its own target.
        string name = parsed.GetValue(_target)
            ?? (resume && shown is not null && CampaignFile.TryRead(Path.GetFullPath(shown)) is { } held ? held.Target : DefaultTarget);
        FuzzTargetRow target = plugins.Find(name) ?? throw UserError.At($"there is no target '{name}'", "--target", $"use {string.Join(", ", plugins.Targets.Select(static t => t.Name))}");
        shown ??= Path.Combine("fuzz-out", target.Name);
        FuzzDriver driver = DriverOf(parsed.GetValue(_driver));
        return new FuzzArguments
        {
            Target = target,
            Driver = driver,
            Seconds = Seconds(parsed, _seconds, 0),
            Executions = Number(parsed, _execs, 0, 1, ulong.MaxValue >> 8),
            Jobs = (int)Number(parsed, _jobs, (ulong)Math.Clamp(Environment.ProcessorCount, 1, MostJobs), 1, MostJobs),
            Seed = parsed.GetValue(_seed) is null ? null : Number(parsed, _seed, 0, 0, ulong.MaxValue),
            Output = Path.TrimEndingDirectorySeparator(Path.GetFullPath(shown)),
            ShownOutput = shown,
            Inputs = [.. (parsed.GetValue(_input) ?? []).Select(InputOf)],
            Resume = resume,
            Plugins = plugins.Paths,
            PluginIdentities = plugins.Identities,
            Coverage = !parsed.GetValue(_noCoverage),
            HangSeconds = Seconds(parsed, _hang, FuzzArguments.DefaultHangSeconds),
            Memory = (int)Number(parsed, _memory, FuzzArguments.DefaultMemory, 64, 1 << 20),
            Json = parsed.GetValue(_json),
        };
    }

    private static Option<string> Text(string name, string value, string description) =>
        new(name) { HelpName = value, Description = description };

    private static FuzzDriver DriverOf(string? name)
    {
        if (name is null)
        {
            return FuzzDriver.BuiltIn;
        }

        FuzzDriver driver = FuzzDriver.All.FirstOrDefault(d => d.Name == name)
            ?? throw UserError.At($"there is no driver '{name}'", "--driver", $"use {string.Join(" or ", FuzzDriver.All.Select(static d => d.Name))}");
        return driver.Missing() is { } missing ? throw UserError.At($"the driver '{name}' cannot run here", "--driver", missing) : driver;
    }

    private static string InputOf(string path)
    {
        if (path.Length != 0 && File.Exists(path))
        {
            throw UserError.At("the inputs are a file", path, "name the directory that holds it");
        }

        return path.Length != 0 && Directory.Exists(path)
            ? Path.GetFullPath(path)
            : throw UserError.At("the directory of inputs does not exist", path.Length == 0 ? "--input" : path, "check the path");
    }

    private static double Seconds(ParseResult parsed, Option<string> option, double otherwise)
    {
        string? text = parsed.GetValue(option);
        if (text is null)
        {
            return otherwise;
        }

        if (!double.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double value))
        {
            throw UserError.At($"'{text}' is not a number of seconds", option.Name, "write for instance 60 or 1.5");
        }

        const double most = 10e6;
        return value is >= 0.1 and <= most ? value : throw UserError.At($"{text} seconds cannot be had", option.Name, "give from 0.1 to 10000000, or leave the option out");
    }

    /// <summary>A number of an option, within bounds.</summary>
    internal static ulong Number(ParseResult parsed, Option<string> option, ulong otherwise, ulong least, ulong most)
    {
        string? text = parsed.GetValue(option);
        if (text is null)
        {
            return otherwise;
        }

        if (!Quantities.TryNumber(text, out ulong value))
        {
            throw UserError.At($"'{text}' is not a number", option.Name, "write decimal digits, or 0x and hexadecimal ones");
        }

        return value >= least && value <= most
            ? value
            : throw UserError.At($"{text} is too {(value < least ? "small" : "large")}", option.Name, $"give from {least} to {most}");
    }
}
