using Iced.Intel;

namespace VmFuzz.Cpu.Tests.Integer;

/// <summary>Short random programs over registers and the window of memory; in 16-bit code over registers alone.</summary>
internal static class RandomPrograms
{
    // Only what leaves no undefined flag but AF, which nothing here reads.
    private static readonly Mnemonic[] Used =
    [
        Mnemonic.Mov, Mnemonic.Movzx, Mnemonic.Movsx, Mnemonic.Movsxd, Mnemonic.Xchg,
        Mnemonic.Cwde, Mnemonic.Cdqe, Mnemonic.Cdq, Mnemonic.Cqo,
        Mnemonic.Cmova, Mnemonic.Cmovb, Mnemonic.Cmove, Mnemonic.Cmovg, Mnemonic.Cmovle, Mnemonic.Cmovno, Mnemonic.Cmovp, Mnemonic.Cmovs,
        Mnemonic.Seta, Mnemonic.Setb, Mnemonic.Setne, Mnemonic.Setg, Mnemonic.Setl, Mnemonic.Seto, Mnemonic.Setnp, Mnemonic.Setns,
        Mnemonic.Add, Mnemonic.Adc, Mnemonic.Sub, Mnemonic.Sbb, Mnemonic.Cmp, Mnemonic.Neg, Mnemonic.Inc, Mnemonic.Dec, Mnemonic.Xadd,
        Mnemonic.And, Mnemonic.Or, Mnemonic.Xor, Mnemonic.Not, Mnemonic.Test, Mnemonic.Cmpxchg,
        Mnemonic.Popcnt, Mnemonic.Clc, Mnemonic.Stc, Mnemonic.Cmc, Mnemonic.Cld, Mnemonic.Nop,
    ];

    /// <summary>The forms that programs in code of a size are made of.</summary>
    public static OpCodeInfo[] Forms(int bitness) =>
        [.. Enum.GetValues<Code>().Select(static code => code.ToOpCode()).Where(info => IsUsed(bitness, info))];

    private static bool IsUsed(int bitness, OpCodeInfo info)
    {
        if (!NativeForms.IsIn(bitness, info) || Array.IndexOf(Used, info.Mnemonic) < 0)
        {
            return false;
        }

        var random = new SplitMix64(1);
        return RandomForms.TryEncode(info, ref random, out _, bitness: bitness);
    }

    /// <summary>A few instructions; some stand behind a conditional jump over them.</summary>
    public static byte[] Make(int bitness, OpCodeInfo[] codes, ref SplitMix64 random)
    {
        var program = new List<byte>();
        int length = 2 + random.Below(8);
        for (int i = 0; i < length; i++)
        {
            byte[] next = Instruction(bitness, codes, ref random);
            if (random.Below(5) == 0)
            {
                // Jcc over the next instruction.
                program.Add((byte)(0x70 | random.Below(16)));
                program.Add((byte)next.Length);
            }

            program.AddRange(next);
        }

        return [.. program];
    }

    /// <summary>One instruction, with what sets up its address.</summary>
    public static byte[] Instruction(int bitness, OpCodeInfo[] codes, ref SplitMix64 random)
    {
        switch (bitness == 16 ? 5 + random.Below(9) : random.Below(14))
        {
            case 0:
                return Lea(bitness, ref random);
            case 1:
                // SHL, SHR or SAR by one, or ROL or ROR: all flags but AF are defined.
                byte[] extensions = [0, 1, 4, 5, 7];
                byte modrm = (byte)(0xC0 | (extensions[random.Below(5)] << 3) | (RandomForms.NotStack(ref random) & 3));
                return random.Below(3) switch { 0 => [0xD0, modrm], 1 => [0xD1, modrm], _ => [.. Wide(bitness), 0xD1, modrm] };
            case 2 or 3 or 4:
                return MemoryForm(bitness, codes, ref random);
            case 5 when bitness != 16:
                return StringForm(bitness, ref random);
            default:
                Assert.True(RandomForms.TryEncode(codes[random.Below(codes.Length)], ref random, out byte[] bytes, bitness: bitness));
                return bytes;
        }
    }

    // MOV r15 (or EDI), address in the window, often across its page boundary; then the instruction.
    private static byte[] MemoryForm(int bitness, OpCodeInfo[] codes, ref SplitMix64 random)
    {
        OpCodeInfo info;
        do
        {
            info = codes[random.Below(codes.Length)];
        }
        while (!RandomForms.HasMemoryForm(info));

        ulong offset = random.Below(3) == 0 ? 0xFF8 + (ulong)random.Below(16) : 0x20 + (ulong)random.Below(NativeThunk.WindowSize - 0x60);
        Assert.True(RandomForms.TryEncode(info, ref random, out byte[] bytes, bitness == 64 ? Register.R15 : Register.EDI, bitness));
        return [.. LoadAddress(bitness, 0x49, 0xBF, offset), .. bytes];
    }

    // CLD or STD; RSI, RDI and ECX; then MOVS, CMPS, STOS, LODS or SCAS, with or without REP; CLD.
    private static byte[] StringForm(int bitness, ref SplitMix64 random)
    {
        byte[] opcodes = [0xA4, 0xA6, 0xAA, 0xAC, 0xAE];
        var code = new List<byte>();
        bool down = random.Below(4) == 0;
        code.Add(down ? (byte)0xFD : (byte)0xFC);
        code.AddRange(LoadAddress(bitness, 0x48, 0xBE, 0x800 + (ulong)random.Below(0x1000)));
        code.AddRange(LoadAddress(bitness, 0x48, 0xBF, 0x800 + (ulong)random.Below(0x1000)));
        code.AddRange([0xB9, (byte)random.Below(40), 0, 0, 0]);
        int prefix = random.Below(3);
        if (prefix != 0)
        {
            code.Add(prefix == 1 ? (byte)0xF3 : (byte)0xF2);
        }

        byte opcode = opcodes[random.Below(opcodes.Length)];
        switch (random.Below(4))
        {
            case 0:
                code.Add(opcode);
                break;
            case 1:
                code.Insert(0, 0x90);
                code.Add(0x66);
                code.Add((byte)(opcode | 1));
                break;
            case 2:
                code.Add((byte)(opcode | 1));
                break;
            default:
                code.AddRange(Wide(bitness));
                code.Add((byte)(opcode | 1));
                break;
        }

        code.Add(0xFC);
        return [.. code];
    }

    private static byte[] LoadAddress(int bitness, byte rex, byte opcode, ulong offset) => bitness == 64
        ? [rex, opcode, .. BitConverter.GetBytes(NativeThunk.WindowAddress + offset)]
        : [opcode, .. BitConverter.GetBytes((uint)(NativeThunk.WindowAddress + offset))];

    // REX.W, in the code that has it.
    private static byte[] Wide(int bitness) => bitness == 64 ? [0x48] : [];

    private static byte[] Lea(int bitness, ref SplitMix64 random)
    {
        bool wide = random.Below(2) == 0 && bitness == 64;
        Register first = bitness == 64 ? Register.RAX : Register.EAX;
        var ins = new Instruction
        {
            Code = wide ? Code.Lea_r64_m : Code.Lea_r32_m,
            Op0Kind = OpKind.Register,
            Op0Register = (wide ? Register.RAX : Register.EAX) + RandomForms.NotStack(ref random, bitness),
            Op1Kind = OpKind.Memory,
            MemoryBase = random.Below(6) == 0 ? Register.None : first + RandomForms.NotStack(ref random, bitness),
            MemoryIndex = random.Below(3) == 0 ? Register.None : first + RandomForms.NotStack(ref random, bitness),
            MemoryIndexScale = 1 << random.Below(4),
            MemoryDisplacement64 = (ulong)((long)random.Next() >> (32 + random.Below(32))) & NativeForms.MaskOf(bitness),
            MemoryDisplSize = bitness / 8,
        };
        var writer = new RandomForms.ListWriter();
        Encoder.Create(bitness, writer).Encode(ins, 0);
        return [.. writer.Bytes];
    }
}
