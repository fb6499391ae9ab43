using System.Buffers.Binary;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.Microcode.Vectors;
using VmFuzz.Cpu.Tests.Integer;

namespace VmFuzz.Cpu.Tests.Vectors;

/// <summary>
/// Every form on vector registers, with registers and with memory, against the host's own processor. VMFUZZ_LONG=1 compares
/// millions of cases.
/// </summary>
[Collection(NativeThunk.WindowTests)]
public sealed unsafe class VectorOracleTests(ITestOutputHelper output)
{
    private const int CasesPerEncoding = 24;
    private const ulong Operand = NativeThunk.WindowAddress + 0x400;
    private const int WindowBytes = 0x800;
    private const int Fsw = 2, Ftw = 4, Stack = 32, Xmm = 160, XmmEnd = 416;

    private static readonly int EncodingsPerForm = 12 * NativeForms.Times;

    [Fact]
    public void Forms_RandomValues_AgreeWithHost()
    {
        using NativeThunk? thunk = NativeThunk.TryCreate(vectors: true);
        Assert.SkipWhen(thunk is null, NativeThunk.Needs);
        Assert.SkipUnless(NativeThunk.TryMapWindow(), "the address of the memory window is taken");
        try
        {
            Compare(thunk!);
        }
        finally
        {
            NativeThunk.UnmapWindow();
        }
    }

    private void Compare(NativeThunk thunk)
    {
        using var machine = new TestProcessor(TestMode.Long64, NativeForms.WithVectors());
        machine.Cpu.State->Cr4 |= Cr4.Osfxsr | Cr4.Osxsave;
        machine.Cpu.State->Xcr0 = 7;
        var random = new SplitMix64(0x5EED_0005);
        var failures = new List<string>();
        int cases = 0;
        OpCodeInfo[] forms = [.. VectorRows.All.Where(static row => NativeForms.HostHas(row.Feature)).SelectMany(Forms)];
        foreach (OpCodeInfo form in forms)
        {
            int known = failures.Count;
            for (int i = 0; i < EncodingsPerForm && failures.Count == known; i++)
            {
                Register memory = RandomForms.HasMemoryForm(form) && (i % 3 == 0 || IsMemoryOnly(form)) ? Register.RSI : Register.None;
                Assert.True(RandomForms.TryEncode(form, ref random, out byte[] code, memory), form.ToInstructionString());
                Instruction ins = machine.Decode(code);
                Assert.Equal(form.Code, ins.Code);
                if (ins.Op0Kind == OpKind.Register && ins.Op0Register.GetFullRegister() == Register.RSI && memory != Register.None)
                {
                    continue;
                }

                thunk.Load(code);
                for (int n = 0; n < CasesPerEncoding && failures.Count == known; n++)
                {
                    cases++;
                    if (Difference(machine, thunk, ins, ref random) is { } difference)
                    {
                        failures.Add($"{ins} [{ins.Code}] {Convert.ToHexString(code)}: {difference}");
                    }
                }
            }
        }

        output.WriteLine($"{cases} cases of {forms.Length} forms");
        Assert.True(failures.Count == 0, $"{failures.Count} forms differ:\n{string.Join('\n', failures.Take(60))}");
        Assert.True(cases > 20_000, $"only {cases} cases");
    }

    // A row is about one form, or about all of its mnemonic.
    private static IEnumerable<OpCodeInfo> Forms(InstructionRow row) => InstructionForm.All
        .Where(form => form.Row == row && NativeForms.IsIn(64, form.Code.ToOpCode()))
        .Select(static form => form.Code.ToOpCode());

    private static bool IsMemoryOnly(OpCodeInfo form) => Enumerable.Range(0, form.OpCount).Any(i => form.GetOpKind(i) == OpCodeOperandKind.mem);

    private static string? Difference(TestProcessor machine, NativeThunk thunk, in Instruction ins, ref SplitMix64 random)
    {
        Prepare(machine, thunk, ins, ref random);
        byte[] before = thunk.Image.ToArray();
        byte[] ymm = thunk.Ymm.ToArray();
        ExecResult result = machine.Execute(ins);
        thunk.Run();
        if (result != ExecResult.Next)
        {
            return $"{result} {machine.Cpu.State->FaultVector}";
        }

        Span<byte> model = stackalloc byte[512];
        before.CopyTo(model);
        Microcode.FpuControl.FillLegacyArea(machine.Cpu, model, wide: true);
        return Registers(machine, thunk)
            ?? Bytes("vectors", before, thunk.Image[Xmm..XmmEnd], model[Xmm..XmmEnd], Xmm)
            ?? Bytes("ymm", ymm, thunk.Ymm, Ymm(machine)[..thunk.Ymm.Length], 0)
            ?? Bytes("stack", before, thunk.Image[Stack..Xmm], model[Stack..Xmm], Stack)
            ?? Bytes("status", before, thunk.Image.Slice(Fsw, 3), model.Slice(Fsw, 3), Fsw)
            ?? Memory(machine);
    }

    private static string? Registers(TestProcessor machine, NativeThunk thunk)
    {
        for (int r = 0; r < 16; r++)
        {
            if (r != 4 && thunk.State[r] != machine[(Gpr)r])
            {
                return $"{(Gpr)r} host {thunk.State[r]:x} model {machine[(Gpr)r]:x}";
            }
        }

        ulong flags = (thunk.State[16] ^ machine.Cpu.RFlagsValue) & RFlags.Arithmetic;
        return flags == 0 ? null : $"flags differ in {flags:x}";
    }

    private static string? Bytes(string what, byte[] before, ReadOnlySpan<byte> host, ReadOnlySpan<byte> model, int at) => host.SequenceEqual(model)
        ? null
        : $"{what} from {host.CommonPrefixLength(model):x}\n  before {Convert.ToHexString(before, at, host.Length)}\n  host   {Convert.ToHexString(host)}\n  model  {Convert.ToHexString(model)}";

    private static Span<byte> Ymm(TestProcessor machine) => new((byte*)machine.Cpu.State->Ymm, 16 * 32);

    private static string? Memory(TestProcessor machine)
    {
        Span<byte> model = stackalloc byte[WindowBytes];
        machine.Read(NativeThunk.WindowAddress, model);
        return Bytes("memory", new byte[WindowBytes], NativeThunk.Window[..WindowBytes], model, 0);
    }

    // One state for both: registers, an x87 stack with any top, and memory around the operand, which is aligned.
    private static void Prepare(TestProcessor machine, NativeThunk thunk, in Instruction ins, ref SplitMix64 random)
    {
        for (int r = 0; r < 16; r++)
        {
            thunk.State[r] = RandomForms.Value(ref random);
        }

        thunk.State[0] = VectorValues.Length(ref random);
        thunk.State[2] = VectorValues.Length(ref random);
        thunk.State[4] = 0x8000;
        thunk.State[6] = Operand - ins.MemoryDisplacement64;
        thunk.State[7] = Operand + (ulong)random.Below(32);
        thunk.State[16] = RFlags.Reserved1 | RFlags.If | (random.Next() & RFlags.Arithmetic);
        NativeForms.Load(machine, thunk.State);

        Span<byte> image = thunk.Image;
        image.Clear();
        BinaryPrimitives.WriteUInt16LittleEndian(image, 0x37F);
        BinaryPrimitives.WriteUInt16LittleEndian(image[Fsw..], (ushort)(random.Next() & 0x7800));
        BinaryPrimitives.WriteUInt32LittleEndian(image[24..], 0x1F80);
        image[Ftw] = (byte)random.Next();
        VectorValues.Fill(image[Stack..XmmEnd], ref random);
        for (int i = 0; i < 8; i++)
        {
            image.Slice(Stack + (i * 16) + 10, 6).Clear();
        }

        Microcode.FpuControl.LoadX87(machine.Cpu, image, wide: true);
        Microcode.FpuControl.LoadXmm(machine.Cpu, image);
        VectorValues.Fill(thunk.Ymm, ref random);
        thunk.Ymm.CopyTo(Ymm(machine));
        VectorValues.Fill(NativeThunk.Window[..WindowBytes], ref random);
        machine.LoadCode(NativeThunk.WindowAddress, NativeThunk.Window[..WindowBytes]);
    }
}
