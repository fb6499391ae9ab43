using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.Tests.Integer;

namespace VmFuzz.Cpu.Tests.Regions;

/// <summary>Compiled loops are their ops, bit for bit, wherever a run is stopped.</summary>
public sealed class RegionTests
{
    private const ulong Rounds = 9;

    [Theory]
    [InlineData(64, 1)]
    [InlineData(64, 2)]
    [InlineData(32, 3)]
    [InlineData(32, 4)]
    public void RandomLoops_CompiledAndAsOps_AreTheSame(int bitness, ulong seed) => Compare(bitness, seed, 250 * NativeForms.Times);

    [Fact]
    public void EveryForm_CompiledAndAsOps_IsTheSame()
    {
        int compiled = 0;
        foreach (int bitness in (int[])[64, 32])
        {
            foreach (OpCodeInfo form in Forms(bitness))
            {
                var random = new SplitMix64((ulong)form.Code);
                for (int i = 0; i < 3; i++)
                {
                    compiled += Check(bitness, RegionProgram.Make(bitness, [form], 3, ref random), ref random);
                }
            }
        }

        Assert.True(compiled > 1000, $"only {compiled} regions");
    }

    [Fact]
    public void StoreIntoItsOwnCode_LeavesTheRegion()
    {
        // loop: inc eax; mov byte [loop + 1], 0xC8 (inc eax becomes dec eax) when ecx is 3; dec ecx; jne loop
        byte[] code =
        [
            0xFF, 0xC0, 0x83, 0xF9, 0x03, 0x75, 0x08, 0xC6, 0x04, 0x25, 0x01, 0x00, 0x01, 0x00, 0xC8, 0xFF, 0xC9, 0x75, 0xED, 0x0F, 0x0B,
        ];
        using var machine = new StoppingRunner(64, static cpu => cpu.RegionThreshold = 1);
        machine.Load(code);
        machine.Cpu[Gpr.Rcx] = 20;
        machine.Cpu[Gpr.Rax] = 100;
        machine.Run(new SplitMix64(1), 1 << 20);
        Assert.Equal(100UL + 18 - 2, machine.Cpu[Gpr.Rax]);
        Assert.True(machine.Cpu.RegionsCompiled > 0);
    }

    private static OpCodeInfo[] Forms(int bitness) => [.. RandomPrograms.Forms(bitness), .. Enum.GetValues<Code>().Select(static c => c.ToOpCode()).Where(info => Counted(bitness, info))];

    // What regions know beyond the programs' forms; undefined flags are the same in both, since both are one build.
    private static bool Counted(int bitness, OpCodeInfo info)
    {
        Mnemonic[] more =
        [
            Mnemonic.Shl, Mnemonic.Shr, Mnemonic.Sar, Mnemonic.Rol, Mnemonic.Ror, Mnemonic.Rcl, Mnemonic.Imul, Mnemonic.Mul, Mnemonic.Div, Mnemonic.Idiv, Mnemonic.Bt,
            Mnemonic.Cmovae, Mnemonic.Cmovbe, Mnemonic.Cmovne, Mnemonic.Cmovl, Mnemonic.Cmovge, Mnemonic.Cmovo, Mnemonic.Cmovns, Mnemonic.Setae, Mnemonic.Setbe,
            Mnemonic.Sete, Mnemonic.Setge, Mnemonic.Setle, Mnemonic.Setno, Mnemonic.Sets, Mnemonic.Setp, Mnemonic.Lahf, Mnemonic.Sahf,
        ];
        var random = new SplitMix64(1);
        return NativeForms.IsIn(bitness, info) && Array.IndexOf(more, info.Mnemonic) >= 0 && RandomForms.TryEncode(info, ref random, out _, bitness: bitness);
    }

    private static void Compare(int bitness, ulong seed, int programs)
    {
        OpCodeInfo[] forms = Forms(bitness);
        var random = new SplitMix64(seed);
        int compiled = 0;
        for (int i = 0; i < programs; i++)
        {
            compiled += Check(bitness, RegionProgram.Make(bitness, forms, 2 + random.Below(14), ref random), ref random);
        }

        Assert.True(compiled > programs / 2, $"only {compiled} regions of {programs} programs");
    }

    // Both are stopped at the same places; each place must look alike.
    private static int Check(int bitness, byte[] program, ref SplitMix64 random)
    {
        var state = random;
        int longest = random.Below(2) == 0 ? 1 << 20 : 1 + random.Below(80);
        using var ops = new StoppingRunner(bitness, static cpu => cpu.RegionThreshold = 0);
        using var compiled = new StoppingRunner(bitness, static cpu => cpu.RegionThreshold = 1);
        string[] expected = Run(ops);
        string[] actual = Run(compiled);
        for (int i = 0; i < Math.Min(expected.Length, actual.Length); i++)
        {
            Assert.True(expected[i] == actual[i], $"{Convert.ToHexString(program)} at stop {i}:\n{expected[i]}\n{actual[i]}");
        }

        Assert.Equal(expected.Length, actual.Length);
        return compiled.Cpu.RegionsCompiled;

        string[] Run(StoppingRunner runner)
        {
            SplitMix64 own = state;
            runner.Load(program);
            runner.Store(RegionProgram.Counter, Rounds);
            runner.Fill(ref own);
            return runner.Run(own, longest);
        }
    }
}
