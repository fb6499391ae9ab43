using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace VmFuzz.Fuzzing;

/// <summary>A finding whose triage has not ended, with everything that is needed to start it again.</summary>
/// <param name="Finding">What is known.</param>
/// <param name="Fatal">Whether running the input may end the process that does it.</param>
/// <param name="Attempts">How often triage began.</param>
/// <param name="Input">The input.</param>
public sealed record PendingFinding(Finding Finding, bool Fatal, int Attempts, ImmutableArray<byte> Input);

/// <summary><c>finding.json</c> and <c>pending.json</c>.</summary>
public static class FindingJson
{
    /// <summary>Version of the form; readers refuse others.</summary>
    public const int Schema = 1;

    /// <summary>Most bytes of such a file that are read.</summary>
    public const int MostBytes = 1 << 20;

    private const int MostText = 4096;
    private const int MostPlugins = 64;

    /// <summary>Writes a finding.</summary>
    public static byte[] Write(Finding finding) => Write(finding, null);

    /// <summary>Writes a finding whose triage has not ended.</summary>
    public static byte[] Write(PendingFinding pending)
    {
        ArgumentNullException.ThrowIfNull(pending);
        return Write(pending.Finding, pending);
    }

    /// <summary>Reads a finding from any bytes.</summary>
    /// <param name="bytes">The file's content.</param>
    /// <param name="finding">The finding, when the result is null.</param>
    /// <returns>What is wrong, in a few words; or null.</returns>
    public static string? TryRead(ReadOnlySpan<byte> bytes, out Finding? finding)
    {
        string? wrong = TryRead(bytes, out finding, out _);
        return wrong;
    }

    /// <summary>Reads a finding whose triage has not ended from any bytes.</summary>
    /// <param name="bytes">The file's content.</param>
    /// <param name="pending">The finding, when the result is null.</param>
    /// <returns>What is wrong, in a few words; or null.</returns>
    public static string? TryRead(ReadOnlySpan<byte> bytes, out PendingFinding? pending)
    {
        pending = null;
        string? wrong = TryRead(bytes, out Finding? finding, out JsonElement root);
        if (wrong is not null)
        {
            return wrong;
        }

        if (!root.TryGetProperty("inputBytes", out JsonElement text) || text.ValueKind != JsonValueKind.String || !text.TryGetBytesFromBase64(out byte[]? input))
        {
            return "it holds no input";
        }

        pending = new PendingFinding(finding!, Flag(root, "fatal"), (int)Math.Min(Number(root, "attempts"), int.MaxValue), [.. input.AsSpan(0, Math.Min(input.Length, FuzzLimits.InputBytes))]);
        return null;
    }

    private static byte[] Write(Finding finding, PendingFinding? pending)
    {
        ArgumentNullException.ThrowIfNull(finding);
        using var bytes = new MemoryStream();
        using (var json = new Utf8JsonWriter(bytes, new JsonWriterOptions { Indented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            json.WriteNumber("schema", Schema);
            WriteFacts(json, finding, FindingNames.Command(".", null, finding.Campaign.PluginFiles));
            if (pending is not null)
            {
                json.WriteBoolean("fatal", pending.Fatal);
                json.WriteNumber("attempts", pending.Attempts);
                json.WriteBase64String("inputBytes", pending.Input.AsSpan());
            }

            json.WriteEndObject();
        }

        bytes.WriteByte((byte)'\n');
        return bytes.ToArray();
    }

    /// <summary>Writes the facts of a finding as properties of the object that was begun.</summary>
    /// <param name="json">Where to.</param>
    /// <param name="finding">The finding.</param>
    /// <param name="command">The command that reproduces it.</param>
    public static void WriteFacts(Utf8JsonWriter json, Finding finding, string command)
    {
        ArgumentNullException.ThrowIfNull(json);
        ArgumentNullException.ThrowIfNull(finding);
        CampaignFacts campaign = finding.Campaign;
        json.WriteString("key", finding.Violation.Key);
        json.WriteString("oracle", finding.Violation.Oracle);
        json.WriteString("where", finding.Violation.Where);
        json.WriteString("text", finding.Violation.Text);
        json.WriteString("state", NameOf(finding.State));
        json.WriteString("note", finding.Note);
        json.WriteString("target", campaign.Target);
        json.WriteString("campaign", campaign.Campaign);
        json.WriteString("worker", campaign.Worker);
        json.WriteString("seed", InputLines.Hex(campaign.Seed));
        json.WriteNumber("execution", finding.Execution);
        json.WriteStartObject("engine");
        json.WriteString("version", campaign.Engine.Version);
        json.WriteNumber("semantics", campaign.Engine.Semantics);
        json.WriteString("rows", InputLines.Hex(campaign.Engine.Rows));
        Strings(json, "plugins", campaign.Engine.Plugins);
        json.WriteEndObject();
        Strings(json, "pluginFiles", campaign.PluginFiles);
        json.WriteBoolean("deep", finding.Deep);
        Digest(json, "digest", finding.Digest);
        Digest(json, "originalDigest", finding.OriginalDigest);
        json.WriteNumber("exits", finding.Exits);
        json.WriteNumber("instructions", finding.Instructions);
        json.WriteNumber("bytes", finding.Bytes);
        json.WriteNumber("originalBytes", finding.OriginalBytes);
        json.WriteNumber("minimizerExecutions", finding.MinimizerExecutions);
        json.WriteBoolean("minimal", finding.Minimal);
        json.WriteBoolean("trace", finding.Trace);
        json.WriteString("corpusFile", finding.CorpusFile);
        json.WriteString("reproduce", command);
    }

    /// <summary>Name of a state, as in files.</summary>
    public static string NameOf(FindingState state) => state switch
    {
        FindingState.Confirmed => "confirmed",
        FindingState.Unstable => "unstable",
        _ => "unconfirmed",
    };

    private static string? TryRead(ReadOnlySpan<byte> bytes, out Finding? finding, out JsonElement root)
    {
        finding = null;
        root = default;
        try
        {
            var reader = new Utf8JsonReader(bytes);
            using JsonDocument document = JsonDocument.ParseValue(ref reader);
            root = document.RootElement.Clone();
        }
        catch (JsonException)
        {
            return "it is not JSON";
        }

        if (root.ValueKind != JsonValueKind.Object || !root.TryGetProperty("schema", out JsonElement schema))
        {
            return "it is not a finding";
        }

        if (schema.ValueKind != JsonValueKind.Number || !schema.TryGetInt32(out int version) || version != Schema)
        {
            return "its schema is not the one of this version";
        }

        string oracle = Text(root, "oracle");
        string target = Text(root, "target");
        if (oracle.Length == 0 || target.Length == 0)
        {
            return "it names no oracle or no target";
        }

        JsonElement engine = root.TryGetProperty("engine", out JsonElement e) ? e : default;
        finding = new Finding
        {
            Violation = new Violation(oracle, Text(root, "where"), Text(root, "text")),
            State = Text(root, "state") switch
            {
                "confirmed" => FindingState.Confirmed,
                "unstable" => FindingState.Unstable,
                _ => FindingState.Unconfirmed,
            },
            Note = Text(root, "note"),
            Campaign = new CampaignFacts(
                target,
                Text(root, "campaign"),
                Text(root, "worker"),
                HexOf(root, "seed") ?? 0,
                new EngineIdentity(Text(engine, "version"), (uint)Math.Min(Number(engine, "semantics"), uint.MaxValue), HexOf(engine, "rows") ?? 0, Texts(engine, "plugins")),
                Texts(root, "pluginFiles")),
            Execution = Number(root, "execution"),
            Deep = Flag(root, "deep"),
            Digest = HexOf(root, "digest"),
            OriginalDigest = HexOf(root, "originalDigest"),
            Exits = Number(root, "exits"),
            Instructions = Number(root, "instructions"),
            Bytes = (int)Math.Min(Number(root, "bytes"), int.MaxValue),
            OriginalBytes = (int)Math.Min(Number(root, "originalBytes"), int.MaxValue),
            MinimizerExecutions = (int)Math.Min(Number(root, "minimizerExecutions"), int.MaxValue),
            Minimal = Flag(root, "minimal"),
            Trace = Flag(root, "trace"),
            CorpusFile = InCorpus(Text(root, "corpusFile")),
        };
        return null;
    }

    // Triage writes there: nothing but a crash or a hang.
    private static string InCorpus(string path)
    {
        int slash = path.IndexOf('/', StringComparison.Ordinal);
        return slash > 0 && path[..slash] is "crashes" or "hangs"
            && CorpusName.Parse(path[(slash + 1)..]) is not null
            && path.IndexOfAny(['/', '\\'], slash + 1) < 0 ? path : "";
    }

    private static void Strings(Utf8JsonWriter json, string name, ImmutableArray<string> values)
    {
        json.WriteStartArray(name);
        foreach (string value in values)
        {
            json.WriteStringValue(value);
        }

        json.WriteEndArray();
    }

    private static void Digest(Utf8JsonWriter json, string name, ulong? value)
    {
        if (value is { } digest)
        {
            json.WriteString(name, "0x" + digest.ToString("x16", CultureInfo.InvariantCulture));
        }
        else
        {
            json.WriteNull(name);
        }
    }

    private static string Text(JsonElement from, string name)
    {
        if (from.ValueKind != JsonValueKind.Object || !from.TryGetProperty(name, out JsonElement value) || value.ValueKind != JsonValueKind.String)
        {
            return "";
        }

        return Plain(value);
    }

    // Control characters could steer a terminal; lone surrogates have no form in UTF-8.
    private static string Plain(JsonElement value)
    {
        string text;
        try
        {
            text = value.GetString() ?? "";
        }
        catch (InvalidOperationException)
        {
            return "";
        }

        var plain = new StringBuilder(Math.Min(text.Length, MostText));
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (plain.Length >= MostText)
            {
                break;
            }

            plain.Append(Rune.IsControl(rune) || rune == Rune.ReplacementChar ? "?" : rune.ToString());
        }

        return plain.ToString();
    }

    private static ImmutableArray<string> Texts(JsonElement from, string name)
    {
        if (from.ValueKind != JsonValueKind.Object || !from.TryGetProperty(name, out JsonElement list) || list.ValueKind != JsonValueKind.Array)
        {
            return [];
        }

        return [.. list.EnumerateArray().Where(static v => v.ValueKind == JsonValueKind.String).Take(MostPlugins).Select(Plain)];
    }

    private static ulong Number(JsonElement from, string name) =>
        from.ValueKind == JsonValueKind.Object && from.TryGetProperty(name, out JsonElement value)
        && value.ValueKind == JsonValueKind.Number && value.TryGetUInt64(out ulong number) ? number : 0;

    private static bool Flag(JsonElement from, string name) => from.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.True;

    private static ulong? HexOf(JsonElement from, string name)
    {
        string text = Text(from, name);
        return text.StartsWith("0x", StringComparison.Ordinal)
            && ulong.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong value) ? value : null;
    }
}
