using System.CommandLine;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary>What the commands of <c>corpus</c> have in common.</summary>
internal sealed class CorpusOptions
{
    private readonly Argument<string[]>? _many;
    private readonly Argument<string>? _one;
    private readonly Argument<string>? _outputArgument;
    private readonly Option<string>? _outputOption;
    private readonly Option<string> _target = new("--target") { HelpName = "NAME", Description = "The only target whose inputs count." };
    private readonly Option<string[]> _plugin = new("--plugin") { HelpName = "DLL", Description = "An assembly with targets of your own. May be given several times." };
    private readonly Option<bool> _json = CommandTree.JsonOption("The report as one JSON object.");

    private CorpusOptions(Command command, string source, string text, bool output)
    {
        if (output)
        {
            _many = new Argument<string[]>(source) { Description = text, Arity = ArgumentArity.OneOrMore };
            _outputOption = new Option<string>("--out") { HelpName = "DIR", Description = "The folder that grows; made when it is not there.", Required = true };
            command.Add(_many);
            command.Add(_outputOption);
        }
        else
        {
            _one = new Argument<string>(source) { Description = text };
            _outputArgument = new Argument<string>("OUT") { Description = "The folder to make." };
            command.Add(_one);
            command.Add(_outputArgument);
        }

        command.Add(_target);
        command.Add(_plugin);
        command.Add(_json);
    }

    /// <summary>Adds them to a command.</summary>
    /// <param name="command">The command.</param>
    /// <param name="source">Name of what is read.</param>
    /// <param name="text">What that is.</param>
    /// <param name="output">Whether several are read into <c>--out</c>; otherwise one into a second argument.</param>
    public static CorpusOptions Of(Command command, string source, string text, bool output) => new(command, source, text, output);

    /// <summary>What is read.</summary>
    public string[] Sources(ParseResult parsed) => _many is null ? [parsed.GetValue(_one!)!] : parsed.GetValue(_many)!;

    /// <summary>What is written.</summary>
    public string Output(ParseResult parsed) => _outputOption is null ? parsed.GetValue(_outputArgument!)! : parsed.GetValue(_outputOption)!;

    /// <summary>The plug-ins.</summary>
    public FuzzPlugins Plugins(ParseResult parsed) => FuzzPlugins.Load(parsed.GetValue(_plugin) ?? []);

    /// <summary>The target; null when there is none.</summary>
    public FuzzTargetRow? Target(ParseResult parsed, string? otherwise)
    {
        FuzzPlugins plugins = Plugins(parsed);
        string? name = parsed.GetValue(_target) ?? otherwise;
        return name is null
            ? null
            : plugins.Find(name) ?? throw UserError.At($"there is no target '{name}'", "--target", $"use {string.Join(", ", plugins.Targets.Select(static t => t.Name))}");
    }

    /// <summary>Whether JSON was asked for.</summary>
    public bool WantsJson(ParseResult parsed) => parsed.GetValue(_json);
}
