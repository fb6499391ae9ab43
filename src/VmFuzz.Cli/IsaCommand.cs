using System.Collections.Immutable;
using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using VmFuzz.Arch;
using VmFuzz.Cpu;

namespace VmFuzz.Cli;

/// <summary><c>vmfuzz isa</c>: what becomes of every instruction form, and which features a processor model can have.</summary>
internal static class IsaCommand
{
    private static readonly ImmutableArray<(ulong Bit, char Letter)> Letters =
    [
        (RFlags.Of, 'o'), (RFlags.Df, 'd'), (RFlags.If, 'i'), (RFlags.Sf, 's'), (RFlags.Zf, 'z'), (RFlags.Af, 'a'), (RFlags.Pf, 'p'),
        (RFlags.Cf, 'c'), (RFlags.Ac, 'k'),
    ];

    public static Command Create(Host host, Dictionary<Command, string> help)
    {
        var command = new Command("isa", "Show what becomes of every instruction: families with counts, or the forms of some.");
        help[command] = """
            vmfuzz isa
            vmfuzz isa bits
            vmfuzz isa --forms --json
            vmfuzz isa --features
            vmfuzz isa --deviations
            """;
        var family = new Argument<string?>("family") { Arity = ArgumentArity.ZeroOrOne, Description = "Show the forms of this family." };
        var forms = new Option<bool>("--forms") { Description = "Show all forms: operands, code sizes, feature, flags read, written and undefined." };
        var features = new Option<bool>("--features") { Description = "Show the features of -cpu and the models that have them." };
        var deviations = new Option<bool>("--deviations") { Description = "Show what a guest sees otherwise than on real processors, each with a line for vmfuzz exec." };
        Option<bool> json = CommandTree.JsonOption("JSON Lines: an object for each family, form, feature or deviation.");
        command.Add(family);
        command.Add(forms);
        command.Add(features);
        command.Add(deviations);
        command.Add(json);
        command.SetAction(parsed =>
        {
            bool asJson = parsed.GetValue(json);
            if (parsed.GetValue(features))
            {
                return Features(host, asJson);
            }

            if (parsed.GetValue(deviations))
            {
                return WriteDeviations(host, asJson);
            }

            string? name = parsed.GetValue(family);
            if (name is not null && !InstructionFamilies.All.Any(f => f.Id == name))
            {
                throw UserError.At($"there is no family '{name}'", "isa", "vmfuzz isa lists them");
            }

            return name is not null || parsed.GetValue(forms) ? Forms(host, name, asJson) : Families(host, asJson);
        });
        return command;
    }

    private static int Families(Host host, bool json)
    {
        ILookup<InstructionFamily, InstructionForm> byFamily = InstructionForm.All.ToLookup(static f => f.Family);
        if (json)
        {
            foreach (InstructionFamily family in InstructionFamilies.All)
            {
                JsonReport.Write(host.Out, writer =>
                {
                    writer.WriteString("family", family.Id);
                    writer.WriteString("state", StateOf(family));
                    writer.WriteNumber("forms", byFamily[family].Count());
                    writer.WriteNumber("modelled", byFamily[family].Count(static f => f.Row is not null));
                    writer.WriteString("text", family.Reason);
                });
            }

            return ExitStatus.Fine;
        }

        Tables.Write(host, ["family", "state", "#forms", "#modelled", "what"], InstructionFamilies.All.Select(family => new string[]
        {
            family.Id, StateOf(family), Quantities.Grouped((ulong)byFamily[family].Count()), Quantities.Grouped((ulong)byFamily[family].Count(static f => f.Row is not null)), family.Reason,
        }));
        host.Out.WriteLine($"{Quantities.Grouped((ulong)InstructionForm.All.Length)} forms, {Quantities.Grouped((ulong)InstructionForm.All.Count(static f => f.Row is not null))} modelled in {InstructionTable.Default.Rows.Length} rows");
        return ExitStatus.Fine;
    }

    private static int Forms(Host host, string? family, bool json)
    {
        IEnumerable<InstructionForm> forms = InstructionForm.All.Where(f => family is null || f.Family.Id == family);
        if (json)
        {
            foreach (InstructionForm form in forms)
            {
                JsonReport.Write(host.Out, writer => Write(writer, form));
            }

            return ExitStatus.Fine;
        }

        Tables.Write(host, ["form", "encoding", "modelled", "modes", "feature", "reads", "writes", "undefined"], forms.Select(static form => new[]
        {
            form.Text, form.Encoding, form.Row is null ? "no" : "yes", string.Join(' ', form.Modes), form.Feature,
            Flags(form.FlagsRead), Flags(form.FlagsWritten), Flags(form.FlagsUndefined),
        }));
        return ExitStatus.Fine;
    }

    private static int Features(Host host, bool json)
    {
        if (json)
        {
            foreach ((CpuFeatures feature, string name) in CpuFeatureNames.All)
            {
                JsonReport.Write(host.Out, writer =>
                {
                    writer.WriteString("feature", name);
                    writer.WriteBoolean("implemented", (CpuModels.Implemented & feature) != 0);
                });
            }

            return ExitStatus.Fine;
        }

        Tables.Write(host, ["feature", "implemented", "models"], CpuFeatureNames.All.Select(static f => new[]
        {
            f.Name, (CpuModels.Implemented & f.Feature) != 0 ? "yes" : "no", string.Join(' ', CpuModels.Names.Where(name => CpuModels.TryFind(name, out CpuModel model) && model.Has(f.Feature))),
        }));
        return ExitStatus.Fine;
    }

    private static int WriteDeviations(Host host, bool json)
    {
        foreach (Deviation row in Deviations.All)
        {
            if (json)
            {
                JsonReport.Write(host.Out, writer =>
                {
                    writer.WriteString("deviation", row.Id);
                    writer.WriteString("section", row.Section);
                    writer.WriteString("here", row.Here);
                    writer.WriteString("silicon", row.Silicon);
                    writer.WriteString("reproducer", row.Reproducer);
                    writer.WriteString("result", row.Result);
                });
                continue;
            }

            host.Out.WriteLine($"{row.Id} (SDM \"{row.Section}\")");
            host.Out.WriteLine($"  here:    {row.Here}");
            host.Out.WriteLine($"  silicon: {row.Silicon}");
            host.Out.WriteLine($"  exec:    {row.Reproducer}");
            host.Out.WriteLine($"           {row.Result}");
        }

        return ExitStatus.Fine;
    }

    private static void Write(Utf8JsonWriter writer, InstructionForm form)
    {
        writer.WriteString("form", form.Code.ToString());
        writer.WriteString("text", form.Text);
        writer.WriteString("encoding", form.Encoding);
        writer.WriteString("family", form.Family.Id);
        writer.WriteBoolean("modelled", form.Row is not null);
        writer.WriteStartArray("modes");
        foreach (int mode in form.Modes)
        {
            writer.WriteNumberValue(mode);
        }

        writer.WriteEndArray();
        writer.WriteString("feature", form.Feature);
        writer.WriteString("reads", "0x" + form.FlagsRead.ToString("x", CultureInfo.InvariantCulture));
        writer.WriteString("writes", "0x" + form.FlagsWritten.ToString("x", CultureInfo.InvariantCulture));
        writer.WriteString("undefined", "0x" + form.FlagsUndefined.ToString("x", CultureInfo.InvariantCulture));
    }

    private static string StateOf(InstructionFamily family) => family.State.ToString().ToLowerInvariant();

    private static string Flags(ulong flags) => string.Concat(Letters.Where(l => (flags & l.Bit) != 0).Select(static l => l.Letter));
}
