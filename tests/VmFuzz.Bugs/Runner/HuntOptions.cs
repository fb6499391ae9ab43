using System.Collections.Immutable;
using System.Globalization;
using VmFuzz.Fuzzing;

namespace VmFuzz.Bugs.Runner;

/// <summary>The command line.</summary>
internal sealed record HuntOptions
{
    /// <summary>How to call it.</summary>
    public const string Usage =
        "usage: VmFuzz.Bugs [--bug ID]... [--seeds 5] [--seconds 60] [--executions N] [--mode full|random|coverage|structure]...\n"
        + "                   [--target exit-handlers|vmcs-entry|guest-code] [--json FILE] [--markdown FILE] [--plain] [--list]";

    public ImmutableArray<PlantedBug> Bugs { get; init; } = PlantedBugs.All;

    public ImmutableArray<FuzzMode> Modes { get; init; } = [FuzzMode.Full];

    public int Seeds { get; init; } = 5;

    public double Seconds { get; init; } = 60;

    public ulong Executions { get; init; }

    public FuzzTarget? Target { get; init; }

    public string? Json { get; init; }

    public string? Markdown { get; init; }

    /// <summary>Without instrumented assemblies: semantic features are the only feedback.</summary>
    public bool Plain { get; init; }

    /// <summary>Lists the faults and ends.</summary>
    public bool List { get; init; }

    /// <summary>Reads a command line; null with what is wrong.</summary>
    public static HuntOptions? Parse(string[] arguments, out string error)
    {
        HuntOptions options = new();
        List<PlantedBug> bugs = [];
        List<FuzzMode> modes = [];
        error = "";
        for (int i = 0; i < arguments.Length; i++)
        {
            string name = arguments[i];
            switch (name)
            {
                case "--plain":
                    options = options with { Plain = true };
                    continue;
                case "--list":
                    options = options with { List = true };
                    continue;
            }

            string value = i + 1 < arguments.Length ? arguments[++i] : "";
            HuntOptions? next = name switch
            {
                "--bug" when PlantedBugs.Find(value) is { } bug => Also(options, bugs, bug),
                "--mode" when Enum.TryParse(value, ignoreCase: true, out FuzzMode mode) && !char.IsDigit(value[0]) => Also(options, modes, mode),
                "--seeds" when int.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out int seeds) && seeds > 0 => options with { Seeds = seeds },
                "--seconds" when double.TryParse(value, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double seconds) && seconds > 0 => options with { Seconds = seconds },
                "--executions" when ulong.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out ulong executions) => options with { Executions = executions },
                "--target" when FuzzTargetRow.BuiltIn.FirstOrDefault(row => row.Name == value) is { } target => options with { Target = target.Kind },
                "--json" when value.Length != 0 => options with { Json = value },
                "--markdown" when value.Length != 0 => options with { Markdown = value },
                _ => null,
            };
            if (next is null)
            {
                error = $"{name} {value}: not understood";
                return null;
            }

            options = next;
        }

        return options with
        {
            Bugs = bugs.Count == 0 ? options.Bugs : [.. bugs],
            Modes = modes.Count == 0 ? options.Modes : [.. modes],
        };

        static HuntOptions Also<T>(HuntOptions options, List<T> list, T item)
        {
            list.Add(item);
            return options;
        }
    }
}
