using Iced.Intel;
using VmFuzz.Arch;

namespace VmFuzz.Cpu.Tests.Integer;

/// <summary>Specialised forms against the reference microcode: the same registers and flags, those that the SDM leaves undefined too.</summary>
public sealed class SpecialisedFormTests
{
    private const int States = 24;

    [Theory]
    [InlineData(64)]
    [InlineData(32)]
    [InlineData(16)]
    public void Form_InABlock_AgreesWithTheReference(int bitness)
    {
        var random = new SplitMix64(0x5EED_0003);
        using var pair = new Pair(bitness);
        foreach (OpCodeInfo info in NativeForms.Of(bitness))
        {
            for (int i = 0; i < 3 && RandomForms.TryEncode(info, ref random, out byte[] bytes, bitness: bitness); i++)
            {
                pair.Compare(bytes, ref random);
            }
        }
    }

    // cmp, test, inc or dec / jcc over one byte / nop / hlt
    [Theory]
    [InlineData(64)]
    [InlineData(32)]
    [InlineData(16)]
    public void CompareAndBranch_AsOneOp_AgreesWithTheReference(int bitness)
    {
        var random = new SplitMix64(0x5EED_0004);
        using var pair = new Pair(bitness);
        Mnemonic[] mnemonics = [Mnemonic.Cmp, Mnemonic.Test, Mnemonic.Inc, Mnemonic.Dec];
        foreach (OpCodeInfo info in NativeForms.Of(bitness).Where(info => mnemonics.Contains(info.Mnemonic)))
        {
            for (int condition = 0; condition < 16 && RandomForms.TryEncode(info, ref random, out byte[] bytes, bitness: bitness); condition++)
            {
                pair.Compare([.. bytes, (byte)(0x70 | condition), 1, 0x90], ref random);
            }
        }
    }

    private sealed class Pair : IDisposable
    {
        private readonly int _bitness;
        private readonly TestProcessor _fast;
        private readonly TestProcessor _reference;
        private ulong _address = 0x10000;

        public Pair(int bitness)
        {
            _bitness = bitness;
            _fast = new TestProcessor(NativeForms.ModeOf(bitness));
            _reference = new TestProcessor(NativeForms.ModeOf(bitness));
            _reference.Cpu.ReferenceOnly = true;
        }

        public void Compare(byte[] code, ref SplitMix64 random)
        {
            // 16-bit code has 64 KiB; where nothing was decoded nothing has to be dropped.
            _address = _bitness == 16 || _address > 0x18_0000 ? 0x2000 : _address + 0x40;
            Span<ulong> state = stackalloc ulong[17];
            for (int i = 0; i < States; i++)
            {
                NativeForms.RandomState(Decode(code), _bitness, i, ref random, state);
                string fast = Run(_fast, code, state);
                string reference = Run(_reference, code, state);
                Assert.True(fast == reference, $"{Convert.ToHexString(code)}: {fast} instead of {reference}");
            }
        }

        public void Dispose()
        {
            _fast.Dispose();
            _reference.Dispose();
        }

        private Instruction Decode(byte[] code)
        {
            Decoder.Create(_bitness, code).Decode(out Instruction instruction);
            return instruction;
        }

        private string Run(TestProcessor machine, byte[] code, ReadOnlySpan<ulong> state)
        {
            machine.LoadCode(_address, [.. code, 0xF4]); // HLT
            NativeForms.Load(machine, state);
            machine.Rip = _address;
            unsafe
            {
                machine.Cpu.State->Activity = 0;
            }

            machine.Cpu.ReportsEvents = true;
            CpuStop stop = machine.Cpu.Run();
            return $"{stop} at {machine.Rip:X}, flags {machine.Cpu.RFlagsValue:X}, "
                + string.Join(' ', Enum.GetValues<Gpr>().Select(register => machine[register].ToString("X", null)));
        }
    }
}
