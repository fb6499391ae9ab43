using System.Text.Json;

namespace VmFuzz.Cli.Tests.Exec;

/// <summary><c>vmfuzz exec</c>: what vectors do.</summary>
public sealed class ExecTests : CommandFixture
{
    [Theory]

    // 40: INC in 16- and 32-bit code, a prefix in 64-bit code.
    [InlineData("real", "40", "0xffffffff", "0xffff0000", "0x1")]
    [InlineData("protected16", "40", "0xffffffff", "0xffff0000", "0x1")]
    [InlineData("protected32", "40", "0xfffffffe", "0xffffffff", "0x10001")]
    [InlineData("long", "40fec0", "0xfffffffe", "0xffffffff", "0x10003")]
    [InlineData("real", "6640", "0xfffffffe", "0xffffffff", "0x2")]
    public void Exec_EachMode_DecodesCodeOfItsSize(string mode, string code, string before, string after, string rip)
    {
        JsonElement result = One($$$"""{"id":7,"mode":"{{{mode}}}","code":"{{{code}}}","regs":{"rax":"{{{before}}}"}}""");
        Assert.Equal(7, result.GetProperty("id").GetInt32());
        Assert.Equal(1, result.GetProperty("retired").GetInt32());
        Assert.Equal("max", result.GetProperty("stop").GetString());
        Assert.Equal(after, Register(result, "rax"));
        Assert.Equal(rip, Register(result, "rip"));
    }

    [Fact]
    public void Exec_RealMode_BaseFollowsTheSelector()
    {
        // mov [0x10], al with DS = 0x2000
        JsonElement result = One("""{"mode":"real","code":"a21000","regs":{"rax":"0x5a","ds":{"sel":"0x2000"}}}""");
        Assert.Equal("""[{"at":"0x20010","hex":"5a"}]""", result.GetProperty("mem").GetRawText());
    }

    [Fact]
    public void Exec_Xcr0_IsWhatXgetbvReads()
    {
        JsonElement result = One("""{"code":"0f01d0","regs":{"cr4":"0x40620","xcr0":"0x3"}}""");
        Assert.Equal("0x3", Register(result, "rax"));
    }

    [Fact]
    public void Exec_CompatibilityMode_IsLongModeWithAnotherSegment()
    {
        JsonElement result = One("""{"code":"40","regs":{"rax":"0x7fffffff","cs":{"attr":"0xc09b"}}}""");
        Assert.Equal("0x80000000", Register(result, "rax"));
    }

    [Theory]
    [InlineData("""{"code":"488b00","regs":{"rax":"0x7f0012345678"}}""", 14, "0x0", "0x7f0012345678")] // mov rax,[rax]
    [InlineData("""{"code":"488900","regs":{"rax":"0x7f0012345678"}}""", 14, "0x2", "0x7f0012345678")] // mov [rax],rax
    [InlineData("""{"code":"50","regs":{"rsp":"0x8"}}""", 14, "0x2", "0x0")] // push rax
    [InlineData("""{"code":"8ed8","regs":{"rax":"0x1234"}}""", 13, "0x1234", null)] // mov ds,eax
    [InlineData("""{"code":"488b00","regs":{"rax":"0x8000000000000000"}}""", 13, "0x0", null)]
    [InlineData("""{"code":"f7f1"}""", 0, null, null)] // div ecx
    [InlineData("""{"code":"0f0b"}""", 6, null, null)] // ud2
    [InlineData("""{"code":"cd80"}""", 128, null, null)] // int 0x80
    [InlineData("""{"mode":"real","code":"a16500","regs":{"ds":{"limit":"0x65"}}}""", 13, null, null)] // mov ax,[0x65]
    [InlineData("""{"code":"31c990","max":2,"regs":{"rflags":"0x100"}}""", 1, null, null)] // xor ecx,ecx under TF
    public void Exec_WithoutIdt_ReportsTheFault(string line, int vector, string? error, string? address)
    {
        JsonElement result = One(line);
        Assert.Equal("fault", result.GetProperty("stop").GetString());
        JsonElement fault = result.GetProperty("fault");
        Assert.Equal(vector, fault.GetProperty("vector").GetInt32());
        Assert.Equal(error, fault.TryGetProperty("error", out JsonElement code) ? code.GetString() : null);
        Assert.Equal(address, fault.TryGetProperty("address", out JsonElement at) ? at.GetString() : null);
        if (address is not (null or "0x0"))
        {
            Assert.Equal(address, Register(result, "cr2"));
        }
    }

    [Fact]
    public void Exec_WithIdt_DeliversTheFault()
    {
        // Vector 0 at 0x2000:0x0010, where HLT is; the frame goes to 0:0x8000.
        JsonElement result = One("""{"mode":"real","code":"f7f1","max":9,"regs":{"idtr":{"base":"0x0","limit":"0x3ff"}},"mem":[{"at":"0x0","hex":"10000020"},{"at":"0x20010","hex":"f4"}]}""");
        Assert.Equal("hlt", result.GetProperty("stop").GetString());
        Assert.Equal("0x7ffa", Register(result, "rsp"));
        Assert.Equal("0x11", Register(result, "rip"));
        Assert.Equal("0x2000", result.GetProperty("regs").GetProperty("cs").GetProperty("sel").GetString());

        // IP 0 is as before; CS 0x1000, flags 2.
        Assert.Equal("""[{"at":"0x7ffd","hex":"1002"}]""", result.GetProperty("mem").GetRawText());
    }

    [Theory]
    [InlineData("""{"code":"f4","max":5}""", "hlt", 1)]
    [InlineData("""{"code":"e6f4","max":5}""", "exit", 1)]
    [InlineData("""{"code":"ebfe","max":1000}""", "max", 1000)]
    [InlineData("""{"code":"0f0b","regs":{"idtr":{"limit":"0xfff"}}}""", "shutdown", 0)]

    // A handler that faults at once, for ever: deliveries count against max.
    [InlineData("""{"mode":"real","code":"0f0b","max":50,"regs":{"idtr":{"limit":"0x3ff"}},"mem":[{"at":"0x18","hex":"00000010"}]}""", "max", 0)]
    [InlineData("""{"code":"f3a4","max":3,"regs":{"rcx":"0x5","rsi":"0x20000","rdi":"0x20100"},"mem":[{"at":"0x20000","hex":"0102030405"}]}""", "max", 3)]
    public void Exec_Stop_IsNamed(string line, string stop, int retired)
    {
        JsonElement result = One(line);
        Assert.Equal(stop, result.GetProperty("stop").GetString());
        Assert.Equal(retired, result.GetProperty("retired").GetInt32());
    }

    [Fact]
    public void Exec_Memory_OnlyChangedBytesAreNamed()
    {
        // mov [rdi],rax over a page boundary high up; two of the eight bytes are what they were.
        JsonElement result = One("""{"code":"488907","regs":{"rax":"0x8877665544332211","rdi":"0xffffffff81000ffc"},"mem":[{"at":"0xffffffff81000ffc","hex":"11000000"},{"at":"0xffffffff81001000","hex":"0000770000"}]}""");
        Assert.Equal(
            """[{"at":"0xffffffff81000ffd","hex":"223344"},{"at":"0xffffffff81001000","hex":"5566"},{"at":"0xffffffff81001003","hex":"88"}]""",
            result.GetProperty("mem").GetRawText());
    }

    [Fact]
    public void Exec_OwnPageTables_AddressesArePhysical()
    {
        // Linear 0x10000 (code) and 0x400000 to physical 0x10000 and 0x20000.
        JsonElement result = One("""{"code":"a34000400000000000","regs":{"rax":"0x12345678","cr3":"0x1000"},"mem":[{"at":"0x1000","hex":"0320"},{"at":"0x2000","hex":"0330"},{"at":"0x3000","hex":"0340"},{"at":"0x3010","hex":"0350"},{"at":"0x4080","hex":"030001"},{"at":"0x5000","hex":"030002"}]}""");
        Assert.Equal("max", result.GetProperty("stop").GetString());
        Assert.Contains("""{"at":"0x20040","hex":"78563412"}""", result.GetProperty("mem").GetRawText(), StringComparison.Ordinal);

        // Dirty bit of the entry that was written through.
        Assert.Contains("""{"at":"0x5000","hex":"63"}""", result.GetProperty("mem").GetRawText(), StringComparison.Ordinal);
    }

    [Fact]
    public void Exec_FpuAndVectorRegisters_GoInAndOut()
    {
        // fxsave64 [0x20000] / fxrstor64 [0x21000]
        JsonElement saved = One("""{"code":"480fae042500000200","regs":{"fsw":"0x3800","ftw":"0x3fff","mxcsr":"0x1f82","st0":"0x3fff8000000000000000","xmm1":"0x1122334455667788998811223344556f","ymm2":"0xf0000000000000000000000000000000000000000000000000000000000000a5"},"mem":[{"at":"0x20000","hex":"00"}]}""");
        string memory = saved.GetProperty("mem").GetRawText();
        Assert.Contains("""{"at":"0x20018","hex":"821f"}""", memory, StringComparison.Ordinal);
        Assert.Contains("""{"at":"0x20027","hex":"80ff3f"}""", memory, StringComparison.Ordinal);
        Assert.Contains("""{"at":"0x200b0","hex":"6f554433221188998877665544332211a5"}""", memory, StringComparison.Ordinal);

        JsonElement loaded = One("""{"code":"480fae0c2500100200","mem":[{"at":"0x21000","hex":"7f030038800000"},{"at":"0x21018","hex":"801f"},{"at":"0x21020","hex":"0000000000000080ff3f"},{"at":"0x210b0","hex":"07"}]}""");
        Assert.Equal("0x3fff8000000000000000", Register(loaded, "st0"));
        Assert.Equal("0x3800", Register(loaded, "fsw"));
        Assert.Equal("0x3fff", Register(loaded, "ftw"));
        Assert.Equal("0x7", Register(loaded, "xmm1"));
        Assert.False(loaded.GetProperty("regs").TryGetProperty("ymm1", out _));
    }

    [Fact]
    public void Exec_CpuOption_ChangesTheProcessor()
    {
        string file = Write("""{"code":"f30fb8c0"}"""); // popcnt eax,eax
        Assert.Equal("max", Run("exec", file).Json.GetProperty("stop").GetString());
        Assert.Equal(6, Run("exec", file, "-cpu", "max,-popcnt").Json.GetProperty("fault").GetProperty("vector").GetInt32());
        Refuses(Run("exec", file, "-cpu", "max,-nothing"), "-cpu", "'-nothing'");
    }

    [Fact]
    public void Exec_Keep_GoesOnWithTheStateBefore()
    {
        Ran ran = Run("exec", "--keep", Write(
            """{"id":1,"code":"48ffc0f4","max":2,"mem":[{"at":"0x20000","hex":"01"}]}""",
            """{"id":2,"code":"480305","regs":{"rip":"0x10"},"mem":[{"at":"0x8000000000000000","hex":"00"}]}""",
            """{"id":3,"code":"00042500000200"}""",
            """{"id":4,"mode":"long","code":"8a042500000200"}"""));
        JsonElement[] results = Lines(ran);
        Assert.Equal(2, ran.Status);
        Assert.Equal("hlt", results[0].GetProperty("stop").GetString());
        Assert.Contains("canonical", results[1].GetProperty("error").GetString(), StringComparison.Ordinal);
        Assert.Equal("0x1000b", Register(results[2], "rip"));
        Assert.Equal("""[{"at":"0x20000","hex":"02"}]""", results[2].GetProperty("mem").GetRawText());
        Assert.Equal("0x2", Register(results[3], "rax"));
    }

    private static string Register(JsonElement result, string name) =>
        result.GetProperty("regs").GetProperty(name).GetString()!;

    private static JsonElement[] Lines(Ran ran) =>
        [.. ran.Out.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(static line => JsonDocument.Parse(line).RootElement)];

    private JsonElement One(string line)
    {
        Ran ran = Run("exec", Write(line));
        Assert.Equal("", ran.Err);
        Assert.Equal(0, ran.Status);
        return ran.Json;
    }

    private string Write(params string[] lines) => Make("vectors.jsonl", System.Text.Encoding.UTF8.GetBytes(string.Join('\n', lines)));
}
