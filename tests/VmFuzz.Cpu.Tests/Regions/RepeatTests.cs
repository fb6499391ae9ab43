using VmFuzz.Arch;
using VmFuzz.Cpu.Tests.Integer;

namespace VmFuzz.Cpu.Tests.Regions;

/// <summary>REP STOS and REP MOVS done at once are their iterations, wherever a run is stopped.</summary>
public sealed class RepeatTests
{
    [Theory]
    [InlineData(64)]
    [InlineData(32)]
    public void Repeated_AtOnceAndByIterations_IsTheSame(int bitness)
    {
        var random = new SplitMix64((ulong)bitness);
        foreach (byte opcode in (byte[])[0xAA, 0xAB, 0xA4, 0xA5])
        {
            for (int i = 0; i < 400; i++)
            {
                byte[] prefixes = random.Below(3) switch { 0 => [0x66, 0xF3], 1 when bitness == 64 => [0xF3, 0x48], _ => [0xF3] };
                byte[] program = [.. Touch(bitness), (byte)(random.Below(8) == 0 ? 0xFD : 0xFC), .. prefixes, opcode, 0x90, 0x0F, 0x0B];
                Check(bitness, program, ref random);
            }
        }
    }

    // MOV AL, [page]; MOV [page], AL: both pages of the window are in the look-aside buffers.
    private static byte[] Touch(int bitness)
    {
        var code = new List<byte>();
        foreach (byte opcode in (byte[])[0xA0, 0xA2])
        {
            foreach (ulong page in (ulong[])[NativeThunk.WindowAddress, NativeThunk.WindowAddress + 0x1000])
            {
                code.Add(opcode);
                code.AddRange(BitConverter.GetBytes(page).AsSpan(0, bitness / 8));
            }
        }

        return [.. code];
    }

    private static void Check(int bitness, byte[] program, ref SplitMix64 random)
    {
        ulong count = (ulong)random.Below(random.Below(2) == 0 ? 20 : 4200);
        ulong to = NativeThunk.WindowAddress + (ulong)random.Below(0x1100);
        ulong from = random.Below(2) == 0 ? to + (ulong)random.Below(20) - 10 : NativeThunk.WindowAddress + (ulong)random.Below(0x1100);
        int longest = random.Below(2) == 0 ? 1 << 20 : 1 + random.Below(3000);
        SplitMix64 state = random;
        random.Next();
        string[] expected = Run(static cpu => cpu.ReferenceOnly = true);
        Assert.Equal(expected, Run(static _ => { }));

        string[] Run(Action<Processor> way)
        {
            SplitMix64 own = state;
            using var runner = new StoppingRunner(bitness, way);
            runner.Load(program);
            runner.Fill(ref own);
            runner.Cpu[Gpr.Rcx] = count;
            runner.Cpu[Gpr.Rdi] = to;
            runner.Cpu[Gpr.Rsi] = from;
            return runner.Run(own, longest);
        }
    }
}
