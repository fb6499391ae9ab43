using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests.Integer;

/// <summary>
/// Register forms of every integer instruction against the host's own processor, in 64-, 32- and 16-bit code.
/// VMFUZZ_LONG=1 compares ten million cases and more.
/// </summary>
public sealed class NativeOracleTests(ITestOutputHelper output)
{
    private const int CasesPerEncoding = 48;

    private static readonly int EncodingsPerCode = 12 * NativeForms.Times;

    [Theory]
    [InlineData(64)]
    [InlineData(32)]
    [InlineData(16)]
    public void Handlers_RandomRegisterForms_AgreeWithHost(int bitness)
    {
        using NativeThunk? thunk = NativeThunk.TryCreate(bitness);
        Assert.SkipWhen(thunk is null, NativeThunk.Needs);

        using var machine = new TestProcessor(NativeForms.ModeOf(bitness), NativeForms.WithCrc32());
        var random = new SplitMix64(0x5EED_0001);
        var failures = new List<string>();
        var covered = new HashSet<Mnemonic>();
        int cases = 0;
        OpCodeInfo[] forms = [.. NativeForms.Of(bitness)];
        foreach (OpCodeInfo info in forms)
        {
            int perCode = failures.Count;
            for (int i = 0; i < EncodingsPerCode && failures.Count == perCode; i++)
            {
                if (!RandomForms.TryEncode(info, ref random, out byte[] bytes, bitness: bitness))
                {
                    break;
                }

                covered.Add(info.Mnemonic);
                cases += Compare(machine, thunk!, machine.Decode(bytes), bytes, bitness, ref random, failures);
            }
        }

        output.WriteLine($"{cases} cases of {forms.Length} forms in {bitness}-bit code");
        Assert.True(failures.Count == 0, $"{failures.Count} forms differ:\n{string.Join('\n', failures.Take(60))}");
        Assert.DoesNotContain(forms, form => !covered.Contains(form.Mnemonic));
        Assert.True(cases > 100_000, $"only {cases} cases");
    }

    private static int Compare(TestProcessor machine, NativeThunk thunk, in Instruction ins, byte[] bytes, int bitness, ref SplitMix64 random, List<string> failures)
    {
        thunk.Load(bytes);
        int done = 0;
        Assert.True(machine.Cpu.Instructions.TryFind(ins.Mnemonic, out InstructionRow row));
        Span<ulong> before = stackalloc ulong[17];
        for (int n = 0; n < CasesPerEncoding; n++)
        {
            NativeForms.RandomState(ins, bitness, n, ref random, before);
            NativeForms.Load(machine, before);
            ulong mask = NativeForms.DefinedFlags(ins, machine[Gpr.Rcx], row.UndefinedFlags, out bool resultDefined);
            bool divideError = NativeForms.DivideError(machine, ins);
            ExecResult result = machine.Execute(ins);
            if (divideError != (result == ExecResult.Abort))
            {
                failures.Add($"{ins} [{ins.Code}] {Text(before, bitness)}: divide error expected {divideError}");
                return done;
            }

            done++;
            if (divideError || !resultDefined)
            {
                continue;
            }

            before.CopyTo(thunk.State);
            thunk.Run();
            if (Difference(machine, thunk.State, mask, bitness) is { } difference)
            {
                failures.Add($"{ins} [{ins.Code}] {Convert.ToHexString(bytes)}: {difference}\n  before {Text(before, bitness)}\n  host   {Text(thunk.State, bitness)}\n  model  {Text(Model(machine), bitness)}");
                return done;
            }
        }

        return done;
    }

    private static string? Difference(TestProcessor machine, ReadOnlySpan<ulong> native, ulong mask, int bitness)
    {
        for (int r = 0; r < NativeForms.RegistersOf(bitness); r++)
        {
            if (r != 4 && ((native[r] ^ machine[(Gpr)r]) & NativeForms.MaskOf(bitness)) != 0)
            {
                return $"{(Gpr)r} differs";
            }
        }

        return ((native[16] ^ machine.Cpu.RFlagsValue) & mask) == 0 ? null : $"flags differ in {(native[16] ^ machine.Cpu.RFlagsValue) & mask:X}, defined are {mask:X}";
    }

    private static ulong[] Model(TestProcessor machine) =>
        [.. Enumerable.Range(0, 16).Select(r => machine[(Gpr)r]), machine.Cpu.RFlagsValue];

    private static string Text(ReadOnlySpan<ulong> state, int bitness)
    {
        var text = new List<string>();
        for (int r = 0; r < NativeForms.RegistersOf(bitness); r++)
        {
            text.Add($"{(Gpr)r}={state[r] & NativeForms.MaskOf(bitness):X}");
        }

        return $"{string.Join(' ', text)} flags={state[16]:X}";
    }
}
