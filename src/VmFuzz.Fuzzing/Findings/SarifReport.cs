using System.Collections.Immutable;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace VmFuzz.Fuzzing;

/// <summary>Findings as SARIF 2.1.0 (OASIS, "Static Analysis Results Interchange Format"), for CI.</summary>
public static class SarifReport
{
    private const string SchemaUri = "https://json.schemastore.org/sarif-2.1.0.json";

    /// <summary>Writes one run: a rule an oracle, a result a finding.</summary>
    /// <param name="list">The findings; their folders are the locations, relative to the campaign's directory.</param>
    /// <returns>UTF-8.</returns>
    public static byte[] Write(FindingList list)
    {
        ArgumentNullException.ThrowIfNull(list);
        ImmutableArray<string> rules = [.. list.Findings.Select(static f => f.Best.Violation.Oracle).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)];
        using var bytes = new MemoryStream();
        using (var json = new Utf8JsonWriter(bytes, new JsonWriterOptions { Indented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            json.WriteString("$schema", SchemaUri);
            json.WriteString("version", "2.1.0");
            json.WriteStartArray("runs");
            json.WriteStartObject();
            Tool(json, rules);
            json.WriteString("columnKind", "utf16CodeUnits");
            json.WriteStartArray("results");
            foreach (MergedFinding finding in list.Findings)
            {
                Result(json, finding, rules.IndexOf(finding.Best.Violation.Oracle));
            }

            json.WriteEndArray();
            json.WriteEndObject();
            json.WriteEndArray();
            json.WriteEndObject();
        }

        bytes.WriteByte((byte)'\n');
        return bytes.ToArray();
    }

    private static void Tool(Utf8JsonWriter json, ImmutableArray<string> rules)
    {
        json.WriteStartObject("tool");
        json.WriteStartObject("driver");
        json.WriteString("name", "vmfuzz");
        json.WriteString("version", Machines.Engine.Version);
        json.WriteStartArray("rules");
        foreach (string rule in rules)
        {
            json.WriteStartObject();
            json.WriteString("id", rule);
            Message(json, "shortDescription", OracleText.MeaningOf(rule));
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static void Result(Utf8JsonWriter json, MergedFinding merged, int rule)
    {
        Finding finding = merged.Best;
        json.WriteStartObject();
        json.WriteString("ruleId", finding.Violation.Oracle);
        json.WriteNumber("ruleIndex", rule);
        json.WriteString("level", finding.State == FindingState.Confirmed ? "error" : "warning");
        Message(json, "message", finding.Violation.ToString());
        json.WriteStartArray("locations");
        json.WriteStartObject();
        json.WriteStartObject("physicalLocation");
        json.WriteStartObject("artifactLocation");
        json.WriteString("uri", Uri(merged.Folder + "/" + FindingNames.Input));
        json.WriteEndObject();
        json.WriteEndObject();
        if (finding.Violation.Where.Length != 0)
        {
            json.WriteStartArray("logicalLocations");
            json.WriteStartObject();
            json.WriteString("fullyQualifiedName", finding.Violation.Where);
            json.WriteEndObject();
            json.WriteEndArray();
        }

        json.WriteEndObject();
        json.WriteEndArray();
        json.WriteStartObject("partialFingerprints");
        json.WriteString("vmfuzzKey/v1", finding.Campaign.Target + " " + finding.Violation.Key);
        json.WriteEndObject();
        json.WriteStartObject("properties");
        json.WriteString("state", FindingJson.NameOf(finding.State));
        json.WriteString("target", finding.Campaign.Target);
        json.WriteNumber("copies", merged.Copies);
        json.WriteString("reproduce", FindingNames.Command(merged.Folder, null, finding.Campaign.PluginFiles));
        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static void Message(Utf8JsonWriter json, string name, string text)
    {
        json.WriteStartObject(name);
        json.WriteString("text", text.Length == 0 ? "-" : text);
        json.WriteEndObject();
    }

    private static string Uri(string path) => string.Join('/', path.Split('/').Select(System.Uri.EscapeDataString));
}
