using System.Text.Encodings.Web;
using System.Text.Json;

namespace VmFuzz.Fuzzing;

/// <summary>An input that once broke something and must not again: a folder of <c>corpus/regressions</c>.</summary>
/// <param name="Id">Name of the folder.</param>
/// <param name="Target">Name of the target's row.</param>
/// <param name="From">Where it came from, for people.</param>
/// <param name="Key">The key that it broke then.</param>
/// <param name="Input">The input.</param>
public sealed record Regression(string Id, string Target, string From, string Key, FuzzInput Input)
{
    /// <summary>Name of the file that says what is expected.</summary>
    public const string Expect = "expect.json";

    /// <summary>Reads a folder.</summary>
    /// <param name="path">The folder.</param>
    /// <param name="regression">The regression, when the result is null.</param>
    /// <returns>What is wrong, in one line; or null.</returns>
    public static string? TryRead(string path, out Regression? regression)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        regression = null;
        var lines = new List<string>();
        Corpus folder = Corpus.OpenToRead(path, lines.Add);
        if (folder.TryRead(FindingNames.Input) is not { } input || folder.TryRead(Expect) is not { } expect)
        {
            return lines.Count != 0 ? lines[0] : $"{path}: {FindingNames.Input} or {Expect} is missing";
        }

        try
        {
            var reader = new Utf8JsonReader(expect);
            using JsonDocument document = JsonDocument.ParseValue(ref reader);
            JsonElement root = document.RootElement;
            if (root.ValueKind != JsonValueKind.Object || !root.TryGetProperty("breaks", out JsonElement breaks) || breaks.ValueKind != JsonValueKind.Null)
            {
                return $"{path}: {Expect} must say \"breaks\": null, which is all that a regression can promise";
            }

            string target = Text(root, "target");
            if (target.Length == 0)
            {
                return $"{path}: {Expect} names no target";
            }

            regression = new(Path.GetFileName(Path.TrimEndingDirectorySeparator(path)), target, Text(root, "from"), Text(root, "key"), FuzzCodec.Decode(input));
            return null;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            return $"{path}: {Expect} is not what it should be: {e.Message.ReplaceLineEndings(" ")}";
        }
    }

    /// <summary>The content of <see cref="Expect"/> for a finding that was fixed.</summary>
    /// <param name="finding">The finding.</param>
    /// <param name="from">Where it came from, for people.</param>
    public static byte[] ExpectOf(Finding finding, string from)
    {
        ArgumentNullException.ThrowIfNull(finding);
        using var bytes = new MemoryStream();
        using (var json = new Utf8JsonWriter(bytes, new JsonWriterOptions { Indented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            json.WriteString("target", finding.Campaign.Target);
            json.WriteNull("breaks");
            json.WriteString("key", finding.Violation.Key);
            json.WriteString("text", finding.Violation.Text);
            json.WriteString("from", from);
            json.WriteEndObject();
        }

        bytes.WriteByte((byte)'\n');
        return bytes.ToArray();
    }

    /// <summary>Runs it on a fresh executor, deeply too.</summary>
    /// <returns>What it breaks; null when it is fine.</returns>
    public Violation? Run(Func<IFuzzExecutor> create) => InputProbe.Look(create, Input, key: null).Violation;

    private static string Text(JsonElement from, string name) =>
        from.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.String ? value.GetString() ?? "" : "";
}
