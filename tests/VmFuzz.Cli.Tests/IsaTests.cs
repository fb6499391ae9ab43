using System.Text.Json;

namespace VmFuzz.Cli.Tests;

/// <summary><c>vmfuzz isa</c>, and features on the command line.</summary>
public sealed class IsaTests : CommandFixture
{
    [Fact]
    public void Isa_Json_CountsTheFormsThatItLists()
    {
        JsonElement[] families = Lines(Run("isa", "--json"));
        JsonElement[] forms = Lines(Run("isa", "--forms", "--json"));
        Assert.Equal(forms.Length, families.Sum(static f => f.GetProperty("forms").GetInt32()));
        foreach (JsonElement family in families)
        {
            string? id = family.GetProperty("family").GetString();
            Assert.Equal(
                family.GetProperty("modelled").GetInt32(),
                forms.Count(form => form.GetProperty("family").GetString() == id && form.GetProperty("modelled").GetBoolean()));
        }

        JsonElement add = forms.Single(static f => f.GetProperty("form").GetString() == "And_rm32_r32");
        Assert.Equal("AND r/m32, r32", add.GetProperty("text").GetString());
        Assert.Equal("0x10", add.GetProperty("undefined").GetString());
        Assert.Equal([16, 32, 64], add.GetProperty("modes").EnumerateArray().Select(static m => m.GetInt32()));
    }

    [Fact]
    public void Isa_Deviations_AreShownByTheirReproducers()
    {
        JsonElement[] rows = Lines(Run("isa", "--deviations", "--json"));
        string vectors = Make("deviations.jsonl", System.Text.Encoding.UTF8.GetBytes(string.Concat(rows.Select(static row => Text(row, "reproducer") + "\n"))));
        string[] results = Run("exec", vectors).Out.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.NotEmpty(rows);
        Assert.Equal(string.Join('\n', rows.Select(static row => Text(row, "result"))), string.Join('\n', results));
        Assert.Equal(rows.Length, rows.Select(static row => Text(row, "deviation")).Distinct(StringComparer.Ordinal).Count());
    }

    [Fact]
    public void Deviations_Page_HasEveryRow()
    {
        string[] page = [.. Lines(Run("isa", "--deviations", "--json")).SelectMany(static row => (string[])
        [
            $"## {Text(row, "deviation")}", $"SDM \"{Text(row, "section")}\".", $"- Here: {Text(row, "here")}.", $"- Silicon: {Text(row, "silicon")}.",
            "```", $"$ echo '{Text(row, "reproducer")}' | vmfuzz exec", Text(row, "result"), "```",
        ])];
        IEnumerable<string> written = File.ReadLines(Path.Combine(Root, "src", "docs", "deviations.md")).Where(static line => line.Length != 0)
            .SkipWhile(static line => !line.StartsWith("## ", StringComparison.Ordinal));
        Assert.Equal(string.Join('\n', page), string.Join('\n', written));
    }

    [Fact]
    public void Isa_UnknownFamily_SaysWhatToDo()
    {
        Ran ran = Run("isa", "nothing");
        Assert.Equal(2, ran.Status);
        Assert.Contains("there is no family 'nothing'", ran.Err, StringComparison.Ordinal);
    }

    [Fact]
    public void Run_WithAFeatureOff_GivesUndefinedOpcode()
    {
        // popcnt eax, eax / hlt
        string guest = Make("popcnt.bin", [0xF3, 0x0F, 0xB8, 0xC0, 0xF4]);
        JsonElement on = Run("run", "-kernel", guest, "-serial", "none", "--json").Json;
        JsonElement off = Run("run", "-kernel", guest, "-serial", "none", "-cpu", "max,-popcnt", "--json", "--max-instructions", "100").Json;
        Assert.Equal(2, on.GetProperty("retired").GetInt32());
        Assert.NotEqual(2, off.GetProperty("retired").GetInt32());
    }

    [Fact]
    public void Run_WithAFeatureThatIsNotImplemented_IsRefused() =>
        Refuses(Run("run", "-kernel", HelloFile, "-cpu", "max,+vmx"), "-cpu", "vmx is not implemented", "leave '+vmx' out");

    private static string Text(JsonElement row, string member) => row.GetProperty(member).GetString()!;

    private static JsonElement[] Lines(Ran ran) =>
        [.. ran.Out.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(static line => JsonDocument.Parse(line).RootElement)];
}
