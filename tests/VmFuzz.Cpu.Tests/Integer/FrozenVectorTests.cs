using System.Globalization;
using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using System.Text;
using System.Text.Json;
using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests.Integer;

/// <summary>
/// What a real processor made of some ten thousand instructions (corpus/vectors), against the model, on any machine.
/// .ci/make-vectors makes the file again.
/// </summary>
public sealed unsafe class FrozenVectorTests
{
    private const string MakeVariable = "VMFUZZ_MAKE_VECTORS";
    private const int EncodingsPerForm = 4;
    private const int CasesPerEncoding = 2;
    private const int LeastVectors = 10_000;

    // In the order of a state: registers, then flags.
    private static readonly string[] Names = [.. Enumerable.Range(0, 16).Select(static r => ((Gpr)r).ToString().ToLowerInvariant()), "rflags"];

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Run_FrozenVectors_AgreeWithTheProcessorThatMadeThem(bool referenceOnly)
    {
        string[] lines = ReadLines(Path.Combine(Root(), "corpus", "vectors", "integer.jsonl.gz"));
        using JsonDocument header = JsonDocument.Parse(lines[0]);
        Assert.Equal(lines.Length - 1, header.RootElement.GetProperty("vectors").GetInt32());
        Assert.InRange(lines.Length, LeastVectors, int.MaxValue);
        var machines = new Dictionary<int, TestProcessor>();
        try
        {
            foreach (int bitness in (int[])[64, 32, 16])
            {
                machines[bitness] = new TestProcessor(NativeForms.ModeOf(bitness), NativeForms.WithCrc32());
                machines[bitness].Cpu.ReferenceOnly = referenceOnly;
            }

            foreach (string line in lines.AsSpan(1))
            {
                Replay(machines, line);
            }
        }
        finally
        {
            foreach (int bitness in (int[])[64, 32, 16])
            {
                machines[bitness].Dispose();
            }
        }
    }

    [Fact]
    public void Make_WhereAsked_WritesTheVectors()
    {
        string? path = Environment.GetEnvironmentVariable(MakeVariable);
        Assert.SkipWhen(path is null, $"set {MakeVariable} to the file to make, as .ci/make-vectors does");
        var lines = new List<string>();
        var random = new SplitMix64(0x5EED_0003);
        foreach (int bitness in (int[])[64, 32, 16])
        {
            using NativeThunk? thunk = NativeThunk.TryCreate(bitness);
            Assert.True(thunk is not null, NativeThunk.Needs);
            using var machine = new TestProcessor(NativeForms.ModeOf(bitness), NativeForms.WithCrc32());
            foreach (OpCodeInfo form in NativeForms.Of(bitness))
            {
                for (int i = 0; i < EncodingsPerForm && RandomForms.TryEncode(form, ref random, out byte[] bytes, bitness: bitness); i++)
                {
                    Make(machine, thunk, bytes, bitness, ref random, lines);
                }
            }
        }

        using FileStream file = File.Create(path!);
        using var gzip = new GZipStream(file, CompressionLevel.SmallestSize);
        gzip.Write(Encoding.UTF8.GetBytes($$"""{"made-on":"{{ProcessorName()}}","vectors":{{lines.Count}}}""" + "\n" + string.Join('\n', lines) + "\n"));
    }

    private static void Make(TestProcessor machine, NativeThunk thunk, byte[] bytes, int bitness, ref SplitMix64 random, List<string> lines)
    {
        Instruction ins = machine.Decode(bytes);
        Assert.True(machine.Cpu.Instructions.TryFind(ins.Mnemonic, out InstructionRow row));
        var used = new bool[16];
        foreach (UsedRegister register in new InstructionInfoFactory().GetInfo(ins).GetUsedRegisters())
        {
            if (register.Register.IsGPR())
            {
                used[register.Register.GetFullRegister() - Register.RAX] = true;
            }
        }

        thunk.Load(bytes);
        Span<ulong> before = stackalloc ulong[17];
        for (int n = 0; n < CasesPerEncoding; n++)
        {
            NativeForms.RandomState(ins, bitness, n, ref random, before);
            before[16] &= ~RFlags.If;
            for (int r = 0; r < 16; r++)
            {
                before[r] = used[r] ? before[r] : 0;
            }

            NativeForms.Load(machine, before);
            ulong mask = NativeForms.DefinedFlags(machine, ins, row.UndefinedFlags, out bool resultDefined);
            if (!resultDefined || NativeForms.DivideError(machine, ins))
            {
                continue;
            }

            before.CopyTo(thunk.State);
            thunk.Run();
            var given = new List<string>();
            var wanted = new List<string>();
            for (int r = 0; r < NativeForms.RegistersOf(bitness); r++)
            {
                ulong after = thunk.State[r] & NativeForms.MaskOf(bitness);
                if (before[r] != 0)
                {
                    given.Add(Member(Names[r], before[r]));
                }

                if (r != 4 && after != before[r])
                {
                    wanted.Add(Member(Names[r], after));
                }
            }

            given.Add(Member(Names[16], before[16]));
            wanted.Add(Member(Names[16], thunk.State[16] & mask));
            string mode = bitness == 64 ? "long" : $"protected{bitness}";
            lines.Add($$"""{"mode":"{{mode}}","code":"{{Convert.ToHexStringLower(bytes)}}","regs":{{{string.Join(',', given)}}},"after":{{{string.Join(',', wanted)}}},"defined":"0x{{mask:x}}"}""");
        }
    }

    // Executes the vector and then HLT; stops at the first difference with all that there is to know.
    private static void Replay(Dictionary<int, TestProcessor> machines, string line)
    {
        using JsonDocument vector = JsonDocument.Parse(line);
        string mode = vector.RootElement.GetProperty("mode").GetString()!;
        int bitness = mode == "long" ? 64 : int.Parse(mode.AsSpan("protected".Length), CultureInfo.InvariantCulture);
        TestProcessor machine = machines[bitness];
        Span<ulong> expected = stackalloc ulong[17];
        expected.Clear();
        Read(vector.RootElement.GetProperty("regs"), expected);
        NativeForms.Load(machine, expected);
        machine.LoadCode(TestProcessor.Start, [.. Convert.FromHexString(vector.RootElement.GetProperty("code").GetString()!), 0xF4]);
        machine.Cpu.State->Activity = 0;
        CpuStop stop = machine.Cpu.Run();

        Read(vector.RootElement.GetProperty("after"), expected);
        ulong defined = Number(vector.RootElement.GetProperty("defined"));
        bool same = stop == CpuStop.Halted && ((expected[16] ^ machine.Cpu.RFlagsValue) & defined) == 0;
        var model = new StringBuilder();
        for (int r = 0; r < NativeForms.RegistersOf(bitness); r++)
        {
            same &= ((expected[r] ^ machine[(Gpr)r]) & NativeForms.MaskOf(bitness)) == 0;
            model.Append(CultureInfo.InvariantCulture, $"{Names[r]}=0x{machine[(Gpr)r]:x} ");
        }

        Assert.True(same, $"{line}\n  model: {stop} {machine.Cpu.UnimplementedText} {model}rflags=0x{machine.Cpu.RFlagsValue & defined:x}");
    }

    private static void Read(JsonElement registers, Span<ulong> state)
    {
        foreach (JsonProperty register in registers.EnumerateObject())
        {
            state[Array.IndexOf(Names, register.Name)] = Number(register.Value);
        }
    }

    private static ulong Number(JsonElement value) => ulong.Parse(value.GetString().AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);

    private static string Member(string name, ulong value) => $"\"{name}\":\"0x{value:x}\"";

    private static string[] ReadLines(string path)
    {
        using FileStream file = File.OpenRead(path);
        using var reader = new StreamReader(new GZipStream(file, CompressionMode.Decompress));
        return reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }

    // The brand string, and the signature that tells models of one name apart.
    private static string ProcessorName()
    {
        Span<int> brand = stackalloc int[12];
        for (int i = 0; i < 3; i++)
        {
            (brand[i * 4], brand[(i * 4) + 1], brand[(i * 4) + 2], brand[(i * 4) + 3]) = X86Base.CpuId(unchecked((int)0x8000_0002) + i, 0);
        }

        string name = Encoding.ASCII.GetString(MemoryMarshal.AsBytes(brand)).TrimEnd('\0', ' ');
        return $"{name}, signature 0x{X86Base.CpuId(1, 0).Eax:x}";
    }

    private static string Root()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "VmFuzz.sln")))
        {
            folder = Path.GetDirectoryName(folder);
        }

        return folder ?? throw new InvalidOperationException("the tests do not run inside the repository");
    }
}
