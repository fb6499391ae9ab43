using System.Buffers.Binary;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.FloatingPoint;
using VmFuzz.Cpu.Tests.Integer;

namespace VmFuzz.Cpu.Tests.Silicon;

/// <summary>Random cases of the x87 forms with a row: an encoding, and state for it in which nothing faults.</summary>
internal static class X87Forms
{
    /// <summary>Where things are in an FXSAVE image.</summary>
    public const int StatusAt = 2, TagAt = 4, OpcodeAt = 6, InstructionAt = 8, DataAt = 16, PointersEnd = 24, RegistersAt = 32, RegistersEnd = 160;

    /// <summary>The byte of the status word with C1, and that bit.</summary>
    public const int ConditionsAt = StatusAt + 1, Condition1 = 2;

    private const int MxcsrAt = 24;

    // They have no numbers to compute with, and vectors or tests of their own.
    private static readonly Mnemonic[] Others = [Mnemonic.Fneni, Mnemonic.Fndisi, Mnemonic.Fnsetpm];

    /// <summary>The forms, those that 64-bit code has.</summary>
    public static IEnumerable<OpCodeInfo> All => InstructionForm.All
        .Where(static form => form.Row is not null && IsX87(form.Code) && !Others.Contains(form.Code.Mnemonic()))
        .Select(static form => form.Code.ToOpCode())
        .Where(static info => info.Mode64);

    /// <summary>Whether a form is one of the x87.</summary>
    public static bool IsX87(Code form) => InstructionFamilies.Of(form).Id == "x87" || form.Mnemonic() == Mnemonic.Fisttp;

    /// <summary>Whether a form uses more of the x87 than the control and status words: it has vectors of its own.</summary>
    public static bool UsesRegisters(Code form) => IsX87(form)
        && form.Mnemonic() is not (Mnemonic.Fninit or Mnemonic.Fnclex or Mnemonic.Fnstcw or Mnemonic.Fnstsw or Mnemonic.Fldcw);

    /// <summary>Whether an instruction clears C1 by the SDM, and leaves it on AMD's processors.</summary>
    public static bool LeavesConditions(Mnemonic mnemonic) => mnemonic is Mnemonic.Fcomi or Mnemonic.Fcomip or Mnemonic.Fucomi or Mnemonic.Fucomip;

    /// <summary>Encodes a form, its memory at RAX.</summary>
    public static byte[] Encode(OpCodeInfo form, ref SplitMix64 random)
    {
        var ins = new Instruction { Code = form.Code };
        for (int i = 0; i < form.OpCount; i++)
        {
            ins.SetOpKind(i, OpKind.Register);
            switch (form.GetOpKind(i))
            {
                case OpCodeOperandKind.st0:
                    ins.SetOpRegister(i, Register.ST0);
                    break;
                case OpCodeOperandKind.sti_opcode:
                    ins.SetOpRegister(i, Register.ST0 + random.Below(8));
                    break;
                case OpCodeOperandKind.mem:
                    ins.SetOpKind(i, OpKind.Memory);
                    ins.MemoryBase = Register.RAX;
                    break;
                default:
                    ins.SetOpRegister(i, Register.AX);
                    break;
            }
        }

        var writer = new RandomForms.ListWriter();
        Encoder.Create(64, writer).Encode(ins, 0);
        return [.. writer.Bytes];
    }

    /// <summary>Fills an image with registers, most of them full, and control and status words without a pending exception.</summary>
    public static void FillImage(Span<byte> image, ref SplitMix64 random)
    {
        image.Clear();
        int masks = random.Below(3) == 0 ? random.Below(64) : 0x3F;
        int control = masks | 0x40 | ((random.Below(3) == 0 ? random.Below(4) : 3) << 8) | (random.Below(4) << 10) | (random.Below(2) << 12);
        int flags = random.Below(2) == 0 ? 0 : random.Below(64) & masks;
        int status = flags | (random.Below(4) == 0 ? 0x40 : 0) | (random.Below(32) << 8 & 0x3F00) | (random.Below(2) << 14);
        BinaryPrimitives.WriteUInt16LittleEndian(image, (ushort)control);
        BinaryPrimitives.WriteUInt16LittleEndian(image[StatusAt..], (ushort)status);
        int empty = random.Below(3) == 0 ? (int)random.Next() & (int)random.Next() & 0xFF : 0;

        // A load wants the register before the top empty.
        int before = (((status >> 11) & 7) - 1) & 7;
        image[TagAt] = (byte)(~empty & (random.Below(4) == 0 ? 0xFF : ~(1 << before)));
        BinaryPrimitives.WriteUInt16LittleEndian(image[OpcodeAt..], (ushort)random.Below(0x800));
        BinaryPrimitives.WriteUInt64LittleEndian(image[InstructionAt..], (ulong)random.Below(1 << 20));
        BinaryPrimitives.WriteUInt64LittleEndian(image[DataAt..], (ulong)random.Below(1 << 20));
        BinaryPrimitives.WriteUInt32LittleEndian(image[MxcsrAt..], 0x1F80);
        Extended last = default;
        for (int at = RegistersAt; at < RegistersEnd; at += 16)
        {
            last = random.Below(3) == 0 ? X87Values.Near(last, ref random) : X87Values.Next(ref random);
            BinaryPrimitives.WriteUInt64LittleEndian(image[at..], last.Significand);
            BinaryPrimitives.WriteUInt16LittleEndian(image[(at + 8)..], last.SignExponent);
        }
    }

    /// <summary>Fills memory for a form; what it loads of control and status leaves no exception pending.</summary>
    public static void FillMemory(OpCodeInfo form, Span<byte> memory, ref SplitMix64 random)
    {
        X87Values.FillMemory(form.MemorySize, memory, ref random);
        if (form.Mnemonic is Mnemonic.Fldcw or Mnemonic.Fldenv or Mnemonic.Frstor)
        {
            memory[0] |= 0x3F;
        }
    }

    /// <summary>Random arithmetic flags.</summary>
    public static ulong NextFlags(ref SplitMix64 random) => RFlags.Reserved1 | RFlags.If | (random.Next() & RFlags.Arithmetic);
}
