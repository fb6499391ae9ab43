using System.Text.Json;
using VmFuzz.Trace;

namespace VmFuzz.Trace.Tests;

public sealed class TraceTextTests
{
    private static readonly TraceNames s_names = new()
    {
        Value = static (kind, field, value) => kind == TraceEventKind.Exit && field.Name == "reason" && value == 10 ? "CPUID" : null,
        Place = static (component, field) => component == 0x1000 && field == 0 ? "rax" : null,
    };

    [Fact]
    public void Line_Exit_UsesNamesOfTheCaller()
    {
        TraceEvent exit = Samples.Exit(new(), 3);
        exit.Sequence = 17;
        exit.Digest = 0xab;
        Assert.Equal(
            "      17 v0           75 exit digest=0xab rip=0xffffffff81000030 reason=0xa(CPUID) instruction-length=2 rax:=0x3 0x1000.1:=0xffff8880000000c0",
            new TraceText(s_names).Line(exit));
    }

    [Fact]
    public void Line_Console_IsOneLineWhateverTheBytes()
    {
        TraceEvent console = new(TraceEventKind.Console);
        console.SetBytes("a\"\\\r\n\u001b\u00ff"u8);
        Assert.Equal("       0 v0            0 console direction=output bytes=\"a\\\"\\\\\\r\\n\\x1b\\xc3\\xbf\"", new TraceText().Line(console));
    }

    [Fact]
    public void Json_EveryKind_IsOneObjectOnOneLine()
    {
        TraceText text = new(s_names);
        foreach (TraceEvent item in Samples.AllKinds().Append(Samples.Full(TraceEventKind.End, 4)))
        {
            string line = text.Json(item);
            Assert.DoesNotContain('\n', line);
            using JsonDocument document = JsonDocument.Parse(line);
            JsonElement root = document.RootElement;
            Assert.Equal(item.Row!.Name, root.GetProperty("event").GetString());
            Assert.Equal(item.Retired, root.GetProperty("retired").GetUInt64());
            foreach (TraceField field in item.Row.Fields)
            {
                bool present = field.Key == 0 || !field.IsScalar ? root.TryGetProperty(field.Name, out _) || item.Deltas.IsEmpty && item.Bytes.IsEmpty
                    : root.TryGetProperty(field.Name, out _) == (item.GetWord(field.Key) != 0);
                Assert.True(present, $"{item.Row.Name}: {field.Name}");
            }
        }
    }

    [Fact]
    public void Json_Exit_HasValuesAndNames()
    {
        TraceEvent exit = Samples.Exit(new(), 1);
        exit.Digest = 5;
        Assert.Equal(
            "{\"sequence\":0,\"event\":\"exit\",\"vcpu\":0,\"retired\":25,\"digest\":\"0x5\",\"rip\":\"0xffffffff81000010\",\"reason\":\"0xa\",\"reason-name\":\"CPUID\",\"instruction-length\":2,"
            + "\"state\":[{\"component\":4096,\"field\":0,\"name\":\"rax\",\"value\":\"0x1\"},{\"component\":4096,\"field\":1,\"value\":\"0xffff888000000040\"}]}",
            new TraceText(s_names).Json(exit));
    }

    [Fact]
    public void Json_Text_IsEscaped()
    {
        TraceEvent end = new(TraceEventKind.End);
        end.SetText("a \"quoted\"\nreason");
        using JsonDocument document = JsonDocument.Parse(new TraceText().Json(end));
        Assert.Equal("a \"quoted\"\nreason", document.RootElement.GetProperty("reason").GetString());
    }
}
