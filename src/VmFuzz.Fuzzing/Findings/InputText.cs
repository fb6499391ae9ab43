using System.Collections.Immutable;
using System.Globalization;
using System.Text.Json;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Machines;
using VmFuzz.Vmx;

namespace VmFuzz.Fuzzing;

/// <summary>An input in words: what each section holds, with names for everything that has one.</summary>
public static class InputText
{
    private const int BytesOfLine = 16;

    /// <summary>Name of a kind of inputs, as on the command line.</summary>
    public static string NameOf(FuzzTarget target) => target switch
    {
        FuzzTarget.ExitHandlers => "exit-handlers",
        FuzzTarget.VmcsEntry => "vmcs-entry",
        _ => "guest-code",
    };

    /// <summary>Describes an input.</summary>
    /// <returns>The setup, then every section that is not empty.</returns>
    public static ImmutableArray<InputSection> Describe(FuzzInput input)
    {
        ArgumentNullException.ThrowIfNull(input);
        var sections = ImmutableArray.CreateBuilder<InputSection>();
        sections.Add(new("setup", "setup",
        [
            new("inputs for", NameOf(input.Target)),
            new("mode", input.Mode.ToString()),
            new("capabilities", input.AllCapabilities ? "everything" : "default"),
        ]));
        foreach (SectionText row in SectionText.All)
        {
            ImmutableArray<InputFact> facts = row.Facts(input);
            if (!facts.IsEmpty)
            {
                sections.Add(new(row.Id, row.Title, facts));
            }
        }

        return sections.ToImmutable();
    }

    /// <summary>Writes sections for people.</summary>
    public static void Write(TextWriter writer, ImmutableArray<InputSection> sections)
    {
        ArgumentNullException.ThrowIfNull(writer);
        foreach (InputSection section in sections)
        {
            InputLines.Write(writer, section);
        }
    }

    /// <summary>Writes sections as the property <c>sections</c> of the object that was begun.</summary>
    public static void Write(Utf8JsonWriter json, ImmutableArray<InputSection> sections)
    {
        ArgumentNullException.ThrowIfNull(json);
        json.WriteStartArray("sections");
        foreach (InputSection section in sections)
        {
            json.WriteStartObject();
            json.WriteString("id", section.Id);
            json.WriteString("title", section.Title);
            Write(json, "facts", section.Facts);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void Write(Utf8JsonWriter json, string name, ImmutableArray<InputFact> facts)
    {
        json.WriteStartArray(name);
        foreach (InputFact fact in facts)
        {
            json.WriteStartObject();
            json.WriteString("name", fact.Name);
            json.WriteString("value", fact.Value);
            if (!fact.Parts.IsEmpty)
            {
                Write(json, "parts", fact.Parts);
            }

            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    /// <summary>One section: where its facts come from.</summary>
    private sealed record SectionText(string Id, string Title, Func<FuzzInput, ImmutableArray<InputFact>> Facts)
    {
        public static readonly ImmutableArray<SectionText> All =
        [
            new("registers", "registers at the start", static i =>
                [.. i.Registers.Select(static r => new InputFact(ArchitectureNames.Register(r.Register), InputLines.Hex(r.Value)))]),
            new("code", "code", Code),
            new("patches", "memory patches", static i => [.. i.Patches.SelectMany(Patch)]),
            new("events", "events", static i => [.. i.Events.Select(Event)]),
            new("answers", "answers of userspace", static i =>
                [.. i.Answers.Select(static (a, n) => new InputFact(InputLines.Decimal((ulong)n), InputLines.Hex(a)))]),
            new("exits", "exits", static i => [.. i.Exits.Select(static (e, n) => InputTextExits.Describe(n, e))]),
            new("vmcs", "VMCS, golden -> input", Fields),
            new("capabilities", "capability MSRs, base -> input", Capabilities),
        ];
    }

    private static ImmutableArray<InputFact> Code(FuzzInput input)
    {
        if (input.Code.Count == 0)
        {
            return [];
        }

        byte[] bytes = [.. input.Code];
        var decoder = Decoder.Create(input.Mode switch { FlatMode.Real16 => 16, FlatMode.Protected32 => 32, _ => 64 }, bytes, FuzzLayout.Code);
        var formatter = new NasmFormatter();
        formatter.Options.HexPrefix = "0x";
        formatter.Options.HexSuffix = "";
        formatter.Options.UppercaseHex = false;
        formatter.Options.BranchLeadingZeros = false;
        var output = new StringOutput();
        var facts = ImmutableArray.CreateBuilder<InputFact>();
        int at = 0;
        while (at < bytes.Length)
        {
            decoder.Decode(out Instruction instruction);
            int length = Math.Max(1, Math.Min(instruction.Length, bytes.Length - at));
            string text;
            if (instruction.IsInvalid)
            {
                text = decoder.LastError == DecoderError.NoMoreBytes ? "(cut off)" : "(invalid)";
            }
            else
            {
                formatter.Format(instruction, output);
                text = output.ToStringAndReset();
            }

            facts.Add(new(InputLines.Hex(FuzzLayout.Code + (ulong)at), InputLines.Bytes(bytes.AsSpan(at, length)).PadRight(30) + "  " + text));
            at += length;
        }

        return facts.ToImmutable();
    }

    private static IEnumerable<InputFact> Patch(MemoryPatch patch)
    {
        for (int at = 0; at < patch.Bytes.Length; at += BytesOfLine)
        {
            byte[] line = [.. patch.Bytes.Skip(at).Take(BytesOfLine)];
            string letters = string.Concat(line.Select(static b => b is >= 0x20 and < 0x7F ? (char)b : '.'));
            yield return new InputFact(
                "0x" + (patch.Address + (ulong)at).ToString("x8", CultureInfo.InvariantCulture),
                InputLines.Bytes(line).PadRight((3 * BytesOfLine) - 1) + "  " + letters);
        }
    }

    private static InputFact Event(ScheduledEvent e) =>
        new(InputLines.Decimal(e.At), $"{e.Kind} {InputLines.Hex(e.Value)} at {e.Point}");

    private static ImmutableArray<InputFact> Fields(FuzzInput input)
    {
        ImmutableArray<ulong> golden = GoldenValues.Of(input.AllCapabilities);
        return [.. input.Vmcs.Select(f => new InputFact(f.Field.ToString(), FieldMeaning.Change(f.Field, golden[VmcsFieldInfo.Of(f.Field).Index], f.Value)))];
    }

    private static ImmutableArray<InputFact> Capabilities(FuzzInput input)
    {
        VmxCapabilities start = CapabilityRow.Base(input.AllCapabilities);
        return
        [
            .. input.Capabilities.Select(c => new InputFact(
                InputLines.Hex(c.Msr),
                $"{(CapabilityRow.Find(c.Msr) is { } row ? InputLines.Hex(row.Get(start)) : "?")} -> {InputLines.Hex(c.Value)} ({ArchitectureNames.Capability(c.Msr)})")),
        ];
    }
}
