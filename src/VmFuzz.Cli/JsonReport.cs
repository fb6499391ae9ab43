using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using VmFuzz.Replay;

namespace VmFuzz.Cli;

/// <summary>One JSON object on one line.</summary>
internal static class JsonReport
{
    public static void Write(TextWriter writer, Action<Utf8JsonWriter> content)
    {
        using var bytes = new MemoryStream();
        using (var json = new Utf8JsonWriter(bytes, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            content(json);
            json.WriteEndObject();
        }

        writer.WriteLine(Encoding.UTF8.GetString(bytes.ToArray()));
    }

    public static void Counts(Utf8JsonWriter json, RunCounts counts)
    {
        json.WriteNumber("entries", counts.Entries);
        json.WriteNumber("exits", counts.Exits);
        json.WriteNumber("injected", counts.Injected);
        json.WriteNumber("delivered", counts.Delivered);
        json.WriteNumber("inputs", counts.Inputs);
    }
}
