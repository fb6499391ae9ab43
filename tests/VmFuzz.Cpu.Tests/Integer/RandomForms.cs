using Iced.Intel;

namespace VmFuzz.Cpu.Tests.Integer;

/// <summary>Random register forms of an opcode, without the stack pointer.</summary>
internal static class RandomForms
{
    private static readonly ulong[] Interesting =
    [
        0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF,
        0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, ulong.MaxValue,
    ];

    public static ulong Value(ref SplitMix64 random) => (random.Next() & 3) switch
    {
        0 => Interesting[random.Below(Interesting.Length)] + (ulong)(random.Below(3) - 1),
        1 => random.Next() >> random.Below(64),
        _ => random.Next(),
    };

    // Encodings that only one coprocessor or only AMD processors had.
    public static bool IsForeign(OpCodeInfo info) =>
        info.Encoding == EncodingKind.XOP || info.Code.ToString().Contains("KNC", StringComparison.Ordinal);

    public static bool TryEncode(OpCodeInfo info, ref SplitMix64 random, out byte[] bytes, Register memoryBase = Register.None, int bitness = 64, bool displaces = true)
    {
        bytes = [];
        var ins = new Instruction { Code = info.Code };
        for (int i = 0; i < info.OpCount; i++)
        {
            if (memoryBase != Register.None && IsRegisterOrMemory(info.GetOpKind(i)))
            {
                ins.SetOpKind(i, OpKind.Memory);
                ins.MemoryBase = memoryBase;
                ins.MemoryDisplacement64 = displaces ? (ulong)(random.Below(33) - 16) & NativeForms.MaskOf(bitness) : 0;
                ins.MemoryDisplSize = bitness / 8;
            }
            else if (!TrySetOperand(ref ins, i, info.GetOpKind(i), ref random, bitness))
            {
                return false;
            }
        }

        var writer = new ListWriter();
        if (!Encoder.Create(bitness, writer).TryEncode(ins, TestProcessor.Start, out _, out _))
        {
            // High-byte registers cannot stand beside REX ones: another choice may do.
            return TryEncode(info, ref random, out bytes, memoryBase, bitness, displaces);
        }

        bytes = [.. writer.Bytes];
        return true;
    }

    /// <summary>Whether an opcode has a memory form.</summary>
    public static bool HasMemoryForm(OpCodeInfo info)
    {
        for (int i = 0; i < info.OpCount; i++)
        {
            if (IsRegisterOrMemory(info.GetOpKind(i)))
            {
                return true;
            }
        }

        return false;
    }

    private static bool IsRegisterOrMemory(OpCodeOperandKind kind) => kind is OpCodeOperandKind.r8_or_mem
        or OpCodeOperandKind.r16_or_mem or OpCodeOperandKind.r32_or_mem or OpCodeOperandKind.r64_or_mem
        or OpCodeOperandKind.mm_or_mem or OpCodeOperandKind.xmm_or_mem or OpCodeOperandKind.ymm_or_mem or OpCodeOperandKind.mem;

    public static bool TrySetOperand(ref Instruction ins, int operand, OpCodeOperandKind kind, ref SplitMix64 random, int bitness)
    {
        Register register;
        switch (kind)
        {
            case OpCodeOperandKind.r8_or_mem or OpCodeOperandKind.r8_reg or OpCodeOperandKind.r8_opcode:
                do
                {
                    register = Register.AL + random.Below(bitness == 64 ? 20 : 8);
                }
                while (register == Register.SPL);

                break;
            case OpCodeOperandKind.r16_or_mem or OpCodeOperandKind.r16_reg or OpCodeOperandKind.r16_reg_mem
                or OpCodeOperandKind.r16_rm or OpCodeOperandKind.r16_opcode:
                register = Register.AX + NotStack(ref random, bitness);
                break;
            case OpCodeOperandKind.r32_or_mem or OpCodeOperandKind.r32_reg or OpCodeOperandKind.r32_reg_mem
                or OpCodeOperandKind.r32_rm or OpCodeOperandKind.r32_opcode or OpCodeOperandKind.r32_vvvv:
                register = Register.EAX + NotStack(ref random, bitness);
                break;
            case OpCodeOperandKind.r64_or_mem or OpCodeOperandKind.r64_reg or OpCodeOperandKind.r64_reg_mem
                or OpCodeOperandKind.r64_rm or OpCodeOperandKind.r64_opcode or OpCodeOperandKind.r64_vvvv:
                register = Register.RAX + NotStack(ref random);
                break;
            case OpCodeOperandKind.mm_or_mem or OpCodeOperandKind.mm_reg or OpCodeOperandKind.mm_rm:
                register = Register.MM0 + random.Below(8);
                break;
            case OpCodeOperandKind.ymm_or_mem or OpCodeOperandKind.ymm_reg or OpCodeOperandKind.ymm_rm or OpCodeOperandKind.ymm_vvvv or OpCodeOperandKind.ymm_is4:
                register = Register.YMM0 + random.Below(bitness == 64 ? 16 : 8);
                break;
            case OpCodeOperandKind.xmm_or_mem or OpCodeOperandKind.xmm_reg or OpCodeOperandKind.xmm_rm or OpCodeOperandKind.xmm_vvvv or OpCodeOperandKind.xmm_is4:
                register = Register.XMM0 + random.Below(bitness == 64 ? 16 : 8);
                break;
            case OpCodeOperandKind.seg_rDI:
                ins.SetOpKind(operand, bitness == 64 ? OpKind.MemorySegRDI : OpKind.MemorySegEDI);
                return true;
            case OpCodeOperandKind.al:
                register = Register.AL;
                break;
            case OpCodeOperandKind.cl:
                register = Register.CL;
                break;
            case OpCodeOperandKind.ax:
                register = Register.AX;
                break;
            case OpCodeOperandKind.eax:
                register = Register.EAX;
                break;
            case OpCodeOperandKind.rax:
                register = Register.RAX;
                break;
            case OpCodeOperandKind.imm8:
                return SetImmediate(ref ins, operand, OpKind.Immediate8, (byte)random.Next());
            case OpCodeOperandKind.imm8_const_1:
                return SetImmediate(ref ins, operand, OpKind.Immediate8, 1);
            case OpCodeOperandKind.imm8sex16:
                return SetImmediate(ref ins, operand, OpKind.Immediate8to16, (ulong)(sbyte)random.Next());
            case OpCodeOperandKind.imm8sex32:
                return SetImmediate(ref ins, operand, OpKind.Immediate8to32, (ulong)(sbyte)random.Next());
            case OpCodeOperandKind.imm8sex64:
                return SetImmediate(ref ins, operand, OpKind.Immediate8to64, (ulong)(sbyte)random.Next());
            case OpCodeOperandKind.imm16:
                return SetImmediate(ref ins, operand, OpKind.Immediate16, (ushort)Value(ref random));
            case OpCodeOperandKind.imm32:
                return SetImmediate(ref ins, operand, OpKind.Immediate32, (uint)Value(ref random));
            case OpCodeOperandKind.imm32sex64:
                return SetImmediate(ref ins, operand, OpKind.Immediate32to64, (ulong)(int)Value(ref random));
            case OpCodeOperandKind.imm64:
                return SetImmediate(ref ins, operand, OpKind.Immediate64, Value(ref random));
            default:
                return false;
        }

        ins.SetOpKind(operand, OpKind.Register);
        ins.SetOpRegister(operand, register);
        return true;
    }

    private static bool SetImmediate(ref Instruction ins, int operand, OpKind kind, ulong value)
    {
        ins.SetOpKind(operand, kind);
        ins.SetImmediate(operand, value);
        return true;
    }

    public static int NotStack(ref SplitMix64 random, int bitness = 64)
    {
        int register = random.Below(bitness == 64 ? 15 : 7);
        return register >= 4 ? register + 1 : register;
    }

    internal sealed class ListWriter : CodeWriter
    {
        public List<byte> Bytes { get; } = [];

        public override void WriteByte(byte value) => Bytes.Add(value);
    }
}

/// <summary>Vigna's generator; the seed pins every case.</summary>
internal struct SplitMix64(ulong seed)
{
    private ulong _state = seed;

    public ulong Next()
    {
        ulong z = _state += 0x9E37_79B9_7F4A_7C15;
        z = (z ^ (z >> 30)) * 0xBF58_476D_1CE4_E5B9;
        z = (z ^ (z >> 27)) * 0x94D0_49BB_1331_11EB;
        return z ^ (z >> 31);
    }

    public void Fill(Span<byte> bytes)
    {
        foreach (ref byte b in bytes)
        {
            b = (byte)Next();
        }
    }

    public int Below(int limit) => (int)(Next() % (ulong)limit);
}
