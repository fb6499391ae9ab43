using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests.Integer;

/// <summary>
/// Short random programs through <see cref="Processor.Run"/> (blocks, specialised handlers, lazy flags, fusion)
/// against the host's own processor, in 64- and 32-bit code.
/// </summary>
[Collection(NativeThunk.WindowTests)]
public sealed unsafe class NativeRunTests
{
    private static readonly int Programs = 3000 * NativeForms.Times;
    private const int RunsPerProgram = 12;

    [Theory]
    [InlineData(64, false)]
    [InlineData(64, true)]
    [InlineData(32, false)]
    [InlineData(32, true)]
    public void Run_RandomPrograms_AgreeWithHost(int bitness, bool referenceOnly)
    {
        using NativeThunk? thunk = NativeThunk.TryCreate(bitness);
        Assert.SkipWhen(thunk is null || !NativeForms.HostHas(Mnemonic.Popcnt), NativeThunk.Needs);
        Assert.SkipUnless(NativeThunk.TryMapWindow(), "the address of the memory window is taken");
        try
        {
            RunPrograms(thunk!, bitness, referenceOnly);
        }
        finally
        {
            NativeThunk.UnmapWindow();
        }
    }

    private static void RunPrograms(NativeThunk thunk, int bitness, bool referenceOnly)
    {
        using var machine = new TestProcessor(NativeForms.ModeOf(bitness));
        machine.Cpu.ReferenceOnly = referenceOnly;
        OpCodeInfo[] codes = RandomPrograms.Forms(bitness);
        var random = new SplitMix64(0x5EED_0002);
        var failures = new List<string>();
        random.Fill(NativeThunk.Window);
        machine.LoadCode(NativeThunk.WindowAddress, NativeThunk.Window);
        ulong address = 0x10000;
        for (int i = 0; i < Programs && failures.Count < 10; i++)
        {
            byte[] program = RandomPrograms.Make(bitness, codes, ref random);
            address = ((address + 0x3F) & ~0x3FUL) + 0x40;
            machine.LoadCode(address, [.. program, 0xF4]); // HLT
            thunk.Load(program);
            if (!Compare(machine, thunk, bitness, address, program, ref random, failures))
            {
                continue;
            }

            address += (ulong)program.Length;
            if (address > 0x18_0000)
            {
                address = 0x10000;
            }
        }

        Assert.True(failures.Count == 0, string.Join('\n', failures));
    }

    private static bool Compare(TestProcessor machine, NativeThunk thunk, int bitness, ulong address, byte[] program, ref SplitMix64 random, List<string> failures)
    {
        Span<ulong> before = stackalloc ulong[17];
        Span<byte> window = stackalloc byte[NativeThunk.WindowSize];
        for (int n = 0; n < RunsPerProgram; n++)
        {
            for (int r = 0; r < 16; r++)
            {
                before[r] = RandomForms.Value(ref random) & NativeForms.MaskOf(bitness);
                machine[(Gpr)r] = before[r];
            }

            before[16] = RFlags.Reserved1 | (random.Next() & RFlags.Arithmetic);
            before.CopyTo(thunk.State);
            thunk.Run();
            machine.Cpu.RFlagsValue = before[16];
            machine.Rip = address;
            machine.Cpu.State->Activity = 0;
            CpuStop stop = machine.Cpu.Run();
            string difference = stop == CpuStop.Halted ? "" : $"{stop} {machine.Cpu.UnimplementedText}";
            for (int r = 0; r < NativeForms.RegistersOf(bitness); r++)
            {
                if (r != 4 && ((thunk.State[r] ^ machine[(Gpr)r]) & NativeForms.MaskOf(bitness)) != 0)
                {
                    difference += $" {(Gpr)r} host {thunk.State[r]:X} model {machine[(Gpr)r]:X}";
                }
            }

            machine.Read(NativeThunk.WindowAddress, window);
            if (!window.SequenceEqual(NativeThunk.Window))
            {
                difference += $" memory from {window.CommonPrefixLength(NativeThunk.Window):X}";
            }

            const ulong Mask = (RFlags.Arithmetic & ~RFlags.Af) | RFlags.Df;
            if (((thunk.State[16] ^ machine.Cpu.RFlagsValue) & Mask) != 0)
            {
                difference += $" flags host {thunk.State[16] & Mask:X} model {machine.Cpu.RFlagsValue & Mask:X}";
            }

            if (difference.Length != 0)
            {
                failures.Add($"{Convert.ToHexString(program)} [{Text(program, bitness, address)}]:{difference}");
                return false;
            }
        }

        return true;
    }

    private static string Text(byte[] program, int bitness, ulong address)
    {
        var decoder = Decoder.Create(bitness, new ByteArrayCodeReader(program), address);
        var lines = new List<string>();
        foreach (Instruction instruction in decoder)
        {
            lines.Add(instruction.ToString());
        }

        return string.Join("; ", lines);
    }
}
