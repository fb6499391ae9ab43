using System.Collections.Immutable;
using System.Globalization;

namespace VmFuzz.Fuzz;

/// <summary>What every host takes on its command line. The rest belongs to the fuzzer.</summary>
public sealed record HostOptions
{
    /// <summary>The usual way in: targets by the names of their rows.</summary>
    public const string DefaultEntry = "VmFuzz.Fuzzing:VmFuzz.Fuzzing.ByteTarget:Open";

    /// <summary>Help on these options, a line each.</summary>
    public const string Help = """
          --target=NAME               what the bytes are fed to: exit-handlers, vmcs-entry, guest-code, or a plug-in's
          --plugin=FILE               an assembly with handlers and targets of one's own; gets probes too; may be repeated
          --instrument=NAME[,NAME]    assemblies that get probes (VmFuzz.Vmx,VmFuzz.Kvm)
          --deep-every=N              one execution in N also meets the oracles that cost several runs; 0 for none (64)
          --findings=DIR              one input of each distinct finding goes there; what is there is not reported again
          --entry=ASSEMBLY:TYPE:METHOD  another way in, shaped like VmFuzz.Fuzzing.ByteTarget.Open
        """;

    /// <summary>Name of the target.</summary>
    public string Target { get; init; } = "";

    /// <summary>Full paths of plug-ins.</summary>
    public ImmutableArray<string> Plugins { get; init; } = [];

    /// <summary>One execution in this many also meets the oracles that cost several runs; 0 for none.</summary>
    public int DeepEvery { get; init; } = 64;

    /// <summary>Full path of the folder of distinct findings, or empty.</summary>
    public string Findings { get; init; } = "";

    /// <summary>Assembly, type and method that open a target, with colons between them.</summary>
    public string Entry { get; init; } = DefaultEntry;

    /// <summary>Simple names of the assemblies that get probes.</summary>
    public ImmutableArray<string> Instrumented { get; init; } = ["VmFuzz.Vmx", "VmFuzz.Kvm"];

    /// <summary>What is not an option of these.</summary>
    public ImmutableArray<string> Rest { get; init; } = [];

    /// <summary>Simple names of the plug-ins' assemblies.</summary>
    public IEnumerable<string> PluginNames => Plugins.Select(static path => Path.GetFileNameWithoutExtension(path));

    /// <summary>The options as arguments of one word each, without the rest.</summary>
    public IEnumerable<string> Arguments =>
    [
        $"--target={Target}",
        .. Plugins.Select(static path => $"--plugin={path}"),
        string.Create(CultureInfo.InvariantCulture, $"--deep-every={DeepEvery}"),
        .. Findings.Length == 0 ? (string[])[] : [$"--findings={Findings}"],
        $"--instrument={string.Join(',', Instrumented)}",
        $"--entry={Entry}",
    ];

    /// <summary>Reads a command line.</summary>
    /// <param name="arguments">The arguments; an option's value follows a <c>=</c> or is the next argument.</param>
    /// <param name="options">The options, when the result is null.</param>
    /// <returns>What is wrong, or null.</returns>
    public static string? TryParse(ReadOnlySpan<string> arguments, out HostOptions options)
    {
        options = new HostOptions();
        var rest = ImmutableArray.CreateBuilder<string>();
        for (int i = 0; i < arguments.Length; i++)
        {
            string[] parts = arguments[i].Split('=', 2);
            if (parts[0] is not ("--target" or "--plugin" or "--instrument" or "--deep-every" or "--findings" or "--entry"))
            {
                rest.Add(arguments[i]);
                continue;
            }

            if (parts.Length == 1 && ++i == arguments.Length)
            {
                return $"{parts[0]} needs a value";
            }

            string value = parts.Length == 2 ? parts[1] : arguments[i];
            options = parts[0] switch
            {
                "--target" => options with { Target = value },
                "--plugin" => options with { Plugins = options.Plugins.Add(Path.GetFullPath(value)) },
                "--findings" => options with { Findings = Path.GetFullPath(value) },
                "--deep-every" => options with { DeepEvery = int.TryParse(value, CultureInfo.InvariantCulture, out int every) ? every : -1 },
                "--instrument" => options with { Instrumented = [.. value.Split(',', StringSplitOptions.RemoveEmptyEntries)] },
                _ => options with { Entry = value },
            };
        }

        options = options with { Rest = rest.ToImmutable() };
        return options.Target.Length == 0 ? "--target is missing"
            : options.DeepEvery < 0 ? "--deep-every is not a number"
            : options.Entry.Split(':').Length != 3 ? "--entry is not ASSEMBLY:TYPE:METHOD"
            : null;
    }
}
