using System.Diagnostics;
using System.Text;
using VmFuzz.Trace;

namespace VmFuzz.Trace.Tests;

public sealed class IndependentReaderTests : IDisposable
{
    private const string Python = "/usr/bin/python3";

    private readonly string _directory = Directory.CreateTempSubdirectory("vmtrace").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(9)]
    public void Trace_ReadByPythonMsgpack_ListsTheSameEvents(int level)
    {
        if (!File.Exists(Python) || Run("-c", "import msgpack").Status != 0)
        {
            Assert.Skip("python3-msgpack is not installed for " + Python);
        }

        byte[] bytes = Samples.Small(new() { CompressionLevel = level });
        string path = Path.Combine(_directory, "golden.vmtrace");
        File.WriteAllBytes(path, bytes);
        (int status, string output, string error) = Run(Path.Combine(AppContext.BaseDirectory, "independent_reader.py"), path);
        Assert.Equal("", error);
        Assert.Equal(0, status);
        Assert.Equal(Expected(bytes), output);
    }

    private static string Expected(byte[] bytes)
    {
        using TraceReader reader = TraceReader.Open(bytes);
        StringBuilder text = new();
        string first = Hex(Convert.FromHexString(reader.Blobs[0].Hash));
        string second = Hex(Convert.FromHexString(reader.Blobs[1].Hash));
        text.Append($"header [{Text("vmtrace")},1,{Text("0.1.0")},7,{Text("live")},{Samples.Header.RowsHash},[{Text("handlers 1.2")}],");
        text.Append($"[{Text("machine")},{Text("flat")},{Text("memory")},{Text("1048576")},{Text("seed")},{Text("42")}],");
        text.Append($"[[{Text("kernel")},{Text("guest.bin")},{first},700],[{Text("initrd")},{Text("elsewhere")},{second},3]]]\n");
        text.Append($"blob [{first},0,{Hex(Samples.Image)}]\n");
        TraceCursor cursor = reader.Events();
        TraceEvent item = new();
        while (cursor.MoveNext(item))
        {
            List<string> fields = [];
            foreach (TraceField field in item.Row!.Fields)
            {
                string? value = Value(item, field);
                if (value is not null)
                {
                    fields.Add($"{field.Key}={value}");
                }
            }

            text.Append($"{item.Sequence} {(int)item.Kind} {item.Retired} {string.Join(' ', fields)}\n");
        }

        text.Append($"index [{reader.Counts.Events},{reader.Index.Length}]\n");
        return text.ToString();
    }

    private static string? Value(TraceEvent item, TraceField field)
    {
        ulong word = item.GetWord(field.Key);
        return field.Type switch
        {
            TraceFieldType.Bytes or TraceFieldType.Text => item.Bytes.IsEmpty ? null : Hex(item.Bytes),
            TraceFieldType.Controls => item.Deltas.IsEmpty ? null : Pairs(item.Deltas),
            TraceFieldType.State => item.Deltas.IsEmpty ? null : Groups(item.Deltas),
            TraceFieldType.Signed => word == 0 ? null : ((long)word).ToString(),
            _ => word == 0 ? null : word.ToString(),
        };
    }

    private static string Pairs(ReadOnlySpan<TraceDelta> deltas)
    {
        List<string> items = [];
        foreach (TraceDelta delta in deltas)
        {
            items.Add($"{delta.Field},{delta.Value}");
        }

        return $"[{string.Join(',', items)}]";
    }

    private static string Groups(ReadOnlySpan<TraceDelta> deltas)
    {
        List<string> items = [];
        int start = 0;
        for (int i = 1; i <= deltas.Length; i++)
        {
            if (i == deltas.Length || deltas[i].Component != deltas[start].Component)
            {
                items.Add($"{deltas[start].Component},{Pairs(deltas[start..i])}");
                start = i;
            }
        }

        return $"[{string.Join(',', items)}]";
    }

    private static string Text(string text) => Hex(Encoding.UTF8.GetBytes(text));

    private static string Hex(ReadOnlySpan<byte> bytes) => Convert.ToHexStringLower(bytes);

    private static (int Status, string Output, string Error) Run(params string[] arguments)
    {
        ProcessStartInfo start = new(Python, arguments) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        Task<string> error = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
#pragma warning disable xUnit1031 // The process has ended; its error output is complete.
        return (process.ExitCode, output, error.GetAwaiter().GetResult());
#pragma warning restore xUnit1031
    }
}
