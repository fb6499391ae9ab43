using System.Globalization;
using VmFuzz.Fuzzing;

namespace VmFuzz.Cli;

/// <summary><c>vmfuzz corpus</c>: folders of inputs.</summary>
internal static class CorpusCommands
{
    /// <summary>Adds inputs from traces, files and folders to a folder; what is there already is left out.</summary>
    public static int Add(Host host, string[] sources, string output, FuzzTargetRow? target, bool json)
    {
        List<ReadInput> inputs = [.. sources.SelectMany(s => InputFolder.Read(s, target?.Kind, Warn(host)))];
        InputFolder.Make(output, mustBeEmpty: false);
        HashSet<string> seen = Held(output, target, host);
        IReadOnlyList<ReadInput> added = InputFolder.Distinct(inputs, seen);
        InputFolder.Write(output, added);
        Report(host, json, "corpus add", output, inputs.Count, added.Count, "added; the others are there already");
        return ExitStatus.Fine;
    }

    /// <summary>Says what is in a folder of inputs.</summary>
    public static int List(Host host, string path, bool json)
    {
        IReadOnlyList<ReadInput> inputs = InputFolder.Read(path, null, Warn(host));
        if (json)
        {
            foreach (ReadInput input in inputs)
            {
                JsonReport.Write(host.Out, writer =>
                {
                    writer.WriteString("name", input.Origin);
                    writer.WriteNumber("bytes", input.Bytes.Length);
                    writer.WriteString("target", NameOf(input.Input.Target));
                    foreach (FuzzSectionRow row in FuzzSectionRow.All)
                    {
                        writer.WriteNumber(row.Section.ToString().ToLowerInvariant(), row.Count(input.Input));
                    }
                });
            }

            return ExitStatus.Fine;
        }

        Tables.Write(host, ["name", "#bytes", "for", "holds"], inputs.Select(static i => new[]
        {
            Quantities.Plain(i.Origin),
            i.Bytes.Length.ToString(CultureInfo.InvariantCulture),
            NameOf(i.Input.Target),
            string.Join(", ", FuzzSectionRow.All.Where(row => row.Count(i.Input) != 0).Select(row => string.Create(CultureInfo.InvariantCulture, $"{row.Section.ToString().ToLowerInvariant()} {row.Count(i.Input)}"))),
        }));
        host.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{inputs.Count} inputs, {Quantities.Grouped((ulong)inputs.Sum(static i => (long)i.Bytes.Length))} bytes"));
        return ExitStatus.Fine;
    }

    /// <summary>Keeps a small part of a corpus that reaches everything that the whole reaches.</summary>
    public static int Minimize(Host host, string from, string output, FuzzTargetRow target, FuzzPlugins plugins, bool json)
    {
        IReadOnlyList<ReadInput> inputs = InputFolder.Distinct(InputFolder.Read(from, target.Kind, Warn(host)), new HashSet<string>(StringComparer.Ordinal));
        InputFolder.Make(output, mustBeEmpty: true);
        using var process = new CoverProcess(target, plugins, Warn(host));
        IReadOnlyList<int> kept = CoverSet.Smallest([.. inputs.Select(process.Run)], [.. inputs.Select(static i => i.Bytes.Length)]);
        InputFolder.Write(output, kept.Select(i => inputs[i]));
        Report(host, json, "corpus min", output, inputs.Count, kept.Count, "kept; together they reach all that the whole reaches");
        return ExitStatus.Fine;
    }

    /// <summary>Adds those inputs to a folder that reach what nothing in it reaches.</summary>
    public static int Merge(Host host, string[] sources, string output, FuzzTargetRow target, FuzzPlugins plugins, bool json)
    {
        List<ReadInput> inputs = [.. sources.SelectMany(s => InputFolder.Read(s, target.Kind, Warn(host)))];
        InputFolder.Make(output, mustBeEmpty: false);
        IReadOnlyList<ReadInput> held = InputFolder.Read(output, target.Kind, Warn(host));
        var seen = new HashSet<string>(held.Select(static h => Convert.ToBase64String(h.Bytes)), StringComparer.Ordinal);
        IReadOnlyList<ReadInput> fresh = InputFolder.Distinct(inputs, seen);
        using var process = new CoverProcess(target, plugins, Warn(host));
        var known = new HashSet<uint>(held.SelectMany(process.Run));
        IReadOnlyList<uint[]> reached = [.. fresh.Select(i => process.Run(i).Where(c => !known.Contains(c)).ToArray())];
        IReadOnlyList<int> kept = CoverSet.Smallest(reached, [.. fresh.Select(static i => i.Bytes.Length)]);
        InputFolder.Write(output, kept.Select(i => fresh[i]));
        Report(host, json, "corpus merge", output, inputs.Count, kept.Count, "added; the others reach nothing new");
        return ExitStatus.Fine;
    }

    private static HashSet<string> Held(string output, FuzzTargetRow? target, Host host) =>
        new(InputFolder.Read(output, target?.Kind, Warn(host)).Select(static h => Convert.ToBase64String(h.Bytes)), StringComparer.Ordinal);

    private static Action<string> Warn(Host host) => line => host.Err.WriteLine($"vmfuzz: {Quantities.Plain(line)}");

    private static string NameOf(FuzzTarget kind) => FuzzTargetRow.BuiltIn.FirstOrDefault(r => r.Kind == kind)?.Name ?? kind.ToString();

    private static void Report(Host host, bool json, string command, string output, int read, int kept, string what)
    {
        if (!json)
        {
            host.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{Quantities.Plain(output)}: of {read} inputs {kept} {what}"));
            return;
        }

        JsonReport.Write(host.Out, writer =>
        {
            writer.WriteString("command", command);
            writer.WriteString("output", output);
            writer.WriteNumber("inputs", read);
            writer.WriteNumber("kept", kept);
        });
    }
}
