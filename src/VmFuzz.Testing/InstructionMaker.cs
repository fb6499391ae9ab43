using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Machines;
using VmFuzz.Replay;

namespace VmFuzz.Testing;

/// <summary>Makes valid instructions of some mnemonics with random operands; the stack pointer is never a destination.</summary>
public sealed class InstructionMaker
{
    private static readonly ImmutableArray<ulong> Interesting =
    [
        0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF,
        0x7FFF_FFFF_FFFF_FFFF, 0x8000_0000_0000_0000, ulong.MaxValue,
    ];

    private readonly int _bits;
    private readonly ImmutableArray<OpCodeInfo> _forms;

    /// <summary>Finds the forms.</summary>
    /// <param name="mode">The mode of the code.</param>
    /// <param name="mnemonics">Which instructions; forms with operands that are neither general registers, immediates nor memory are left out.</param>
    public InstructionMaker(FlatMode mode, IReadOnlyCollection<Mnemonic> mnemonics)
    {
        _bits = mode switch { FlatMode.Long64 => 64, FlatMode.Protected32 => 32, _ => 16 };
        _forms = [.. Enum.GetValues<Code>().Select(static code => code.ToOpCode()).Where(info => IsWanted(info, mnemonics))];
    }

    /// <summary>Gives an instruction its memory operand: base, index, scale, displacement and its size, segment.</summary>
    /// <param name="instruction">The instruction.</param>
    /// <param name="random">Random numbers.</param>
    public delegate void MemoryOperand(ref Instruction instruction, SplitMix random);

    /// <summary>A number of 64 bits: near a limit of a size, of few bits, or any.</summary>
    public static ulong Value(SplitMix random)
    {
        ArgumentNullException.ThrowIfNull(random);
        return random.Below(4) switch
        {
            0 => Interesting[(int)random.Below((ulong)Interesting.Length)] + random.Below(3) - 1,
            1 => random.Next() >> (int)random.Below(64),
            _ => random.Next(),
        };
    }

    /// <summary>A form, each as likely as any other.</summary>
    public OpCodeInfo Choose(SplitMix random)
    {
        ArgumentNullException.ThrowIfNull(random);
        return _forms[(int)random.Below((ulong)_forms.Length)];
    }

    /// <summary>Whether a form can take a memory operand.</summary>
    public static bool TakesMemory(OpCodeInfo form)
    {
        ArgumentNullException.ThrowIfNull(form);
        for (int i = 0; i < form.OpCount; i++)
        {
            if (IsRegisterOrMemory(form.GetOpKind(i)) || form.GetOpKind(i) == OpCodeOperandKind.mem)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Encodes a form with random operands.</summary>
    /// <param name="form">The form.</param>
    /// <param name="random">Random numbers.</param>
    /// <param name="memory">Makes the operand that may be memory; null for a register.</param>
    /// <param name="bytes">The instruction.</param>
    /// <returns>False when these operands cannot stand together.</returns>
    public bool TryMake(OpCodeInfo form, SplitMix random, MemoryOperand? memory, out byte[] bytes)
    {
        ArgumentNullException.ThrowIfNull(form);
        ArgumentNullException.ThrowIfNull(random);
        bytes = [];
        var instruction = new Instruction { Code = form.Code };
        for (int i = 0; i < form.OpCount; i++)
        {
            OpCodeOperandKind kind = form.GetOpKind(i);
            if (memory is not null && (IsRegisterOrMemory(kind) || kind == OpCodeOperandKind.mem))
            {
                instruction.SetOpKind(i, OpKind.Memory);
                memory(ref instruction, random);
                instruction.HasLockPrefix = form.CanUseLockPrefix && i == 0 && random.Below(4) == 0;
            }
            else if (!TrySetOperand(ref instruction, i, kind, random))
            {
                return false;
            }
        }

        var writer = new ListWriter();
        if (!Encoder.Create(_bits, writer).TryEncode(instruction, 0, out _, out _))
        {
            return false;
        }

        bytes = [.. writer.Bytes];
        return true;
    }

    private bool IsWanted(OpCodeInfo info, IReadOnlyCollection<Mnemonic> mnemonics)
    {
        bool inMode = _bits == 64 ? info.Mode64 : _bits == 32 ? info.Mode32 : info.Mode16;
        return inMode && info.IsInstruction && info.Encoding is EncodingKind.Legacy or EncodingKind.VEX
            && mnemonics.Contains(info.Mnemonic) && !IsForeign(info.Code) && Operands(info)
            && !(info.Encoding == EncodingKind.VEX && _bits == 16);
    }

    // Encodings that only one coprocessor or one old processor had.
    private static bool IsForeign(Code code) =>
        code.ToString().Contains("KNC", StringComparison.Ordinal) || code.ToString().Contains("486", StringComparison.Ordinal);

    private bool Operands(OpCodeInfo info)
    {
        var probe = new SplitMix(1);
        Instruction instruction = default;
        for (int i = 0; i < info.OpCount; i++)
        {
            if (info.GetOpKind(i) != OpCodeOperandKind.mem && !TrySetOperand(ref instruction, i, info.GetOpKind(i), probe))
            {
                return false;
            }
        }

        return true;
    }

    private static bool IsRegisterOrMemory(OpCodeOperandKind kind) => kind is OpCodeOperandKind.r8_or_mem
        or OpCodeOperandKind.r16_or_mem or OpCodeOperandKind.r32_or_mem or OpCodeOperandKind.r64_or_mem;

    private bool TrySetOperand(ref Instruction instruction, int operand, OpCodeOperandKind kind, SplitMix random)
    {
        Register register;
        switch (kind)
        {
            case OpCodeOperandKind.r8_or_mem or OpCodeOperandKind.r8_reg or OpCodeOperandKind.r8_opcode:
                do
                {
                    register = Register.AL + (int)random.Below(_bits == 64 ? 20UL : 8);
                }
                while (register == Register.SPL);

                break;
            case OpCodeOperandKind.r16_or_mem or OpCodeOperandKind.r16_reg or OpCodeOperandKind.r16_reg_mem
                or OpCodeOperandKind.r16_rm or OpCodeOperandKind.r16_opcode:
                register = Register.AX + NotStack(random);
                break;
            case OpCodeOperandKind.r32_or_mem or OpCodeOperandKind.r32_reg or OpCodeOperandKind.r32_reg_mem
                or OpCodeOperandKind.r32_rm or OpCodeOperandKind.r32_opcode or OpCodeOperandKind.r32_vvvv:
                register = Register.EAX + NotStack(random);
                break;
            case OpCodeOperandKind.r64_or_mem or OpCodeOperandKind.r64_reg or OpCodeOperandKind.r64_reg_mem
                or OpCodeOperandKind.r64_rm or OpCodeOperandKind.r64_opcode or OpCodeOperandKind.r64_vvvv:
                register = Register.RAX + NotStack(random);
                break;
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
                return SetImmediate(ref instruction, operand, OpKind.Immediate8, (byte)random.Next());
            case OpCodeOperandKind.imm8_const_1:
                return SetImmediate(ref instruction, operand, OpKind.Immediate8, 1);
            case OpCodeOperandKind.imm8sex16:
                return SetImmediate(ref instruction, operand, OpKind.Immediate8to16, (ulong)(sbyte)random.Next());
            case OpCodeOperandKind.imm8sex32:
                return SetImmediate(ref instruction, operand, OpKind.Immediate8to32, (ulong)(sbyte)random.Next());
            case OpCodeOperandKind.imm8sex64:
                return SetImmediate(ref instruction, operand, OpKind.Immediate8to64, (ulong)(sbyte)random.Next());
            case OpCodeOperandKind.imm16:
                return SetImmediate(ref instruction, operand, OpKind.Immediate16, (ushort)Value(random));
            case OpCodeOperandKind.imm32:
                return SetImmediate(ref instruction, operand, OpKind.Immediate32, (uint)Value(random));
            case OpCodeOperandKind.imm32sex64:
                return SetImmediate(ref instruction, operand, OpKind.Immediate32to64, (ulong)(int)Value(random));
            case OpCodeOperandKind.imm64:
                return SetImmediate(ref instruction, operand, OpKind.Immediate64, Value(random));
            default:
                return false;
        }

        instruction.SetOpKind(operand, OpKind.Register);
        instruction.SetOpRegister(operand, register);
        return true;
    }

    private static bool SetImmediate(ref Instruction instruction, int operand, OpKind kind, ulong value)
    {
        instruction.SetOpKind(operand, kind);
        instruction.SetImmediate(operand, value);
        return true;
    }

    private int NotStack(SplitMix random)
    {
        int register = (int)random.Below(_bits == 64 ? 15UL : 7);
        return register >= 4 ? register + 1 : register;
    }

    private sealed class ListWriter : CodeWriter
    {
        public List<byte> Bytes { get; } = [];

        public override void WriteByte(byte value) => Bytes.Add(value);
    }
}
