using System.Globalization;
using System.Text;
using System.Text.Json;
using VmFuzz.Replay;

namespace VmFuzz.Cli.Tests.Exec;

/// <summary><c>vmfuzz exec</c>: a line for a line, whatever comes in.</summary>
public sealed class ExecLineTests : CommandFixture
{
    private static readonly string[] Modes = ["real", "protected16", "protected32", "long"];

    [Theory]
    [InlineData("", "null", "not JSON")]
    [InlineData("x", "null", "not JSON")]
    [InlineData("[]", "null", "not a JSON object")]
    [InlineData("""{"id":1,""", "1", "not JSON")]
    [InlineData("""{"id":1,"code":"90"} {}""", "1", "not JSON")]
    [InlineData("""{"id":1}""", "1", "code is missing")]
    [InlineData("""{"id":{},"code":"90"}""", "null", "id is a string or a number")]
    [InlineData("""{"id":"a\"\u0041","code":"9"}""", "\"a\\\"\\u0041\"", "code is a string")]
    [InlineData("""{"id":2,"code":"9g"}""", "2", "code is a string")]
    [InlineData("""{"id":2,"code":90}""", "2", "code is a string")]
    [InlineData("""{"id":2,"code":"90","code":"90"}""", "2", "code is given twice")]
    [InlineData("""{"id":2,"code":"90","what":1}""", "2", "no such member")]
    [InlineData("""{"id":2,"code":"90","mode":"vm86"}""", "2", "mode is one of real, protected16, protected32, long")]
    [InlineData("""{"id":2,"code":"90","max":0}""", "2", "max is a number")]
    [InlineData("""{"id":2,"code":"90","max":1e3}""", "2", "max is a number")]
    [InlineData("""{"id":2,"code":"90","max":1000001}""", "2", "max is a number")]
    [InlineData("""{"id":2,"code":"90","regs":[]}""", "2", "regs is an object")]
    [InlineData("""{"id":2,"code":"90","regs":{"eax":"0x1"}}""", "2", "no register 'eax'")]
    [InlineData("""{"id":2,"code":"90","regs":{"cs":{"rpl":"0x1"}}}""", "2", "no register 'cs.rpl'")]
    [InlineData("""{"id":2,"code":"90","regs":{"cs":{"sel":{}}}}""", "2", "cs.sel is a string")]
    [InlineData("""{"id":2,"code":"90","regs":{"rax":1}}""", "2", "rax is a string: 0x")]
    [InlineData("""{"id":2,"code":"90","regs":{"rax":"1"}}""", "2", "rax is a string: 0x")]
    [InlineData("""{"id":2,"code":"90","regs":{"rax":"0x"}}""", "2", "rax is a string: 0x")]
    [InlineData("""{"id":2,"code":"90","regs":{"rax":"0x10000000000000000"}}""", "2", "rax has 64 bits")]
    [InlineData("""{"id":2,"code":"90","regs":{"st0":"0x100000000000000000000"}}""", "2", "st0 has 80 bits")]
    [InlineData("""{"id":2,"code":"90","regs":{"mxcsr":"0x10000"}}""", "2", "mxcsr has 16 bits")]
    [InlineData("""{"id":2,"code":"90","regs":{"cs":{"sel":"0x10000"}}}""", "2", "cs.sel has 16 bits")]
    [InlineData("""{"id":2,"code":"90","regs":{"rax":"0x1","rax":"0x1"}}""", "2", "rax is given twice")]
    [InlineData("""{"id":2,"code":"90","regs":{"pat":"0x1"}}""", "2", "pat cannot be given")]
    [InlineData("""{"id":2,"code":"90","regs":{"xcr0":"0x2"}}""", "2", "xcr0 has a value that XSETBV does not take")]
    [InlineData("""{"id":2,"code":"90","regs":{"cr0":"0x80000000"}}""", "2", "cr0 has PG without PE")]
    [InlineData("""{"id":2,"code":"90","regs":{"cr0":"0x33"}}""", "2", "efer has LMA not equal to LME and cr0 PG")]
    [InlineData("""{"id":2,"code":"90","regs":{"cr0":"0x33","efer":"0x0","cs":{"attr":"0xc09b"}}}""", "2", "cr0 and efer do not agree with the mode")]
    [InlineData("""{"id":2,"code":"90","mode":"real","regs":{"cr0":"0x33"}}""", "2", "cr0 and efer do not agree with the mode")]
    [InlineData("""{"id":2,"code":"90","regs":{"cr4":"0x0"}}""", "2", "efer has LMA without cr4 PAE")]
    [InlineData("""{"id":2,"code":"90","regs":{"cr4":"0x80000000"}}""", "2", "cr4 has bits that the processor model lacks")]
    [InlineData("""{"id":2,"code":"90","regs":{"cr3":"0xffff000000000000"}}""", "2", "cr3 has bits above")]
    [InlineData("""{"id":2,"code":"90","regs":{"cs":{"attr":"0x93"}}}""", "2", "cs is not a present code segment")]
    [InlineData("""{"id":2,"code":"90","regs":{"cs":{"attr":"0xe09b"}}}""", "2", "cs has L together with D")]
    [InlineData("""{"id":2,"code":"90","regs":{"rip":"0x800000000000"}}""", "2", "rip is not canonical")]
    [InlineData("""{"id":2,"code":"90","regs":{"rip":"0x7fffffffffff"}}""", "0", "")]
    [InlineData("""{"id":2,"code":"9090","regs":{"rip":"0x7fffffffffff"}}""", "2", "not canonical")]
    [InlineData("""{"id":2,"code":"90","regs":{"rflags":"0x20000"}}""", "2", "rflags has VM")]
    [InlineData("""{"id":2,"code":"90","mem":{}}""", "2", "mem is an array")]
    [InlineData("""{"id":2,"code":"90","mem":[1]}""", "2", "a piece of mem is")]
    [InlineData("""{"id":2,"code":"90","mem":[{"at":"0x0"}]}""", "2", "a piece of mem is")]
    [InlineData("""{"id":2,"code":"90","mem":[{"at":"0x0","hex":""}]}""", "2", "a piece of mem is")]
    [InlineData("""{"id":2,"code":"90","mem":[{"at":"0x0","hex":"00","hex":"00"}]}""", "2", "a piece of mem is")]
    [InlineData("""{"id":2,"code":"90","mem":[{"at":"0x10000000000000000","hex":"00"}]}""", "2", "a piece of mem is")]
    [InlineData("""{"id":2,"code":"90","mem":[{"at":"0xffffffffffffffff","hex":"0000"}]}""", "2", "not canonical")]
    [InlineData("""{"id":2,"code":"90","mode":"real","mem":[{"at":"0xffffff","hex":"0000"}]}""", "2", "do not lie in the 16 MiB of memory")]
    [InlineData("""{"id":2,"code":"90","mode":"protected32","regs":{"rip":"0x1000000"}}""", "2", "do not lie in the 16 MiB of memory")]
    [InlineData("""{"id":2,"code":"d9fe"}""", "2", "not modelled: instruction fsin")]
    public void Exec_BadLine_IsOneLineWithAnErrorAndTheNextOneRuns(string line, string id, string error)
    {
        Ran ran = Run("exec", Make("bad.jsonl", Encoding.UTF8.GetBytes(line + "\n" + """{"id":9,"code":"90"}""" + "\n")));
        string[] results = ran.Out.Split('\n');
        Assert.Equal(3, results.Length);
        Assert.Equal("""{"id":9,"retired":1,"stop":"max","regs":{"rip":"0x10001"},"mem":[]}""", results[1]);
        if (error.Length == 0)
        {
            Assert.Equal(0, ran.Status);
            return;
        }

        Assert.Equal(2, ran.Status);
        JsonElement result = JsonDocument.Parse(results[0]).RootElement;
        Assert.Equal(id, result.GetProperty("id").GetRawText());
        Assert.Contains(error, result.GetProperty("error").GetString(), StringComparison.Ordinal);
    }

    [Fact]
    public void Exec_TooMuch_IsRefusedLineByLine()
    {
        string much = new('0', 64 << 11);
        string pieces = string.Join(',', Enumerable.Repeat("""{"at":"0x0","hex":"00"}""", 65));
        string[] lines =
        [
            $$"""{"id":1,"code":"{{new string('9', 8194)}}"}""",
            $$"""{"id":1,"code":"90","mem":[{"at":"0x0","hex":"{{much}}00"}]}""",
            $$"""{"id":1,"code":"90","mem":[{{pieces}}]}""",
            $$"""{"id":1,"code":"90","what":"{{new string('x', 300_000)}}"}""",
            """{"id":1,"code":"90"}""",
            $$"""{"id":1,"code":"90","mem":[{"at":"0x0","hex":"{{much}}"}]}""",
        ];
        Ran ran = Run("exec", Make("much.jsonl", Encoding.UTF8.GetBytes(string.Join('\n', lines))));
        string[] results = ran.Out.TrimEnd('\n').Split('\n');
        Assert.Equal(lines.Length, results.Length);
        Assert.Contains("at most 4096 bytes", results[0], StringComparison.Ordinal);
        Assert.Contains("mem has more than 65536 bytes", results[1], StringComparison.Ordinal);
        Assert.Contains("mem has more than 64 pieces", results[2], StringComparison.Ordinal);
        Assert.Contains("the line is longer than 262144 bytes", results[3], StringComparison.Ordinal);
        Assert.Contains("\"stop\":\"max\"", results[4], StringComparison.Ordinal);
        Assert.Contains("\"stop\":\"max\"", results[5], StringComparison.Ordinal);
        Assert.Equal(2, ran.Status);
    }

    [Fact]
    public void Exec_OverPipes_AnswersEachLineBeforeTheNextOne()
    {
        using System.Diagnostics.Process process = Start("exec", "--keep");
        for (int n = 1; n <= 3; n++)
        {
            process.StandardInput.WriteLine("""{"id":"inc","code":"48ffc0"}""");
            process.StandardInput.Flush();
            JsonElement result = JsonDocument.Parse(process.StandardOutput.ReadLine()!).RootElement;
            Assert.Equal($"0x{n}", result.GetProperty("regs").GetProperty("rax").GetString());
        }

        process.StandardInput.Close();
        process.WaitForExit();
        Assert.Equal("", process.StandardOutput.ReadToEnd());
        Assert.Equal(0, process.ExitCode);
    }

    [Fact]
    public void Exec_NoFile_IsRefused() => Refuses(Run("exec", At("nothing.jsonl")), "the file of vectors does not exist");

    [Theory]
    [InlineData(1, false)]
    [InlineData(2, true)]
    public void Exec_RandomLines_GiveOneLineEach(ulong seed, bool keep)
    {
        var random = new SplitMix(seed);
        string[] lines = [.. Enumerable.Range(0, 5000).Select(n => RandomLine(random, n))];
        string file = Make("random.jsonl", Encoding.Latin1.GetBytes(string.Join('\n', lines) + "\n"));
        string[] options = keep ? ["exec", file, "--keep"] : ["exec", file];
        Ran ran = Run(options);
        string[] results = ran.Out.Split('\n');
        Assert.Equal("", ran.Err);
        Assert.Equal(lines.Length + 1, results.Length);
        for (int n = 0; n < lines.Length; n++)
        {
            string id = JsonDocument.Parse(results[n]).RootElement.GetProperty("id").GetRawText();
            Assert.True(id == n.ToString(CultureInfo.InvariantCulture) || results[n].Contains("\"error\"", StringComparison.Ordinal), results[n]);
        }

        Assert.Equal(ran.Out, Run(options).Out);
    }

    [Fact]
    public void Exec_SameLineAgain_SameResultWhateverStoodBetween()
    {
        var random = new SplitMix(3);
        string[] lines = [.. Enumerable.Range(0, 400).Select(n => RandomLine(random, n))];
        string[] order = [.. lines, .. lines.Reverse(), .. lines.SelectMany(line => (string[])[line, line])];
        string[] results = Run("exec", Make("again.jsonl", Encoding.Latin1.GetBytes(string.Join('\n', order) + "\n"))).Out.Split('\n');
        for (int n = 0; n < lines.Length; n++)
        {
            string alone = Run("exec", Make("alone.jsonl", Encoding.Latin1.GetBytes(lines[n] + "\n"))).Out.TrimEnd('\n');
            Assert.Equal(alone, results[n]);
            Assert.Equal(alone, results[(2 * lines.Length) - 1 - n]);
            Assert.Equal(alone, results[(2 * lines.Length) + (2 * n)]);
            Assert.Equal(alone, results[(2 * lines.Length) + (2 * n) + 1]);
        }
    }

    // Random code on a state that often makes sense, seldom not; now and then a broken line.
    private static string RandomLine(SplitMix random, int id)
    {
        var line = new StringBuilder();
        line.Append(CultureInfo.InvariantCulture, $$"""{"id":{{id}},"code":"{{Bytes(random, 1 + Below(random, 24))}}","max":{{1 + Below(random, 40)}}""");
        if (Below(random, 8) != 0)
        {
            line.Append(CultureInfo.InvariantCulture, $$""","mode":"{{Modes[Below(random, 4)]}}" """);
        }

        string[] registers = ["rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", "r8", "r15", "rsp", "rflags"];
        line.Append(",\"regs\":{");
        line.AppendJoin(',', registers.Where(_ => Below(random, 2) == 0).Select(name => $"\"{name}\":\"{Number(random)}\""));
        if (Below(random, 12) == 0)
        {
            string[] odd = ["cr0", "cr3", "cr4", "efer", "dr7", "star", "rip", "fsw"];
            line.Append(line[^1] == '{' ? "" : ",").Append(CultureInfo.InvariantCulture, $"\"{odd[Below(random, odd.Length)]}\":\"{Number(random)}\"");
        }

        line.Append("},\"mem\":[");
        line.AppendJoin(',', Enumerable.Range(0, Below(random, 4)).Select(_ => $$"""{"at":"{{Number(random)}}","hex":"{{Bytes(random, 1 + Below(random, 64))}}"}"""));
        line.Append("]}");
        if (Below(random, 20) == 0)
        {
            char character = (char)Below(random, 256);
            line[Below(random, line.Length)] = character == '\n' ? '\0' : character;
        }

        return line.ToString();
    }

    private static string Number(SplitMix random) => Below(random, 4) switch
    {
        0 => $"0x{random.Next():x}",
        1 => $"0x{random.Next() >> 40:x}",
        _ => $"0x{0x10000 + Below(random, 0x10000):x}",
    };

    private static string Bytes(SplitMix random, int count) =>
        string.Concat(Enumerable.Range(0, count).Select(_ => $"{(byte)random.Next():x2}"));

    private static int Below(SplitMix random, int limit) => (int)(random.Next() % (ulong)limit);
}
