using System.Buffers.Binary;
using System.Collections.Immutable;
using Iced.Intel;
using VmFuzz.Arch;
using VmFuzz.Cpu.FloatingPoint;

namespace VmFuzz.Cpu.Microcode;

/// <summary>What the x87 families share: how instructions start, and their operands.</summary>
internal static unsafe class X87Ops
{
    // Nothing checks ten bytes for more than the alignment of eight.
    private const int ExtendedAlignment = 8;

    /// <summary>Bytes of a number in the extended format, and of a packed decimal.</summary>
    public const int ExtendedBytes = 10;

    private static readonly ImmutableArray<(MemorySize Size, Func<ulong, FloatNumber> Decode)> MemoryNumbers =
    [
        (MemorySize.Float32, static bits => FloatFormat.Single.Decode(bits)),
        (MemorySize.Float64, static bits => FloatFormat.Double.Decode(bits)),
        (MemorySize.Int16, static bits => FloatNumber.FromInteger((short)bits)),
        (MemorySize.Int32, static bits => FloatNumber.FromInteger((int)bits)),
        (MemorySize.Int64, static bits => FloatNumber.FromInteger((long)bits)),
    ];

    /// <summary>Starts an instruction that waits: #NM, then #MF of an earlier instruction.</summary>
    public static bool Start(Processor cpu) => FpuControl.Available(cpu) && FpuControl.NoPendingError(cpu);

    /// <summary>
    /// Ends an instruction that is not a control instruction: the pointers are its own. The opcode changes only with an
    /// unmasked exception, as on Intel's processors (SDM "Fopcode Compatibility Sub-mode").
    /// </summary>
    public static ExecResult Complete(Processor cpu, in Instruction ins)
    {
        CpuState* s = cpu.State;
        s->Fip = Ops.Rip(cpu);
        if (ins.OpCount > 0 && HasMemory(ins))
        {
            s->Fdp = cpu.EffectiveAddress(ins, out _);
        }

        if (new X87Stack(s).Pending)
        {
            s->Fop = OpcodeOf(cpu, ins);
        }

        return ExecResult.Next;
    }

    // Three bits of the opcode's first byte, behind any prefixes, and all of its second one.
    private static ulong OpcodeOf(Processor cpu, in Instruction ins)
    {
        Span<byte> code = stackalloc byte[ins.Length];
        ulong rip = Ops.Rip(cpu);
        cpu.Peek(cpu.Code64 ? rip : (uint)(cpu.State->Cs.Base + rip), code);
        int first = code.IndexOfAnyInRange((byte)0xD8, (byte)0xDF);
        return first < 0 || first + 1 == code.Length ? 0 : ((ulong)(code[first] & 7) << 8) | code[first + 1];
    }

    /// <summary>Whether the operand is in memory.</summary>
    public static bool HasMemory(in Instruction ins) => ins.Op0Kind == OpKind.Memory;

    /// <summary>The register that an operand names; the top when there is no such operand.</summary>
    public static int RegisterOf(in Instruction ins, int operand) => operand < ins.OpCount ? ins.GetOpRegister(operand) - Register.ST0 : 0;

    /// <summary>Reads a number of 32 or 64 bits, or an integer, from memory.</summary>
    public static bool Read(Processor cpu, in Instruction ins, out FloatNumber number)
    {
        bool read = cpu.ReadOperand(ins, 0, out ulong bits);
        number = default;
        foreach ((MemorySize size, Func<ulong, FloatNumber> decode) in MemoryNumbers)
        {
            number = size == ins.MemorySize ? decode(bits) : number;
        }

        return read;
    }

    /// <summary>Reads ten bytes of memory.</summary>
    public static bool ReadExtended(Processor cpu, in Instruction ins, out Extended value)
    {
        Span<byte> image = stackalloc byte[ExtendedBytes];
        value = default;
        if (!Linear(cpu, ins, ExtendedBytes, write: false, out ulong linear) || !cpu.ReadBlock(linear, image, alignment: ExtendedAlignment))
        {
            return false;
        }

        value = FromImage(image);
        return true;
    }

    /// <summary>Writes ten bytes of memory.</summary>
    public static bool WriteExtended(Processor cpu, in Instruction ins, Extended value)
    {
        Span<byte> image = stackalloc byte[ExtendedBytes];
        ToImage(value, image);
        return Linear(cpu, ins, ExtendedBytes, write: true, out ulong linear) && cpu.WriteBlock(linear, image, alignment: ExtendedAlignment);
    }

    /// <summary>The number in ten bytes.</summary>
    public static Extended FromImage(ReadOnlySpan<byte> image) =>
        new(BinaryPrimitives.ReadUInt64LittleEndian(image), BinaryPrimitives.ReadUInt16LittleEndian(image[8..]));

    /// <summary>Puts a number into ten bytes.</summary>
    public static void ToImage(Extended value, Span<byte> image)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(image, value.Significand);
        BinaryPrimitives.WriteUInt16LittleEndian(image[8..], value.SignExponent);
    }

    /// <summary>The linear address of the memory operand.</summary>
    public static bool Linear(Processor cpu, in Instruction ins, int bytes, bool write, out ulong linear)
    {
        ulong offset = cpu.EffectiveAddress(ins, out SegmentRegister segment);
        return cpu.Linearize(segment, offset, bytes, write, out linear);
    }
}
