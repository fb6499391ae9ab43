using System.Text;
using VmFuzz.Trace;

namespace VmFuzz.Trace.Tests;

public sealed class TraceDocumentTests
{
    [Fact]
    public void Document_TableOfKinds_IsTheSchema()
    {
        string document = File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "trace-format.md")).ReplaceLineEndings("\n");
        const string Begin = "<!-- schema begin -->\n";
        const string End = "<!-- schema end -->";
        int begin = document.IndexOf(Begin, StringComparison.Ordinal);
        int end = document.IndexOf(End, StringComparison.Ordinal);
        Assert.True(begin >= 0 && end > begin);

        // After a change of the schema the new table is there to be copied into the document.
        File.WriteAllText(Path.Combine(AppContext.BaseDirectory, "trace-format.table.md"), Table());
        Assert.Equal(Table(), document[(begin + Begin.Length)..end]);
    }

    private static string Table()
    {
        StringBuilder text = new();
        text.Append("| kind | event | key | field | type | limit | meaning |\n| --- | --- | --- | --- | --- | --- | --- |\n");
        foreach (TraceEventRow row in TraceSchema.Rows)
        {
            foreach (TraceField field in row.Fields)
            {
                string limit = field.Type switch
                {
                    TraceFieldType.Signed => "32 bits",
                    TraceFieldType.Bytes or TraceFieldType.Text => $"{field.Max} bytes",
                    TraceFieldType.Controls or TraceFieldType.State => $"{field.Max} values",
                    _ => field.Max switch { ulong.MaxValue => "64 bits", uint.MaxValue => "32 bits", ushort.MaxValue => "16 bits", _ => field.Max.ToString() },
                };
                string names = string.Join(", ", field.Names.Select(name => $"{name.Value} {name.Name}"));
                text.Append($"| {(int)row.Kind} | {row.Name} | {field.Key} | {field.Name} | {field.Type.ToString().ToLowerInvariant()} | {limit} | {field.Meaning}{(names.Length == 0 ? "" : $" ({names})")} |\n");
            }
        }

        return text.ToString();
    }
}
